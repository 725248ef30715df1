"""How frames become the images that CLIP reads: on the host, in eight bits, as its processors do.

Axes: t frames, h w space, c channels.
"""

from collections.abc import Sequence

import numpy as np

from ffa_sora_jax.common.places import evenly
from ffa_sora_jax.common.types import AnyArray
from ffa_sora_jax.models.clip import MEAN, STD

BACKGROUND = (122, 116, 104)  # CLIP's mean colour
MONTAGE_GAP_PX = 10
GRID_GAP_PX = 2
GRID_PX = 1024


def frames_uint8(video: AnyArray) -> np.ndarray:
    """A clip (t, h, w, c) in [-1, 1], c 1 or 3 -> (t, h, w, 3) uint8; grey is repeated."""
    levels = np.rint((np.asarray(video, np.float32) + 1.0) * 127.5).clip(0, 255).astype(np.uint8)
    if levels.ndim != 4 or levels.shape[-1] not in (1, 3):
        raise ValueError(f"A clip has shape {levels.shape}; expected (t, h, w, c), c 1 or 3.")
    return np.broadcast_to(levels, (*levels.shape[:-1], 3))


def standardized(images: Sequence[np.ndarray] | np.ndarray, size: int) -> np.ndarray:
    """Images as CLIP's processor prepares them.

    The short side becomes `size` (bicubic, smoothed, rounded to eight bits), the centre is cut
    out, and channels are standardised by the mean and deviation of the training images.

    Args:
      images: n arrays (h, w, 3) uint8.
      size: side of the result.

    Returns:
      (n, size, size, 3) float32.
    """
    squares = np.stack([_short_side_and_crop(image, size) for image in images])
    unit = squares.astype(np.float32) / np.float32(255.0)
    return (unit - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)


def even_places(total: int, count: int) -> np.ndarray:
    """`count` of `total` frames from the first to the last; all where there are no more."""
    return evenly(total, min(total, count))


def step_places(total: int, count: int) -> np.ndarray:
    """Every (total // count)-th frame, as the reference takes them: the last ones are never seen.

    Raises:
      ValueError: fewer frames than asked for.
    """
    if total < count:
        raise ValueError(f"The clip has {total} frames; {count} are asked for.")
    return np.arange(count) * (total // count)


def montage(frames: np.ndarray, gap: int = MONTAGE_GAP_PX) -> np.ndarray:
    """(t, h, w, 3) uint8 -> one row of frames with black gaps, (h, t w + (t - 1) gap, 3)."""
    t, height, width, channels = frames.shape
    row = np.zeros((height, t, width + gap, channels), np.uint8)
    row[:, :, :width] = frames.transpose(1, 0, 2, 3)
    return row.reshape(height, -1, channels)[:, : t * (width + gap) - gap]


def grid(
    frames: np.ndarray, size: tuple[int, int] = (GRID_PX, GRID_PX), gap: int = GRID_GAP_PX
) -> np.ndarray:
    """(t, h, w, 3) uint8 -> a black picture (*size, 3) with the frames in rows, row by row.

    There are as many columns as the root of the number of frames, rounded up. Each frame is scaled
    to fit its cell (Lanczos) and stands in its middle.
    """
    import cv2  # here, because metrics that need no picture run without it

    t, height, width, channels = frames.shape
    columns = int(np.ceil(np.sqrt(t)))
    rows = -(-t // columns)
    cell_h, cell_w = (
        (side + gap) // n - gap for side, n in zip(size, (rows, columns), strict=True)
    )
    scale = min(cell_h / height, cell_w / width)
    h, w = int(height * scale), int(width * scale)
    picture = np.zeros((*size, channels), np.uint8)
    for index, frame in enumerate(frames):
        top = (index // columns) * (cell_h + gap) + (cell_h - h) // 2
        left = (index % columns) * (cell_w + gap) + (cell_w - w) // 2
        scaled = cv2.resize(np.ascontiguousarray(frame), (w, h), interpolation=cv2.INTER_LANCZOS4)
        picture[top : top + h, left : left + w] = scaled
    return picture


def padded_to_square(image: np.ndarray, background: Sequence[int] = BACKGROUND) -> np.ndarray:
    """(h, w, 3) uint8 -> the image in the middle of a square of one colour."""
    height, width, channels = image.shape
    side = max(height, width)
    square = np.empty((side, side, channels), np.uint8)
    square[:] = background
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _short_side_and_crop(image: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    height, width = image.shape[:2]
    short = min(height, width)
    tall, wide = int(size * height / short), int(size * width / short)
    if (tall, wide) != (height, width):
        picture = Image.fromarray(np.ascontiguousarray(image))
        image = np.asarray(picture.resize((wide, tall), Image.Resampling.BICUBIC))
    top, left = (tall - size) // 2, (wide - size) // 2
    return image[top : top + size, left : left + size]
