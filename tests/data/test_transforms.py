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
        ("RE: leak. LE: none. re-examined", "LE: leak. RE: none. re-examined"),
        ("O.D. and O.S.", "O.S. and O.D."),
        ("R eye, L eyes", "L eye, R eyes"),
        ("Rt eye, Lt. eye, RT EYE, rt eye", "Lt eye, Rt. eye, LT EYE, lt eye"),
        ("R/E: leak. L/E: none", "L/E: leak. R/E: none"),
        ("Reye, RT laser, R 3", "Reye, RT laser, R 3"),
        ("the IS/OS line of OS", "the IS/OS line of OD"),
        ("右眼颞上支静脉迂曲；左眼未见异常", "左眼颞上支静脉迂曲；右眼未见异常"),
        ("右眼OD，左眼(OS)", "左眼OS，右眼(OD)"),
        ("视盘右侧约1PD左右", "视盘左侧约1PD左右"),
        ("左右眼", "左右眼"),
        ("左氧氟沙星滴右眼", "左氧氟沙星滴左眼"),
        ("鼻侧颞侧不变", "鼻侧颞侧不变"),
        ("leak at 3 o'clock", "leak at 9 o'clock"),
        ("at 12 o'clock and 6 o'clock", "at 12 o'clock and 6 o'clock"),
        ("from 2 to 4 o'clock", "from 8 to 10 o'clock"),
        ("2-4 o’clock", "8-10 o’clock"),
        ("AT 2 O'CLOCK, 10 O’Clock", "AT 10 O'CLOCK, 2 O’Clock"),
        ("2 o`clock, 3-o'clock, 4 o 'clock", "10 o`clock, 9-o'clock, 8 o 'clock"),
        ("3:30 o'clock, 12:30 o'clock", "8:30 o'clock, 11:30 o'clock"),
        ("3、5、7点钟见渗漏", "5、7、9点钟见渗漏"),
        ("1点至2点钟位, 10点位", "1点至10点钟位, 2点位"),
        ("三点钟及十二点钟", "九点钟及十二点钟"),
        ("十一点位至一点位", "一点位至十一点位"),
        ("3点强荧光, 三处渗漏", "3点强荧光, 三处渗漏"),
        ("at 3 s, 12 s and 3 minutes", "at 3 s, 12 s and 3 minutes"),
        ("2 spots, 3 leaks", "2 spots, 3 leaks"),
    ],
)
def test_sides_are_swapped_word_by_word(text, swapped):
    assert transforms.swap_sides(text) == swapped


def test_swapping_twice_gives_the_text_back():
    text = "Right eye (OD), LEFT eye (OS), right of the left disc, 1:15-4 o'clock, 右眼左侧, RE."
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
