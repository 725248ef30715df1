"""The field of view: where in a frame the retina is, and everything that follows from it.

A frame is looked at through a square: the shorter side is padded with black on both ends, so
nothing is ever stretched. Masks live on a small grid of `ANALYSIS_PX` pixels laid over that
square; the same mask therefore fits every size at which an exam's frames come.
"""

from dataclasses import dataclass

import cv2
import numpy as np

ANALYSIS_PX = 256  # side of the grid on which frames are judged
FIELD_GREY = 6  # grey level above which a pixel may belong to the field
MIN_FIELD = 0.20  # share of the frame below which there is no field
BORDER = 0.06  # share of the field's radius that is left out where edges would disturb
CLOSING_PX = 25  # gaps in dark fields up to this width are closed
STRIP = 0.10  # share of the side: what is thinner and hangs on the field is text, not field
MIN_FILL = 0.75  # share of its convex hull that a bright field covers
MAX_ASPECT = 1.9  # longer beside shorter side: two pictures side by side are no field
VOTES = 0.25  # share of the frames in which a place must lie in the field
WHOLE = 0.94  # a field that reaches over this share of the square is not cropped


def thumbnail(image: np.ndarray, px: int = ANALYSIS_PX) -> np.ndarray:
    """(h, w[, 3]) uint8 as (px, px[, 3]): shrunk without stretching, padded with black."""
    height, width = image.shape[:2]
    scale = px / max(height, width)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    small = resize(image, columns, rows)
    if rows == columns:
        return small
    top, left = (px - rows) // 2, (px - columns) // 2
    return cv2.copyMakeBorder(
        small, top, px - rows - top, left, px - columns - left, cv2.BORDER_CONSTANT, value=(0,)
    )


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Area average where the picture shrinks, linear where it grows; the same size: a copy."""
    if image.shape[:2] == (height, width):
        return image.copy()
    method = cv2.INTER_AREA if image.shape[1] >= width else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def find_field(grey: np.ndarray) -> np.ndarray | None:
    """Convex field of view of one small square frame.

    Args:
      grey: (n, n) uint8, n about 256 to 512.

    Returns:
      (n, n) uint8 0/1, or None if less than `MIN_FIELD` of the frame is lit, or two pictures lie
      side by side.
    """
    lit = (cv2.medianBlur(grey, 7) > FIELD_GREY).astype(np.uint8)
    part = _body(lit)
    field = _hull(part)
    if field is None or part.sum() < MIN_FILL * field.sum():  # a dark frame: lit in patches
        square = np.ones((CLOSING_PX, CLOSING_PX), np.uint8)
        field = _hull(_body(cv2.morphologyEx(lit, cv2.MORPH_CLOSE, square)))
    if field is None or field.sum() < MIN_FIELD * field.size:
        return None
    width, height = cv2.boundingRect(field)[2:]
    return field if max(width, height) < MAX_ASPECT * min(width, height) else None


def inner(field: np.ndarray) -> np.ndarray | None:
    """The field less `BORDER` of its radius, None if nothing is left."""
    radius = float(np.sqrt(np.count_nonzero(field) / np.pi))
    cut = max(round(BORDER * radius), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * cut + 1, 2 * cut + 1))
    eroded = cv2.erode(field, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    return eroded if eroded.any() else None


class FieldVotes:
    """The field of a whole exam from the fields of its frames, in constant memory."""

    def __init__(self, px: int = ANALYSIS_PX):
        """An empty count on a grid of `px` pixels."""
        self._count = np.zeros((px, px), np.uint32)
        self._frames = 0

    def add(self, field: np.ndarray) -> None:
        """Counts the (px, px) 0/1 field of one frame."""
        self._count += field
        self._frames += 1

    def field(self) -> np.ndarray | None:
        """(px, px) uint8 0/1: convex, one pixel wider than the places that enough frames show."""
        if not self._frames:
            return None
        agreed = (self._count >= max(VOTES * self._frames, 1)).astype(np.uint8)
        hull = _hull(agreed)
        return None if hull is None else cv2.dilate(hull, np.ones((3, 3), np.uint8))


@dataclass(frozen=True)
class Window:
    """The square part of a frame that becomes the picture, in shares of the padded square.

    Attributes:
      left, top: of the window; may be negative: black is added.
      side: 1 for the whole square.
    """

    left: float
    top: float
    side: float

    @classmethod
    def around(cls, field: np.ndarray) -> "Window":
        """The smallest square with the field in its middle, or all if the field fills the frame."""
        px = field.shape[0]
        x, y, width, height = cv2.boundingRect(field)
        side = max(width, height)
        if side >= WHOLE * px:
            return cls(0.0, 0.0, 1.0)
        left, top = x + (width - side) / 2, y + (height - side) / 2
        return cls(left / px, top / px, side / px)

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """(h, w) as (size, size): one crop, black where the window leaves the frame, one resize."""
        height, width = image.shape[:2]
        square = max(height, width)
        side = max(round(self.side * square), 1)
        left = round(self.left * square) - (square - width) // 2
        top = round(self.top * square) - (square - height) // 2
        x0, x1 = max(left, 0), min(left + side, width)
        y0, y1 = max(top, 0), min(top + side, height)
        part = image[y0:y1, x0:x1]
        if part.shape[:2] != (side, side):
            part = cv2.copyMakeBorder(
                part, y0 - top, top + side - y1, x0 - left, left + side - x1,
                cv2.BORDER_CONSTANT, value=(0,),
            )  # fmt: skip
        return resize(part, size, size)

    def cut_mask(self, field: np.ndarray, size: int) -> np.ndarray:
        """The field (px, px) as (size, size) uint8 0/1 in the window, its edge kept smooth."""
        px = field.shape[0]
        scale = size / (self.side * px)
        matrix = np.array(
            [
                [scale, 0, (0.5 - self.left * px) * scale - 0.5],
                [0, scale, (0.5 - self.top * px) * scale - 0.5],
            ]
        )
        # a field that reaches the side of the frame must not fade out there
        soft = cv2.warpAffine(
            field * np.uint8(255), matrix, (size, size), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return (soft >= 128).astype(np.uint8)


def _body(lit: np.ndarray) -> np.ndarray:
    """The largest lit part, rid of strips that hang on it."""
    part = _largest(lit)
    side = max(round(STRIP * lit.shape[0]), 3)
    core = _largest(
        cv2.morphologyEx(
            part,
            cv2.MORPH_OPEN,
            np.ones((side, side), np.uint8),
            borderType=cv2.BORDER_CONSTANT,
            borderValue=(0,),
        )
    )
    return core if 2 * int(core.sum()) >= int(part.sum()) else part


def _largest(lit: np.ndarray) -> np.ndarray:
    """(n, n) uint8 0/1 largest connected part."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(lit)
    if count < 2:
        return np.zeros_like(lit)
    return (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)


def _hull(part: np.ndarray) -> np.ndarray | None:
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    field = np.zeros_like(part)
    cv2.fillConvexPoly(field, cv2.convexHull(np.concatenate(outlines)), (1,))
    return field
