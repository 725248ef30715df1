"""Haar transforms of videos, as WF-VAE uses them, and the full packet built from them.

Axes: b batch, t frames, h w space, c channels, f bands. Bands are the slow part of the channel
axis: channel f * c + k is band f of input channel k.

    3-D   f = 4 t + 2 h + w   each of t, h, w is 0 (low) or 1 (high); filter constant 0.3536
    2-D   f = 2 w + h         filter constant 1/2

The 3-D constant is the literal of the released model and not 1/sqrt(8), so one analysis and
synthesis multiplies a video by 8 * 0.3536^2 = 1.000264.

In time a transform is causal: frame 0 is doubled in front, 2 k + 1 frames give k + 1, and the
synthesis drops the first of 2 k + 2 frames again. For chunks after the first, `first=False`
leaves both out.
"""

import jax
import jax.numpy as jnp
from einops import rearrange

from ffa_sora_jax.common.types import Array

HAAR_3D = 0.3536
HAAR_2D = 0.5
PACKET_BANDS = 256  # 8 * 4 * 8


def haar3d(x: Array, *, first: bool = True) -> jax.Array:
    """Analysis over (t, h, w): (b, t, h, w, c) -> (b, (t - 1) // 2 + 1, h // 2, w // 2, 8 c)."""
    if first:
        x = jnp.concatenate([x[:, :1], x], axis=1)
    low, high = _split(x, 1)
    planes = [plane for part in (low, high) for plane in _split(part, 2)]
    bands = [band for plane in planes for band in _split(plane, 3)]
    return jnp.concatenate(bands, axis=-1) * HAAR_3D


def inverse_haar3d(x: Array, *, first: bool = True) -> jax.Array:
    """Synthesis: (b, t, h, w, 8 c) -> (b, 2 t - 1, 2 h, 2 w, c), or 2 t frames if not `first`."""
    bands = jnp.split(x * HAAR_3D, 8, axis=-1)
    planes = [_merge(bands[i], bands[i + 1], 3) for i in range(0, 8, 2)]
    low, high = _merge(planes[0], planes[1], 2), _merge(planes[2], planes[3], 2)
    video = _merge(low, high, 1)  # (b, 2 t, 2 h, 2 w, c)
    return video[:, 1:] if first else video


def haar2d(x: Array) -> jax.Array:
    """Analysis of every frame: (b, t, h, w, c) -> (b, t, h // 2, w // 2, 4 c)."""
    columns = _split(x, 3)
    bands = [band for part in columns for band in _split(part, 2)]
    return jnp.concatenate(bands, axis=-1) * HAAR_2D


def inverse_haar2d(x: Array) -> jax.Array:
    """Synthesis of every frame: (b, t, h, w, 4 c) -> (b, t, 2 h, 2 w, c)."""
    low_low, high_h, high_w, high_both = jnp.split(x * HAAR_2D, 4, axis=-1)
    return _merge(_merge(low_low, high_h, 2), _merge(high_w, high_both, 2), 3)


def packet(x: Array, *, first: bool = True) -> jax.Array:
    """Full packet of three levels: 3-D, then 2-D, then 3-D, each on all bands.

    (b, 4 k + 1, h, w, c) -> (b, k + 1, h / 8, w / 8, 256 c).
    """
    return haar3d(haar2d(haar3d(x, first=first)), first=first)


def inverse_packet(x: Array, *, first: bool = True) -> jax.Array:
    """Inverse of `packet`, up to the gain of two 3-D levels, 1.000527."""
    return inverse_haar3d(inverse_haar2d(inverse_haar3d(x, first=first)), first=first)


def _split(x: Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Sum and difference of neighbours along `axis`; an odd last element is dropped."""
    size = x.shape[axis] // 2 * 2
    even = jax.lax.slice_in_dim(x, 0, size, stride=2, axis=axis)
    odd = jax.lax.slice_in_dim(x, 1, size, stride=2, axis=axis)
    return even + odd, even - odd


def _merge(low: Array, high: Array, axis: int) -> jax.Array:
    """Interleaves low + high and low - high along `axis`; the adjoint of `_split`."""
    pairs = jnp.stack([low + high, low - high], axis=axis + 1)
    names = ["b", "t", "h", "w"]
    source = " ".join([*names[: axis + 1], "pair", *names[axis + 1 :], "c"])
    target = " ".join([*names[:axis], f"({names[axis]} pair)", *names[axis + 1 :], "c"])
    return rearrange(pairs, f"{source} -> {target}")
