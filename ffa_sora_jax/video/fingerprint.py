"""A perceptual hash of a clip: copies are found whatever file they come from.

The picture alone would match two visits of one eye. What never repeats is the course in time: how
the dye runs, when frames were taken, how the eye moves. So 56 bits say what the clip looks like on
the whole, and 456 how the broad pattern of each frame bends away from the straight line between
its neighbours. Few frames share those bits in larger portions, which reach finer patterns. Gain,
offset, compression, size and small shifts change few bits. Measured distances: `docs/video.md`.

    bits 0..27      picture, waves that mirroring keeps      28..55    waves that it turns over
    bits 56..283    course, waves that mirroring keeps       284..511  waves that it turns over
"""

import cv2
import numpy as np

WORDS = 8
NEAR = 96  # bits: clips that differ in less are near duplicates
_SIDE = 32  # px of the shrunken frames
_PICTURE, _COURSE = 28, 228  # bits per parity
_BENDS = 19  # of a clip of 21 original frames
_STILL = 0.02  # of the picture's deviation: less is rounding, as in interpolated frames


def clip_fingerprint(video: np.ndarray, is_original: np.ndarray | None = None) -> np.ndarray:
    """The hash of one clip; compare clips of the same number of frames.

    Args:
      video: (t, h, w) or (t, h, w, 1) uint8.
      is_original: (t,) bool, False on interpolated frames, which say nothing new; default: frames
        that lie on the straight line between their neighbours count as interpolated.

    Returns:
      (8,) uint64. Two fingerprints differ in about 220 of 512 bits if they are of two eyes.

    Raises:
      ValueError: another shape, or no frame.
    """
    if video.ndim == 4 and video.shape[-1] == 1:
        video = video[..., 0]
    if video.ndim != 3 or not len(video):
        raise ValueError(f"video has shape {video.shape}; expected (t, h, w) with t >= 1.")
    small = np.stack([_shrunk(frame) for frame in video])  # (t, 32, 32)
    picture = small.mean(axis=0)
    if is_original is None:
        still = _STILL * float(picture.std())
        bends = _bends(small)
        is_original = np.array([True, *(b.std() > still for b in bends), True])[: len(small)]
    course = _bends(small[is_original])
    if not len(course):  # one or two frames
        course = small[-1:] - small[:1] if len(small) > 1 else small[:1]
    bits = [*_signs(picture[None], _PICTURE), *_signs(course, _COURSE)]
    return np.packbits(np.concatenate(bits)).view(">u8").astype(np.uint64)


def distance(a: np.ndarray, b: np.ndarray) -> int:
    """Bits in which two fingerprints differ, 0..512."""
    return int(np.bitwise_count(a ^ b).sum())


def mirrored(fingerprint: np.ndarray) -> np.ndarray:
    """The fingerprint, or (n, 8) of them, of the clip flipped left to right."""
    return fingerprint ^ _TURNED


def delayed(fingerprint: np.ndarray, frames: int = 1) -> np.ndarray:
    """About the fingerprint of the same exam cut `frames` later, for clips without interpolation.

    The course of the frames that came in is unknown: it counts as differing in half of its bits.
    """
    bits = np.unpackbits(fingerprint.astype(">u8").view(np.uint8)).astype(bool)
    step = frames * (_COURSE // _BENDS)
    for start in (2 * _PICTURE, 2 * _PICTURE + _COURSE):
        bits[start : start + _COURSE] = np.roll(bits[start : start + _COURSE], -step)
    return np.packbits(bits).view(">u8").astype(np.uint64)


def near_duplicates(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two clips are copies: as they are, mirrored, or cut one frame apart."""
    others = (b, delayed(b, 1), delayed(b, -1))
    return any(distance(a, c) < NEAR or distance(a, mirrored(c)) < NEAR for c in others)


def _shrunk(frame: np.ndarray) -> np.ndarray:
    """(32, 32) float32; not levelled frame by frame, or interpolated frames would bend."""
    return cv2.resize(frame.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _bends(frames: np.ndarray) -> np.ndarray:
    """(t - 2, h, w) what every inner frame has beyond the middle of its neighbours."""
    return 2 * frames[1:-1] - frames[:-2] - frames[2:]


def _signs(pictures: np.ndarray, count: int) -> list[np.ndarray]:
    """Signs of cosine waves of all pictures, `count` per parity, the lowest waves first."""
    shares = [len(part) for part in np.array_split(np.arange(count), len(pictures))]
    bits: list[np.ndarray] = []
    for rows, columns in _ORDER:
        chosen = [
            cv2.dct(picture)[rows[:share], columns[:share]]
            for picture, share in zip(pictures, shares, strict=True)
        ]
        bits.append(np.concatenate(chosen) > 0)
    return bits


def _wave_order() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the waves from low to high, even and odd ones in x; no constant."""
    row, column = np.indices((_SIDE, _SIDE)).reshape(2, -1)
    order = np.lexsort((column, row, row**2 + column**2))[1:]
    return [(row[o], column[o]) for o in (order[column[order] % 2 == p] for p in (0, 1))]


_ORDER = _wave_order()
_TURNED = np.packbits(
    np.concatenate([np.full(_PICTURE, k) for k in (0, 1)] + [np.full(_COURSE, k) for k in (0, 1)])
).view(">u8").astype(np.uint64)  # fmt: skip
