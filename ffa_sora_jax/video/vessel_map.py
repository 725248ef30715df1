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


def frame_contrasts(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contrast of every frame of a clip against its surroundings, and where the field is.

    Args:
      video: (t, h, w) uint8, or (t, h, w, 1).

    Returns:
      (t, 256, 256) float32, 0 outside the field, and (256, 256) bool; all zero and False if no
      field is found.

    Raises:
      ValueError: another shape or dtype.
    """
    video = np.asarray(video)
    video = video[..., 0] if video.ndim == 4 and video.shape[-1] == 1 else video
    if video.ndim != 3 or not len(video) or video.dtype != np.uint8:
        raise ValueError(
            f"video is {video.dtype} of shape {video.shape}; expected (t, h, w) uint8 with t >= 1."
        )
    small = np.stack([fields.thumbnail(frame, SIDE_PX) for frame in video])
    field = fields.find_field(small.max(axis=0))
    inside = None if field is None else fields.inner(field)
    if inside is None:
        return np.zeros(small.shape, np.float32), np.zeros(small.shape[1:], bool)
    contrasts = [np.clip(quality.weber(grey, inside), -CLIP, CLIP) for grey in small]
    return np.stack(contrasts), inside.astype(bool)


def vessel_map(contrast: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(256, 256) float32 >= 0: response of the bar detector to the bright vessels of a clip.

    Args:
      contrast: (256, 256) float32, the mean of the clip's `frame_contrasts`.
      inside: (256, 256) bool field.
    """
    bright = quality.bar_responses(contrast)[0]
    return np.sqrt(bright) * inside  # the root keeps thin vessels beside wide ones


def shrink(array: np.ndarray, side: int) -> np.ndarray:
    """(n, n) -> (side, side) float32 by area averaging."""
    return cv2.resize(array.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
