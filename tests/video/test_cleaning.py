"""An exam becomes a clip in one pass: which frames enter, what is excluded, what is kept."""

import numpy as np
import pytest

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.video.cleaning import CleaningConfig, ExcludedError, clean_exam

SIZE = 128


@pytest.fixture(scope="module")
def full():
    """An exam from before the dye on."""
    return generate(1, 2, SIZE, "full", disease="normal").video


def config(**changes):
    return CleaningConfig(**{"size": SIZE, "vessel_filter": "drop_frames"} | changes)


def test_the_paper_excludes_an_exam_with_a_dark_frame(full):
    with pytest.raises(ExcludedError) as caught:
        clean_exam(full, None, config(vessel_filter="exclude_video"))
    assert caught.value.reason == "low_vessel_area"
    assert len(caught.value.frames) == len(full)


def test_leading_dark_frames_are_dropped_and_the_exam_stays(full):
    exam = clean_exam(iter(full), None, config())
    used = [f.index for f in exam.frames if f.used]
    assert used[0] > 0 and used == list(range(used[0], len(full)))
    assert all(f.vessel_ratio < 0.005 for f in exam.frames[: used[0]])
    assert exam.video.shape == (21, SIZE, SIZE)
