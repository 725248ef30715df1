"""Mirroring of picture and words."""

import numpy as np
import pytest

from ffa_sora_jax.data import transforms


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Left eye FFA: 1. ok", "Right eye FFA: 1. ok"),
        ("RIGHT EYE, right disc", "LEFT EYE, left disc"),
        ("OD: leak; OS: none", "OS: leak; OD: none"),
        ("left-sided", "right-sided"),
        ("bright upright copyright cleft", "bright upright copyright cleft"),
        ("os od period exodus", "os od period exodus"),
        ("temporal and nasal stay", "temporal and nasal stay"),
        ("Left and right", "Right and left"),
        ("", ""),
    ],
)
def test_sides_are_swapped_word_by_word(text, swapped):
    assert transforms.swap_sides(text) == swapped


def test_swapping_twice_gives_the_text_back():
    text = "Right eye (OD), LEFT eye (OS), right of the left disc, bright."
    assert transforms.swap_sides(transforms.swap_sides(text)) == text


def test_flip_mirrors_the_width_only():
    video = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # t h w c
    np.testing.assert_array_equal(transforms.flip_horizontal(video), video[:, :, ::-1])


@pytest.mark.parametrize(
    ("wanted", "frames"),
    [
        (21, list(range(21))),
        (5, [0, 5, 10, 15, 20]),
        (9, [0, 2, 5, 8, 10, 12, 15, 18, 20]),
        (1, [0]),
    ],
)
def test_frames_are_spread_evenly(wanted, frames):
    assert transforms.pick_frames(21, wanted).tolist() == frames


@pytest.mark.parametrize("wanted", [0, 22])
def test_impossible_frame_counts_are_refused(wanted):
    with pytest.raises(ValueError, match="1 to 21"):
        transforms.pick_frames(21, wanted)
