"""The field of view: found, kept whole, freed of text; nothing is stretched."""

import cv2
import numpy as np
import pytest

from ffa_sora_jax.video import field
from tests.video.scenes import phantom, with_text


def disk(height, width, radius, center=None, level=120):
    y, x = np.mgrid[:height, :width] + 0.5
    cy, cx = center or (height / 2, width / 2)
    return np.where(np.hypot(y - cy, x - cx) < radius, level, 0).astype(np.uint8)


@pytest.mark.parametrize("radius", [80, 110, 134])
def test_a_disk_is_found_to_one_pixel(radius):
    frame = disk(256, 256, radius)
    found = field.find_field(frame)
    assert (found != (frame > 0)).mean() < 0.01
    inner = field.inner(found)
    assert (inner <= found).all()
    if radius < 128:
        kept = np.sqrt(inner.sum() / np.pi) / radius
        assert kept == pytest.approx(1 - field.BORDER, abs=0.02)


def test_a_dark_frame_lit_in_patches_has_its_whole_field():
    rng = np.random.default_rng(0)
    grains = cv2.resize(rng.random((64, 64)).astype(np.float32), (256, 256)) > 0.5
    found = field.find_field(disk(256, 256, 120) // 8 * grains.astype(np.uint8))
    assert found.sum() == pytest.approx(np.pi * 120**2, rel=0.06)


def test_no_field_in_black_or_small_frames():
    assert field.find_field(np.zeros((256, 256), np.uint8)) is None
    assert field.find_field(disk(256, 256, 40)) is None  # 8 % of the frame
    assert field.inner(np.zeros((256, 256), np.uint8)) is None


def test_two_pictures_side_by_side_are_no_field():
    pair = np.hstack([phantom().video[10], phantom().video[0]])
    touching = np.full((128, 256), 90, np.uint8)
    for frame in (pair, pair.T, np.hstack([phantom().video[10]] * 2), touching):
        assert field.find_field(field.thumbnail(np.ascontiguousarray(frame))) is None


def test_a_text_strip_that_touches_the_field_is_no_field():
    frame = disk(256, 256, 112, center=(115, 128))
    clean = field.find_field(frame)
    for x in range(20, 236, 8):
        cv2.rectangle(frame, (x, 232), (x + 5, 242), 255, -1)
    assert (field.find_field(frame) != clean).mean() < 0.01


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (77, 300), (256, 256)])
def test_thumbnails_keep_proportions(height, width):
    frame = np.full((height, width), 200, np.uint8)
    small = field.thumbnail(frame)
    assert small.shape == (256, 256)
    rows, columns = np.count_nonzero(small.any(axis=1)), np.count_nonzero(small.any(axis=0))
    assert columns / rows == pytest.approx(width / height, rel=0.02)
    top = np.flatnonzero(small.any(axis=1))[0]
    assert abs((256 - rows) / 2 - top) <= 1  # in the middle


@pytest.mark.parametrize(
    ("height", "width", "radius", "center"),
    [
        (576, 768, 280, None),
        (768, 576, 280, None),
        (600, 900, 250, (300, 340)),
        (400, 400, 120, None),
    ],
)
def test_the_window_shows_the_field_round_and_whole(height, width, radius, center):
    frame = disk(height, width, radius, center)
    found = field.find_field(field.thumbnail(frame))
    window = field.Window.around(found)
    picture = window.cut(frame, 128)
    x, y, w, h = cv2.boundingRect((picture > 60).astype(np.uint8))
    assert w == pytest.approx(h, abs=3) and min(w, h) >= 122  # a circle that fills the picture
    assert max(x, y, 128 - x - w, 128 - y - h) <= 4
    mask = window.cut_mask(found, 128)
    assert (mask != (picture > 60)).mean() < 0.03


def test_a_field_that_fills_the_frame_is_not_cropped():
    frame = phantom().video[10]
    votes = field.FieldVotes()
    votes.add(field.find_field(field.thumbnail(frame)))
    window = field.Window.around(votes.field())
    assert window == field.Window(0.0, 0.0, 1.0)
    np.testing.assert_array_equal(window.cut(frame, 256), frame)
    assert (frame[window.cut_mask(votes.field(), 256) == 0] > 20).mean() < 0.01


def test_a_window_may_leave_the_frame():
    frame = np.full((100, 100), 50, np.uint8)
    picture = field.Window(-0.5, 0.0, 1.0).cut(frame, 100)
    assert (picture[:, :50] == 0).all() and (picture[:, 50:] == 50).all()


def test_votes_forget_single_mistakes():
    votes = field.FieldVotes()
    true, wrong = (disk(256, 256, r, level=1) for r in (100, 128))
    for frame in [true] * 9 + [wrong]:
        votes.add(frame)
    assert np.count_nonzero(votes.field()) == pytest.approx(np.count_nonzero(true), rel=0.04)
    assert field.FieldVotes().field() is None


def test_text_outside_does_not_move_the_field():
    frame = phantom().video[10]
    marked = with_text(with_text(frame, "12/03 OD", (0.01, 0.0), 12), "AB", (0.9, 0.94), 12)
    a, b = (field.find_field(field.thumbnail(f)) for f in (frame, marked))
    assert (a != b).mean() < 0.01
