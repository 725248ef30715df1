"""A perceptual hash of a clip: copies are found whatever file they come from.

One word of 64 bits says what the clip looks like on the whole, seven say what changes from one
eighth of it to the next. The picture alone would match two visits of one eye; how the dye runs,
how the eye moves and when frames were taken never repeats.
"""

import cv2
import numpy as np

WORDS = 8
_KEYS = WORDS  # key frames: seven changes between them
_SIDE = 32  # px of the shrunken frames
_WAVES = 8  # lowest spatial frequencies per direction
NEAR = 96  # bits: clips that differ in less are near duplicates; see docs/video.md


def clip_fingerprint(video: np.ndarray) -> np.ndarray:
    """(8,) uint64 words of a clip (t, h, w) or (t, h, w, 1) uint8.

    Raises:
      ValueError: another shape, or no frame.
    """
    if video.ndim == 4 and video.shape[-1] == 1:
        video = video[..., 0]
    if video.ndim != 3 or not len(video):
        raise ValueError(f"video has shape {video.shape}; expected (t, h, w) with t >= 1.")
    keys = np.round(np.linspace(0, len(video) - 1, _KEYS)).astype(int)
    small = np.stack([_normal(video[k]) for k in keys])  # (k, 32, 32)
    pictures = [small.mean(axis=0), *np.diff(small, axis=0)]
    return np.array([_word(picture) for picture in pictures], np.uint64)


def distance(a: np.ndarray, b: np.ndarray) -> int:
    """Bits in which two fingerprints differ, 0..512; about 256 for strangers."""
    return int(np.bitwise_count(np.bitwise_xor(a, b)).sum())


def mirrored(fingerprint: np.ndarray) -> np.ndarray:
    """The fingerprint of the clip flipped left to right, to find mirrored copies."""
    return np.bitwise_xor(fingerprint, np.uint64(_ODD))


def near_duplicates(a: np.ndarray, b: np.ndarray, *, flips: bool = True) -> bool:
    """Whether two clips are copies of each other, or mirrored copies if `flips`."""
    return distance(a, b) < NEAR or (flips and distance(a, mirrored(b)) < NEAR)


def _normal(frame: np.ndarray) -> np.ndarray:
    """(32, 32) float32 of mean 0 and deviation 1: gain and offset do not matter."""
    small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return (small - small.mean()) / (small.std() + 1.0)


def _word(picture: np.ndarray) -> int:
    """Signs of the lowest cosine waves; the constant one is left out."""
    waves = cv2.dct(picture.astype(np.float32))[:_WAVES, :_WAVES].ravel()
    waves[0] = 0.0
    return int(np.packbits(waves > 0).view(">u8")[0])


def _odd_columns() -> int:
    """Bits of the waves that change their sign when the picture is mirrored."""
    odd = np.zeros((_WAVES, _WAVES), bool)
    odd[:, 1::2] = True
    return int(np.packbits(odd.ravel()).view(">u8")[0])


_ODD = _odd_columns()
