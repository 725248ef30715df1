"""Rotary positions in three dimensions, as Open-Sora Plan v1.3 lays them out.

The width d of a head is cut into thirds for t, y and x. A third of width w turns its pairs
(u_j, u_{j + w/2}) by the angle position / scale * 10000^(-2 j / w), j = 0 .. w/2 - 1. Positions are
plain grid indices from 0 on every axis, whatever the resolution of the video.
"""

import numpy as np
from einops import rearrange
from jax import Array

BASE = 10_000.0
AXES = 3


def check_head_width(width: int) -> None:
    """Raises ValueError unless a head can be cut into three even parts."""
    if width < 6 or width % 6:
        low = max(6, width // 6 * 6)
        raise ValueError(
            f"attention_head_dim={width} cannot be cut into even thirds for t, y and x; it must be "
            f"a multiple of 6, such as {low} or {low + 6}."
        )


def tables(
    grid: tuple[int, int, int], head_width: int, scales: tuple[float, ...] = (1.0, 1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of every token's angles.

    Args:
      grid: tokens along t, y and x; tokens are numbered t-major, x fastest.
      head_width: width of one head, a multiple of 6.
      scales: by which the positions of t, y and x are divided.

    Returns:
      Two float32 arrays (n, 3, head_width / 6), computed on the host.
    """
    check_head_width(head_width)
    width = head_width // AXES
    frequencies = 1.0 / BASE ** (np.arange(0, width, 2, dtype=np.float32) / np.float32(width))
    positions = np.indices(grid, dtype=np.float32).reshape(AXES, -1)  # (3, n)
    positions /= np.asarray(scales, np.float32)[:, None]
    angles = positions.T[:, :, None] * frequencies.astype(np.float32)  # (n, 3, width / 2)
    return np.cos(angles), np.sin(angles)


def rotate(x: Array, cos: Array | np.ndarray, sin: Array | np.ndarray) -> Array:
    """Turns queries or keys (b, n, heads, d) by the angles of `tables`, in the dtype of `x`."""
    u = rearrange(x, "b n heads (third half w) -> half b n heads third w", third=AXES, half=2)
    cos, sin = cos[:, None].astype(x.dtype), sin[:, None].astype(x.dtype)  # (n, 1, 3, w)
    turned = (u[0] * cos - u[1] * sin, u[1] * cos + u[0] * sin)
    return rearrange(list(turned), "half b n heads third w -> b n heads (third half w)")
