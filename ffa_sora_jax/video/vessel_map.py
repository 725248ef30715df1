"""Where the bright vessels of a clip lie: one map per clip, the trace by which an eye is known.

The contrast of all frames is averaged first, so that arteries of early and veins of late frames
enter together and noise does not; then the bar detector of `video.quality` runs once.
"""

import cv2
import numpy as np

from ffa_sora_jax.video import field as fields
from ffa_sora_jax.video import quality

SIDE_PX = 256  # of the maps
CLIP = 1.5  # contrast beyond which a leak counts no more


def clip_contrast(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean contrast of a clip against its surroundings, and where its field is.

    Args:
      video: (t, h, w) uint8, or (t, h, w, 1).

    Returns:
      (256, 256) float32, 0 outside the field, and (256, 256) bool; all zero and False if no
      frame shows a field.

    Raises:
      ValueError: another shape or dtype.
    """
    video = np.asarray(video)
    video = video[..., 0] if video.ndim == 4 and video.shape[-1] == 1 else video
    if video.ndim != 3 or not len(video) or video.dtype != np.uint8:
        raise ValueError(
            f"video is {video.dtype} of shape {video.shape}; expected (t, h, w) uint8 with t >= 1."
        )
    small = [fields.thumbnail(frame, SIDE_PX) for frame in video]
    field = fields.find_field(np.max(small, axis=0).astype(np.uint8))
    inside = None if field is None else fields.inner(field)
    if inside is None:
        nothing = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        return nothing, nothing.astype(bool)
    total = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    for grey in small:
        total += np.clip(quality.weber(grey, inside), -CLIP, CLIP)
    return total / len(small), inside.astype(bool)


def vessel_map(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Response of the bar detector to the bright vessels of a clip.

    Args:
      video: (t, h, w) uint8, or (t, h, w, 1), its frames registered.

    Returns:
      (256, 256) float32 >= 0 and the field (256, 256) bool, as `clip_contrast`.
    """
    contrast, inside = clip_contrast(video)
    if not inside.any():
        return contrast, inside
    bright = quality.bar_responses(contrast)[0]
    return np.sqrt(bright) * inside, inside  # the root keeps thin vessels beside wide ones


def shrink(array: np.ndarray, side: int) -> np.ndarray:
    """(n, n) -> (side, side) float32 by area averaging."""
    return cv2.resize(array.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
