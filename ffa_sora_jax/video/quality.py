"""Quality of single angiogram frames, without a network.

Method, constants and measured figures: `docs/video.md`, section "Vessel area".
"""

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ffa_sora_jax.video import field as fields

WEBER_FLOOR = 12.0  # grey levels: keeps dark and blank frames at zero contrast
BARS = {256: ((1.1, 7), (1.8, 11)), 512: ((1.3, 11), (2.2, 15), (3.6, 21))}  # (width, length) px
ORIENTATIONS = 8
SIDE = 2.5  # distance of the two sides from the middle of a bar, in widths
HYSTERESIS = (0.40, 0.20)  # high, low, on the bar response
SENSITIVE = (0.30, 0.15)  # for frames shrunk to 256 px: thin vessels are paler, noise is lower
MIN_AREA = {256: 20, 512: 60}  # px
MIN_EXTENT = {256: 12, 512: 25}  # px
_BILINEAR = 0.12  # px^2 of blur that reading between pixels adds, taken off the first Gaussian
_PAD = 12  # px around the picture, more than any bar reaches


@dataclass(frozen=True)
class BarShares:
    """Shares of the field covered by lines brighter, and darker, than both of their sides."""

    bright: float
    dark: float

    @property
    def polarity(self) -> float:
        """bright / (bright + dark): above 0.55 in angiograms; 0 without any line."""
        return self.bright / (self.bright + self.dark + 1e-4)


def vessel_area_ratio(frame: np.ndarray) -> float:
    """Share of the field of view that bright vessels cover.

    A two-sided bar detector on Weber contrast: a pixel counts when an oriented bar through it is
    brighter than both of its sides. Frames before the dye, blank, saturated or without vessels
    give 0; a real angiogram gives 0.005 to 0.3.

    Args:
      frame: (h, w) or (h, w, 3) uint8; the 3 channels of a grey picture are equal.

    Returns:
      0..1. The frame is analysed at 512 px if its shorter side has at least 384 px, else at 256.

    Raises:
      ValueError: not uint8, or another shape.
    """
    grey = _grey(frame)
    small = fields.thumbnail(grey, 512 if min(grey.shape) >= 384 else 256)
    field = fields.find_field(small)
    return 0.0 if field is None else bar_shares(small, field).bright


def bar_shares(
    grey: np.ndarray, field: np.ndarray, hysteresis: tuple[float, float] = HYSTERESIS
) -> BarShares:
    """Bright and dark lines of one small frame.

    Args:
      grey: (n, n) uint8, n one of `BARS`.
      field: (n, n) uint8 0/1, its field of view; a border of it is left out.
      hysteresis: lines reach the first response somewhere and the second everywhere.

    Raises:
      ValueError: another size.
    """
    size = grey.shape[0]
    if grey.shape != (size, size) or size not in BARS:
        raise ValueError(f"The frame is {grey.shape}; bars are sought at {sorted(BARS)} px only.")
    inside = fields.inner(field)
    if inside is None:
        return BarShares(0.0, 0.0)
    bright, dark = bar_responses(weber(grey, inside))
    area = np.count_nonzero(inside)
    shares = (float(_hysteresis(b * inside, size, hysteresis) / area) for b in (bright, dark))
    return BarShares(*shares)


def weber(grey: np.ndarray, field: np.ndarray) -> np.ndarray:
    """(h, w) float32 contrast against the masked Gaussian mean, 0 outside the field.

    The mean has a sigma of 1/16 of the width and is taken on a grid four times as coarse.
    """
    size = grey.shape[0]
    inside = field.astype(np.float32)
    level = grey.astype(np.float32)
    coarse = (size // 4, size // 4)
    total, weight = (
        cv2.GaussianBlur(cv2.resize(a, coarse, interpolation=cv2.INTER_AREA), (0, 0), size / 64)
        for a in (level * inside, inside)
    )
    mean = cv2.resize(total / np.maximum(weight, 1e-6), (size, size))
    return (level - mean) / (mean + WEBER_FLOOR) * inside


def _grey(frame: np.ndarray) -> np.ndarray:
    if frame.dtype != np.uint8:
        raise ValueError(f"The frame has dtype {frame.dtype}, only uint8 is allowed.")
    if frame.ndim == 3 and frame.shape[2] == 3:
        return np.ascontiguousarray(frame[..., 1])
    if frame.ndim != 2:
        raise ValueError(f"The frame has shape {frame.shape}, allowed are (h, w) and (h, w, 3).")
    return frame


def bar_responses(contrast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two (n, n) float32: the largest two-sided response of bright and of dark bars.

    Args:
      contrast: (n, n) float32 of `weber`, n one of `BARS`.

    A bar is an isotropic Gaussian of 0.7 widths, drawn out along its line to a Gaussian of a
    quarter of its length by two sparse passes of weights 1/4, 1/2, 1/4 at distances `step` and
    2 `step`: together of variance 5/2 step^2. Six times as fast as dense kernels.
    """
    size, z = contrast.shape[0], contrast
    padded = cv2.copyMakeBorder(z, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_CONSTANT, value=(0,))
    bright, dark = np.zeros_like(z), np.zeros_like(z)
    for sigma, lines in _plan(size):
        dots = cv2.GaussianBlur(padded, (0, 0), sigma)
        for near, far, to_left, to_right in lines:
            bar = cv2.filter2D(cv2.filter2D(dots, -1, near), -1, far)
            left, right = _moved(bar, *to_left), _moved(bar, *to_right)
            bar = np.ascontiguousarray(bar[_PAD:-_PAD, _PAD:-_PAD])
            cv2.max(bright, cv2.subtract(bar, cv2.max(left, right)), dst=bright)
            cv2.max(dark, cv2.subtract(cv2.min(left, right), bar), dst=dark)
    return bright, dark


@functools.cache
def _plan(size: int) -> list[tuple[float, list[Any]]]:
    """Per width: sigma of the dots; per orientation two line kernels and two side steps."""
    plan = []
    for width, length in BARS[size]:
        sigma = 0.7 * width
        step = float(np.sqrt(0.4 * ((length / 4) ** 2 - sigma**2)))
        lines = []
        for angle in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
            along = np.array([np.cos(angle), np.sin(angle)])
            across = SIDE * width * np.array([-np.sin(angle), np.cos(angle)])
            kernels = _line_kernel(step * along), _line_kernel(2 * step * along)
            lines.append((*kernels, _corners(across), _corners(-across)))
        plan.append((float(np.sqrt(sigma**2 - _BILINEAR)), lines))
    return plan


def _corners(shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixel (x, y) up and left of a shift, and the (2, 2) weights of reading there."""
    whole = np.floor(shift + 1e-6).astype(int)
    x, y = np.clip(shift - whole, 0, 1)
    return whole, np.array([[(1 - x) * (1 - y), x * (1 - y)], [(1 - x) * y, x * y]], np.float32)


def _line_kernel(step: np.ndarray) -> np.ndarray:
    """Weights 1/4, 1/2, 1/4 at -step, 0 and step = (x, y) px; the filter skips the zeros."""
    reach = int(np.floor(np.abs(step).max() + 1e-6)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    kernel[reach, reach] = 0.5
    for sign in (-1, 1):
        (x, y), weights = _corners(sign * step)
        kernel[reach + y : reach + y + 2, reach + x : reach + x + 2] += weights / 4
    return kernel


def _moved(padded: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The picture without its padding, sampled a step away that `_corners` took apart."""
    size = padded.shape[0] - 2 * _PAD
    x, y = _PAD + whole
    part = padded[y : y + size + 1, x : x + size + 1]
    if weights[0, 0] < 1:
        part = cv2.filter2D(part, -1, weights, anchor=(0, 0))
    return np.ascontiguousarray(part[:size, :size])


def _hysteresis(bars: np.ndarray, size: int, hysteresis: tuple[float, float]) -> int:
    """Pixels in components above the low level that reach the high one and are long enough."""
    high, low = hysteresis
    weak = (bars > low).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    strong = np.bincount(labels[bars > high], minlength=len(stats)) > 0
    extent = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    area = stats[:, cv2.CC_STAT_AREA]
    keep = strong & (area >= MIN_AREA[size]) & (extent >= MIN_EXTENT[size])
    keep[0] = False
    return int(area[keep].sum())
