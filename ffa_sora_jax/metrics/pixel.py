"""Peak signal-to-noise ratio and structural similarity, per frame.

Each has two definitions in use, and they differ by more than models do:

- PSNR is the mean of per-frame decibels, not the decibels of the mean error. A frame identical
  to its reference would count as infinite; "cap" counts it as 100 dB (common video evaluation
  code), "skip" leaves out its whole clip (WF-VAE's evaluation).
- SSIM weights its window by a Gaussian of 1.5 pixels over 11 x 11 ("gaussian": Wang et al. 2004,
  scikit-image with gaussian_weights), or uniformly over 7 x 7 with the unbiased covariance
  ("uniform": scikit-image's default). Windows that leave the frame are not counted.

The functions take any range and are told it; the metrics take clips in [-1, 1] and score them in
[0, 1]. Feeding [-1, 1] with a range of 1, as one published system does, lowers PSNR by 6.02 dB.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import AnyArray, Array, Clip
from ffa_sora_jax.metrics.base import PerClip

SSIM_WINDOWS = ("gaussian", "uniform")
IDENTICAL = ("cap", "skip")

_CAP_DB = 100.0
_CAP_MSE = 1e-10  # mean squared error on [0, 1] below which frames count as identical
_K1, _K2 = 0.01, 0.03


@dataclasses.dataclass(frozen=True)
class PSNR(PerClip):
    """Mean PSNR over all frames of all clips, in dB; a row is the decibels of every frame (t,).

    Attributes:
      identical: "cap" counts identical frames as 100 dB, "skip" leaves out clips that hold any.
    """

    identical: str = "cap"
    name = "psnr"
    higher_is_better = True
    value_range = (0.0, _CAP_DB)

    def __post_init__(self):
        if self.identical not in IDENTICAL:
            raise ValueError(unknown_name("treatment of identical", self.identical, IDENTICAL))

    def measure(self, sample: Clip, reference: Clip | None, params: None = None) -> Array:
        """Decibels (b, t) of clips (b, t, h, w, c) in [-1, 1]."""
        return psnr(*_pair(sample, reference))

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """{"psnr": mean in dB}, NaN if every clip was left out."""
        if self.identical == "skip":
            rows = rows[(rows < _CAP_DB).all(axis=1)]
        return {self.name: float(rows.mean(dtype=np.float64)) if len(rows) else float("nan")}


@dataclasses.dataclass(frozen=True)
class SSIM(PerClip):
    """Mean SSIM over all frames of all clips; a row is the SSIM of every frame (t,).

    Attributes:
      window: "gaussian" or "uniform".
    """

    window: str = "gaussian"
    name = "ssim"
    higher_is_better = True
    value_range = (-1.0, 1.0)

    def __post_init__(self):
        _check_window(self.window)

    def measure(self, sample: Clip, reference: Clip | None, params: None = None) -> Array:
        """SSIM (b, t) of clips (b, t, h, w, c) in [-1, 1]."""
        return ssim(*_pair(sample, reference), window=self.window)

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """{"ssim": mean}."""
        return {self.name: float(rows.mean(dtype=np.float64))}


def load_psnr(folder: Path | None) -> tuple[PSNR, None]:
    """PSNR as the registry opens it."""
    del folder  # no weights
    return PSNR(), None


def load_ssim(folder: Path | None) -> tuple[SSIM, None]:
    """SSIM with the Gaussian window."""
    del folder
    return SSIM(), None


def load_ssim_uniform(folder: Path | None) -> tuple[SSIM, None]:
    """SSIM with the uniform window."""
    del folder
    return SSIM(window="uniform"), None


def psnr(sample: AnyArray, reference: AnyArray, data_range: float = 1.0) -> jax.Array:
    """PSNR of every frame.

    Args:
      sample: (..., h, w, c).
      reference: the same shape.
      data_range: highest minus lowest possible value.

    Returns:
      (...) float32 dB; 100 where the mean squared error on [0, 1] is below 1e-10.

    Raises:
      ValueError: the shapes differ, data_range is not above 0, or it is 1 and the frames are whole
        numbers.
    """
    sample, reference = _check_pair(sample, reference, data_range)
    mse = (((sample - reference) / data_range) ** 2).mean((-3, -2, -1))
    return jnp.where(mse < _CAP_MSE, _CAP_DB, -10.0 * jnp.log10(jnp.maximum(mse, _CAP_MSE)))


def ssim(
    sample: AnyArray, reference: AnyArray, data_range: float = 1.0, window: str = "gaussian"
) -> jax.Array:
    """SSIM of every frame: per channel, then the mean over channels.

    Args:
      sample: (..., h, w, c); h and w at least 11 ("gaussian") or 7 ("uniform").
      reference: the same shape.
      data_range: highest minus lowest possible value.
      window: "gaussian" or "uniform".

    Returns:
      (...) float32.

    Raises:
      ValueError: as for `psnr`; and the frames are smaller than the window, or an unknown window.
    """
    _check_window(window)
    # Channels go first: filters over the last axis are nine times as fast where it is the width.
    pair = _check_pair(sample, reference, data_range)
    x, y = (jnp.moveaxis(v, -1, -3) / data_range for v in pair)
    taps, unbiased = _window(window)
    if min(x.shape[-2:]) < len(taps):
        raise ValueError(f"Frames of {x.shape[-2:]} px are smaller than SSIM's {len(taps)} px.")
    centre = 0.5 * (x.mean((-3, -2, -1), keepdims=True) + y.mean((-3, -2, -1), keepdims=True))
    x, y = x - centre, y - centre  # variances of small numbers: no cancellation in float32
    mean_x, mean_y = _filter(x, taps), _filter(y, taps)
    var_x = (_filter(x * x, taps) - mean_x**2) * unbiased
    var_y = (_filter(y * y, taps) - mean_y**2) * unbiased
    cov = (_filter(x * y, taps) - mean_x * mean_y) * unbiased
    mean_x, mean_y = mean_x + centre, mean_y + centre
    c1, c2 = _K1**2, _K2**2
    value = (2.0 * mean_x * mean_y + c1) * (2.0 * cov + c2)
    value = value / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return value.mean((-3, -2, -1))


def _pair(sample: Clip, reference: Clip | None) -> tuple[AnyArray, AnyArray]:
    """Videos of both clips in [0, 1]."""
    if reference is None or sample.video is None or reference.video is None:
        raise ValueError("PSNR and SSIM compare two videos: sample and reference.")
    return 0.5 * (sample.video + 1.0), 0.5 * (reference.video + 1.0)


def _check_pair(
    sample: AnyArray, reference: AnyArray, data_range: float
) -> tuple[jax.Array, jax.Array]:
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}; expected highest minus lowest, above 0.")
    sample, reference = jnp.asarray(sample), jnp.asarray(reference)
    for given in (sample, reference):
        if data_range <= 1 and jnp.issubdtype(given.dtype, jnp.integer):
            raise ValueError(
                f"Frames of {given.dtype} with data_range {data_range}; say data_range=255 for "
                "grey levels in eight bits."
            )
    if sample.shape != reference.shape or sample.ndim < 3:
        raise ValueError(
            f"sample has shape {sample.shape}, reference {reference.shape}; expected the same "
            "(..., h, w, c)."
        )
    return jnp.asarray(sample, jnp.float32), jnp.asarray(reference, jnp.float32)


def _check_window(window: str) -> None:
    if window not in SSIM_WINDOWS:
        raise ValueError(unknown_name("SSIM window", window, SSIM_WINDOWS))


def _window(window: str) -> tuple[np.ndarray, float]:
    """Taps along one axis, and the factor that makes the covariance unbiased."""
    if window == "uniform":
        return np.full(7, 1.0 / 7.0), 49.0 / 48.0
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    return taps / taps.sum(), 1.0


def _filter(x: jax.Array, taps: np.ndarray) -> jax.Array:
    """Separable window over h and w of (..., h, w), whole windows only."""
    for axis in (-2, -1):
        size = x.shape[axis] - len(taps) + 1
        parts = [
            float(tap) * jax.lax.slice_in_dim(x, i, i + size, axis=axis)
            for i, tap in enumerate(taps)
        ]
        x = sum(parts[1:], parts[0])
    return x
