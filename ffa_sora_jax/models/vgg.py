"""LPIPS on VGG-16, the perceptual distance of the VAE's training (arXiv 1801.03924).

Both images pass the network; the features of five stages, normalised over channels, are compared
by weighted squared differences and averaged over space.

Axes: n images, h w space, c channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange, reduce
from flax import nnx

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array

SHIFT = (-0.030, -0.088, -0.188)  # ImageNet mean and deviation, for pixels in [-1, 1]
SCALE = (0.458, 0.448, 0.450)


@dataclasses.dataclass(frozen=True)
class VGGConfig:
    """Channels and convolutions of the five stages; the defaults are VGG-16."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)

    @classmethod
    def tiny(cls) -> "VGGConfig":
        """A network for tests."""
        return cls(widths=(4, 6, 8, 10, 10))


class LPIPS(nnx.Module):
    """Distance between two clips: (b, t, h, w, c), twice -> (b, t); c is 1 or 3, in [-1, 1]."""

    def __init__(self, cfg: VGGConfig, *, rngs: nnx.Rngs):
        inputs = (3, *cfg.widths[:-1])
        self.stages = nnx.List([
            nnx.List([
                nnx.Conv(cout if n else cin, cout, (3, 3), padding=1, rngs=rngs)
                for n in range(depth)
            ])
            for cin, cout, depth in zip(inputs, cfg.widths, cfg.depths, strict=True)
        ])  # fmt: skip
        self.heads = nnx.List([nnx.Param(jnp.ones((width,)) / width) for width in cfg.widths])

    def __call__(self, video: Array, other: Array) -> Array:
        """Distance of every frame; 0 for equal frames."""
        types.check_shape(video, "b t h w c", "video")
        b = video.shape[0]
        pairs = zip(self.features(video), self.features(other), self.heads, strict=True)
        distance = jnp.zeros(video.shape[0] * video.shape[1])
        for x, y, head in pairs:
            distance += jnp.mean(jnp.square(_unit(x) - _unit(y)) @ head[...], axis=(1, 2))
        return rearrange(distance, "(b t) -> b t", b=b)

    def features(self, video: Array) -> list[Array]:
        """Output of every stage for all frames, (b t, h', w', width)."""
        x = rearrange(video, "b t h w c -> (b t) h w c")
        x = (x - jnp.array(SHIFT)) / jnp.array(SCALE)  # grey is repeated to three channels
        found = []
        for n, stage in enumerate(self.stages):
            if n:
                x = _halve(x)
            for conv in stage:
                x = jax.nn.relu(conv(x))
            found.append(x)
        return found


def _halve(x: Array) -> Array:
    """Maximum of 2x2 blocks; an odd last row or column is dropped."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return reduce(x, "n (h y) (w x) c -> n h w c", "max", y=2, x=2)


def _unit(x: Array) -> Array:
    """Unit length over channels; where all are 0 the value and the gradient are 0."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return x / (norm + 1e-10)
