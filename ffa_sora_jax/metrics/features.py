"""How clips are prepared for the feature networks of FVD and FID.

Evaluations differ in how a clip becomes 224 x 224, and the distance differs with them:

    styleganv   the short side becomes 224, then the centre is cut out
    videogpt    the same, after truncating to eight bits
    cdfvd       eight bits; both sides become 224, whatever the aspect
    tfhub       eight bits; the same in TensorFlow 1, which samples at corners, not at centres

All sample bilinearly without smoothing, so that large frames alias.

Axes: b batch, t frames, h w space, c channels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import types
from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import AnyArray, Array

PREPARATIONS = ("styleganv", "videogpt", "cdfvd", "tfhub")
# Of a level. A float32 in [-1, 1] is exact to 1.5e-5 levels; truncation must not push a value that
# lies that little below its level down a whole one.
_ROUNDING = 2e-5


def prepare(video: AnyArray, how: str = "styleganv", size: int = 224) -> Array:
    """Clips as the feature network of one evaluation protocol sees them.

    Args:
      video: (b, t, h, w, c) float in [-1, 1], c 1 or 3; grey is repeated.
      how: "styleganv", "videogpt", "cdfvd" or "tfhub".
      size: side of the result, 224 for I3D and 299 for Inception.

    Returns:
      (b, t, size, size, 3) float32 in [-1, 1].

    Raises:
      ValueError: an unknown protocol, or another number of channels.
    """
    levels = (as_rgb(video) + 1.0) * 127.5
    whole = jnp.round(levels)  # what came from eight bits is on its level again, see _ROUNDING
    return prepare_unit(
        jnp.where(jnp.abs(levels - whole) < _ROUNDING, whole, levels) / 255.0, how, size
    )


def prepare_unit(unit: Array, how: str, size: int) -> Array:
    """The same of clips (b, t, h, w, 3) in [0, 1]."""
    if how not in PREPARATIONS:
        raise ValueError(unknown_name("preparation", how, PREPARATIONS))
    if how != "styleganv":
        unit = jnp.clip(jnp.floor(unit * 255.0), 0.0, 255.0) / 255.0
    if how in ("styleganv", "videogpt"):
        unit = _short_side_and_crop(unit, size)
    elif how == "cdfvd":
        unit = _resize(unit, size, size)
    else:
        unit = _resize_from_corners(unit, size)
    return 2.0 * unit - 1.0


def as_rgb(video: AnyArray) -> Array:
    """(b, t, h, w, 3) float32 of clips with one or three channels."""
    sizes = types.check_shape(video, "b t h w c", "video")
    if sizes["c"] not in (1, 3):
        raise ValueError(f"video has {sizes['c']} channels; expected 1 or 3.")
    return jnp.broadcast_to(jnp.asarray(video, jnp.float32), (*video.shape[:-1], 3))


def _short_side_and_crop(x: Array, size: int) -> Array:
    height, width = x.shape[-3:-1]
    short = min(height, width)
    tall, wide = (math.ceil(side * size / short) for side in (height, width))
    x = _resize(x, tall, wide)
    top, left = (tall - size) // 2, (wide - size) // 2
    return x[..., top : top + size, left : left + size, :]


def _resize(x: Array, height: int, width: int) -> Array:
    shape = (*x.shape[:-3], height, width, x.shape[-1])
    return jax.image.resize(x, shape, "bilinear", antialias=False)


def _resize_from_corners(x: Array, size: int) -> Array:
    """TensorFlow 1: pixel i of the result lies at i in / out, without half a pixel's shift."""
    rows, columns = (_corner_weights(side, size) for side in x.shape[-3:-1])
    return jnp.einsum("...hwc,hy,wx->...yxc", x, rows, columns, precision="highest")


def _corner_weights(given: int, size: int) -> np.ndarray:
    """(given, size) share of every given pixel in every new one."""
    place = np.arange(size) * (given / size)
    low = np.floor(place).astype(int)
    weights = np.zeros((given, size), np.float32)
    weights[low, np.arange(size)] += 1.0 - (place - low)
    weights[np.minimum(low + 1, given - 1), np.arange(size)] += place - low
    return weights
