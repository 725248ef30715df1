"""Augmentation that keeps picture and report in agreement.

A mirrored right eye is a left eye, so a horizontal flip also swaps the side words of the report, in
English and in Chinese, and turns hours of the clock face round. What is named from the eye's own
middle (nasal, temporal, 鼻侧, 颞侧) stays. A vertical flip has no anatomical meaning and does not
exist here.
"""

import re

import numpy as np

from ffa_sora_jax.common.places import evenly

_PAIRS = (
    ("left", "right"), ("os", "od"), ("o.s.", "o.d."), ("o.s", "o.d"), ("le", "re"), ("l", "r"),
    ("lt", "rt"), ("l/e", "r/e"), ("左", "右"),
)  # fmt: skip
_SWAP = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
# Abbreviations only in capitals: "os" and "re" are ordinary words elsewhere. Letters stand around
# words as look-arounds, not \b, to which a Chinese character beside them is a letter too.
# IS/OS is a retinal layer; 左右 means "about"; drugs and optics have 左 and 右 in their names.
_SIDE = re.compile(
    r"(?<![A-Za-z])(?:[Ll]eft|LEFT|[Rr]ight|RIGHT|OD|(?<!IS/)(?<!IS-)OS|RE|LE|O\.[DS]\.?"
    r"|[RL]/E|(?:[RL]|[RrLl]t|[RL]T)(?=\.?\s*(?:[Ee]yes?|EYES?)))(?![A-Za-z])"
    r"|(?<!左)右(?![左旋美])|(?<!右)左(?![右旋氧]|甲状腺|卡尼汀|炔诺|乙拉西坦)"
)
_CHINESE_HOURS = ("", *"一二三四五六七八九十", "十一", "十二")
_HOUR = r"(?:(?:1[0-2]|0?[1-9])(?::[0-5]\d)?|十[一二]?|[一二三四五六七八九](?!十))"
_BETWEEN = r"\s*(?:-|–|—|~|～|至|到|和|及|与|、|,|/|to|and|or)\s*"
_CLOCK = re.compile(
    rf"(?<![\d:.十])({_HOUR}(?:{_BETWEEN}{_HOUR})*)"
    r"(?=[\s-]*(?:(?i:o\s?['’`´]?\s?clock)|点钟|點鐘|点位|点方位|点方向|:00 position))"
)


def swap_sides(text: str) -> str:
    """The report of the mirrored eye.

    left and right, OD and OS, RE and LE, 左 and 右 change places, capitals kept; an hour h of the
    clock face becomes 12 - h, and lists of hours are read backwards, so that ranges stay ranges.
    Swapping twice gives the text back.

    >>> swap_sides("Left eye FFA (OS): bright spot right of the disc, at 2-4 o'clock.")
    "Right eye FFA (OD): bright spot left of the disc, at 8-10 o'clock."
    >>> swap_sides("右眼视盘颞侧3点钟见强荧光")
    '左眼视盘颞侧9点钟见强荧光'
    """
    return _CLOCK.sub(_turned, _SIDE.sub(_swapped, text))


def flip_horizontal(video: np.ndarray) -> np.ndarray:
    """Mirrors (..., h, w, c) along w."""
    return np.flip(video, axis=-2)


def pick_frames(num_stored: int, num_frames: int) -> np.ndarray:
    """`num_frames` evenly spread positions in a stored clip, first and last frame included.

    Raises:
      ValueError: more frames asked for than there are, or none.
    """
    if not 1 <= num_frames <= num_stored:
        raise ValueError(
            f"data.num_frames is {num_frames}; the dataset has {num_stored} frames, so it must "
            f"be 1 to {num_stored} (videos for WF-VAE: 4k + 1)."
        )
    return evenly(num_stored, num_frames)


def _swapped(match: re.Match[str]) -> str:
    word = match.group()
    other = _SWAP[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _turned(match: re.Match[str]) -> str:
    hours = re.findall(_HOUR, match.group())
    between = re.split(_HOUR, match.group())[1:-1]
    turned = [_mirrored_hour(hour) for hour in reversed(hours)]
    return "".join(a + b for a, b in zip(turned, [*reversed(between), ""], strict=True))


def _mirrored_hour(hour: str) -> str:
    """ "2" -> "10", "12" -> "12", "3:30" -> "8:30", "三" -> "九"; a leading zero is not kept."""
    if hour in _CHINESE_HOURS:
        return _CHINESE_HOURS[(12 - _CHINESE_HOURS.index(hour)) or 12]
    whole, colon, minutes = hour.partition(":")
    left = (12 * 60 - 60 * int(whole) - int(minutes or 0)) % 720
    return f"{left // 60 or 12}{colon}{left % 60:02d}" if colon else str(left // 60 or 12)
