"""BERT and RoBERTa encoders (arXiv 1810.04805, 1907.11692), and the layers they are made of.

    ids (b l) -> words + positions + types -> LayerNorm
              -> layers: x = LayerNorm(x + o(softmax(q k / sqrt(e) + bias) v))
                         x = LayerNorm(x + the same over a context)       in decoders only
                         x = LayerNorm(x + wo(gelu(wi x)))
              -> (pooler: tanh of a linear map of the first token)

Norms stand behind the sums, GELU is the exact one, and norms, logits and softmax are float32.
RoBERTa differs in its positions: real tokens are numbered from `position_offset` on, padding has
position `position_offset - 1`. Layers are stacked along a leading axis and scanned.

Axes: b batch, l text tokens, m tokens attended to, d width, e width of a head.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import Array, check_shape
from ffa_sora_jax.models import ops

DTYPES = ("float32", "bfloat16")
INIT_STD = 0.02


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes of one encoder; the defaults are bert-base-uncased.

    Attributes:
      vocab_size: rows of the word table.
      hidden_size: width.
      num_hidden_layers: layers.
      num_attention_heads: heads; they divide the width.
      intermediate_size: width inside the feed-forward.
      max_position_embeddings: rows of the position table.
      type_vocab_size: rows of the token-type table; 0 for none, as in text decoders of BLIP.
      layer_norm_eps: epsilon of the norms; 1e-12 in BERT, 1e-5 in RoBERTa.
      position_offset: 0 counts all tokens from 0 (BERT); 2 counts real tokens from 2 (RoBERTa).
      context_width: width of the tokens that a decoder attends to beside its own; 0 for none.
      pooler: whether the first token's pooling layer exists.
      dtype: dtype of the operands of matrix products.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    position_offset: int = 0
    context_width: int = 0
    pooler: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(names.unknown_name("dtype", self.dtype, DTYPES))
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of "
                f"num_attention_heads={self.num_attention_heads}."
            )

    @classmethod
    def tiny(cls, **changes: Any) -> "BertConfig":
        """Three layers of width 32 for tests."""
        sizes = dict(
            vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=40,
        )  # fmt: skip
        return cls(**{**sizes, **changes})


class Embeddings(nnx.Module):
    """Sum of the embeddings of word, position and type, normalised."""

    def __init__(self, cfg: BertConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        table = functools.partial(
            nnx.Embed, features=cfg.hidden_size, rngs=rngs,
            embedding_init=nnx.initializers.normal(INIT_STD),
        )  # fmt: skip
        self.words = table(cfg.vocab_size)
        self.positions = table(cfg.max_position_embeddings)
        if cfg.type_vocab_size:
            self.types = table(cfg.type_vocab_size)
        self.norm = norm(cfg, rngs=rngs)

    def __call__(self, ids: Array, mask: Array | None = None, start: Array | int = 0) -> Array:
        """Embeds; every token has type 0.

        Args:
          ids: (b, l) integers.
          mask: (b, l), true on real tokens; RoBERTa's positions depend on it. None for all real.
          start: position of the first token, for decoders that go token by token.

        Returns:
          (b, l, d) float32.

        Raises:
          ValueError: more tokens than positions.
        """
        words = self.words.embedding[...][ids].astype(jnp.float32)
        x = words + self.positions.embedding[...][self._positions(ids, mask) + start]
        if self.cfg.type_vocab_size:
            x = x + self.types.embedding[...][0]
        return self.norm(x)

    def _positions(self, ids: Array, mask: Array | None) -> Array:
        """(b or 1, l) rows of the position table."""
        offset, length = self.cfg.position_offset, ids.shape[1]
        if length + offset > self.cfg.max_position_embeddings:
            raise ValueError(
                f"{length} tokens are more than the {self.cfg.max_position_embeddings - offset} "
                "positions of the model; truncate the text when it is tokenised."
            )
        if not offset:
            return jnp.arange(length)[None]
        real = jnp.ones_like(ids) if mask is None else (jnp.asarray(mask) != 0).astype(jnp.int32)
        return jnp.cumsum(real, axis=1) * real + offset - 1


class Attention(nnx.Module):
    """Attention to the own tokens or to a context, with the residual sum and the norm behind it.

    Args of the constructor:
      context_width: width of what is attended to; None for the own width.
    """

    def __init__(self, cfg: BertConfig, context_width: int | None = None, *, rngs: nnx.Rngs):
        width = cfg.hidden_size
        source = width if context_width is None else context_width
        linear = functools.partial(dense, dtype=cfg.dtype, rngs=rngs)
        self.query = linear(width, width)
        self.key, self.value = linear(source, width), linear(source, width)
        self.output = linear(width, width)
        self.norm = norm(cfg, rngs=rngs)
        self.heads = cfg.num_attention_heads

    def __call__(self, x: Array, bias: Array | None = None, context: Array | None = None) -> Array:
        """(b, l, d), a bias of the logits, and a context (b, m, c) in place of `x` -> (b, l, d)."""
        return self.attend(x, *self.keys_values(x if context is None else context), bias)

    def keys_values(self, context: Array) -> tuple[Array, Array]:
        """What is attended to, (b, m, c) -> keys and values, (b, m, heads, e); may be kept."""
        return self._split(self.key(context)), self._split(self.value(context))

    def attend(self, x: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
        """The layer on keys and values already computed.

        Args:
          x: (b, l, d) float32.
          k, v: (b, m, heads, e).
          bias: added to the logits, broadcastable to (b, heads, l, m), or None.

        Returns:
          (b, l, d) float32.
        """
        y = ops.attention(self._split(self.query(x)), k, v, bias)
        y = self.output(rearrange(y, "b l heads e -> b l (heads e)"))
        return self.norm(x + y)

    def _split(self, y: Array) -> Array:
        return rearrange(y, "b l (heads e) -> b l heads e", heads=self.heads)


class Layer(nnx.Module):
    """Attention, attention to a context where the config has one, and feed-forward."""

    def __init__(self, cfg: BertConfig, *, rngs: nnx.Rngs):
        linear = functools.partial(dense, dtype=cfg.dtype, rngs=rngs)
        self.attention = Attention(cfg, rngs=rngs)
        if cfg.context_width:
            self.crossattention = Attention(cfg, cfg.context_width, rngs=rngs)
        self.intermediate = linear(cfg.hidden_size, cfg.intermediate_size)
        self.output = linear(cfg.intermediate_size, cfg.hidden_size)
        self.norm = norm(cfg, rngs=rngs)

    def __call__(
        self, x: Array, bias: Array | None = None, context: Array | None = None,
        context_bias: Array | None = None,
    ) -> Array:  # fmt: skip
        """(b, l, d), and a context (b, m, c) where the config has one -> (b, l, d) float32."""
        x = self.attention(x, bias)
        if context is not None:
            x = self.crossattention(x, context_bias, context)
        return self.feed_forward(x)

    def feed_forward(self, x: Array) -> Array:
        """(b, l, d) -> (b, l, d) float32, the residual sum and its norm included."""
        y = jax.nn.gelu(self.intermediate(x), approximate=False)
        return self.norm(x + self.output(y))


class Bert(nnx.Module):
    """Token ids to contextual embeddings."""

    def __init__(self, cfg: BertConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        self.embeddings = Embeddings(cfg, rngs=rngs)
        self.layers = stacked_layers(cfg, rngs=rngs)
        if cfg.pooler:
            self.pooler = dense(cfg.hidden_size, cfg.hidden_size, dtype=cfg.dtype, rngs=rngs)

    def __call__(self, ids: Array, mask: Array | None = None, layer: int | None = None) -> Array:
        """Encodes.

        Args:
          ids: (b, l) integers in 0 .. vocab_size - 1.
          mask: (b, l), true on real tokens; None when all are real.
          layer: how many layers to compute, 0 for the embeddings; None for all. Static.

        Returns:
          (b, l, hidden_size) float32; rows of padding carry values too.

        Raises:
          ValueError: the shapes do not fit, the ids are not integers, or there is no such layer.
        """
        size = check_shape(ids, "b l", "ids")
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"ids have dtype {ids.dtype}; token ids are integers.")
        if mask is not None:
            check_shape(mask, "b l", "mask", **size)
        count = self.cfg.num_hidden_layers
        if layer is not None and not 0 <= layer <= count:
            raise ValueError(f"layer={layer}; the model has layers 0 .. {count}.")
        bias = None if mask is None else ops.mask_bias(mask)
        x = self.embeddings(ids, mask)
        layers = jax.tree.map(lambda leaf: leaf[:layer], self.layers)
        return jax.lax.scan(lambda x, layer: (layer(x, bias), None), x, layers)[0]

    def pool(self, x: Array) -> Array:
        """Last hidden states (b, l, d) -> (b, d), for configs with a pooler."""
        return jnp.tanh(self.pooler(x[:, 0]))


def stacked_layers(cfg: BertConfig, *, rngs: nnx.Rngs) -> Layer:
    """All layers of a stack as one, every parameter with a leading axis; to be scanned over."""
    keys = jax.random.split(rngs.params(), cfg.num_hidden_layers)
    return jax.vmap(lambda key: Layer(cfg, rngs=nnx.Rngs(key)))(keys)


def causal_bias(length: int) -> Array:
    """(1, 1, l, l) float32 bias with which no token sees a later one."""
    later = np.triu(np.ones((length, length), bool), 1)[None, None]
    return jnp.where(later, jnp.finfo(jnp.float32).min, 0.0)


def dense(inputs: int, outputs: int, *, dtype: str, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer with float32 parameters that computes in `dtype`."""
    return nnx.Linear(
        inputs, outputs, dtype=jnp.dtype(dtype), param_dtype=jnp.float32,
        kernel_init=nnx.initializers.normal(INIT_STD), dot_general=ops.dot_general, rngs=rngs,
    )  # fmt: skip


def norm(cfg: Any, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """The norm of all layers; variance in two passes, float32 in and out.

    Of `cfg`, `hidden_size` and `layer_norm_eps` are read.
    """
    return nnx.LayerNorm(
        cfg.hidden_size, epsilon=cfg.layer_norm_eps, use_fast_variance=False,
        dtype=jnp.float32, param_dtype=jnp.float32, rngs=rngs,
    )  # fmt: skip
