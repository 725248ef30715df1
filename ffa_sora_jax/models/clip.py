"""CLIP: one space for images and texts (arXiv 2103.00020).

    pixels (n h w 3) -> patches + class token + positions -> LayerNorm -> layers
                     -> LayerNorm of the class token -> projection
    ids (n l)        -> words + positions -> layers, no later token -> LayerNorm
                     -> row of the end-of-text token -> projection
    layer: x += o(softmax(q k / sqrt(e)) v),  q k v of LayerNorm(x)
           x += fc2(act(fc1(LayerNorm(x))))

OpenAI's weights need QuickGELU, x * sigmoid(1.702 x); others the exact GELU. Norms, logits and
softmax are float32. Layers are stacked along a leading axis and scanned.

Axes: n images or texts, h w pixels, p patches (the class token first), l text tokens, d width.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import Array, check_shape
from ffa_sora_jax.models import bert, ops

ACTIVATIONS = ("quick_gelu", "gelu")
DTYPES = ("float32", "bfloat16")
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the training images, per channel in [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)
_LEGACY_EOS = 2  # written by old configs; then the end of the text is its highest id


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """What both towers share; the defaults are ViT-B/32's image tower.

    Attributes:
      hidden_size: width.
      intermediate_size: width inside the feed-forward.
      num_hidden_layers: layers.
      num_attention_heads: heads; they divide the width.
      hidden_act: "quick_gelu" or "gelu".
      layer_norm_eps: epsilon of the norms.
      dtype: dtype of the operands of matrix products.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for field, allowed in (("hidden_act", ACTIVATIONS), ("dtype", DTYPES)):
            if getattr(self, field) not in allowed:
                raise ValueError(names.unknown_name(field, getattr(self, field), allowed))
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of "
                f"num_attention_heads={self.num_attention_heads}."
            )


@dataclasses.dataclass(frozen=True)
class VisionConfig(TowerConfig):
    """The image tower: side of its images and of their patches, in pixels."""

    image_size: int = 224
    patch_size: int = 32


@dataclasses.dataclass(frozen=True)
class TextConfig(TowerConfig):
    """The text tower: its vocabulary, its longest text, and the id that ends a text."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_attention_heads: int = 8
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = 49407


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Both towers, and the width of the common space."""

    vision: VisionConfig = dataclasses.field(default_factory=VisionConfig)
    text: TextConfig = dataclasses.field(default_factory=TextConfig)
    projection_dim: int = 512

    @classmethod
    def tiny(cls, **changes: Any) -> "CLIPConfig":
        """Towers of width 32 and 24 for tests."""
        vision = VisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            image_size=16, patch_size=4,
        )  # fmt: skip
        text = TextConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
            vocab_size=60, max_position_embeddings=12, eos_token_id=59,
        )  # fmt: skip
        return cls(**{"vision": vision, "text": text, "projection_dim": 20, **changes})


class Attention(nnx.Module):
    """Attention among the own tokens."""

    def __init__(self, cfg: TowerConfig, *, rngs: nnx.Rngs):
        linear = functools.partial(bert.dense, dtype=cfg.dtype, rngs=rngs)
        width = cfg.hidden_size
        self.q_proj, self.k_proj = linear(width, width), linear(width, width)
        self.v_proj, self.out_proj = linear(width, width), linear(width, width)
        self.heads = cfg.num_attention_heads

    def __call__(self, x: Array, bias: Array | None) -> Array:
        """(n, l, d), and a bias of the logits or None -> (n, l, d)."""
        q, k, v = (
            rearrange(y, "n l (heads e) -> n l heads e", heads=self.heads)
            for y in (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        )
        y = ops.attention(q, k, v, bias)
        return self.out_proj(rearrange(y, "n l heads e -> n l (heads e)"))


class Layer(nnx.Module):
    """Attention and feed-forward, each behind a norm."""

    def __init__(self, cfg: TowerConfig, *, rngs: nnx.Rngs):
        linear = functools.partial(bert.dense, dtype=cfg.dtype, rngs=rngs)
        self.layer_norm1 = bert.norm(cfg, rngs=rngs)
        self.attention = Attention(cfg, rngs=rngs)
        self.layer_norm2 = bert.norm(cfg, rngs=rngs)
        self.fc1 = linear(cfg.hidden_size, cfg.intermediate_size)
        self.fc2 = linear(cfg.intermediate_size, cfg.hidden_size)
        self.act = cfg.hidden_act

    def __call__(self, x: Array, bias: Array | None = None) -> Array:
        """(n, l, d) float32 -> (n, l, d) float32."""
        x = x + self.attention(self.layer_norm1(x), bias)
        y = self.fc1(self.layer_norm2(x))
        y = y * jax.nn.sigmoid(1.702 * y) if self.act == "quick_gelu" else _gelu(y)
        return x + self.fc2(y)


class VisionTower(nnx.Module):
    """Images to tokens."""

    def __init__(self, cfg: VisionConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        normal, width = nnx.initializers.normal(bert.INIT_STD), cfg.hidden_size
        patch = (cfg.patch_size, cfg.patch_size)
        self.class_embedding = nnx.Param(normal(rngs.params(), (width,)))
        self.patch_embedding = nnx.Conv(
            3, width, patch, strides=patch, padding="VALID", use_bias=False,
            dtype=jnp.dtype(cfg.dtype), param_dtype=jnp.float32, kernel_init=normal, rngs=rngs,
        )  # fmt: skip
        positions = (cfg.image_size // cfg.patch_size) ** 2 + 1
        self.positions = nnx.Embed(positions, width, embedding_init=normal, rngs=rngs)
        self.pre_norm = bert.norm(cfg, rngs=rngs)
        self.layers = _stacked(cfg, rngs=rngs)
        self.post_norm = bert.norm(cfg, rngs=rngs)

    def __call__(self, pixels: Array, layer: int | None = None) -> Array:
        """Tokens behind a layer.

        Args:
          pixels: (n, h, w, 3) standardised by `MEAN` and `STD`, of the config's size.
          layer: how many layers to compute, 0 for the embeddings; negative numbers count from the
            end, -1 being all and -2 all but the last. None for all. Static.

        Returns:
          (n, p, d) float32, the class token first; not normalised.

        Raises:
          ValueError: images of another size, or no such layer.
        """
        side, count = self.cfg.image_size, self.cfg.num_hidden_layers
        check_shape(pixels, "n h w c", "pixels", h=side, w=side, c=3)
        depth = count if layer is None else layer + (count + 1 if layer < 0 else 0)
        if not 0 <= depth <= count:
            raise ValueError(f"layer={layer}; the tower has layers 0 .. {count}.")
        x = rearrange(self.patch_embedding(pixels), "n h w d -> n (h w) d").astype(jnp.float32)
        first = jnp.broadcast_to(self.class_embedding[...], (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([first, x], axis=1) + self.positions.embedding[...]
        return _run(self.layers, self.pre_norm(x), None, depth)

    def pool(self, x: Array) -> Array:
        """Tokens behind the last layer (n, p, d) -> (n, d), the class token normalised."""
        return self.post_norm(x[:, 0])


class TextTower(nnx.Module):
    """Token ids to one row per text."""

    def __init__(self, cfg: TextConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        normal = nnx.initializers.normal(bert.INIT_STD)
        table = functools.partial(nnx.Embed, embedding_init=normal, rngs=rngs)
        self.words = table(cfg.vocab_size, cfg.hidden_size)
        self.positions = table(cfg.max_position_embeddings, cfg.hidden_size)
        self.layers = _stacked(cfg, rngs=rngs)
        self.final_norm = bert.norm(cfg, rngs=rngs)

    def __call__(self, ids: Array) -> Array:
        """(n, l) ids that hold the end-of-text id; padding may follow it -> (n, d) float32."""
        length = check_shape(ids, "n l", "ids")["l"]
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"ids have dtype {ids.dtype}; token ids are integers.")
        if length > self.cfg.max_position_embeddings:
            raise ValueError(
                f"{length} tokens are more than the {self.cfg.max_position_embeddings} positions "
                "of the text tower; truncate the text when it is tokenised."
            )
        x = self.words.embedding[...][ids] + self.positions.embedding[...][:length]
        x = _run(self.layers, x.astype(jnp.float32), bert.causal_bias(length), None)
        end = self.cfg.eos_token_id
        place = jnp.argmax(ids if end == _LEGACY_EOS else ids == end, axis=1)
        return self.final_norm(jnp.take_along_axis(x, place[:, None, None], axis=1)[:, 0])


class CLIP(nnx.Module):
    """Both towers with their projections."""

    def __init__(self, cfg: CLIPConfig, *, rngs: nnx.Rngs):
        self.vision = VisionTower(cfg.vision, rngs=rngs)
        self.text = TextTower(cfg.text, rngs=rngs)
        project = functools.partial(
            nnx.Linear, out_features=cfg.projection_dim, use_bias=False, param_dtype=jnp.float32,
            kernel_init=nnx.initializers.normal(bert.INIT_STD), rngs=rngs,
        )  # fmt: skip
        self.visual_projection = project(cfg.vision.hidden_size)
        self.text_projection = project(cfg.text.hidden_size)
        self.logit_scale = nnx.Param(jnp.asarray(2.6592))

    def __call__(self, pixels: Array, ids: Array) -> Array:
        """(n, h, w, 3) images and (m, l) texts -> (n, m) cosines, times the learnt scale."""
        images, texts = (
            y / jnp.linalg.norm(y, axis=-1, keepdims=True)
            for y in (self.encode_images(pixels), self.encode_texts(ids))
        )
        return jnp.exp(self.logit_scale[...]) * images @ texts.T

    def encode_images(self, pixels: Array) -> Array:
        """(n, h, w, 3) standardised pixels -> (n, projection_dim), not of unit length."""
        return self.visual_projection(self.vision.pool(self.vision(pixels)))

    def encode_texts(self, ids: Array) -> Array:
        """(n, l) token ids -> (n, projection_dim), not of unit length."""
        return self.text_projection(self.text(ids))


def _stacked(cfg: TowerConfig, *, rngs: nnx.Rngs) -> Layer:
    keys = jax.random.split(rngs.params(), cfg.num_hidden_layers)
    return jax.vmap(lambda key: Layer(cfg, rngs=nnx.Rngs(key)))(keys)


def _run(layers: Layer, x: Array, bias: Array | None, depth: int | None) -> Array:
    """The first `depth` of stacked layers, or all."""
    layers = jax.tree.map(lambda leaf: leaf[:depth], layers)
    return jax.lax.scan(lambda x, layer: (layer(x, bias), None), x, layers)[0]


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)
