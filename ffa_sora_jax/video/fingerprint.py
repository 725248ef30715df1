"""A perceptual hash of a clip: copies are found whatever file they come from.

The picture alone would match two visits of one eye. What never repeats is the course in time: how
the dye runs, when frames were taken, how the eye moves. So one word of bits says what the clip
looks like on the whole, and one per frame says how its broad pattern bends away from the straight
line between its neighbours. Gain, offset, compression, size and small shifts change few bits.
Measured distances: `docs/video.md`.
"""

import cv2
import numpy as np

BITS = 512  # the scale of distances
NEAR = 120  # clips at a smaller distance are near duplicates
NEAR_SHORT = 64  # the same for clips of fewer than ten original frames
LAGS = 2  # frames by which one copy may start later than the other
_SIDE = 32  # px of the shrunken frames
_WAVES = 8  # lowest spatial frequencies per direction
_STILL = 0.02  # deviations: bends below this are rounding, as between interpolated frames
_MIN_WORDS = 3  # of the course, below which only the pictures are compared
_MANY_WORDS = 8  # of the course, from which visits of one eye can be told apart for sure


def clip_fingerprint(video: np.ndarray) -> np.ndarray:
    """The hash of one clip.

    Args:
      video: (t, h, w) or (t, h, w, 1) uint8, all clips to be compared with the same t.

    Returns:
      (max(t - 1, 1),) uint64: the picture, then one word per inner frame, 0 where nothing bends.

    Raises:
      ValueError: another shape, or no frame.
    """
    if video.ndim == 4 and video.shape[-1] == 1:
        video = video[..., 0]
    if video.ndim != 3 or not len(video):
        raise ValueError(f"video has shape {video.shape}; expected (t, h, w) with t >= 1.")
    small = np.stack([_shrunk(frame) for frame in video])  # (t, 32, 32)
    picture = small.mean(axis=0)
    bends = small[:-2] - 2 * small[1:-1] + small[2:]  # (t - 2, 32, 32)
    still = _STILL * float(picture.std())
    words = [_word(picture)]
    words += [_word(b) if b.std() > still else 0 for b in bends]
    return np.array(words, np.uint64)


def distance(a: np.ndarray, b: np.ndarray, *, flips: bool = False) -> int:
    """Share of bits in which two fingerprints differ, times 512: 0 to 512, strangers about 200.

    The least over small shifts in time; with `flips` also over mirroring one of the clips.

    Raises:
      ValueError: clips of different numbers of frames.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"Fingerprints have {len(a)} and {len(b)} words; compare clips of one length only."
        )
    least = min(_lagged(a, b, lag) for lag in range(-LAGS, LAGS + 1))
    return min(least, distance(a, mirrored(b))) if flips else least


def mirrored(fingerprint: np.ndarray) -> np.ndarray:
    """The fingerprint of the clip flipped left to right."""
    return np.where(fingerprint == 0, fingerprint, fingerprint ^ np.uint64(_ODD))


def near_duplicates(a: np.ndarray, b: np.ndarray, *, flips: bool = True) -> bool:
    """Whether two clips are copies of each other, or mirrored copies if `flips`."""
    words = int(((a[1:] | b[1:]) != 0).sum())
    return distance(a, b, flips=flips) < (NEAR if words >= _MANY_WORDS else NEAR_SHORT)


def _lagged(a: np.ndarray, b: np.ndarray, lag: int) -> int:
    """The distance if clip b runs `lag` frames ahead of clip a."""
    first, second = a[1:], b[1:]
    first, second = (first[lag:], second[:-lag]) if lag > 0 else (first, second)
    first, second = (first[:lag], second[-lag:]) if lag < 0 else (first, second)
    moving = (first | second) != 0
    bits = _WAVES**2 - 1
    differing = int(np.bitwise_count(a[0] ^ b[0]))
    if moving.sum() >= _MIN_WORDS:
        differing += int(np.bitwise_count(first ^ second).sum())
        bits += (_WAVES**2 - 1) * int(moving.sum())
    return round(BITS * differing / bits)


def _shrunk(frame: np.ndarray) -> np.ndarray:
    """(32, 32) float32; not levelled frame by frame, or interpolated frames would bend."""
    return cv2.resize(frame.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _word(picture: np.ndarray) -> int:
    """Signs of the lowest 8 x 8 cosine waves; the constant one is left out."""
    signs = cv2.dct(picture)[:_WAVES, :_WAVES].ravel() > 0
    signs[0] = False
    return int(np.packbits(signs).view(">u8")[0])


def _odd_columns() -> int:
    """Bits of the waves that change their sign when the picture is mirrored."""
    odd = np.tile(np.arange(_WAVES) % 2 == 1, _WAVES)
    return int(np.packbits(odd).view(">u8")[0])


_ODD = _odd_columns()
