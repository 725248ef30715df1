"""Layers of causal video autoencoders: convolutions, norms, residual blocks, resampling.

Axes: b batch, t frames, h w space, i o input and output channels, c channels.

Every layer that looks at other frames looks back only, except the temporal upsampling with linear
interpolation, which needs one frame of future. A clip can therefore be fed in consecutive chunks:
a `Stream` carries what each layer needs from the chunks before, and the upsampling holds the
output back that needs the next chunk. Without a stream a layer sees the whole clip.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.models import ops

NORMS = ("layernorm", "groupnorm")
INTERPOLATIONS = ("trilinear", "nearest")
GROUPS = 32


@dataclasses.dataclass(frozen=True)
class LayerConfig:
    """What all layers of one model share.

    Attributes:
      norm_type: "layernorm" over channels, or "groupnorm" (32 groups, statistics over frames and
        space as well).
      conv_form: formulation of the 3-D convolutions, see `ops.conv3d`.
      dtype: dtype of convolution and matrix product inputs; norms compute in float32.
    """

    norm_type: str = "layernorm"
    conv_form: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.norm_type not in NORMS:
            raise ValueError(names.unknown_name("norm_type", self.norm_type, NORMS))
        if self.conv_form not in ops.FORMS:
            raise ValueError(names.unknown_name("conv_form", self.conv_form, ops.FORMS))


class Stream:
    """Frames carried from chunk to chunk, one array per causal layer in the order of the calls.

    Attributes:
      first, last: whether the current chunk begins or ends the clip.
      carried: what to hand to the stream of the next chunk.
    """

    def __init__(self, carried: Sequence[Array] | None, *, last: bool):
        self.first, self.last = carried is None, last
        self.carried: list[Array] = []
        self._before = iter(carried or ())

    def take(self) -> Array:
        """What the current layer put aside in the chunk before."""
        return next(self._before)

    def put(self, frames: Array) -> None:
        """Puts frames aside for the same layer in the next chunk."""
        self.carried.append(frames)

    def align(self, x: Array, frames: int) -> Array:
        """Hands out `frames` frames of `x`, delayed by what did not fit in the chunks before."""
        if not self.first:
            x = jnp.concatenate([self.take(), x], axis=1)
        self.put(x[:, frames:])
        return x[:, :frames]


class Conv2D(nnx.Module):
    """Convolution of every frame: (b, t, h, w, i) -> (b, t, h', w', o)."""

    def __init__(
        self, cfg: LayerConfig, cin: int, cout: int, *, kernel: int = 3, stride: int = 1,
        padding: tuple[int, int] = (1, 1), rngs: nnx.Rngs,
    ):  # fmt: skip
        self.dtype, self.stride, self.padding = cfg.dtype, stride, padding
        self.kernel, self.bias = _conv_params((kernel, kernel, cin, cout), rngs)

    def __call__(self, x: Array) -> jax.Array:
        """(b, t, h, w, i) -> (b, t, h', w', o)."""
        y = ops.conv2d(
            x.astype(self.dtype),
            self.kernel[...].astype(self.dtype),
            strides=(self.stride, self.stride),
            padding=(self.padding, self.padding),
        )
        return y + self.bias[...].astype(self.dtype)


class CausalConv3D(nnx.Module):
    """Convolution over (t, h, w); the first frame is repeated in front, nothing is added behind.

    (b, t, h, w, i) -> (b, (t - 1) // stride + 1, h', w', o).
    """

    def __init__(
        self, cfg: LayerConfig, cin: int, cout: int, *, kernel: int = 3, stride: int = 1,
        padding: tuple[int, int] | None = None, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.dtype, self.form = cfg.dtype, cfg.conv_form
        self.taps, self.stride = kernel, stride
        self.padding = (kernel // 2, kernel // 2) if padding is None else padding
        self.kernel, self.bias = _conv_params((kernel, kernel, kernel, cin, cout), rngs)

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, i) -> (b, t', h', w', o)."""
        y = ops.conv3d(
            self._extend(x.astype(self.dtype), stream),
            self.kernel[...].astype(self.dtype),
            strides=(self.stride, self.stride, self.stride),
            padding=((0, 0), self.padding, self.padding),
            form=self.form,
        )
        return y + self.bias[...].astype(self.dtype)

    def _extend(self, x: Array, stream: Stream | None) -> Array:
        """Puts the frames before the chunk, or copies of the first frame, in front."""
        if self.taps == 1:
            return x
        if stream is None or stream.first:
            front = jnp.repeat(x[:, :1], self.taps - 1, axis=1)
        else:
            front = stream.take()
        x = jnp.concatenate([front, x], axis=1)
        if stream is not None:
            stream.put(x[:, x.shape[1] - (self.taps - self.stride) :])
        return x


class Norm(nnx.Module):
    """LayerNorm over channels or GroupNorm over (t, h, w) and channel groups; eps 1e-6."""

    def __init__(self, cfg: LayerConfig, channels: int):
        if cfg.norm_type == "groupnorm" and channels % GROUPS:
            raise ValueError(
                f"groupnorm needs a multiple of {GROUPS} channels, got {channels}; "
                "change the widths or use norm_type='layernorm'."
            )
        self.norm_type, self.dtype = cfg.norm_type, cfg.dtype
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, x: Array, *, per_frame: bool = False) -> jax.Array:
        """Normalises x (b, t, h, w, c); `per_frame` keeps GroupNorm inside each frame."""
        x = jnp.asarray(x, jnp.float32)
        if self.norm_type == "layernorm":
            y = _standardise(x, (-1,))
        else:
            grouped = rearrange(x, "b t h w (g c) -> b t h w g c", g=GROUPS)
            y = _standardise(grouped, (2, 3, 5) if per_frame else (1, 2, 3, 5))
            y = rearrange(y, "b t h w g c -> b t h w (g c)")
        return (y * self.scale[...] + self.bias[...]).astype(self.dtype)


class ResnetBlock2D(nnx.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x)))))) on every frame."""

    def __init__(self, cfg: LayerConfig, channels: int, *, rngs: nnx.Rngs):
        self.norm1, self.norm2 = Norm(cfg, channels), Norm(cfg, channels)
        self.conv1 = Conv2D(cfg, channels, channels, rngs=rngs)
        self.conv2 = Conv2D(cfg, channels, channels, rngs=rngs)

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, c) -> the same shape."""
        h = self.conv1(jax.nn.silu(self.norm1(x, per_frame=True)))
        h = self.conv2(jax.nn.silu(self.norm2(h, per_frame=True)))
        return x + h


class ResnetBlock3D(nnx.Module):
    """As `ResnetBlock2D` with causal 3-D convolutions; a 1x1x1 skip where the width changes."""

    def __init__(self, cfg: LayerConfig, cin: int, cout: int, *, rngs: nnx.Rngs):
        self.norm1, self.norm2 = Norm(cfg, cin), Norm(cfg, cout)
        self.conv1 = CausalConv3D(cfg, cin, cout, rngs=rngs)
        self.conv2 = CausalConv3D(cfg, cout, cout, rngs=rngs)
        self.nin_shortcut = (
            CausalConv3D(cfg, cin, cout, kernel=1, rngs=rngs) if cin != cout else None
        )

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, i) -> (b, t, h, w, o)."""
        h = self.conv1(jax.nn.silu(self.norm1(x)), stream)
        h = self.conv2(jax.nn.silu(self.norm2(h)), stream)
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class FrameAttention(nnx.Module):
    """Single-head self-attention over the pixels of every frame, as a residual block."""

    def __init__(self, cfg: LayerConfig, channels: int, *, rngs: nnx.Rngs):
        self.norm = Norm(cfg, channels)
        self.q = CausalConv3D(cfg, channels, channels, kernel=1, rngs=rngs)
        self.k = CausalConv3D(cfg, channels, channels, kernel=1, rngs=rngs)
        self.v = CausalConv3D(cfg, channels, channels, kernel=1, rngs=rngs)
        self.proj_out = CausalConv3D(cfg, channels, channels, kernel=1, rngs=rngs)

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, c) -> the same shape."""
        b, _, height, _, channels = x.shape
        h = self.norm(x)
        q, k, v = (
            rearrange(layer(h), "b t h w c -> (b t) (h w) c") for layer in (self.q, self.k, self.v)
        )

        def attend(frame: tuple[Array, Array, Array]) -> Array:  # one frame at a time: memory
            query, key, value = frame
            scores = (query @ key.T).astype(jnp.float32) * channels**-0.5  # (n, n)
            return jax.nn.softmax(scores, axis=-1).astype(value.dtype) @ value

        y = jax.lax.map(attend, (q, k, v))
        y = rearrange(y, "(b t) (h w) c -> b t h w c", b=b, h=height)
        return x + self.proj_out(y)


class Downsample2D(nnx.Module):
    """Halves h and w of every frame: zeros right and below, 3x3 convolution with stride 2."""

    def __init__(self, cfg: LayerConfig, channels: int, *, rngs: nnx.Rngs):
        self.conv = Conv2D(cfg, channels, channels, stride=2, padding=(0, 1), rngs=rngs)

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, c) -> (b, t, h // 2, w // 2, c)."""
        return self.conv(x)


class Downsample3D(nnx.Module):
    """Halves t, h and w: 2 k + 1 frames become k + 1."""

    def __init__(self, cfg: LayerConfig, channels: int, *, rngs: nnx.Rngs):
        self.conv = CausalConv3D(cfg, channels, channels, stride=2, padding=(0, 1), rngs=rngs)

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, c) -> (b, (t - 1) // 2 + 1, h // 2, w // 2, c)."""
        return self.conv(x, stream)


class Upsample2D(nnx.Module):
    """Doubles h and w of every frame by repetition, then convolves."""

    def __init__(self, cfg: LayerConfig, channels: int, *, rngs: nnx.Rngs):
        self.conv = Conv2D(cfg, channels, channels, rngs=rngs)

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, c) -> (b, t, 2 h, 2 w, c)."""
        return ops.by_frame(
            lambda frames: self.conv(jnp.repeat(jnp.repeat(frames, 2, axis=2), 2, axis=3)), x
        )


class Upsample3D(nnx.Module):
    """Doubles h, w and all frames but the first, then convolves: k + 1 frames become 2 k + 1.

    Space is interpolated linearly, time linearly or by repetition; neither mixes frame 0 with the
    others.
    """

    def __init__(self, cfg: LayerConfig, channels: int, *, t_interpolation: str, rngs: nnx.Rngs):
        if t_interpolation not in INTERPOLATIONS:
            raise ValueError(names.unknown_name("t_interpolation", t_interpolation, INTERPOLATIONS))
        self.t_interpolation = t_interpolation
        self.conv = CausalConv3D(cfg, channels, channels, rngs=rngs)

    def __call__(self, x: Array, stream: Stream | None = None) -> jax.Array:
        """(b, t, h, w, c) -> (b, 2 t - 1, 2 h, 2 w, c)."""
        parts = []
        if stream is None or stream.first:
            parts, x = [x[:, :1]], x[:, 1:]
        if self.t_interpolation == "nearest":
            parts.append(jnp.repeat(x, 2, axis=1))
        else:
            parts.append(self._double_time(x, stream))
        x = jnp.concatenate(parts, axis=1)
        x = _double_linear(_double_linear(x, 2), 3)
        return self.conv(x, stream)

    def _double_time(self, x: Array, stream: Stream | None) -> Array:
        """Linear interpolation; output that needs the next chunk waits for it."""
        if stream is None:
            return _double_linear(x, 1)
        if stream.first:
            before = x[:, :0]
        else:
            before = stream.take()
        known = jnp.concatenate([before, x], axis=1)
        stream.put(known[:, -1:])
        parts = [known[:, :1]] if before.shape[1] == 0 else []
        parts.append(_between(known, 1))
        if stream.last:
            parts.append(known[:, -1:])
        return jnp.concatenate(parts, axis=1)


def _conv_params(shape: tuple[int, ...], rngs: nnx.Rngs) -> tuple[nnx.Param, nnx.Param]:
    """Kernel and bias, uniform within 1 / sqrt(fan in): the initialisation of the reference."""
    bound = 1.0 / math.sqrt(math.prod(shape[:-1]))
    kernel = jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound)
    bias = jax.random.uniform(rngs.params(), shape[-1:], jnp.float32, -bound, bound)
    return nnx.Param(kernel), nnx.Param(bias)


def _standardise(x: Array, axes: tuple[int, ...]) -> jax.Array:
    mean = jnp.mean(x, axis=axes, keepdims=True)
    centred = x - mean
    variance = jnp.mean(jnp.square(centred), axis=axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-6)


def _between(x: Array, axis: int) -> jax.Array:
    """Points at 1/4 and 3/4 between neighbours along `axis`: n -> 2 (n - 1)."""
    size = x.shape[axis]
    left = jax.lax.slice_in_dim(x, 0, max(size - 1, 0), axis=axis)
    right = jax.lax.slice_in_dim(x, min(1, size), size, axis=axis)
    pairs = jnp.stack([0.75 * left + 0.25 * right, 0.25 * left + 0.75 * right], axis=axis + 1)
    shape = (*x.shape[:axis], 2 * left.shape[axis], *x.shape[axis + 1 :])
    return pairs.reshape(shape)


def _double_linear(x: Array, axis: int) -> jax.Array:
    """Doubles `axis` by linear interpolation at half-pixel centres, edges clamped."""
    size = x.shape[axis]
    first = jax.lax.slice_in_dim(x, 0, min(1, size), axis=axis)
    last = jax.lax.slice_in_dim(x, max(size - 1, 0), size, axis=axis)
    return jnp.concatenate([first, _between(x, axis), last], axis=axis)
