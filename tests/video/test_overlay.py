"""Letters inside the field are found; vessels, lesions and letters outside are no text."""

import numpy as np
import pytest

from ffa_sora_jax.video import field, overlay
from tests.video.scenes import enlarged, phantom, with_text


@pytest.fixture(scope="module")
def exam():
    return enlarged(phantom(2, disease=None).video[::3], 512)


def found(frames, samples=()):
    detector, votes = overlay.OverlayDetector(), field.FieldVotes()
    for frame in frames:
        detector.add(frame)
        votes.add(field.find_field(field.thumbnail(frame)))
    return detector.found(votes.field(), samples)


def marked(exam, text, at, **options):
    return np.stack([with_text(frame, text, at, **options) for frame in exam])


@pytest.mark.parametrize("text", ["Doe, Jane", "1980-01-31", "ID 0048291"])
@pytest.mark.parametrize("at", [(0.4, 0.1), (0.3, 0.5), (0.35, 0.8)])
@pytest.mark.parametrize(("height_px", "level"), [(12, 255), (20, 200), (30, 255)])
def test_bright_letters_inside_are_found(exam, text, at, height_px, level):
    assert found(marked(exam, text, at, height_px=height_px, level=level))


def test_dark_letters_inside_are_found(exam):
    bright = np.clip(exam.astype(int) + 60 * (exam > 0), 0, 255).astype(np.uint8)
    assert found(marked(bright, "Doe, Jane", (0.35, 0.3), height_px=22, level=0))


@pytest.mark.parametrize("index", range(6))
def test_clean_exams_have_no_text(index):
    exam = enlarged(phantom(index, disease=None).video[::4], 512)
    assert not found(exam, list(exam))


def test_letters_outside_the_field_do_not_count(exam):
    assert not found(marked(exam, "OD 12:30", (0.0, 0.0), height_px=13))


def test_letters_on_one_frame_only_are_found_there(exam):
    frames = exam.copy()
    frames[3] = with_text(frames[3], "1980-01-31", (0.3, 0.5), 20)
    assert found(frames, list(frames))


def test_nothing_seen_nothing_found():
    assert not overlay.OverlayDetector().found(np.ones((256, 256), np.uint8))


def test_other_shapes_are_brought_to_the_first(exam):
    frames = [*marked(exam, "1980-01-31", (0.3, 0.5), height_px=24)]
    frames[2] = frames[2][::2, ::2]
    detector = overlay.OverlayDetector()
    for frame in frames:
        detector.add(frame)
    assert isinstance(detector.found(np.ones((256, 256), np.uint8)), bool)
