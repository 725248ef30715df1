"""Recall@K: whether generated clips find real ones, and how often chance alone would.

The similarity is the cosine of feature vectors; a query's gallery is sorted by it, ties by place
in the gallery. What a low recall means depends on features and generator: print it beside chance,
a positive control (a disturbed copy must be found) and a control that cannot know the gallery.
Definitions: `docs/metrics.md`; figures of the controls: `docs/privacy.md`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import AnyArray, Clip
from ffa_sora_jax.metrics import gray
from ffa_sora_jax.metrics.base import OfSets, Sets
from ffa_sora_jax.video import vessel_map

MODES = ("paired", "same_patient", "fraction")
KS = (5, 10, 50)  # of the paper
CONFIDENCE = 0.95  # of the bounds of chance
_BLOCK = 512  # queries sorted at once
_GREY_PX, _VESSEL_PX = 32, 64


@dataclasses.dataclass(frozen=True)
class Chance:
    """What a recall is if the gallery is in random order.

    Attributes:
      value: expectation.
      low, high: bounds within which a recall by chance falls with 95 %.
    """

    value: float
    low: float
    high: float


def recall_at_k(
    query: np.ndarray,
    gallery: np.ndarray,
    ks: Sequence[int],
    relevant: np.ndarray | None = None,
    mode: str = "paired",
) -> dict[int, float]:
    """Share of queries that find what belongs to them among the K most similar.

    Args:
      query: (n, d) features of the generated clips.
      gallery: (m, d) features of the real clips.
      ks: each 1..m.
      relevant: (n, m) bool, which real clips belong to a query; see `same_group`. Without it
        query i belongs to clip i, and n must be m.
      mode: "paired" and "same_patient": hit if any relevant clip is among the K (the first name
        for one relevant clip per query, the second for several); "fraction": the share of the
        relevant clips that is among the K.

    Returns:
      Recall in 0..1 by K.

    Raises:
      ValueError: shapes that do not fit, K outside 1..m, an unknown mode, features that are not
        finite, or a query without relevant clips.
    """
    found = found_at_k(query, gallery, ks, relevant, mode)
    return {k: float(values.mean()) for k, values in found.items()}


def found_at_k(
    query: np.ndarray,
    gallery: np.ndarray,
    ks: Sequence[int],
    relevant: np.ndarray | None = None,
    mode: str = "paired",
) -> dict[int, np.ndarray]:
    """(n,) float64 recall of each query, by K; the arguments are those of `recall_at_k`."""
    query, gallery = (_checked(name, x) for name, x in (("query", query), ("gallery", gallery)))
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query has {query.shape[1]} features, gallery {gallery.shape[1]}.")
    relevant = _relevant(relevant, len(query), len(gallery), mode)
    _check_counts("K", ks, len(gallery))
    found: dict[int, list[np.ndarray]] = {int(k): [] for k in ks}
    for rows, order in _orders(query, gallery):
        hits = np.take_along_axis(relevant[rows], order, axis=1)
        for k, parts in found.items():
            top = hits[:, :k].sum(axis=1)
            parts.append(top / hits.sum(axis=1) if mode == "fraction" else (top > 0).astype(float))
    return {k: np.concatenate(parts) for k, parts in found.items()}


def recall_of_frames(
    query: np.ndarray, gallery: np.ndarray, ks: Sequence[int], mode: str = "paired",
    relevant: np.ndarray | None = None,
) -> dict[int, float]:  # fmt: skip
    """Image level: frame t of a query against frame t of every clip, averaged over frames.

    Args:
      query: (n, t, d) features of frames.
      gallery: (m, t, d).
      ks: each 1..m.
      mode: as `recall_at_k`.
      relevant: as `recall_at_k`.
    """
    if query.ndim != 3 or gallery.ndim != 3 or query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"Features of frames have shapes {query.shape} and {gallery.shape}; expected (n, t, d) "
            "and (m, t, d)."
        )
    frames = [
        recall_at_k(query[:, t], gallery[:, t], ks, relevant, mode) for t in range(query.shape[1])
    ]
    return {int(k): float(np.mean([frame[k] for frame in frames])) for k in ks}


def chance_at_k(
    num_gallery: int, num_relevant: Sequence[int] | np.ndarray, ks: Sequence[int],
    mode: str = "paired",
) -> dict[int, Chance]:  # fmt: skip
    """Recall of a gallery in random order, queries taken as independent.

    Args:
      num_gallery: m.
      num_relevant: (n,) relevant clips of each query, each 1..m.
      ks: each 1..m.
      mode: as `recall_at_k`.

    Raises:
      ValueError: numbers that are not whole or outside their range, no query, or an unknown mode.
    """
    from scipy import stats

    if mode not in MODES:
        raise ValueError(unknown_name("mode", mode, MODES))
    _check_counts("K", ks, num_gallery)
    _check_counts("The number of relevant clips", num_relevant, num_gallery)
    counts = np.asarray(num_relevant, np.int64)
    if not counts.size:
        raise ValueError("There is no query to compute a level of chance for.")
    chances = {}
    for k in ks:
        law = stats.hypergeom(num_gallery, counts, k)  # relevant clips among the first k
        if mode == "fraction":
            mean, sd = law.mean() / counts, law.std() / counts
        else:
            mean = law.sf(0)
            sd = np.sqrt(mean * (1 - mean))
        value = float(mean.mean())
        if mode != "fraction" and len(set(counts.tolist())) == 1:
            tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
            low, high = (stats.binom.ppf(tail, len(counts), value) / len(counts) for tail in tails)
        else:
            reach = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((sd**2).sum()) / len(counts)
            low, high = value - reach, value + reach
        chances[int(k)] = Chance(value, float(max(low, 0.0)), float(min(high, 1.0)))
    return chances


def same_group(query: Sequence[Any], gallery: Sequence[Any]) -> np.ndarray:
    """(n, m) bool: which clips have the same patient, report or other label as a query."""
    return np.asarray(query)[:, None] == np.asarray(gallery)[None]


def pool_frames(frames: np.ndarray) -> np.ndarray:
    """(n, t, d) features of frames to (n, d) of clips: the direction of their mean direction."""
    return unit(unit(frames).mean(axis=1))


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors along the last axis at length 1; zero vectors stay."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


# --- Features without any weights ---


def describe_clip(video: np.ndarray) -> np.ndarray:
    """(d,) float32 of one clip (t, h, w) uint8: coarse grey picture beside coarse vessel map.

    Both halves have mean 0 and the same length, so that the cosine of two clips is the mean of two
    correlations: of the mean frame at 32 x 32 px, and of the vessel map at 64 x 64.
    """
    contrasts, inside = vessel_map.frame_contrasts(video)
    return describe_maps(video, vessel_map.vessel_map(contrasts.mean(axis=0), inside))


def describe_maps(video: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """`describe_clip` for a clip whose vessel map (256, 256) is known already."""
    mean = np.asarray(video, np.float32).mean(axis=0)
    grey = cv2.resize(mean, (_GREY_PX, _GREY_PX), interpolation=cv2.INTER_AREA)
    vessels = vessel_map.shrink(cv2.GaussianBlur(lines, (0, 0), 3.0), _VESSEL_PX)
    halves = [unit((half - half.mean()).ravel()) for half in (grey, vessels)]
    return (np.concatenate(halves) / np.sqrt(2)).astype(np.float32)


def describe(videos: np.ndarray) -> np.ndarray:
    """(n, d) float32: `describe_clip` of each of (n, t, h, w) uint8."""
    return np.stack([describe_clip(video) for video in videos])


@dataclasses.dataclass(frozen=True)
class RecallAtK(OfSets):
    """Paired Recall@K as a metric: sample and reference of one key belong together.

    Attributes:
      ks: values of K; those above the number of clips are left out.
    """

    name: ClassVar[str] = "recall_at_k"
    higher_is_better: ClassVar[bool] = False  # it asks for privacy, not for quality
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    paired: ClassVar[bool] = True
    host: ClassVar[bool] = True

    ks: tuple[int, ...] = KS

    def features(self, clip: Clip, params: Any) -> AnyArray:
        """(b, d) float32, of the pictures alone."""
        del params
        return describe(gray.levels(clip))

    def compute(self, state: Sets) -> dict[str, float]:
        """Mean over K under `name`, and each K with its chance level.

        Raises:
          ValueError: the samples and the references are not of the same keys.
        """
        if state.sample.keys != state.reference.keys:
            alone = sorted(set(state.sample.keys) ^ set(state.reference.keys))
            raise ValueError(
                f"Recall@K pairs clips; {len(alone)} have no partner, such as {alone[0]!r}."
            )
        return super().compute(state)

    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """Recall and chance by K; row i of the samples belongs to row i of the references."""
        ks = self._ks(len(reference))
        if not ks:
            return {self.name: float("nan")}
        recall = recall_at_k(sample, reference, ks)
        chance = chance_at_k(len(reference), np.ones(len(sample), int), ks)
        values = {
            self.name: float(np.mean(list(recall.values()))),
            "recall_by_chance": float(np.mean([chance[k].value for k in ks])),
        }
        for k in ks:
            values |= {f"recall_at_{k}": recall[k], f"chance_at_{k}": chance[k].value}
        return values

    def per_sample(self, sample: np.ndarray, reference: np.ndarray) -> np.ndarray | None:
        """(n,) recall of each clip, averaged over K; None if no K fits the gallery."""
        ks = self._ks(len(reference))
        return np.mean(list(found_at_k(sample, reference, ks).values()), axis=0) if ks else None

    def _ks(self, count: int) -> list[int]:
        return [k for k in self.ks if k <= count]


def load(folder: Path | None = None) -> tuple[RecallAtK, None]:
    """The metric as the registry opens it; it needs no weights."""
    del folder
    return RecallAtK(), None


def _checked(name: str, x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name} has shape {x.shape}; expected (n, d), not empty.")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} has values that are not finite.")
    return x


def _check_counts(what: str, counts: Iterable[float], num_gallery: int) -> None:
    for count in counts:
        if not (1 <= count <= num_gallery and count == int(count)):  # NaN is in no range
            raise ValueError(
                f"{what} is {count}; the gallery has {num_gallery} clips, give 1..that."
            )


def _relevant(relevant: np.ndarray | None, n: int, m: int, mode: str) -> np.ndarray:
    if mode not in MODES:
        raise ValueError(unknown_name("mode", mode, MODES))
    if relevant is None:
        if n != m:
            raise ValueError(f"{n} queries and {m} clips cannot be paired by row; give `relevant`.")
        return np.eye(n, dtype=bool)
    relevant = np.asarray(relevant)
    if relevant.shape != (n, m) or relevant.dtype != bool:
        raise ValueError(
            f"relevant is {relevant.dtype} of shape {relevant.shape}; expected bool ({n}, {m})."
        )
    if not relevant.any(axis=1).all():
        lonely = int(np.argmin(relevant.any(axis=1)))
        raise ValueError(f"Query {lonely} has no relevant clip in the gallery; leave it out.")
    return relevant


def _orders(query: np.ndarray, gallery: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of queries with their (block, m) gallery positions, most similar first."""
    # Equal rows get one product: BLAS may round the same product differently at another place.
    rows, place = np.unique(unit(gallery), axis=0, return_inverse=True)
    query = unit(query)
    for start in range(0, len(query), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(query)))
        similarity = (query[block] @ rows.T)[:, place.reshape(-1)]
        yield block, np.argsort(-similarity, axis=1, kind="stable")
