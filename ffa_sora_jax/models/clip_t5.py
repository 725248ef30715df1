"""CLIP-FlanT5: a T5 that reads an image among its words (arXiv 2404.01291).

    pixels (n h w 3) -> image tower, all layers but the last -> patches (n p 1024)
                     -> linear, GELU, linear -> image tokens (n p d)
    words before, image tokens, words after -> T5 encoder -> T5 decoder -> logits of the answer

Axes: n questions with one image each, h w pixels, p patches, l tokens, d width of T5.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ffa_sora_jax.common.types import Array, check_shape
from ffa_sora_jax.models import bert
from ffa_sora_jax.models.clip import CLIPConfig, VisionConfig, VisionTower
from ffa_sora_jax.models.t5_decoder import T5, T5DecoderConfig


@dataclasses.dataclass(frozen=True)
class CLIPT5Config:
    """Sizes of the parts.

    Attributes:
      t5: the language model.
      vision: the image tower.
      select_layer: the tower's layer whose patches are read, see `VisionTower`.
    """

    t5: T5DecoderConfig = dataclasses.field(default_factory=T5DecoderConfig)
    vision: VisionConfig = dataclasses.field(default_factory=VisionConfig)
    select_layer: int = -2

    @classmethod
    def tiny(cls, **changes: Any) -> "CLIPT5Config":
        """Parts of width 32 for tests."""
        parts = dict(t5=T5DecoderConfig.tiny(), vision=CLIPConfig.tiny().vision)
        return cls(**{**parts, **changes})


class CLIPT5(nnx.Module):
    """Answers to questions about images."""

    def __init__(self, cfg: CLIPT5Config, *, rngs: nnx.Rngs):
        self.cfg = cfg
        width = cfg.t5.d_model
        self.t5 = T5(cfg.t5, rngs=rngs)
        self.vision = VisionTower(cfg.vision, rngs=rngs)
        self.projector = nnx.List(
            [
                bert.dense(inputs, width, dtype=cfg.t5.dtype, rngs=rngs)
                for inputs in (cfg.vision.hidden_size, width)
            ]
        )

    def __call__(
        self, pixels: Array, before: Array, after: Array, after_mask: Array, decoder_ids: Array
    ) -> Array:
        """Logits of an answer, given its tokens before each.

        Args:
          pixels: (n, h, w, 3) standardised, see `VisionTower`.
          before: (l,) ids of the words before the image, the same for all.
          after: (n, l') ids of the words after it.
          after_mask: (n, l'), true on real tokens.
          decoder_ids: (n, m) ids, the start token first.

        Returns:
          (n, m, vocab_size) float32.
        """
        n = check_shape(pixels, "n h w c", "pixels")["n"]
        size = check_shape(after, "n l", "after", n=n)
        check_shape(after_mask, "n l", "after_mask", **size)
        check_shape(before, "l", "before")
        image = self.image_tokens(pixels)
        first = jnp.repeat(self.t5.encoder.embed(before[None]), n, axis=0)
        x = jnp.concatenate([first, image, self.t5.encoder.embed(after)], axis=1)
        real = jnp.ones((n, len(before) + image.shape[1]), bool)
        mask = jnp.concatenate([real, jnp.asarray(after_mask, bool)], axis=1)
        return self.t5.decode(decoder_ids, self.t5.encoder.encode(x, mask), mask)

    def image_tokens(self, pixels: Array) -> Array:
        """(n, h, w, 3) standardised pixels -> (n, p, d) float32, without the class token."""
        x = self.vision(pixels, layer=self.cfg.select_layer)[:, 1:]
        x = jax.nn.gelu(self.projector[0](x), approximate=False)
        return self.projector[1](x).astype(jnp.float32)
