"""The encoder of VideoMAE v2 (arXiv 2303.16727), the features of content-debiased FVD.

A vision transformer on tubes of two frames and 14 x 14 px: positions are fixed sinusoids over all
tubes, there is no class token, and the feature is the normalised mean of all tubes. Its features
follow motion more than I3D's, which follow the content of frames (arXiv 2404.12391).

Axes: b batch, t frames, h w space, n tubes, d width.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.models import ops

EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class VideoMAEConfig:
    """Sizes; the defaults are ViT-g/14 on 16 frames of 224 px (1.0 G parameters).

    Attributes:
      width: of the tokens.
      depth: number of blocks.
      heads: of the attention; divides the width.
      mlp: inner width of the feed-forward layers.
      patch: height and width of a tube, pixels.
      tubelet: frames of a tube.
      frames: of a clip.
      size: height and width of the frames.
      num_classes: of the classifier that the checkpoint was tuned with; it is not used.
    """

    width: int = 1408
    depth: int = 40
    heads: int = 16
    mlp: int = 6144
    patch: int = 14
    tubelet: int = 2
    frames: int = 16
    size: int = 224
    num_classes: int = 174

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width is {self.width}; expected an even multiple of {self.heads}.")
        if self.size % self.patch or self.frames % self.tubelet:
            raise ValueError(
                f"Clips of {self.frames} frames of {self.size} px are not whole tubes of "
                f"{self.tubelet} frames of {self.patch} px."
            )


class VideoMAE(nnx.Module):
    """Features of clips (b, 16, 224, 224, 3) in [0, 1]."""

    def __init__(self, cfg: VideoMAEConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        tube = (cfg.tubelet, cfg.patch, cfg.patch)
        self.patch_embed = nnx.Linear(3 * int(np.prod(tube)), cfg.width, rngs=rngs)
        keys = jax.random.split(rngs.params(), cfg.depth)
        self.blocks = jax.vmap(lambda key: Block(cfg, rngs=nnx.Rngs(key)))(keys)
        self.fc_norm = _norm(cfg.width, rngs)

    def __call__(self, video: Array) -> Array:
        """(b, t, h, w, 3) -> (b, width)."""
        cfg = self.cfg
        types.check_shape(video, "b t h w c", "video", t=cfg.frames, h=cfg.size, w=cfg.size, c=3)
        tubes = rearrange(
            video, "b (t u) (h p) (w q) c -> b (t h w) (u p q c)",
            u=cfg.tubelet, p=cfg.patch, q=cfg.patch,
        )  # fmt: skip
        x = self.patch_embed(tubes)
        x = x + sinusoids(x.shape[1], cfg.width)
        x, _ = jax.lax.scan(lambda x, block: (block(x), None), x, self.blocks)
        return self.fc_norm(jnp.mean(x, axis=1))


class Block(nnx.Module):
    """Attention and feed-forward, each behind a norm."""

    def __init__(self, cfg: VideoMAEConfig, *, rngs: nnx.Rngs):
        self.heads = cfg.heads
        self.norm1 = _norm(cfg.width, rngs)
        self.qkv = nnx.Linear(cfg.width, 3 * cfg.width, use_bias=False, rngs=rngs)
        self.q_bias = nnx.Param(jnp.zeros((cfg.width,)))
        self.v_bias = nnx.Param(jnp.zeros((cfg.width,)))  # keys have none: it would have no effect
        self.proj = nnx.Linear(cfg.width, cfg.width, rngs=rngs)
        self.norm2 = _norm(cfg.width, rngs)
        self.fc1 = nnx.Linear(cfg.width, cfg.mlp, rngs=rngs)
        self.fc2 = nnx.Linear(cfg.mlp, cfg.width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """(b, n, d) -> (b, n, d)."""
        q, k, v = jnp.split(self.qkv(self.norm1(x)), 3, axis=-1)
        q, k, v = (
            rearrange(y, "b n (heads e) -> b n heads e", heads=self.heads)
            for y in (q + self.q_bias[...], k, v + self.v_bias[...])
        )
        x = x + self.proj(rearrange(ops.attention(q, k, v), "b n heads e -> b n (heads e)"))
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


def sinusoids(count: int, width: int) -> np.ndarray:
    """(count, width) float32: sines in even columns, cosines in odd ones, base 10000."""
    place = np.arange(count, dtype=np.float64)[:, None]
    angle = place / 10_000.0 ** (2 * (np.arange(width) // 2) / width)
    angle[:, 0::2], angle[:, 1::2] = np.sin(angle[:, 0::2]), np.cos(angle[:, 1::2])
    return angle.astype(np.float32)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, rngs=rngs)
