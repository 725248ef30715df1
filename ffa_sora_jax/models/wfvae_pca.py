"""Starts a WF-VAE with a linear path as the best linear autoencoder of its wavelet packets.

The packet of a clip gives every latent position one vector of 256 coefficients per input channel.
Their principal components become the encoder's linear map, and the inverse becomes the
decoder's. The rest of the network starts at zero output, so step 0 of training is plain PCA, which
short trainings from random weights do not reach.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import AnyArray, Params
from ffa_sora_jax.models import wavelet
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import check_video

_SMALLEST_VARIANCE = 1e-6  # relative to the largest: a constant channel must not be blown up


def pca_init(
    bundle: Bundle, params: Params, clips: Iterable[AnyArray], whitening: float = 1.0
) -> Params:
    """Parameters whose linear path is the PCA of `clips`; the other parameters are kept.

    Host function. The latent channels come out with mean 0, in the order of falling variance, and
    with a mean variance of 1 over `clips`.

    Args:
      bundle: a WF-VAE with `cfg.linear_path`.
      params: its parameters.
      clips: batches (b, 4 k + 1, h, w, c), uint8 or float in [-1, 1].
      whitening: a channel's standard deviation in pixels is raised to 1 - `whitening`: 1 makes all
        channels equal; less lets a diffusion model settle the layout before the texture.

    Raises:
      ValueError: `whitening` outside 0 .. 1, no linear path, no clips, or fewer latent positions
        than latent channels.
    """
    cfg = bundle.cfg
    if not cfg.linear_path:
        raise ValueError("PCA initialises the linear path; set linear_path=True in the model.")
    if not 0.0 <= whitening <= 1.0:
        raise ValueError(f"whitening is {whitening}; it must lie in 0 .. 1.")
    mean, covariance = _packet_moments(clips, cfg.in_channels, cfg.latent_dim)
    variances, vectors = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][: cfg.latent_dim]
    floor = _SMALLEST_VARIANCE * max(float(variances[order[0]]), 1e-12)
    spread, basis = np.sqrt(np.maximum(variances[order], floor)), vectors[:, order]
    divisor = spread**whitening
    divisor *= np.sqrt(np.mean((spread / divisor) ** 2))
    to_latent = basis / divisor  # (256 c, l)
    return {
        **params,
        "encoder": _with_linear(params["encoder"], to_latent, -mean @ to_latent),
        "decoder": _with_linear(params["decoder"], (basis * divisor).T, mean),
    }


def _packet_moments(
    clips: Iterable[AnyArray], channels: int, latent_dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the packet vectors, accumulated in float64."""
    to_packet = jax.jit(wavelet.packet)
    size = wavelet.PACKET_BANDS * channels
    count, total, square = 0, np.zeros(size), np.zeros((size, size))
    for clip in clips:
        types.check_shape(clip, "b t h w c", "clip")
        check_video(clip.shape, channels)
        video = np.asarray(clip, np.float32)
        if clip.dtype == np.uint8:
            video = video / 127.5 - 1.0
        rows = np.asarray(to_packet(video), np.float64).reshape(-1, size)
        count, total, square = count + len(rows), total + rows.sum(0), square + rows.T @ rows
    if count < latent_dim:
        raise ValueError(
            f"PCA of {latent_dim} latent channels needs at least as many latent positions; "
            f"the clips given have {count}. Raise train.calibration_batches."
        )
    mean = total / count
    return mean, square / count - np.outer(mean, mean)


def _with_linear(part: Params, kernel: np.ndarray, bias: np.ndarray) -> Params:
    linear = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    return {**part, "linear": linear}
