"""What may have been done to a copy: the disturbances that the detectors must see through.

They plant the positive control of every audit. Each is a function of (clip, rng); strengths are
the largest for which the promise of `docs/privacy.md` holds.
"""

from collections.abc import Callable

import cv2
import numpy as np

SHIFT = 0.06  # of the width
BLUR = 2.0 / 256  # sigma, of the width
GAMMA = (0.6, 1.7)
GAIN = (0.7, 1.3)
WARP = 0.35  # exponent by which time runs fast first and slow later, or the other way


def flip(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Left and right exchanged."""
    del rng
    return np.ascontiguousarray(video[:, :, ::-1])


def shift(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moved by up to `SHIFT` of the width, black where nothing is known."""
    size = np.array([video.shape[2], video.shape[1]])
    x, y = rng.uniform(-SHIFT, SHIFT, 2) * size
    matrix = np.array([[1, 0, x], [0, 1, y]])
    return _each(video, lambda f: cv2.warpAffine(f, matrix, (int(size[0]), int(size[1]))))


def blur(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus."""
    sigma = BLUR * video.shape[2] * float(rng.uniform(0.5, 1.0))
    return _each(video, lambda f: cv2.GaussianBlur(f, (0, 0), max(sigma, 0.3)))


def intensity(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other gamma and gain."""
    gamma = float(np.exp(rng.uniform(*np.log(GAMMA))))
    gain = float(rng.uniform(*GAIN))
    return np.clip(255 * gain * (video / 255.0) ** gamma, 0, 255).astype(np.uint8)


def time_warp(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same number of frames at uneven speed, interpolated."""
    count = len(video)
    power = float(np.exp(rng.uniform(-WARP, WARP)))
    at = np.linspace(0, 1, count) ** power * (count - 1)
    low = np.minimum(at.astype(int), count - 2)
    share = (at - low)[:, None, None]
    mixed = (1 - share) * video[low] + share * video[low + 1]
    return np.rint(mixed).astype(np.uint8)


def several(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All of them at once; the flip every other time."""
    for change in (shift, blur, intensity, time_warp):
        video = change(video, rng)
    return flip(video, rng) if rng.random() < 0.5 else video


DISTURBANCES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "flip": flip,
    "shift": shift,
    "blur": blur,
    "intensity": intensity,
    "time warp": time_warp,
    "several": several,
}


def _each(video: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([change(frame) for frame in video])
