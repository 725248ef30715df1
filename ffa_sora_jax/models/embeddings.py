"""What enters and leaves a DiT: patches, time, text.

Axes: b batch, t frames, h w latent pixels, c channels, p q patch, d width, l text tokens,
n video tokens, numbered t-major, then h, then w.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jax import Array

from ffa_sora_jax.common import names
from ffa_sora_jax.models import ops

TIME_WIDTH = 256
MAX_PERIOD = 10_000.0
GRID_PERIOD = 100.0  # grids of small models have few positions
INITS = ("torch", "xavier", "zeros")


def dense(
    inputs: int, outputs: int, *, init: str, dtype: str, rngs: nnx.Rngs, use_bias: bool = True
) -> nnx.Linear:
    """A linear layer with float32 parameters that computes in `dtype`.

    Args:
      init: "torch" draws kernel and bias uniformly within 1 / sqrt(inputs), "xavier" the kernel
        within sqrt(6 / (inputs + outputs)) with zero bias, "zeros" makes both zero.
    """
    kernel_init, bias_init = _initializers(init, inputs)
    return nnx.Linear(
        inputs, outputs, use_bias=use_bias, dtype=jnp.dtype(dtype), param_dtype=jnp.float32,
        kernel_init=kernel_init, bias_init=bias_init, dot_general=ops.dot_general, rngs=rngs,
    )  # fmt: skip


def sinusoid(t: Array, width: int = TIME_WIDTH) -> Array:
    """Float32 features of times (b,) on the scale 0 .. 1000: (b, width), cosines then sines."""
    half = width // 2
    # Rounded where the reference rounds: at t = 999 the last bit moves an angle by 6e-5.
    exponents = np.float32(-math.log(MAX_PERIOD)) * np.arange(half, dtype=np.float32)
    frequencies = np.exp((exponents / np.float32(half)).astype(np.float64)).astype(np.float32)
    angles = jnp.asarray(t, jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def grid_sinusoid(grid: tuple[int, int, int], width: int) -> np.ndarray:
    """Float32 (n, width) features of token positions: a third each for t, h and w.

    Every third holds sines, then cosines. The shortest period is 2 pi tokens, the longest nearly
    2 pi `GRID_PERIOD`.

    Raises:
      ValueError: the width is not a multiple of 6.
    """
    if width % 6:
        raise ValueError(f"Absolute positions need a width that is a multiple of 6, not {width}.")
    count = width // 6
    frequencies = GRID_PERIOD ** (-np.arange(count, dtype=np.float64) / count)
    axes = np.meshgrid(*(np.arange(size) for size in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in axes]  # (n, width / 6) each
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=-1).astype(np.float32)


def unpatchify(tokens: Array, grid: tuple[int, int, int], patch: int) -> Array:
    """Tokens (b, n, p q c) of a grid (t, h / p, w / p) -> (b, t, h, w, c)."""
    t, h, w = grid
    pattern = "b (t h w) (p q c) -> b t (h p) (w q) c"
    return rearrange(tokens, pattern, t=t, h=h, w=w, p=patch, q=patch)


class PatchEmbed(nnx.Module):
    """A convolution per frame whose window is its stride: (b, t, h, w, c) -> (b, n, d)."""

    def __init__(
        self, channels: int, width: int, patch: int, *, init: str, dtype: str, rngs: nnx.Rngs
    ):
        fan_in = patch * patch * channels
        kernel_init, bias_init = _initializers(init, fan_in)
        kernel = kernel_init(rngs.params(), (fan_in, width), jnp.float32)
        self.kernel = nnx.Param(kernel.reshape(patch, patch, channels, width))
        self.bias = nnx.Param(bias_init(rngs.params(), (width,), jnp.float32))
        self.patch, self.dtype = patch, dtype

    def __call__(self, x: Array) -> Array:
        """(b, t, h, w, c) -> (b, n, d); h and w are multiples of the patch."""
        pattern = "b t (h p) (w q) c -> b (t h w) (p q c)"
        x = rearrange(x, pattern, p=self.patch, q=self.patch).astype(self.dtype)
        kernel = rearrange(self.kernel[...], "p q c d -> (p q c) d").astype(self.dtype)
        return x @ kernel + self.bias[...].astype(self.dtype)  # (b, n, d)


class ConditionEmbed(nnx.Module):
    """Patches of an extra input, to be added to the video's tokens; starts at zero."""

    def __init__(
        self, channels: int, width: int, patch: int, *, init: str, dtype: str, rngs: nnx.Rngs
    ):
        self.proj = PatchEmbed(channels, width, patch, init=init, dtype=dtype, rngs=rngs)
        self.linear = dense(width, width, init="zeros", dtype=dtype, rngs=rngs, use_bias=False)

    def __call__(self, x: Array) -> Array:
        """(b, t, h, w, c) -> (b, n, d)."""
        return self.linear(self.proj(x))


class AdaLNSingle(nnx.Module):
    """Time to an embedding and to the six modulation rows that all blocks share (PixArt-alpha)."""

    def __init__(self, width: int, *, init: str, last_init: str, dtype: str, rngs: nnx.Rngs):
        layer = functools.partial(dense, dtype=dtype, rngs=rngs)
        self.linear_1 = layer(TIME_WIDTH, width, init=init)
        self.linear_2 = layer(width, width, init=init)
        self.linear = layer(width, 6 * width, init=last_init)

    def __call__(self, t: Array, extra: Array | None = None) -> tuple[Array, Array]:
        """Times (b,), and an addend (b, d) or None -> embedding (b, d), rows (b, 6, d)."""
        embedded = self.linear_2(jax.nn.silu(self.linear_1(sinusoid(t))))
        embedded = embedded if extra is None else embedded + extra
        rows = self.linear(jax.nn.silu(embedded))
        return embedded, rearrange(rows, "b (rows d) -> b rows d", rows=6)


class CaptionProjection(nnx.Module):
    """Text features to the width of the blocks: (b, l, text width) -> (b, l, d)."""

    def __init__(self, channels: int, width: int, *, init: str, dtype: str, rngs: nnx.Rngs):
        self.linear_1 = dense(channels, width, init=init, dtype=dtype, rngs=rngs)
        self.linear_2 = dense(width, width, init=init, dtype=dtype, rngs=rngs)

    def __call__(self, text: Array) -> Array:
        """(b, l, text width) -> (b, l, d)."""
        return self.linear_2(jax.nn.gelu(self.linear_1(text), approximate=True))


def _initializers(init: str, fan_in: int) -> tuple[Any, Any]:
    zeros = nnx.initializers.zeros_init()
    if init == "zeros":
        return zeros, zeros
    if init == "xavier":
        return nnx.initializers.xavier_uniform(), zeros
    if init != "torch":
        raise ValueError(names.unknown_name("initialisation", init, INITS))
    bound = fan_in**-0.5

    def uniform(key: Array, shape: tuple[int, ...], dtype: jnp.dtype, **_: object) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return uniform, uniform
