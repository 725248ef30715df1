"""An exam becomes a clip in one pass: which frames enter, what is excluded, what is kept."""

import dataclasses
import json
import pickle
import tracemalloc

import cv2
import numpy as np
import pytest

from ffa_sora_jax.video.cleaning import CleaningConfig, ExcludedError, clean_exam
from ffa_sora_jax.video.quality import vessel_area_ratio
from ffa_sora_jax.video.registration import register
from tests.video.scenes import other_light, phantom, with_text

SIZE = 256


@pytest.fixture(scope="module")
def full():
    """An exam from before the dye on."""
    return phantom(2, SIZE, "full").video


@pytest.fixture(scope="module")
def paper():
    """An exam whose frames all show dye."""
    return phantom(2, SIZE, "paper").video


def config(**changes):
    return CleaningConfig(**{"size": SIZE} | changes)


def excluded(frames, times_s=None, **changes):
    with pytest.raises(ExcludedError) as caught:
        clean_exam(frames, times_s, config(**changes))
    return caught.value


# --- Vessel filter ---


def test_the_paper_excludes_an_exam_with_a_dark_frame(full):
    error = excluded(full)
    assert error.reason == "low_vessel_area" and "0.005" in str(error)
    assert [f.vessel_ratio < 0.005 for f in error.frames].count(True) >= 2
    assert len(error.frames) == len(full)


def test_leading_dark_frames_are_dropped_and_the_exam_stays(full):
    exam = clean_exam(iter(full), None, config(vessel_filter="drop_frames"))
    used = [f.index for f in exam.frames if f.used]
    assert used[0] > 0 and used == list(range(used[0], len(full)))
    assert all(f.vessel_ratio < 0.005 for f in exam.frames[: used[0]])
    assert exam.is_original.sum() == len(used)


def test_dark_frames_after_the_dye_are_not_dropped(paper):
    faded = np.concatenate([paper[:10], paper[10:11] // 8 + 8 * (paper[10:11] > 0)])
    facts = clean_exam(faded.astype(np.uint8), None, config(vessel_filter="off")).frames
    exam = clean_exam(faded.astype(np.uint8), None, config(vessel_filter="drop_frames"))
    assert [f.used for f in exam.frames] == [f.used for f in facts]


def test_without_the_filter_everything_stays(full):
    exam = clean_exam(full, None, config(vessel_filter="off"))
    assert all(f.used for f in exam.frames)


def test_a_good_exam_passes_and_its_ratios_are_stored(paper):
    exam = clean_exam(paper, None, config())
    assert exam.is_original.all() and exam.vessel_ratio.dtype == np.float32
    np.testing.assert_allclose(
        exam.vessel_ratio, [vessel_area_ratio(f) for f in paper], rtol=1e-3, atol=1e-5
    )


def test_the_threshold_is_the_callers(paper):
    assert excluded(paper, min_vessel_ratio=0.5).reason == "low_vessel_area"
    mostly_dark = excluded(paper, min_vessel_ratio=0.5, vessel_filter="drop_frames")
    assert mostly_dark.reason == "low_vessel_area"


# --- Frames ---


def test_other_pictures_and_faults_never_enter_the_clip(paper):
    black = np.zeros_like(paper[0])
    colour = other_light("colour", SIZE, 2)
    frames = [
        *(colour, other_light("infrared", SIZE, 2), other_light("red_free", SIZE, 2)),
        *(*paper[:5], black, *paper[5:9], paper[8], *paper[9:12]),
        *(cv2.GaussianBlur(paper[12], (0, 0), 5), *paper[13:]),
    ]
    exam = clean_exam(iter(frames), None, config())
    kinds = {f.index: f.kind for f in exam.frames if f.kind != "ffa"}
    assert kinds == {
        **{0: "colour", 1: "infrared", 2: "red_free"},
        **{8: "black", 13: "duplicate", 17: "blurred"},
    }
    assert not any(f.used for f in exam.frames if f.kind != "ffa")
    assert exam.is_original.sum() == len(paper) - 1
    assert exam.video.shape == (21, SIZE, SIZE) and exam.notes == ()


def test_kinds_can_be_let_in(paper):
    frames = [*paper[:4], paper[3]]
    exam = clean_exam(frames, None, config(unusable=("black", "colour")))
    assert exam.frames[4].kind == "duplicate" and exam.frames[4].used


def test_originals_are_the_last_frames_bit_for_bit():
    video = phantom(1, SIZE, "paper").video
    frames = np.concatenate([video, video[5:14]])
    exam = clean_exam(iter(frames), None, config())
    inside = exam.video.max(axis=0) > 0
    np.testing.assert_array_equal(exam.video[:, inside], frames[-21:][:, inside])
    assert inside.mean() > 0.8  # the field of a real camera covers 0.82
    assert [f.index for f in exam.frames if f.used] == list(range(9, 30))


def test_text_outside_the_field_is_cleared_and_inside_it_is_reported(paper):
    outside = [with_text(f, "OD 12:30", (0.0, -0.01), 9) for f in paper]
    exam, clean = clean_exam(outside, None, config()), clean_exam(paper, None, config())
    assert not exam.burned_in_text and not clean.burned_in_text
    assert (exam.video == clean.video).mean() > 0.999
    inside = [with_text(f, "Doe, Jane 1980", (0.2, 0.6), 16) for f in paper]
    assert clean_exam(inside, None, config()).burned_in_text


def test_wide_frames_become_square_without_stretching(paper):
    wide = np.pad(paper, ((0, 0), (0, 0), (60, 90)))
    exam, same = clean_exam(wide, None, config()), clean_exam(paper, None, config())
    _, moves = register(np.stack([same.video[10], exam.video[10]]), 0)
    assert np.hypot(moves[1].x, moves[1].y) < 0.012 and moves[1].agreement > 0.9


def test_other_sizes_are_noted_and_scaled_to_the_same_field(paper):
    frames = [cv2.resize(f, (SIZE // (1 + k % 2),) * 2) for k, f in enumerate(paper)]
    exam = clean_exam(frames, None, config(size=128, vessel_filter="off"))
    assert exam.notes == ("mixed_sizes",) and exam.video.shape == (21, 128, 128)
    assert np.corrcoef(exam.video[10].ravel(), exam.video[11].ravel())[0, 1] > 0.9


def test_registration_is_reported_and_steadies_the_clip(paper):
    frames = [np.roll(f, (3 * (k % 3), -2 * (k % 2)), (0, 1)) for k, f in enumerate(paper)]
    loose = clean_exam(frames, None, config())
    steady = clean_exam(frames, None, config(register=True))
    assert all(f.move is None for f in loose.frames)
    assert sum(f.move is not None for f in steady.frames) >= 18
    middle = np.s_[:, 64:-64, 64:-64]
    jitter = [np.abs(np.diff(e.video[middle].astype(int), axis=0)).mean() for e in (loose, steady)]
    assert jitter[1] < 0.9 * jitter[0]


# --- Length and times ---


def test_short_exams_are_filled_and_times_with_them(paper):
    exam = clean_exam(paper[:6], [1, 2, 4, 8, 16, 32], config())
    assert exam.video.shape[0] == 21 and exam.is_original.sum() == 6
    np.testing.assert_array_equal(exam.times_s[exam.is_original], [1, 2, 4, 8, 16, 32])
    np.testing.assert_allclose(exam.times_s[:5], [1, 1.25, 1.5, 1.75, 2])
    assert exam.times_known
    np.testing.assert_array_equal(np.isnan(exam.vessel_ratio), ~exam.is_original)


def test_unknown_times_are_positions(paper):
    frames = [paper[0], np.zeros_like(paper[0]), *paper[1:4]]
    exam = clean_exam(frames, None, config(num_frames=5))
    assert not exam.times_known
    np.testing.assert_array_equal(exam.times_s[exam.is_original], [0, 2, 3, 4])
    holes = [0.0, 1.0, np.nan, 3.0, 4.0]
    assert not clean_exam(frames, holes, config()).times_known
    with pytest.raises(ValueError, match=r"\(3,\).*5 frames"):
        clean_exam(frames, [1, 2, 3], config())


def test_memory_does_not_grow_with_the_exam(paper):
    def frames(count):
        for k in range(count):
            yield np.roll(paper[k % 21], k % 7, axis=0)

    peaks = []
    for count in (30, 90):
        tracemalloc.start()
        clean_exam(frames(count), None, config(size=64))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8 * paper[0].nbytes


def test_very_large_frames_wait_at_a_smaller_size(paper):
    large = (cv2.resize(f, (2600, 2600)) for f in paper[:3])
    assert clean_exam(large, None, config(size=64)).video.shape == (21, 64, 64)


def test_views_and_read_only_frames_are_as_good_as_copies(paper):
    rgb = np.repeat(paper[..., None], 3, axis=-1)
    views = [np.asfortranarray(rgb[0]), rgb[1][..., ::-1], rgb[2].copy(), *rgb[3:]]
    views[2].flags.writeable = False
    a, b = (clean_exam(frames, None, config()) for frames in (views, paper))
    np.testing.assert_array_equal(a.video, b.video)
    turned = clean_exam((f[:, ::-1] for f in paper), None, config())
    assert (turned.video[:, :, ::-1] == a.video).mean() > 0.998  # but for the rim of the mask


# --- Bad exams ---


def test_each_hopeless_exam_has_its_reason(paper):
    black = np.zeros((5, SIZE, SIZE), np.uint8)
    infrared = [other_light("infrared", SIZE, 2)] * 2
    assert excluded([]).reason == "too_few_frames"
    assert excluded(paper[:1]).reason == "too_few_frames"
    assert excluded(black).reason == "no_field_of_view"
    assert excluded(infrared).reason == "no_ffa_frames"
    assert excluded([np.zeros((1, 1), np.uint8)]).reason == "too_small"
    assert excluded(paper[:3], max_side_px=200).reason == "too_large"
    assert excluded(paper[:3], max_frames=2).reason == "too_many_frames"
    assert len(clean_exam(paper[:1], None, config(min_frames=1)).frames) == 1


def test_the_error_crosses_processes(full):
    error = excluded(full)
    same = pickle.loads(pickle.dumps(error))
    assert (same.reason, str(same), same.frames) == (error.reason, str(error), error.frames)


@pytest.mark.parametrize("frame", [np.zeros((64, 64)), np.zeros((64, 64, 4), np.uint8)])
def test_what_is_no_picture_is_refused(frame):
    with pytest.raises(ValueError, match="uint8"):
        clean_exam([frame], None, config())


def test_facts_fit_json(paper):
    exam = clean_exam(paper[:4], None, config())
    assert json.loads(json.dumps([dataclasses.asdict(f) for f in exam.frames]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vessel_filter": "exclude"}, "exclude_video, drop_frames, off"),
        ({"unusable": ("ffa",)}, "blurred"),
        ({"size": 16}, "32"),
        ({"num_frames": 20}, "4 k"),
        ({"min_vessel_ratio": 2.0}, "0..1"),
        ({"min_frames": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_refused_in_words(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
