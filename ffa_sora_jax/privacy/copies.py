"""How much a clip is a copy of another: picture by picture, after alignment in space and time.

Each frame of the query is matched to one frame of the other clip, in the same order but at any
speed; the score is the mean correlation of the matched frames. Contrast against the surroundings
is compared, not grey levels, so gain, gamma and offset change little.
"""

from collections.abc import Sequence

import numpy as np

from ffa_sora_jax.privacy.matching import Alignment
from ffa_sora_jax.privacy.traces import FRAME_PX, Trace
from ffa_sora_jax.video import fingerprint

WARP = 6  # frames that time may run ahead or behind


def copy_score(query: Trace, other: Trace, alignment: Alignment) -> float:
    """Mean correlation of the frames of two clips in the best common order, -1..1."""
    a = np.stack([alignment.apply(frame) for frame in query.frames.astype(np.float32)])
    seen = (alignment.apply(_small(query.field)) * _small(other.field)) > 0.5
    if seen.sum() < 0.2 * FRAME_PX**2:
        return 0.0
    similarity = _unit(a[:, seen]) @ _unit(other.frames[:, seen].astype(np.float32)).T  # (21, 21)
    return best_order(similarity)


def best_order(similarity: np.ndarray, warp: int = WARP) -> float:
    """The largest mean of (n, m) similarities along i -> j(i), j not decreasing, |j - i| <= warp.

    Row i may meet column j if they lie within `warp` frames of each other after both clips were
    stretched to the same length.
    """
    n, m = similarity.shape
    position = np.linspace(0, 1, n)[:, None] - np.linspace(0, 1, m)
    allowed = np.abs(position) * (max(n, m) - 1) <= warp + 1e-9
    scores = np.where(allowed, similarity, -np.inf)
    total = scores[0]
    for row in scores[1:]:
        total = row + np.maximum.accumulate(total)
    return float(total.max()) / n


def print_score(
    query: np.ndarray, others: np.ndarray, exclude: Sequence[int] = ()
) -> tuple[int, float]:
    """The nearest of (n, 8) fingerprints, mirrored or delayed by a frame; 1 is equal, 0 random.

    Those at the places `exclude` do not count.

    Returns:
      Its place, and 1 - bits / 256.
    """
    bits = np.full(len(others), 8 * 64)
    for shifted in (query, fingerprint.delayed(query, 1), fingerprint.delayed(query, -1)):
        for variant in (shifted, fingerprint.mirrored(shifted)):
            bits = np.minimum(bits, np.bitwise_count(others ^ variant).sum(axis=1, dtype=int))
    bits[list(exclude)] = 8 * 64
    nearest = int(bits.argmin())
    return nearest, 1 - float(bits[nearest]) / 256


def _small(field: np.ndarray) -> np.ndarray:
    """(128, 128) to (32, 32) by means."""
    k = field.shape[0] // FRAME_PX
    return field.astype(np.float32).reshape(FRAME_PX, k, FRAME_PX, k).mean(axis=(1, 3))


def _unit(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
