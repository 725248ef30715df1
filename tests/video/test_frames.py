"""Kinds of frames: angiograms pass, every other light and every fault is named."""

import itertools

import cv2
import numpy as np
import pytest

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.video import frames
from ffa_sora_jax.video.quality import BarShares
from tests.video.scenes import other_light, phantom


@pytest.fixture
def judge():
    """A judge that has seen the dye: the middle of an exam."""
    judge = frames.FrameJudge()
    for frame in phantom().video[8:11]:
        assert judge.judge(frame).kind == "ffa"
    return judge


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("schedule", ["full", "paper"])
def test_every_frame_of_a_phantom_is_an_angiogram(index, schedule):
    judge = frames.FrameJudge()
    looks = [judge.judge(frame) for frame in phantom(index, 256, schedule, None).video]
    assert {look.kind for look in looks} == {"ffa"}


def test_an_arterial_frame_with_dark_veins_is_an_angiogram():
    video = generate(99, 10, 512, "paper").video[:4]
    judge = frames.FrameJudge()
    looks = [judge.judge(frame) for frame in video]
    assert {look.kind for look in looks} == {"ffa"}
    assert min(look.bars.polarity for look in looks) < frames.POLARITY  # polarity alone would fail


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("kind", ["infrared", "red_free", "colour"])
def test_other_light_is_recognised_at_the_start_and_within_an_exam(judge, kind, index):
    frame = other_light(kind, index=index)
    assert frames.FrameJudge().judge(frame).kind == kind
    assert judge.judge(frame).kind == kind


def test_inverted_angiograms_are_no_angiograms(judge):
    frame = phantom().video[10]
    inverted = np.where(frame > 0, 255 - frame, 0).astype(np.uint8)
    assert frames.FrameJudge().judge(inverted).kind == "red_free"
    assert judge.judge(inverted).kind == "red_free"


def test_black_and_blink(judge):
    black = np.zeros((256, 256), np.uint8)
    assert frames.FrameJudge().judge(black).kind == "black"
    assert judge.judge(black).kind == "black"
    lid = phantom().video[10].copy()
    lid[150:] = 9  # the lid covers what lies below
    assert judge.judge(cv2.GaussianBlur(lid // 4, (0, 0), 9)).kind == "blink"
    assert judge.judge(phantom().video[11]).kind == "ffa"  # and on it goes


def test_overexposed(judge):
    bright = np.clip(phantom().video[12].astype(int) * 5, 0, 255).astype(np.uint8)
    assert judge.judge(bright).kind == "overexposed"


@pytest.mark.parametrize("sigma", [3.5, 5, 9])
def test_blurred(judge, sigma):
    assert judge.judge(cv2.GaussianBlur(phantom().video[12], (0, 0), sigma)).kind == "blurred"


def test_slight_blur_is_accepted(judge):
    assert judge.judge(cv2.GaussianBlur(phantom().video[12], (0, 0), 1.0)).kind == "ffa"


def test_repeats_are_found_after_recompression_but_only_against_the_last_frame():
    last, other = phantom(size=512).video[[10, 14]]
    judge = frames.FrameJudge()
    assert judge.judge(last).kind == "ffa"
    assert judge.judge(last).kind == "duplicate"
    stored = cv2.imdecode(cv2.imencode(".jpg", last, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], 0)
    assert judge.judge(stored).kind == "duplicate"
    assert judge.judge(other).kind == "ffa"
    assert judge.judge(last).kind == "ffa"


def test_a_slow_change_is_not_taken_for_repeats():
    judge = frames.FrameJudge()
    frame = phantom().video[10].astype(np.float32)
    kinds = [judge.judge((frame * (0.5 + 0.008 * k)).astype(np.uint8)).kind for k in range(12)]
    assert 3 <= kinds.count("ffa") <= 8  # each is compared with the last one that was kept


def test_tinted_grey_is_grey_and_keeps_its_levels(judge):
    frame = phantom().video[12]
    green = np.stack([frame // 5, frame, frame // 3], axis=-1)
    look = judge.judge(green)
    assert look.kind == "ffa"
    np.testing.assert_array_equal(frames.to_grey(green), frame)


def test_three_equal_channels_give_the_same_as_one():
    frame = phantom().video[12]
    one, three = (frames.FrameJudge().judge(f) for f in (frame, np.stack([frame] * 3, axis=-1)))
    assert (one.kind, one.bars, one.sharpness) == (three.kind, three.bars, three.sharpness)


@pytest.mark.parametrize(
    ("mean", "bright", "dark", "depth", "kind"),
    [
        (100, 0.10, 0.09, 0.5, None),  # dye in the vessels, dark gaps between
        (90, 0.04, 0.15, 0.5, "red_free"),  # dark vessels, bright gaps between
        (100, 0.01, 0.001, 0.3, None),  # early dye
        (12, 0.0, 0.0, 0.1, None),  # before the dye
        (30, 0.0, 0.05, 0.4, None),  # choroidal flush: vessels still dark, but the field is dim
        (100, 0.0, 0.0, 0.2, "infrared"),
        (100, 0.01, 0.05, 0.4, "red_free"),
    ],
)
def test_the_guard_decides_by_level_and_polarity(mean, bright, dark, depth, kind):
    assert frames.other_light(mean, BarShares(bright, dark), depth) == kind


def test_sharpness_falls_with_blur():
    values = [
        frames.FrameJudge().judge(cv2.GaussianBlur(phantom().video[12], (0, 0), s)).sharpness
        for s in (0.4, 1, 2, 3, 4)
    ]
    assert all(a > b for a, b in itertools.pairwise(values))
