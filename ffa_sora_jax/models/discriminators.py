"""Patch discriminator of video clips (the 3-D form of arXiv 1611.07004, section 3.2.2).

    layer        channels   stride (t, h, w)
    conv_in      c -> 64    2, 2, 2            leaky ReLU
    blocks[0]    128        2, 2, 2            batch norm, leaky ReLU
    blocks[1]    256        1, 2, 2            "
    blocks[2]    512        1, 2, 2            "
    blocks[3]    512        1, 1, 1            "
    conv_out     1          1, 1, 1

Axes: b batch, t frames, h w space, c channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.models import ops

EPS = 1e-5
MOMENTUM = 0.1
_PADDING = ((1, 1), (1, 1), (1, 1))

Stats = tuple[Array, Array]  # mean and variance per channel


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes; the defaults are those of the reference (11.7 M parameters)."""

    in_channels: int = 3
    width: int = 64
    num_layers: int = 4

    @classmethod
    def tiny(cls) -> "DiscriminatorConfig":
        """A discriminator for tests."""
        return cls(width=4)


class PatchDiscriminator3D(nnx.Module):
    """One logit per patch: (b, t, h, w, c) -> (b, t', h', w', 1).

    Batch norm uses the statistics of the batch, in every step of both players, as the reference
    does while it trains. Running averages are no parameters: `stats` of a call can be averaged by
    `running_average` and given back as `running`.
    """

    def __init__(self, cfg: DiscriminatorConfig, *, rngs: nnx.Rngs):
        widths = [cfg.width * min(2**n, 8) for n in range(cfg.num_layers)]
        self.in_channels = cfg.in_channels
        self.conv_in = Conv(cfg.in_channels, widths[0], (2, 2, 2), bias=True, rngs=rngs)
        strides = [(2 if n == 1 else 1, 2, 2) for n in range(1, cfg.num_layers)]
        outputs, strides = [*widths[1:], widths[-1]], [*strides, (1, 1, 1)]
        self.blocks = nnx.List([
            NormBlock(cin, cout, stride, rngs=rngs)
            for cin, cout, stride in zip(widths, outputs, strides, strict=True)
        ])  # fmt: skip
        self.conv_out = Conv(widths[-1], 1, (1, 1, 1), bias=True, rngs=rngs)

    def __call__(self, video: Array, running: list[Stats] | None = None) -> Array:
        """Logits; with `running` statistics these replace those of the batch."""
        return self.with_stats(video, running)[0]

    def with_stats(
        self, video: Array, running: list[Stats] | None = None
    ) -> tuple[Array, list[Stats]]:
        """Logits, and mean and unbiased variance of every batch norm's input."""
        types.check_shape(video, "b t h w c", "video", c=self.in_channels)
        x, stats = jax.nn.leaky_relu(self.conv_in(video), 0.2), []
        for n, block in enumerate(self.blocks):
            x, used = block(x, None if running is None else running[n])
            stats.append(used)
        return self.conv_out(x), stats


class Conv(nnx.Module):
    """3x3x3 convolution with zero padding on all axes; kernel starts at N(0, 0.02)."""

    def __init__(
        self, cin: int, cout: int, stride: tuple[int, int, int], *, bias: bool, rngs: nnx.Rngs
    ):
        self.stride = stride
        self.kernel = nnx.Param(0.02 * jax.random.normal(rngs.params(), (3, 3, 3, cin, cout)))
        bound = (27 * cin) ** -0.5
        self.bias = (
            nnx.Param(jax.random.uniform(rngs.params(), (cout,), jnp.float32, -bound, bound))
            if bias
            else None
        )

    def __call__(self, x: Array) -> Array:
        """(b, t, h, w, i) -> (b, t', h', w', o)."""
        y = ops.conv3d(
            x, self.kernel[...], strides=self.stride, padding=_PADDING, form="exact"
        )  # fmt: skip
        return y if self.bias is None else y + self.bias[...]


class NormBlock(nnx.Module):
    """Convolution without bias, batch norm, leaky ReLU."""

    def __init__(self, cin: int, cout: int, stride: tuple[int, int, int], *, rngs: nnx.Rngs):
        self.conv = Conv(cin, cout, stride, bias=False, rngs=rngs)
        self.scale = nnx.Param(1.0 + 0.02 * jax.random.normal(rngs.params(), (cout,)))
        self.bias = nnx.Param(jnp.zeros((cout,)))

    def __call__(self, x: Array, running: Stats | None) -> tuple[Array, Stats]:
        """Output, and the statistics of the batch as running averages count them."""
        x = self.conv(x)
        axes, count = (0, 1, 2, 3), x.size // x.shape[-1]
        mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
        stats = (mean, variance * count / max(count - 1, 1))
        if running is not None:
            mean, variance = running
        y = (x - mean) * jax.lax.rsqrt(variance + EPS) * self.scale[...] + self.bias[...]
        return jax.nn.leaky_relu(y, 0.2), stats


def running_average(running: list[Stats], stats: list[Stats]) -> list[Stats]:
    """Running statistics after one more batch."""
    return [
        (m + MOMENTUM * (new_m - m), v + MOMENTUM * (new_v - v))
        for (m, v), (new_m, new_v) in zip(running, stats, strict=True)
    ]
