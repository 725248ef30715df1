"""Long or large clips piece by piece: exact chunks in time, blended tiles in space.

Time. The encoder is causal. The decoder is causal but for the linear interpolation of time, which
holds one intermediate frame (two video frames) back until the next latent has come. Every latent
is computed once, for any clip length and chunk size, and the result equals the whole up to
rounding. GroupNorm takes statistics over all frames and cannot be chunked.

Space. A tile differs from the whole near its edges, where convolutions see zeros instead of the
neighbour, and through attention, which sees the tile only. The outer `halo` cells of a tile are
thrown away and neighbours are blended over `blend` cells. Without attention the result is exact
once `halo` reaches `decoder_radius`; docs/wfvae.md lists measured differences for smaller halos.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array, Params
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAEConfig, check_video, split_moments

Decode = Callable[[Array], Array]


class ChunkedVAE:
    """Encodes and decodes in chunks of `chunk_size` latent frames; compiled once per chunk shape.

    Raises:
      ValueError: a chunk size below 1, or a model with GroupNorm.
    """

    def __init__(self, bundle: Bundle, chunk_size: int):
        if chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}; it counts latent frames, at least 1.")
        if bundle.cfg.norm_type != "layernorm":
            raise ValueError(
                f"norm_type {bundle.cfg.norm_type!r} mixes all frames, so chunks would change the "
                "result; decode the clip whole, or use a model with layernorm."
            )
        self.cfg, self.chunk_size = bundle.cfg, chunk_size
        self._encode, self._decode = (
            jax.jit(functools.partial(bundle.apply, method=method), static_argnames="last")
            for method in ("encode_chunk", "decode_chunk")
        )

    def encode(self, params: Params, video: Array) -> tuple[Array, Array]:
        """Mean and log-variance of (b, 4 k + 1, h, w, c) video, as `WFVAE.encode`."""
        types.check_shape(video, "b t h w c", "video")
        check_video(video.shape, self.cfg.in_channels)
        moments = self._run(self._encode, params, video, rate=4)
        return split_moments(moments)

    def decode(self, params: Params, latent: Array) -> Array:
        """Video of (b, k + 1, h, w, l) raw latents, as `WFVAE.decode`."""
        types.check_shape(latent, "b t h w c", "latent", c=self.cfg.latent_dim)
        return self._run(self._decode, params, latent, rate=1)

    def _run(self, step: Callable[..., Any], params: Params, x: Array, *, rate: int) -> Array:
        """Latent 0 belongs to frame 0 of `x`, each further one to the next `rate` frames."""
        carried, parts, total = None, [], (x.shape[1] - 1) // rate + 1
        for start in range(0, total, self.chunk_size):
            stop = min(start + self.chunk_size, total)
            chunk = x[:, max(0, (start - 1) * rate + 1) : (stop - 1) * rate + 1]
            part, carried = step(params, chunk, carried, last=stop == total)
            parts.append(part)
        return jnp.concatenate(parts, axis=1)


def decode_tiled(
    decode: Decode, latent: Array, *, tile: int = 40, halo: int = 8, blend: int = 4
) -> np.ndarray:
    """Decodes in square tiles that overlap and blend; the video is gathered on the host.

    Args:
      decode: latent -> video, with 8 pixels per latent cell; whole or chunked in time.
      latent: (b, t, h, w, l) raw latent.
      tile: height and width of a tile in latent cells.
      halo: outer cells of a tile that are thrown away where another tile goes on.
      blend: cells over which two tiles are mixed linearly.

    Returns:
      (b, t', 8 h, 8 w, c) float32.

    Raises:
      ValueError: a tile that leaves nothing between its halos and blends.
    """
    step = tile - 2 * halo - blend
    if min(halo, blend) < 0 or step < 1:
        raise ValueError(
            f"tile={tile} leaves no cells of its own beside halo={halo} (on both sides) and "
            f"blend={blend}; it must be larger than {2 * halo + blend}."
        )
    _, _, height, width, _ = latent.shape
    video, weight = np.zeros(()), np.zeros(())
    for top in _starts(height, tile, step):
        for left in _starts(width, tile, step):
            part = np.asarray(decode(latent[:, :, top : top + tile, left : left + tile]))
            if video.ndim == 0:
                b, t, c = part.shape[0], part.shape[1], part.shape[-1]
                video = np.zeros((b, t, 8 * height, 8 * width, c), np.float32)
                weight = np.zeros((8 * height, 8 * width, 1), np.float32)
            rows = _profile(height, top, tile, halo, blend)
            columns = _profile(width, left, tile, halo, blend)
            mask = (rows[:, None] * columns[None, :])[..., None]
            here = np.s_[8 * top : 8 * top + len(rows), 8 * left : 8 * left + len(columns)]
            video[:, :, here[0], here[1]] += part * mask
            weight[here] += mask
    return video / weight


def decoder_radius(cfg: WFVAEConfig) -> int:
    """Latent cells around a cell that its pixels depend on, attention left aside.

    Per level: 3x3 kernels on the longest path, divided by the cells per latent cell.
    """
    blocks = 2 * cfg.decoder_num_resblocks
    at_latent = 1 + 4 + blocks + 1  # conv_in, mid, up2, interpolation
    at_half = (1 + 2 + max(blocks, 2 * cfg.connect_res_layer_num + 1)) / 2
    at_quarter = (1 + 2 + 4 + 1) / 4  # upsampling, its block, the last two blocks, conv_out
    return math.ceil(at_latent + at_half + at_quarter)


def _starts(size: int, tile: int, step: int) -> list[int]:
    """First cells of the tiles; the last tile ends where the latent ends."""
    if size <= tile:
        return [0]
    return [*range(0, size - tile, step), size - tile]


def _profile(size: int, start: int, tile: int, halo: int, blend: int) -> np.ndarray:
    """Weight of each pixel of a tile along one axis: 0 in the halo, a ramp, then 1."""
    length = min(tile, size)
    pixel = (np.arange(8 * length) + 0.5) / 8
    ramp = max(blend, 1e-6)
    weight = np.ones(8 * length)
    if start > 0:
        weight = np.minimum(weight, np.clip((pixel - halo) / ramp, 0.0, 1.0))
    if start + length < size:
        weight = np.minimum(weight, np.clip((length - pixel - halo) / ramp, 0.0, 1.0))
    return weight
