"""Every exam as a clip of the same number of frames (Methods of arXiv 2412.17346).

Longer exams keep their last frames, counted back from the end. Shorter ones are filled up by
linear interpolation between neighbours, F = (1 - t) F_i + t F_(i+1). (The paper prints a minus,
which would not be an interpolation.)
"""

import numpy as np


def standardize(frames: np.ndarray, num_frames: int = 21) -> tuple[np.ndarray, np.ndarray]:
    """Brings an exam to `num_frames` frames.

    Original frames are kept bit for bit and spread as evenly as whole positions allow, the first
    at the start and the last at the end. An exam of a single frame is repeated: nothing lies
    between one frame.

    Args:
      frames: (n, h, w) or (n, h, w, c), n >= 1, uint8 or float.
      num_frames: frames wanted, at least 1.

    Returns:
      The clip (num_frames, h, w[, c]) in the dtype of `frames`, and (num_frames,) bool, True on
      original frames.

    Raises:
      ValueError: no frame given, none wanted, or an array that is no video.
    """
    frames = np.asarray(frames)
    if frames.ndim not in (3, 4) or not len(frames):
        raise ValueError(
            f"frames have shape {frames.shape}; expected (n, h, w) or (n, h, w, c) with n >= 1."
        )
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; it must be at least 1.")
    count = len(frames)
    if count >= num_frames:
        return frames[count - num_frames :].copy(), np.ones(num_frames, bool)
    if count == 1:
        is_original = np.arange(num_frames) == 0
        return np.repeat(frames, num_frames, axis=0), is_original
    place = np.round(np.linspace(0, num_frames - 1, count)).astype(int)  # of each original
    clip = np.empty((num_frames, *frames.shape[1:]), frames.dtype)
    for i in range(count - 1):
        gap = place[i + 1] - place[i]
        for step in range(1, gap):
            clip[place[i] + step] = _between(frames[i], frames[i + 1], step / gap)
    clip[place] = frames
    return clip, np.isin(np.arange(num_frames), place)


def _between(before: np.ndarray, after: np.ndarray, t: float) -> np.ndarray:
    mixed = (1 - t) * before.astype(np.float64) + t * after.astype(np.float64)
    if np.issubdtype(before.dtype, np.integer):
        mixed = np.round(mixed)
    return mixed.astype(before.dtype)
