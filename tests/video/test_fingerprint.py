"""Copies are near, whatever was done to them; other eyes and other visits are not."""

import cv2
import numpy as np
import pytest

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.video import fingerprint as fp
from ffa_sora_jax.video.standardize import standardize

NUM_EYES = 8


@pytest.fixture(scope="module")
def clips():
    """[eye][visit] (21, 128, 128)."""
    return [[generate(5, i, 128, visit=visit).video for visit in (0, 1)] for i in range(NUM_EYES)]


def warped(video, x=0.0, y=0.0, turn=0.0, zoom=1.0):
    size = video.shape[-1]
    matrix = cv2.getRotationMatrix2D((size / 2 - 0.5, size / 2 - 0.5), turn, zoom)
    matrix[:, 2] += (x * size, y * size)
    return np.stack([cv2.warpAffine(frame, matrix, (size, size)) for frame in video])


def jpeg(video, quality):
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return np.stack([cv2.imdecode(cv2.imencode(".jpg", f, options)[1], 0) for f in video])


def graded(video, gain=1.0, gamma=1.0, offset=0):
    levels = gain * 255 * (video / 255.0) ** gamma + offset
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def halved(video):
    return np.stack(
        [cv2.resize(f, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for f in video]
    )


CHANGES = {
    "nothing": lambda v: v,
    "compressed": lambda v: jpeg(v, 40),
    "darker": lambda v: graded(v, gain=0.7),
    "saturated": lambda v: graded(v, gain=1.4),
    "gamma": lambda v: graded(v, gamma=0.7),
    "offset": lambda v: graded(v, offset=20),
    "shifted": lambda v: warped(v, 0.02, -0.01),
    "turned": lambda v: warped(v, turn=1.0),
    "zoomed": lambda v: warped(v, zoom=1.03),
    "halved": halved,
    "mirrored": lambda v: v[:, :, ::-1],
    "all": lambda v: jpeg(graded(warped(v, 0.01, 0.01, 0.3), 1.1, 0.85), 50)[:, :, ::-1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_near(clips, change):
    for own, _ in clips:
        copy = np.ascontiguousarray(CHANGES[change](own))
        a, b = fp.clip_fingerprint(own), fp.clip_fingerprint(copy)
        assert a.shape == (fp.WORDS,) and a.dtype == np.uint64
        assert fp.near_duplicates(a, b) and fp.near_duplicates(b, a)


def nearest(a, b):
    return min(fp.distance(a, b), fp.distance(a, fp.mirrored(b)))


@pytest.mark.parametrize("count", [5, 9, 14, 21])
def test_other_eyes_are_far(clips, count):
    place = np.round(np.linspace(0, 20, count)).astype(int)
    codes = [[fp.clip_fingerprint(standardize(v[place])[0]) for v in pair] for pair in clips]
    for i, eye in enumerate(codes):
        others = [code for pair in codes[:i] for code in pair]
        assert all(nearest(a, b) > fp.NEAR + 20 for a in eye for b in others)


@pytest.mark.parametrize("count", [14, 21])
def test_other_visits_of_an_eye_are_far(clips, count):
    place = np.round(np.linspace(0, 20, count)).astype(int)
    for pair in clips:
        a, b = (fp.clip_fingerprint(standardize(v[place])[0]) for v in pair)
        assert nearest(a, b) > fp.NEAR and not fp.near_duplicates(a, b)


def test_strangers_differ_in_nearly_half_of_the_bits(clips):
    codes = [fp.clip_fingerprint(own) for own, _ in clips]
    distances = [fp.distance(a, b) for i, a in enumerate(codes) for b in codes[:i]]
    assert 190 < np.median(distances) < 262


def test_mirroring_turns_exactly_its_bits(clips):
    own = clips[0][0]
    turned = fp.clip_fingerprint(np.ascontiguousarray(own[:, :, ::-1]))
    assert fp.distance(fp.mirrored(fp.clip_fingerprint(own)), turned) <= 2  # a wave may be all zero
    np.testing.assert_array_equal(fp.mirrored(fp.mirrored(turned)), turned)
    stack = np.stack([turned, turned])
    np.testing.assert_array_equal(fp.mirrored(stack)[1], fp.mirrored(turned))


def test_the_same_exam_cut_one_frame_later_is_near(clips):
    exam = np.concatenate([clips[1][0], clips[1][0][-1:] // 2])
    early, late = fp.clip_fingerprint(exam[:21]), fp.clip_fingerprint(exam[1:])
    assert fp.distance(early, late) > fp.NEAR
    assert fp.distance(fp.delayed(early), late) < fp.NEAR
    assert fp.near_duplicates(early, late) and fp.near_duplicates(late, early)


def test_interpolated_frames_are_seen_through(clips):
    clip, is_original = standardize(clips[2][0][::3])
    told, guessed = fp.clip_fingerprint(clip, is_original), fp.clip_fingerprint(clip)
    np.testing.assert_array_equal(told, guessed)


def test_still_clips_have_fingerprints_too(clips):
    still = np.repeat(clips[0][0][10:11], 21, axis=0)
    other = np.repeat(clips[1][0][10:11], 21, axis=0)
    a, b, c = (fp.clip_fingerprint(v) for v in (still, jpeg(still, 60), other))
    assert fp.distance(a, b) < fp.distance(a, c)
    assert fp.clip_fingerprint(still[:1]).shape == fp.clip_fingerprint(still[:2]).shape == (8,)


def test_channels_and_bad_shapes(clips):
    own = clips[0][0]
    np.testing.assert_array_equal(fp.clip_fingerprint(own[..., None]), fp.clip_fingerprint(own))
    for bad in (own[:0], own[0], np.repeat(own[..., None], 3, axis=-1)):
        with pytest.raises(ValueError, match="expected"):
            fp.clip_fingerprint(bad)
