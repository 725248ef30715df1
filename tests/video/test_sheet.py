"""Contact sheets: size, order of the frames, readable labels, bad input."""

import cv2
import numpy as np
import pytest

from ffa_sora_jax.video import io, sheet


def clip(num_frames=21, size=40):
    """Frame k is evenly grey, 10 (k + 1)."""
    grey = (10 * (1 + np.arange(num_frames))).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None], (num_frames, size, size)).copy()


def places(picture, grey):
    """First row and column at which a 20 x 20 patch of that grey begins; letters are thinner."""
    same = (picture == grey).all(-1)
    patch = np.lib.stride_tricks.sliding_window_view(same, (20, 20)).all((-1, -2))
    rows, columns = np.nonzero(patch)
    return rows.min(), columns.min()


def test_frames_lie_in_reading_order_and_keep_their_grey():
    picture = sheet.contact_sheet(clip(), times_s=np.linspace(0, 600, 21), scale=2)
    at = [places(picture, 10 * (1 + k)) for k in range(21)]
    assert [at.index(p) for p in sorted(at)] == list(range(21))
    assert [row for row, _ in at[:7]] == [at[0][0]] * 7 and at[7][0] > at[6][0]
    area = (picture == 10).all(-1).sum()
    assert area == 80 * 80


def test_title_and_mark_are_drawn_and_a_long_title_wraps():
    plain = sheet.contact_sheet(clip())
    short = sheet.contact_sheet(clip(), title="Left eye FFA")
    long = sheet.contact_sheet(clip(), title="Left eye FFA: dye leaks. " * 30 + "x" * 500)
    assert plain.shape[1] == short.shape[1] == long.shape[1]
    assert plain.shape[0] < short.shape[0] < long.shape[0]
    band = plain[: places(plain, 10)[0]]
    assert (band.max(-1) > 200).sum() > 50  # the mark: light letters on the dark paper


def test_labels_differ_with_the_times():
    early = sheet.contact_sheet(clip(), times_s=np.full(21, 1.0))
    late = sheet.contact_sheet(clip(), times_s=np.full(21, 300.0))
    assert early.shape == late.shape and (early != late).any()


@pytest.mark.parametrize(
    ("time_s", "text", "phase"),
    [
        (-1.0, "-1.0 s", "pre-arterial"),
        (0.9, "0.9 s", "arterial"),
        (4.5, "4.5 s", "laminar venous"),
        (9.97, "10 s", "venous"),
        (59.7, "1:00 min", "mid"),
        (620.0, "10:20 min", "late"),
    ],
)
def test_times_and_phases_in_words(time_s, text, phase):
    assert sheet.format_time(time_s) == text
    assert sheet.phase_name(time_s) == phase


def test_a_saved_sheet_is_the_picture_and_says_synthetic(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    sheet.save_sheet(path, clip(), times_s=np.arange(21.0), title="Right eye FFA")
    saved = cv2.imread(str(path))[..., ::-1]
    want = sheet.contact_sheet(clip(), times_s=np.arange(21.0), title="Right eye FFA")
    np.testing.assert_array_equal(saved, want)
    note = io.read_note(path)
    assert note["notice"].startswith("SYNTHETIC") and note["text"] == "Right eye FFA"
    with pytest.raises(ValueError, match="png"):
        sheet.save_sheet(tmp_path / "sheet.jpg", clip())


def test_colour_and_few_frames():
    video = np.stack([clip(3)] * 3, axis=-1)
    video[..., 0] = 0
    picture = sheet.contact_sheet(video, columns=7, scale=1)
    assert ((picture == [0, 10, 10]).all(-1)).sum() == 40 * 40


@pytest.mark.parametrize(
    ("video", "options", "message"),
    [
        (clip().astype(np.float32), {}, "float32"),
        (clip()[0], {}, "expected"),
        (clip(), {"times_s": [1.0]}, "1 times for 21"),
        (clip(), {"columns": 0}, "columns"),
        (clip(), {"scale": 0}, "scale"),
    ],
)
def test_bad_input_is_refused_in_words(video, options, message):
    with pytest.raises(ValueError, match=message):
        sheet.contact_sheet(video, **options)


def test_real_clips_carry_another_mark_and_times_without_phases():
    video = np.zeros((2, 64, 64), np.uint8)
    plain, real, bare = (
        sheet.contact_sheet(video, [1.0, 300.0], **how)
        for how in ({}, {"mark": "PATIENT DATA"}, {"phases": False})
    )
    differs = np.flatnonzero((plain != real).any(axis=(1, 2)))
    assert len(differs) and differs.max() < 24  # the corner only
    rows = np.flatnonzero((plain != bare).any(axis=(1, 2)))
    assert len(rows) and rows.min() > 64  # the labels only
