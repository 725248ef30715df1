"""LPIPS, a perceptual distance of images (arXiv 1801.03924, version 0.1), on VGG-16 or AlexNet.

Both images pass a trunk; the features of five stages, normalised over channels, are compared by
weighted squared differences. VGG-16 is the loss of the VAE's training; AlexNet is the usual
metric.

Axes: n images, h w space, c channels.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from ffa_sora_jax.common import names, types
from ffa_sora_jax.common.types import Array

SHIFT = (-0.030, -0.088, -0.188)  # ImageNet mean and deviation, for pixels in [-1, 1]
SCALE = (0.458, 0.448, 0.450)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Convolutions with ReLU up to one tap.

    Attributes:
      widths: channels of each convolution.
      window: its size; square.
      stride: its stride.
      padding: zeros on each side.
      pool: window of the maximum (stride 2, whole windows only) before them; 0 for none.
    """

    widths: tuple[int, ...]
    window: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0


@dataclasses.dataclass(frozen=True)
class LPIPSConfig:
    """The trunk; the default is VGG-16."""

    stages: tuple[Stage, ...] = (
        Stage((64, 64)),
        Stage((128, 128), pool=2),
        Stage((256, 256, 256), pool=2),
        Stage((512, 512, 512), pool=2),
        Stage((512, 512, 512), pool=2),
    )

    @classmethod
    def vgg16(cls) -> "LPIPSConfig":
        """VGG-16: 14.7 M parameters."""
        return cls()

    @classmethod
    def alexnet(cls) -> "LPIPSConfig":
        """AlexNet in torchvision's widths: 2.5 M parameters."""
        return cls((
            Stage((64,), window=11, stride=4, padding=2),
            Stage((192,), window=5, padding=2, pool=3),
            Stage((384,), pool=3),
            Stage((256,)),
            Stage((256,)),
        ))  # fmt: skip

    @property
    def min_px(self) -> int:
        """Smallest side of a frame that leaves one place in every stage."""
        side = 1
        for stage in reversed(self.stages):
            for _ in stage.widths:
                side = max((side - 1) * stage.stride + stage.window - 2 * stage.padding, 1)
            if stage.pool:
                side = (side - 1) * 2 + stage.pool
        return side

    def narrowed(self, *widths: int) -> "LPIPSConfig":
        """The same graph with another width per stage; for tests."""
        return LPIPSConfig(
            tuple(
                dataclasses.replace(stage, widths=(width,) * len(stage.widths))
                for stage, width in zip(self.stages, widths, strict=True)
            )
        )


TRUNKS: dict[str, Callable[[], LPIPSConfig]] = {
    "alex": LPIPSConfig.alexnet,
    "vgg": LPIPSConfig.vgg16,
}


def trunk_config(net: str) -> LPIPSConfig:
    """The configuration of the trunk "alex" or "vgg"."""
    if net not in TRUNKS:
        raise ValueError(names.unknown_name("LPIPS trunk", net, TRUNKS))
    return TRUNKS[net]()


class LPIPS(nnx.Module):
    """Distance between two clips: (b, t, h, w, c), twice -> (b, t); c is 1 or 3, in [-1, 1]."""

    def __init__(self, cfg: LPIPSConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        stages = []
        cin = 3
        for stage in cfg.stages:
            convs = []
            for width in stage.widths:
                convs.append(_conv(cin, width, stage, rngs))
                cin = width
            stages.append(nnx.List(convs))
        self.stages = nnx.List(stages)
        widths = [stage.widths[-1] for stage in cfg.stages]
        self.heads = nnx.List([nnx.Param(jnp.ones((width,)) / width) for width in widths])

    def __call__(self, video: Array, other: Array, spatial: bool = False) -> Array:
        """Distance of every frame; 0 for equal frames.

        With `spatial` the maps of all stages are first enlarged to the frame and added: the
        protocol of video evaluations. The mean over the frame then differs in the third digit.
        """
        if not spatial:
            return self._reduced(video, other, None)
        return jnp.mean(self.maps(video, other), axis=(-2, -1))

    def maps(self, video: Array, other: Array) -> Array:
        """Where the frames differ: (b, t, h, w)."""
        return self._reduced(video, other, (video.shape[2], video.shape[3]))

    def features(self, video: Array) -> list[Array]:
        """Output of every stage for all frames, (b t, h', w', width).

        Raises:
          ValueError: frames so small that a stage has nothing left.
        """
        smallest = self.cfg.min_px
        if min(video.shape[2:4]) < smallest:
            raise ValueError(
                f"LPIPS on this trunk needs frames of at least {smallest} px; these have "
                f"{video.shape[2]} x {video.shape[3]}. Compare larger frames (`--size`)."
            )
        x = rearrange(video, "b t h w c -> (b t) h w c")
        x = (x - jnp.array(SHIFT)) / jnp.array(SCALE)  # grey is repeated to three channels
        found = []
        for stage, convs in zip(self.cfg.stages, self.stages, strict=True):
            if stage.pool:
                x = _pool(x, stage.pool)
            for conv in convs:
                x = jax.nn.relu(conv(x))
            found.append(x)
        return found

    def _reduced(self, video: Array, other: Array, size: tuple[int, int] | None) -> Array:
        types.check_shape(video, "b t h w c", "video")
        heads = [head[...] for head in self.heads]
        distance = compare(self.features(video), self.features(other), heads, size)
        return rearrange(distance, "(b t) ... -> b t ...", b=video.shape[0])


def compare(
    features: Sequence[Array],
    others: Sequence[Array],
    heads: Sequence[Array],
    size: tuple[int, int] | None = None,
) -> Array:
    """The distance between the features of two sets of images.

    Args:
      features: by stage, (n, h', w', width), after ReLU.
      others: the same shapes.
      heads: by stage, (width,), not negative.
      size: None averages every stage over space; (h, w) enlarges every stage's map to that size.

    Returns:
      Sum over stages: (n,), or maps (n, h, w).
    """
    total: Array | float = 0.0
    for x, y, head in zip(features, others, heads, strict=True):
        distance = jnp.square(_unit(x) - _unit(y)) @ head  # (n, h', w')
        if size is None:
            total += jnp.mean(distance, axis=(1, 2))
        else:
            shape = (distance.shape[0], *size)
            total += jax.image.resize(distance, shape, "bilinear", antialias=False)
    return jnp.asarray(total)


def _conv(cin: int, cout: int, stage: Stage, rngs: nnx.Rngs) -> nnx.Conv:
    window = (stage.window, stage.window)
    return nnx.Conv(cin, cout, window, strides=stage.stride, padding=stage.padding, rngs=rngs)


def _pool(x: Array, window: int) -> Array:
    """Maximum with stride 2; an incomplete last row or column is dropped."""
    size = (1, window, window, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, (1, 2, 2, 1), "VALID")


def _unit(x: Array) -> Array:
    """Unit length over channels; where all are 0 the value and the gradient are 0."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return x / (norm + 1e-10)
