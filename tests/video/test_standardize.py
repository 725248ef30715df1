"""The paper's rule for 21 frames, on exams whose grey level is the time of the frame."""

import numpy as np
import pytest

from ffa_sora_jax.video.standardize import standardize


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
