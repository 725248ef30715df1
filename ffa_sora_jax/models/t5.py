"""The T5 and mT5 text encoder (arXiv 1910.10683, 2010.11934; version 1.1 with gated GELU).

    ids (b l) -> Embed -> layers: x += o(softmax(q k + bias + mask) v),  q k v of RMSNorm(x)
                                  x += wo(gelu(wi_0 y) * (wi_1 y)),      y = RMSNorm(x)
                       -> RMSNorm

No scaling by the width anywhere; one table of relative-position biases for all layers. Norms,
logits and softmax in float32. Layers are stacked along a leading axis and scanned.

Axes: b batch, l text tokens, d width.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jax import Array

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import check_shape
from ffa_sora_jax.models import ops

FEED_FORWARDS = ("gated-gelu", "relu")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes of one encoder; the defaults are the reference's mT5-XXL.

    Attributes:
      vocab_size: rows of the embedding table.
      d_model: width.
      d_kv: width of a head.
      d_ff: width inside the feed-forward.
      num_layers: layers of the encoder.
      num_heads: heads; heads times head width need not equal the width.
      relative_attention_num_buckets: relative positions told apart.
      relative_attention_max_distance: distance from which on all are one bucket.
      feed_forward_proj: "gated-gelu" (version 1.1 and mT5) or "relu" (version 1.0).
      layer_norm_epsilon: epsilon of the norms.
      dtype: dtype of the operands of matrix products.
    """

    vocab_size: int = 250112
    d_model: int = 4096
    d_kv: int = 64
    d_ff: int = 10240
    num_layers: int = 24
    num_heads: int = 64
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    feed_forward_proj: str = "gated-gelu"
    layer_norm_epsilon: float = 1e-6
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for field, allowed in (("feed_forward_proj", FEED_FORWARDS), ("dtype", DTYPES)):
            if getattr(self, field) not in allowed:
                raise ValueError(names.unknown_name(field, getattr(self, field), allowed))

    @classmethod
    def tiny(cls, **changes: Any) -> "T5Config":
        """Three layers of width 32 for tests."""
        sizes = dict(vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
        return cls(**{**sizes, **changes})


def relative_buckets(
    distance: np.ndarray,
    num_buckets: int = 32,
    max_distance: int = 128,
    *,
    bidirectional: bool = True,
) -> np.ndarray:
    """Bucket of each relative position (key minus query).

    Both directions are told apart, or, in a decoder, all buckets are for keys before the query.
    Half of a direction's buckets are exact; the others grow logarithmically up to `max_distance`.
    """
    half = num_buckets // 2 if bidirectional else num_buckets
    exact = half // 2
    size = np.abs(distance) if bidirectional else np.maximum(-distance, 0)
    # Float32 as in the reference: borders between buckets fall on exact powers.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum(exact + ratio.astype(np.int32), half - 1)
    side = np.where(distance > 0, half, 0) if bidirectional else 0
    return side + np.where(size < exact, size, far)


class RMSNorm(nnx.Module):
    """Scale only, in float32."""

    def __init__(self, cfg: T5Config, *, rngs: nnx.Rngs):
        del rngs
        self.scale = nnx.Param(jnp.ones(cfg.d_model))
        self.eps = cfg.layer_norm_epsilon

    def __call__(self, x: Array) -> Array:
        """(..., d) -> (..., d) float32."""
        x = x.astype(jnp.float32)
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps) * self.scale[...]


class Attention(nnx.Module):
    """Attention to the own tokens or to a context, without bias terms and without scaling."""

    def __init__(self, cfg: T5Config, *, rngs: nnx.Rngs):
        inner = cfg.num_heads * cfg.d_kv
        linear = functools.partial(dense, dtype=cfg.dtype, rngs=rngs)
        # The missing 1 / sqrt(d_kv) is in the initial queries.
        self.q = linear(cfg.d_model, inner, std=(cfg.d_model * cfg.d_kv) ** -0.5)
        self.k = linear(cfg.d_model, inner, std=cfg.d_model**-0.5)
        self.v = linear(cfg.d_model, inner, std=cfg.d_model**-0.5)
        self.o = linear(inner, cfg.d_model, std=inner**-0.5)
        self.heads = cfg.num_heads

    def __call__(self, x: Array, bias: Array | None, context: Array | None = None) -> Array:
        """Attends.

        Args:
          x: (b, l, d).
          bias: (b or 1, heads or 1, l or 1, m) added to the logits, or None.
          context: (b, m, d) to attend to in place of `x`.

        Returns:
          (b, l, d).
        """
        context = x if context is None else context
        q, k, v = (
            rearrange(y, "b l (heads e) -> b l heads e", heads=self.heads)
            for y in (self.q(x), self.k(context), self.v(context))
        )
        y = ops.attention(q, k, v, bias, scale=1.0)
        return self.o(rearrange(y, "b l heads e -> b l (heads e)"))


class FeedForward(nnx.Module):
    """Gated GELU (tanh approximation), or ReLU."""

    def __init__(self, cfg: T5Config, *, rngs: nnx.Rngs):
        linear = functools.partial(dense, dtype=cfg.dtype, rngs=rngs)
        self.is_gated = cfg.feed_forward_proj == "gated-gelu"
        if self.is_gated:
            self.wi_0 = linear(cfg.d_model, cfg.d_ff, std=cfg.d_model**-0.5)
            self.wi_1 = linear(cfg.d_model, cfg.d_ff, std=cfg.d_model**-0.5)
        else:
            self.wi = linear(cfg.d_model, cfg.d_ff, std=cfg.d_model**-0.5)
        self.wo = linear(cfg.d_ff, cfg.d_model, std=cfg.d_ff**-0.5)

    def __call__(self, x: Array) -> Array:
        """(b, l, d) -> (b, l, d)."""
        if self.is_gated:
            return self.wo(jax.nn.gelu(self.wi_0(x), approximate=True) * self.wi_1(x))
        return self.wo(jax.nn.relu(self.wi(x)))


class Layer(nnx.Module):
    """One layer of the encoder."""

    def __init__(self, cfg: T5Config, *, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(cfg, rngs=rngs)
        self.attention = Attention(cfg, rngs=rngs)
        self.ff_norm = RMSNorm(cfg, rngs=rngs)
        self.ff = FeedForward(cfg, rngs=rngs)

    def __call__(self, x: Array, bias: Array) -> Array:
        """(b, l, d) float32, and the bias of the logits -> (b, l, d) float32."""
        x = x + self.attention(self.attention_norm(x), bias)
        return x + self.ff(self.ff_norm(x))


class T5Encoder(nnx.Module):
    """Token ids to text features."""

    def __init__(self, cfg: T5Config, *, rngs: nnx.Rngs):
        self.cfg = cfg
        normal = nnx.initializers.normal
        self.shared = nnx.Embed(cfg.vocab_size, cfg.d_model, embedding_init=normal(1.0), rngs=rngs)
        self.relative_attention_bias = bias_table(cfg, rngs=rngs)
        keys = jax.random.split(rngs.params(), cfg.num_layers)
        self.layers = jax.vmap(lambda key: Layer(cfg, rngs=nnx.Rngs(key)))(keys)
        self.final_norm = RMSNorm(cfg, rngs=rngs)

    def __call__(self, ids: Array, mask: Array | None) -> Array:
        """Encodes.

        Args:
          ids: (b, l) integers in 0 .. vocab_size - 1.
          mask: (b, l), true on real tokens; None when all are real.

        Returns:
          (b, l, d_model) float32; rows of padding carry values too, to be masked by the reader.

        Raises:
          ValueError: the shapes do not fit, or the ids are not integers.
        """
        if mask is not None:
            check_shape(mask, "b l", "mask", **check_shape(ids, "b l", "ids"))
        return self.encode(self.embed(ids), mask)

    def embed(self, ids: Array) -> Array:
        """(b, l) token ids -> (b, l, d) float32 embeddings."""
        check_shape(ids, "b l", "ids")
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"ids have dtype {ids.dtype}; token ids are integers.")
        return self.shared.embedding[...][ids].astype(jnp.float32)

    def encode(self, x: Array, mask: Array | None) -> Array:
        """(b, l, d) embeddings, of words or of anything put among them, -> (b, l, d) float32."""
        bias = position_bias(self.cfg, self.relative_attention_bias, x.shape[1])
        if mask is not None:
            bias = bias + ops.mask_bias(mask)
        x, _ = jax.lax.scan(lambda x, layer: (layer(x, bias), None), x, self.layers)
        return self.final_norm(x)


def bias_table(cfg: T5Config, *, rngs: nnx.Rngs) -> nnx.Embed:
    """The biases of all heads by bucket of relative position."""
    return nnx.Embed(
        cfg.relative_attention_num_buckets, cfg.num_heads,
        embedding_init=nnx.initializers.normal(cfg.d_model**-0.5), rngs=rngs,
    )  # fmt: skip


def position_bias(
    cfg: T5Config, table: nnx.Embed, length: int, *, bidirectional: bool = True
) -> Array:
    """(1, heads, l, l) by the relative position of key and query."""
    place = np.arange(length)
    buckets = relative_buckets(
        place[None, :] - place[:, None], cfg.relative_attention_num_buckets,
        cfg.relative_attention_max_distance, bidirectional=bidirectional,
    )  # fmt: skip
    return rearrange(table.embedding[...].astype(jnp.float32)[buckets], "q k heads -> 1 heads q k")


def dense(inputs: int, outputs: int, *, std: float, dtype: str, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer without bias, with float32 parameters, that computes in `dtype`."""
    return nnx.Linear(
        inputs, outputs, use_bias=False, dtype=jnp.dtype(dtype), param_dtype=jnp.float32,
        kernel_init=nnx.initializers.normal(std), dot_general=ops.dot_general, rngs=rngs,
    )  # fmt: skip
