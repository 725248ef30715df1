"""Augmentation that keeps picture and report in agreement.

A mirrored right eye is a left eye, so a horizontal flip also swaps the side words of the report.
A vertical flip has no anatomical meaning and does not exist here.
"""

import re

import numpy as np

_SWAP = {"left": "right", "right": "left", "od": "os", "os": "od"}
# OD and OS only in capitals: "os" is an ordinary word elsewhere.
_SIDE = re.compile(r"\b(?:[Ll]eft|LEFT|[Rr]ight|RIGHT|OD|OS)\b")


def swap_sides(text: str) -> str:
    """The report of the mirrored eye: left and right, OD and OS exchanged, capitals kept.

    >>> swap_sides("Left eye FFA (OS): bright spot right of the disc.")
    'Right eye FFA (OD): bright spot left of the disc.'
    """
    return _SIDE.sub(_swapped, text)


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
    return np.round(np.linspace(0, num_stored - 1, num_frames)).astype(np.int64)


def _swapped(match: re.Match[str]) -> str:
    word = match.group()
    other = _SWAP[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
