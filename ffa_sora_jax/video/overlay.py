"""Text burned into the picture, inside the field of view, where it cannot simply be cleared."""

from collections.abc import Sequence

import cv2
import numpy as np

from ffa_sora_jax.video import field as fields

OVERLAY_PX = 768  # side at which text is sought; larger frames are shrunk to it
STEPS = (50, 100, 150)  # grey levels from what lies around a letter to its strokes, at least
BRIGHT, DARK = 120, 40  # grey level that bright strokes reach and dark ones stay below
MIN_LETTERS = 4  # in one line, if they stay over the whole exam
MIN_LETTERS_UNSURE = 5  # in one line of a single frame, or dark: gaps between vessels look alike
_HEIGHT = (6, 48)  # px of a letter
_MAX_GAP = 1.2  # between neighbours, in letter heights


class OverlayDetector:
    """Looks for letters that stay while the angiogram changes, in constant memory.

    Only the darkest and the brightest value of every place over all frames are kept: bright
    letters stay bright in the darkest picture, dark ones dark in the brightest, and vessels,
    which fill and move, do neither. Letters on some frames only must be bright and in a longer
    row, and are sought on the frames that the caller names.
    """

    def __init__(self) -> None:
        """No frame seen yet."""
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def add(self, grey: np.ndarray) -> None:
        """Takes one (h, w) uint8 frame; frames of other shapes are brought to that of the first."""
        if self._low is None or self._high is None:
            scale = min(1.0, OVERLAY_PX / max(grey.shape))
            shape = (max(round(grey.shape[1] * scale), 1), max(round(grey.shape[0] * scale), 1))
            self._low = fields.resize(grey, *shape)
            self._high = self._low.copy()
            return
        small = fields.resize(grey, self._low.shape[1], self._low.shape[0])
        cv2.min(self._low, small, dst=self._low)
        cv2.max(self._high, small, dst=self._high)

    def found(self, field: np.ndarray, frames: Sequence[np.ndarray] = ()) -> bool:
        """Whether a line of text lies in the field.

        Args:
          field: (n, n) uint8 0/1 over the padded square.
          frames: (h, w) uint8, looked at one by one.
        """
        if self._low is None or self._high is None:
            return False
        height, width = self._low.shape
        square = max(height, width)
        mask = cv2.resize(field, (square, square), interpolation=cv2.INTER_NEAREST)
        top, left = (square - height) // 2, (square - width) // 2
        mask = mask[top : top + height, left : left + width]
        if longest_row(self._low, mask) >= MIN_LETTERS:
            return True
        if longest_row(255 - self._high, mask, floor=255 - DARK) >= MIN_LETTERS_UNSURE:
            return True
        same_size = (fields.resize(frame, width, height) for frame in frames)
        return any(longest_row(frame, mask) >= MIN_LETTERS_UNSURE for frame in same_size)


def longest_row(image: np.ndarray, field: np.ndarray, floor: int = BRIGHT) -> int:
    """The most bright letters that stand in one row inside the field.

    High steps part letters from the vessels that they touch.

    Args:
      image: (h, w) uint8.
      field: (h, w) uint8 0/1.
      floor: grey level that strokes reach.
    """
    strokes = cv2.morphologyEx(image, cv2.MORPH_TOPHAT, np.ones((15, 15), np.uint8)) * field
    strokes[image < floor] = 0
    return max(_longest_line(_letters((strokes > step).astype(np.uint8))) for step in STEPS)


def _letters(strokes: np.ndarray) -> np.ndarray:
    """(n, 4) x, y, width, height of everything that might be a letter, from left to right."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
    x, y, width, height, area = stats[1:].T
    fill = area / (width * height)
    good = (height >= _HEIGHT[0]) & (height <= _HEIGHT[1]) & (width <= 1.4 * height)
    good &= (fill > 0.15) & (fill < 0.9)
    letters = np.stack([x, y, width, height], axis=1)[good]
    return letters[np.argsort(letters[:, 0], kind="stable")]


def _longest_line(letters: np.ndarray) -> int:
    """The most letters that stand in one row: feet level, heights alike, gaps small."""
    x, y, width, height = letters.T.astype(np.float64)
    gap = x[None, :] - (x + width)[:, None]  # from the letter of the row to that of the column
    follows = (x[None, :] > x[:, None]) & (gap <= _MAX_GAP * height[:, None])
    follows &= np.abs((y + height)[None, :] - (y + height)[:, None]) <= 0.2 * height[:, None]
    follows &= np.abs(height[None, :] - height[:, None]) <= 0.3 * height[:, None]
    longest = np.ones(len(letters), int)  # of the lines that start at each letter
    for i in range(len(letters) - 1, -1, -1):
        if follows[i].any():
            longest[i] = 1 + longest[follows[i]].max()
    return int(longest.max(initial=0))
