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
    return _fill(frames, num_frames)


def standardize_times(times_s: np.ndarray, num_frames: int = 21) -> np.ndarray:
    """The times (num_frames,) float32 of the frames that `standardize` returns.

    Interpolated frames get the interpolated time.

    Args:
      times_s: (n,) seconds of the frames given to `standardize`, n >= 1, finite.
      num_frames: frames wanted, at least 1.

    Raises:
      ValueError: none given, none wanted, or a time that is not finite.
    """
    times = np.asarray(times_s, np.float64)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise ValueError(
            f"times_s has shape {times.shape}; expected (n,) finite seconds with n >= 1."
        )
    return _fill(times, num_frames)[0].astype(np.float32)


def _fill(frames: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
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
