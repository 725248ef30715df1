"""Inflated Inception (I3D, arXiv 1705.07750), whose class scores are the features of FVD.

    endpoint        operation                      channels   21 frames of 224 px become
    Conv3d_1a_7x7   7x7x7, stride 2                64         11 x 112 x 112
    MaxPool3d_2a    1x3x3, stride 1, 2, 2                     11 x 56 x 56
    Conv3d_2b_1x1   1x1x1                          64
    Conv3d_2c_3x3   3x3x3                          192
    MaxPool3d_3a    1x3x3, stride 1, 2, 2                     11 x 28 x 28
    Mixed_3b, 3c                                   256, 480
    MaxPool3d_4a    3x3x3, stride 2                           6 x 14 x 14
    Mixed_4b .. 4f                                 512 .. 832
    MaxPool3d_5a    2x2x2, stride 2                           3 x 7 x 7
    Mixed_5b, 5c                                   832, 1024
    average         2x7x7, stride 1                           2 x 1 x 1
    logits          1x1x1, with bias               400        mean over frames

Every convolution but the last has no bias and is followed by a batch norm with stored statistics
and ReLU. Borders are padded as TensorFlow's "SAME": one more zero behind than before where the sum
is odd.

Axes: b batch, t frames, h w space, c channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import reduce
from flax import nnx

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.models import ops

SIZE = 224  # height and width of the input
MIN_FRAMES = 9  # of fewer, nothing is left for the last average
MIXED = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
POOLS = {  # before this endpoint: its own name, window, stride
    "Conv3d_2b_1x1": ("MaxPool3d_2a_3x3", (1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}
BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")

Triple = tuple[int, int, int]
Widths = tuple[int, int, int, int, int, int]  # channels of the convolutions named in BRANCHES


@dataclasses.dataclass(frozen=True)
class I3DConfig:
    """Widths; the defaults are the network trained on Kinetics-400 (12.7 M parameters).

    Attributes:
      stem: channels of 1a, 2b and 2c.
      mixed: channels of the six convolutions of each mixed block.
      num_classes: class scores, the features of FVD.
      epsilon: added to the variance in batch norms: 1e-3 in the original network and its
        TorchScript copy, 1e-5 in the evaluations that load the weights into PyTorch's default.
    """

    stem: Triple = (64, 64, 192)
    mixed: tuple[Widths, ...] = (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    )
    num_classes: int = 400
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if len(self.mixed) != len(MIXED):
            raise ValueError(f"mixed has {len(self.mixed)} blocks; expected {len(MIXED)}: {MIXED}.")
        if self.epsilon <= 0.0:
            raise ValueError(
                f"epsilon is {self.epsilon}; expected a positive number, such as 1e-3."
            )


class I3D(nnx.Module):
    """Features of clips (b, t, 224, 224, 3) in [-1, 1], t at least 9."""

    def __init__(self, cfg: I3DConfig, *, rngs: nnx.Rngs):
        a, b, c = cfg.stem
        self.conv_1a = Unit(3, a, 7, 2, epsilon=cfg.epsilon, rngs=rngs)
        self.conv_2b = Unit(a, b, 1, epsilon=cfg.epsilon, rngs=rngs)
        self.conv_2c = Unit(b, c, 3, epsilon=cfg.epsilon, rngs=rngs)
        mixed = []
        for widths in cfg.mixed:
            mixed.append(Mixed(c, widths, epsilon=cfg.epsilon, rngs=rngs))
            c = widths[0] + widths[2] + widths[4] + widths[5]
        self.mixed = nnx.List(mixed)
        self.logits = Head(c, cfg.num_classes, rngs=rngs)

    def __call__(self, video: Array) -> Array:
        """Class scores before the softmax, mean over time: (b, num_classes), what FVD compares."""
        return jnp.mean(self.logits(self.pooled(video)), axis=1)

    def embed(self, video: Array) -> Array:
        """The layer below, mean over time: (b, 1024)."""
        return jnp.mean(self.pooled(video), axis=1)

    def pooled(self, video: Array) -> Array:
        """Means of 2x7x7 cells of the last block: (b, t', 1024)."""
        spatial = reduce(self.endpoints(video)["Mixed_5c"], "b t h w c -> b t c", "mean")
        return 0.5 * (spatial[:, :-1] + spatial[:, 1:])

    def endpoints(self, video: Array) -> dict[str, Array]:
        """Output (b, t', h', w', c') of every station by its published name, in order."""
        sizes = types.check_shape(video, "b t h w c", "video", h=SIZE, w=SIZE, c=3)
        if sizes["t"] < MIN_FRAMES:
            raise ValueError(
                f"The clips have {sizes['t']} frames; I3D needs at least {MIN_FRAMES}."
            )
        found = {"Conv3d_1a_7x7": self.conv_1a(video)}
        blocks = {
            "Conv3d_2b_1x1": self.conv_2b,
            "Conv3d_2c_3x3": self.conv_2c,
            **{f"Mixed_{name}": block for name, block in zip(MIXED, self.mixed, strict=True)},
        }
        x = found["Conv3d_1a_7x7"]
        for name, block in blocks.items():
            if name in POOLS:
                pool, window, strides = POOLS[name]
                x = found[pool] = max_pool(x, window, strides)
            x = found[name] = block(x)
        return found


class Unit(nnx.Module):
    """Convolution, batch norm with stored statistics, ReLU."""

    def __init__(
        self, cin: int, cout: int, window: int, stride: int = 1, *, epsilon: float, rngs: nnx.Rngs
    ):
        self.strides = (stride,) * 3
        self.epsilon = epsilon
        self.kernel = nnx.Param(_he_normal(rngs, (window, window, window, cin, cout)))
        self.scale = nnx.Param(jnp.ones((cout,)))
        self.bias = nnx.Param(jnp.zeros((cout,)))
        self.mean = nnx.Param(jnp.zeros((cout,)))
        self.variance = nnx.Param(jnp.ones((cout,)))

    def __call__(self, x: Array) -> Array:
        """(b, t, h, w, i) -> (b, t', h', w', o)."""
        kernel = self.kernel[...]
        pads = same_padding(x.shape[1:4], kernel.shape[:3], self.strides)
        padding = pads[0], pads[1], pads[2]
        x = ops.conv3d(x, kernel, strides=self.strides, padding=padding)
        factor = jax.lax.rsqrt(self.variance[...] + self.epsilon) * self.scale[...]
        return jax.nn.relu((x - self.mean[...]) * factor + self.bias[...])


class Mixed(nnx.Module):
    """Inception block: a point, two 3x3x3 windows behind points, and a pool before a point."""

    def __init__(self, cin: int, widths: Widths, *, epsilon: float, rngs: nnx.Rngs):
        w0, w1a, w1b, w2a, w2b, w3b = widths
        self.b0 = Unit(cin, w0, 1, epsilon=epsilon, rngs=rngs)
        self.b1a = Unit(cin, w1a, 1, epsilon=epsilon, rngs=rngs)
        self.b1b = Unit(w1a, w1b, 3, epsilon=epsilon, rngs=rngs)
        self.b2a = Unit(cin, w2a, 1, epsilon=epsilon, rngs=rngs)
        self.b2b = Unit(w2a, w2b, 3, epsilon=epsilon, rngs=rngs)
        self.b3b = Unit(cin, w3b, 1, epsilon=epsilon, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """(b, t, h, w, c) -> (b, t, h, w, sum of the four branches)."""
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled))
        return jnp.concatenate(branches, axis=-1)


class Head(nnx.Module):
    """Class scores of every pooled frame: (b, t, c) -> (b, t, num_classes)."""

    def __init__(self, cin: int, cout: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_he_normal(rngs, (cin, cout)))
        self.bias = nnx.Param(jnp.zeros((cout,)))

    def __call__(self, x: Array) -> Array:
        """(b, t, c) -> (b, t, num_classes)."""
        return x @ self.kernel[...] + self.bias[...]


def same_padding(
    sizes: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Zeros (before, after) on each axis, such that ceil(size / stride) windows fit."""
    padding = []
    for size, width, stride in zip(sizes, window, strides, strict=True):
        total = max(width - (size % stride or stride), 0)
        padding.append((total // 2, total - total // 2))
    return tuple(padding)


def max_pool(x: Array, window: Triple, strides: Triple) -> Array:
    """Maximum of windows of (b, t, h, w, c), its borders padded with zeros, not with -inf."""
    padding = same_padding(x.shape[1:4], window, strides)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    shape, steps = (1, *window, 1), (1, *strides, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, shape, steps, "VALID")


def _he_normal(rngs: nnx.Rngs, shape: tuple[int, ...]) -> Array:
    fan_in = shape[-2]
    for size in shape[:-2]:
        fan_in *= size
    return jax.random.normal(rngs.params(), shape) * (2.0 / fan_in) ** 0.5
