"""The paper's rule for 21 frames, on exams whose grey level is the time of the frame."""

import numpy as np
import pytest

from ffa_sora_jax.video.standardize import standardize, standardize_times
from tests.tolerances import TOL


def ramp(count, dtype=np.uint8, step=10):
    return np.broadcast_to(
        (step * np.arange(count)).astype(dtype)[:, None, None], (count, 4, 4)
    ).copy()


def test_longer_exams_keep_the_last_frames():
    frames = ramp(25)
    clip, is_original = standardize(frames)
    np.testing.assert_array_equal(clip, frames[4:])
    assert is_original.all() and is_original.shape == (21,)


def test_exactly_21_frames_stay_as_they_are():
    frames = ramp(21)
    clip, is_original = standardize(frames)
    np.testing.assert_array_equal(clip, frames)
    assert is_original.all()


@pytest.mark.parametrize("count", range(2, 21))
def test_originals_stay_bit_identical_and_in_order(count):
    frames = np.random.default_rng(count).integers(0, 256, (count, 5, 6, 3), dtype=np.uint8)
    clip, is_original = standardize(frames)
    np.testing.assert_array_equal(clip[is_original], frames)
    assert is_original[0] and is_original[-1]
    gaps = np.diff(np.flatnonzero(is_original))
    assert gaps.max() - gaps.min() <= 1  # spread evenly


def test_between_originals_the_grey_level_is_linear():
    clip, _ = standardize(ramp(6, np.float64))  # 0, 10, ..., 50 on places 0, 4, ..., 20
    np.testing.assert_allclose(clip[:, 0, 0], np.linspace(0, 50, 21), atol=1e-12)


def test_integers_are_rounded_not_cut():
    clip, _ = standardize(ramp(2, step=20))  # one grey level per frame
    np.testing.assert_array_equal(clip[:, 0, 0], np.arange(21))
    assert clip.dtype == np.uint8


@pytest.mark.parametrize("count", range(1, 61))
def test_the_rule_of_21_frames_on_ramps_of_every_length(count):
    """The last frames of long exams; short ones spread out and linear in between, times too."""
    levels = np.linspace(0, 1, count) ** 2 * 200  # uneven steps between neighbours
    frames = np.repeat(levels[:, None], 6, axis=1).reshape(count, 2, 3)
    times = levels * 3 + 1
    clip, is_original = standardize(frames)
    clip_times = standardize_times(times)
    assert clip.shape == (21, 2, 3) and clip_times.dtype == np.float32
    if count >= 21:
        np.testing.assert_array_equal(clip, frames[-21:])
        np.testing.assert_array_equal(clip_times, times[-21:].astype(np.float32))
        assert is_original.all()
        return
    np.testing.assert_array_equal(clip[is_original], frames if count > 1 else frames[:1])
    assert is_original.sum() == count
    place = np.flatnonzero(is_original) if count > 1 else [0]
    np.testing.assert_allclose(
        clip[:, 0, 0], np.interp(np.arange(21), place, levels), atol=TOL["unit"]
    )
    np.testing.assert_allclose(clip_times, 3 * clip[:, 0, 0] + 1, rtol=TOL["unit"])


@pytest.mark.parametrize("count", [1, 2, 5, 13, 21, 40])
@pytest.mark.parametrize("num_frames", [5, 9, 21, 33])
def test_originals_keep_every_bit_at_every_length(count, num_frames):
    frames = np.random.default_rng(0).integers(0, 256, (count, 4, 4), dtype=np.uint8)
    clip, is_original = standardize(frames, num_frames)
    assert clip.shape == (num_frames, 4, 4) and clip.dtype == np.uint8
    np.testing.assert_array_equal(clip[is_original], frames[-num_frames:])


@pytest.mark.parametrize("times_s", [[], [[1.0]], [0.0, np.nan]])
def test_bad_times_are_refused(times_s):
    with pytest.raises(ValueError, match="finite"):
        standardize_times(np.asarray(times_s))


def test_a_single_frame_is_repeated_and_only_one_is_original():
    clip, is_original = standardize(ramp(1) + 7)
    assert (clip == 7).all() and is_original.sum() == 1


def test_other_lengths():
    clip, is_original = standardize(ramp(3), num_frames=5)
    np.testing.assert_array_equal(clip[:, 0, 0], [0, 5, 10, 15, 20])
    np.testing.assert_array_equal(is_original, [True, False, True, False, True])


@pytest.mark.parametrize(
    ("frames", "num_frames"), [(np.zeros((0, 4, 4)), 21), (np.zeros((4, 4)), 21), (ramp(3), 0)]
)
def test_bad_input_is_refused(frames, num_frames):
    with pytest.raises(ValueError, match="frames"):
        standardize(frames, num_frames)
