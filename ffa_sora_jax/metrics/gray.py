"""Grey clips with the seconds of their frames, as metrics that run on the host look at them."""

from collections.abc import Sequence

import numpy as np

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.phantom.generator import FULL_S


def levels(clip: Clip) -> np.ndarray:
    """(b, t, h, w) uint8 of a batch in [-1, 1], the mean of its channels.

    Raises:
      ValueError: the batch has no video.
    """
    if clip.video is None:
        raise ValueError("Expected clips with video, got a batch without.")
    grey = (np.asarray(clip.video, np.float32).mean(axis=-1) + 1) * 127.5
    return np.clip(grey, 0, 255).round().astype(np.uint8)


def nominal_times(num_frames: int) -> np.ndarray:
    """(t,) seconds of a clip that brings no times: the usual ones of 21 frames, thinned or filled.

    They are the times of the phantom's schedule "full", which the shipped model was trained on.
    """
    usual = np.asarray(FULL_S)
    return np.interp(np.linspace(0, len(usual) - 1, num_frames), np.arange(len(usual)), usual)


def timed(clip: Clip) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each clip of a batch as (t, h, w) uint8 with its (t,) seconds, nominal ones if it has none.

    Raises:
      ValueError: the batch has no video.
    """
    videos = levels(clip)
    usual = np.tile(nominal_times(videos.shape[1]), (len(videos), 1))
    times = usual if clip.times_s is None else np.asarray(clip.times_s, np.float64)
    return list(zip(videos, times, strict=True))


def timed_pairs(
    sample: Clip, reference: Clip | None, metric: str
) -> list[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """`timed` of both sides, clip by clip; `metric` is named if the reference is missing."""
    if reference is None:
        raise ValueError(f"{metric} compares two videos: sample and reference.")
    return list(zip(timed(sample), timed(reference), strict=True))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two arrays of one shape; 0 where either does not vary."""
    a, b = a - a.mean(), b - b.mean()
    spread = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / spread) if spread > 1e-9 else 0.0


def column_means(keys: Sequence[str], rows: np.ndarray) -> dict[str, float]:
    """The float64 mean of each column of rows (n, columns), by name."""
    means = np.asarray(rows, np.float64).mean(axis=0)
    return dict(zip(keys, means.tolist(), strict=True))
