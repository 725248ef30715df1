"""Quality of single angiogram frames, without a network.

Source of the method and its constants: `docs/phantom.md`, section "Vessel area".
"""

import cv2
import numpy as np

FIELD_GREY = 6  # grey level above which a pixel may belong to the field
MIN_FIELD = 0.20  # share of the frame below which there is no field
WEBER_FLOOR = 12.0  # grey levels: keeps dark and blank frames at zero contrast
BARS = {256: ((1.1, 7), (1.8, 11)), 512: ((1.3, 11), (2.2, 15), (3.6, 21))}  # (width, length) px
ORIENTATIONS = 8
HIGH, LOW = 0.40, 0.20  # hysteresis on the bar response
MIN_AREA = {256: 20, 512: 60}  # px
MIN_EXTENT = {256: 12, 512: 25}  # px


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
    size = 512 if min(grey.shape) >= 384 else 256
    if grey.shape != (size, size):
        method = cv2.INTER_AREA if min(grey.shape) > size else cv2.INTER_LINEAR
        grey = cv2.resize(grey, (size, size), interpolation=method).astype(np.uint8)
    field = _field(grey)
    if field is None:
        return 0.0
    bars = _bright_bars(_weber(grey, field), size)
    bars[field == 0] = 0
    kept = _hysteresis(bars, MIN_AREA[size], MIN_EXTENT[size])
    return float(kept.sum() / np.count_nonzero(field))


def _grey(frame: np.ndarray) -> np.ndarray:
    if frame.dtype != np.uint8:
        raise ValueError(f"The frame has dtype {frame.dtype}, only uint8 is allowed.")
    if frame.ndim == 3 and frame.shape[2] == 3:
        return np.ascontiguousarray(frame[..., 1])
    if frame.ndim != 2:
        raise ValueError(f"The frame has shape {frame.shape}, allowed are (h, w) and (h, w, 3).")
    return frame


def _field(grey: np.ndarray) -> np.ndarray | None:
    """(h, w) uint8 0/1 field of view less 6 % of its radius, None if there is none."""
    size = grey.shape[0]
    lit = (cv2.medianBlur(grey, 7) > FIELD_GREY).astype(np.uint8)
    bright = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, np.ones((25, 25), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bright)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    points = cv2.findNonZero((labels == largest).astype(np.uint8))
    field = np.zeros_like(grey)
    cv2.fillConvexPoly(field, cv2.convexHull(points), 1)
    area = int(field.sum())
    if area < MIN_FIELD * size * size:
        return None
    cut = max(round(0.06 * float(np.sqrt(area / np.pi))), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * cut + 1, 2 * cut + 1))
    padded = cv2.copyMakeBorder(field, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)[1:-1, 1:-1]
    return eroded if eroded.any() else None


def _weber(grey: np.ndarray, field: np.ndarray) -> np.ndarray:
    """(h, w) float32 contrast against the masked Gaussian mean, 0 outside the field."""
    sigma = grey.shape[0] / 16
    inside = field.astype(np.float32)
    level = grey.astype(np.float32)
    total = cv2.GaussianBlur(level * inside, (0, 0), sigma)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma)
    mean = total / np.maximum(weight, 1e-6)
    return (level - mean) / (mean + WEBER_FLOOR) * inside


def _bright_bars(z: np.ndarray, size: int) -> np.ndarray:
    """(h, w) float32 largest two-sided response over orientations and widths."""
    best = np.zeros_like(z)
    for width, length in BARS[size]:
        half = int(np.ceil(length / 2))
        v, u = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
        for angle in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
            along = u * np.cos(angle) + v * np.sin(angle)
            across = -u * np.sin(angle) + v * np.cos(angle)
            kernel = np.exp(-(across**2) / (2 * (0.7 * width) ** 2))
            kernel *= np.exp(-(along**2) / (2 * (length / 4) ** 2))
            bar = cv2.filter2D(z, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
            shift = 2.5 * width * np.array([-np.sin(angle), np.cos(angle)])
            sides = np.maximum(_shifted(bar, shift), _shifted(bar, -shift))
            np.maximum(best, bar - sides, out=best)
    return best


def _shifted(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The picture sampled `shift` = (x, y) px away, edges repeated."""
    matrix = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]], np.float64)
    return cv2.warpAffine(
        image, matrix, image.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _hysteresis(bars: np.ndarray, min_area: int, min_extent: int) -> np.ndarray:
    """(h, w) bool components above LOW that reach HIGH and are long enough to be vessels."""
    weak = (bars > LOW).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    strong = np.bincount(labels[bars > HIGH], minlength=len(stats)) > 0
    extent = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    keep = strong & (stats[:, cv2.CC_STAT_AREA] >= min_area) & (extent >= min_extent)
    keep[0] = False
    return keep[labels]
