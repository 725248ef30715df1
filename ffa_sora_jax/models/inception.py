"""Inception-v3 as FID uses it (arXiv 1512.00567; the TensorFlow graph of 5 December 2015).

It differs from other Inception-v3 networks in its weights and in three patches: average pools do
not count the zeros beyond the border, the pool of the last block takes the maximum, and there are
1008 classes. The features of FID are the 2048 means of the last block.

    input 299 x 299 -> 1a 3x3/2 -> 2a 3x3 -> 2b 3x3 -> max 3x3/2 -> 3b 1x1 -> 4a 3x3 -> max 3x3/2
    35 x 35: 5b 5c 5d (A)   17 x 17: 6a (B) 6b 6c 6d 6e (C)   8 x 8: 7a (D) 7b 7c (E)

Attributes are named as in the PyTorch port. Axes: n images, h w space, c channels.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array

SIZE = 299  # height and width of the input
EPSILON = 1e-3
MIN_SIZE = 75  # of smaller images, nothing is left for the last block

Window = tuple[int, int]
_ZERO: Window = (0, 0)


@dataclasses.dataclass(frozen=True)
class InceptionConfig:
    """Sizes; the defaults are FID's network (21.8 M parameters without the classes).

    Attributes:
      divisor: every width is divided by it (at least 1 channel stays); for tests.
      num_classes: class scores.
    """

    divisor: int = 1
    num_classes: int = 1008

    def __post_init__(self) -> None:
        if self.divisor < 1:
            raise ValueError(f"divisor is {self.divisor}; expected 1 or more.")

    def width(self, channels: int) -> int:
        """Channels of a layer that has `channels` in the published network."""
        return max(channels // self.divisor, 1)


class InceptionV3(nnx.Module):
    """Features of images (n, 299, 299, 3) in [-1, 1]."""

    def __init__(self, cfg: InceptionConfig, *, rngs: nnx.Rngs):
        make = _Maker(cfg, rngs)
        self.Conv2d_1a_3x3, c = make.conv(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3, c = make.conv(c, 32, (3, 3))
        self.Conv2d_2b_3x3, c = make.conv(c, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1, c = make.conv(c, 80)
        self.Conv2d_4a_3x3, c = make.conv(c, 192, (3, 3))
        self.Mixed_5b, c = make.block(BlockA, c, 32)
        self.Mixed_5c, c = make.block(BlockA, c, 64)
        self.Mixed_5d, c = make.block(BlockA, c, 64)
        self.Mixed_6a, c = make.block(BlockB, c)
        self.Mixed_6b, c = make.block(BlockC, c, 128)
        self.Mixed_6c, c = make.block(BlockC, c, 160)
        self.Mixed_6d, c = make.block(BlockC, c, 160)
        self.Mixed_6e, c = make.block(BlockC, c, 192)
        self.Mixed_7a, c = make.block(BlockD, c)
        self.Mixed_7b, c = make.block(BlockE, c)
        self.Mixed_7c, c = make.block(BlockE, c, largest=True)
        self.fc = nnx.Linear(c, cfg.num_classes, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        """Means of the last block: (n, 2048), what FID compares."""
        return jnp.mean(self.last_block(images), axis=(1, 2))

    def classify(self, images: Array) -> Array:
        """Class scores before the softmax: (n, 1008)."""
        return self.fc(self(images))

    def last_block(self, images: Array) -> Array:
        """Output of the last block: (n, 8, 8, 2048)."""
        sizes = types.check_shape(images, "n h w c", "images", c=3)
        if min(sizes["h"], sizes["w"]) < MIN_SIZE:
            raise ValueError(
                f"The images have {sizes['h']} x {sizes['w']} px; expected {SIZE} x {SIZE}, and at "
                f"least {MIN_SIZE}."
            )
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_max_pool(x, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(_max_pool(x, 2))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        x = self.Mixed_6e(self.Mixed_6d(x))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))


class ConvNorm(nnx.Module):
    """Convolution without bias, batch norm with stored statistics, ReLU."""

    def __init__(
        self, cin: int, cout: int, window: Window, stride: int, padding: Window, rngs: nnx.Rngs
    ):
        pads = [(side, side) for side in padding]
        self.conv = nnx.Conv(
            cin, cout, window, strides=stride, padding=pads, use_bias=False, rngs=rngs
        )
        self.scale = nnx.Param(jnp.ones((cout,)))
        self.bias = nnx.Param(jnp.zeros((cout,)))
        self.mean = nnx.Param(jnp.zeros((cout,)))
        self.variance = nnx.Param(jnp.ones((cout,)))

    def __call__(self, x: Array) -> Array:
        """(n, h, w, i) -> (n, h', w', o)."""
        factor = jax.lax.rsqrt(self.variance[...] + EPSILON) * self.scale[...]
        return jax.nn.relu((self.conv(x) - self.mean[...]) * factor + self.bias[...])


class _Maker:
    """Makes layers at the configured width; each call returns the layer and its channels."""

    def __init__(self, cfg: InceptionConfig, rngs: nnx.Rngs):
        self.width, self.rngs = cfg.width, rngs

    def conv(
        self, cin: int, cout: int, window: Window = (1, 1), *, stride: int = 1,
        padding: Window = _ZERO,
    ) -> tuple[ConvNorm, int]:  # fmt: skip
        cout = self.width(cout)
        return ConvNorm(cin, cout, window, stride, padding, self.rngs), cout

    def block(self, kind: type, cin: int, *args: int, **kwargs: bool) -> tuple[nnx.Module, int]:
        block = kind(cin, *args, make=self, **kwargs)
        return block, block.channels


class BlockA(nnx.Module):
    """35 x 35: a point, a 5x5, two 3x3, and a pool."""

    def __init__(self, cin: int, pool: int, *, make: _Maker):
        self.branch1x1, one = make.conv(cin, 64)
        self.branch5x5_1, c = make.conv(cin, 48)
        self.branch5x5_2, five = make.conv(c, 64, (5, 5), padding=(2, 2))
        self.branch3x3dbl_1, c = make.conv(cin, 64)
        self.branch3x3dbl_2, c = make.conv(c, 96, (3, 3), padding=(1, 1))
        self.branch3x3dbl_3, three = make.conv(c, 96, (3, 3), padding=(1, 1))
        self.branch_pool, pooled = make.conv(cin, pool)
        self.channels = one + five + three + pooled

    def __call__(self, x: Array) -> Array:
        """(n, h, w, c) -> (n, h, w, channels)."""
        return _join(
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_mean_pool(x)),
        )


class BlockB(nnx.Module):
    """35 x 35 -> 17 x 17."""

    def __init__(self, cin: int, *, make: _Maker):
        self.branch3x3, one = make.conv(cin, 384, (3, 3), stride=2)
        self.branch3x3dbl_1, c = make.conv(cin, 64)
        self.branch3x3dbl_2, c = make.conv(c, 96, (3, 3), padding=(1, 1))
        self.branch3x3dbl_3, two = make.conv(c, 96, (3, 3), stride=2)
        self.channels = one + two + cin

    def __call__(self, x: Array) -> Array:
        """(n, h, w, c) -> (n, h / 2, w / 2, channels)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return _join(self.branch3x3(x), double, _max_pool(x, 2))


class BlockC(nnx.Module):
    """17 x 17: 7x7 windows as rows and columns."""

    def __init__(self, cin: int, inner: int, *, make: _Maker):
        row = functools.partial(make.conv, window=(1, 7), padding=(0, 3))
        column = functools.partial(make.conv, window=(7, 1), padding=(3, 0))
        self.branch1x1, one = make.conv(cin, 192)
        self.branch7x7_1, c = make.conv(cin, inner)
        self.branch7x7_2, c = row(c, inner)
        self.branch7x7_3, two = column(c, 192)
        self.branch7x7dbl_1, c = make.conv(cin, inner)
        self.branch7x7dbl_2, c = column(c, inner)
        self.branch7x7dbl_3, c = row(c, inner)
        self.branch7x7dbl_4, c = column(c, inner)
        self.branch7x7dbl_5, three = row(c, 192)
        self.branch_pool, pooled = make.conv(cin, 192)
        self.channels = one + two + three + pooled

    def __call__(self, x: Array) -> Array:
        """(n, h, w, c) -> (n, h, w, channels)."""
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return _join(
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_mean_pool(x)),
        )


class BlockD(nnx.Module):
    """17 x 17 -> 8 x 8."""

    def __init__(self, cin: int, *, make: _Maker):
        self.branch3x3_1, c = make.conv(cin, 192)
        self.branch3x3_2, one = make.conv(c, 320, (3, 3), stride=2)
        self.branch7x7x3_1, c = make.conv(cin, 192)
        self.branch7x7x3_2, c = make.conv(c, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3, c = make.conv(c, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4, two = make.conv(c, 192, (3, 3), stride=2)
        self.channels = one + two + cin

    def __call__(self, x: Array) -> Array:
        """(n, h, w, c) -> (n, h / 2, w / 2, channels)."""
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return _join(
            self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), _max_pool(x, 2)
        )


class BlockE(nnx.Module):
    """8 x 8: branches that fork once more; `largest` pools by the maximum, as the last one does."""

    def __init__(self, cin: int, *, make: _Maker, largest: bool = False):
        row = functools.partial(make.conv, window=(1, 3), padding=(0, 1))
        column = functools.partial(make.conv, window=(3, 1), padding=(1, 0))
        self.largest = largest
        self.branch1x1, one = make.conv(cin, 320)
        self.branch3x3_1, c = make.conv(cin, 384)
        self.branch3x3_2a, a = row(c, 384)
        self.branch3x3_2b, b = column(c, 384)
        self.branch3x3dbl_1, c = make.conv(cin, 448)
        self.branch3x3dbl_2, c = make.conv(c, 384, (3, 3), padding=(1, 1))
        self.branch3x3dbl_3a, d = row(c, 384)
        self.branch3x3dbl_3b, e = column(c, 384)
        self.branch_pool, pooled = make.conv(cin, 192)
        self.channels = one + a + b + d + e + pooled

    def __call__(self, x: Array) -> Array:
        """(n, h, w, c) -> (n, h, w, channels)."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = _max_pool(x, 1, padding=1) if self.largest else _mean_pool(x)
        return _join(
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        )


def _join(*branches: Array) -> Array:
    return jnp.concatenate(branches, axis=-1)


def _max_pool(x: Array, stride: int, padding: int = 0) -> Array:
    """Maximum of 3x3 windows."""
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), pads
    )


def _mean_pool(x: Array) -> Array:
    """Mean of 3x3 windows over the pixels that lie within the image."""
    total = _sum_3x3(x)
    return total / _sum_3x3(jnp.ones_like(x[:1, :, :, :1]))


def _sum_3x3(x: Array) -> Array:
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), pads)
