"""How far a number would have moved with other cases: intervals and floors.

Clips of one patient resemble each other, so whole patients are drawn, never single clips.

- A value that is a mean over clips: percentile bootstrap over the clusters (Efron and Tibshirani
  1993), 2.5 to 97.5 %.
- A distance of two sets is biased by their size, and a bootstrap sample holds only 63 % different
  clips, so its distances lie above the value itself. There the clusters of both sides are drawn in
  halves without replacement (the delete-half jackknife of Shao and Wu 1989): half-samples spread
  as the value at full size does, and their bias cancels because only their deviations from their
  own mean are used.
- A share of independent clips: the exact interval of Clopper and Pearson.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

LOW, HIGH = 2.5, 97.5  # per cent

Indices: TypeAlias = np.ndarray


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % interval.

    Attributes:
      low, high: its bounds; NaN with fewer than two clusters.
      clusters: how many were drawn from.
      method: "bootstrap" or "half-samples".
    """

    low: float
    high: float
    clusters: int
    method: str


def clusters_of(groups: Sequence[str]) -> list[Indices]:
    """The places of each group, in the order of the groups' names."""
    places: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        places.setdefault(group, []).append(index)
    return [np.array(places[group]) for group in sorted(places)]


def bootstrap(
    value: Callable[[Indices], float], groups: Sequence[str], *, seed: int = 0,
    replicates: int = 1000,
) -> Interval:  # fmt: skip
    """Percentile interval of a value over clips.

    Args:
      value: value of the clips at these places, some of them more than once.
      groups: (n,) cluster of every clip, such as its patient.
      seed: of the draws.
      replicates: number of draws.
    """
    clusters = clusters_of(groups)
    if len(clusters) < 2:
        return Interval(float("nan"), float("nan"), len(clusters), "bootstrap")
    rng = _rng(seed, "bootstrap")
    values = [
        value(
            np.concatenate([clusters[i] for i in rng.integers(len(clusters), size=len(clusters))])
        )
        for _ in range(replicates)
    ]
    low, high = _percentiles(values)
    return Interval(low, high, len(clusters), "bootstrap")


def half_samples(
    value: Callable[[Indices, Indices], float], sample_groups: Sequence[str],
    reference_groups: Sequence[str], *, seed: int = 0, replicates: int = 200,
) -> Interval:  # fmt: skip
    """Interval of a distance of two sets.

    A cluster that is on both sides (generated and real clips of one patient) is drawn for both.

    Args:
      value: distance of the samples and references at these places.
      sample_groups: (n,) cluster of every sample.
      reference_groups: (m,) cluster of every reference.
      seed: of the draws.
      replicates: number of draws.
    """
    names = sorted({*sample_groups, *reference_groups})
    sides = [np.asarray(sample_groups), np.asarray(reference_groups)]
    smallest = min(len(set(side)) for side in (sample_groups, reference_groups))
    if smallest < 4:  # halves of one cluster have no spread
        return Interval(float("nan"), float("nan"), smallest, "half-samples")
    whole = value(*(np.arange(len(side)) for side in sides))
    rng = _rng(seed, "half-samples")
    values: list[float] = []
    while len(values) < replicates:
        order = rng.permutation(len(names))
        chosen = [names[i] for i in order[: len(names) // 2]]
        places = [np.flatnonzero(np.isin(side, chosen)) for side in sides]
        if min(map(len, places)) >= 2:
            values.append(value(*places))
    middle = float(np.mean(values))
    low, high = (whole + bound - middle for bound in _percentiles(values))
    return Interval(low, high, len(names), "half-samples")


def halves(groups: Sequence[str], count: int, *, seed: int, draw: int) -> tuple[Indices, Indices]:
    """Two disjoint sets of `count` places each, of different clusters as far as they go.

    Args:
      groups: (m,) cluster of every clip.
      count: clips in each set; fewer come back if the clusters do not divide so.
      seed: of the draws.
      draw: number of this draw.
    """
    clusters = clusters_of(groups)
    order = _rng(seed, "halves", draw).permutation(len(clusters))
    sides: tuple[list[int], list[int]] = ([], [])
    for i in order:
        smaller = min(sides, key=len)
        smaller.extend(clusters[i].tolist())
    size = min(count, *map(len, sides))
    first, second = (np.sort(np.array(side[:size], int)) for side in sides)
    return first, second


def partners(groups: Sequence[str], *, seed: int) -> list[int | None]:
    """For every clip the place of one of another cluster, no clip twice where it can be helped."""
    count = len(groups)
    order = _rng(seed, "partners").permutation(count)
    found: list[int | None] = [None] * count
    for at, index in enumerate(order):
        for step in range(1, count):
            other = int(order[(at + step) % count])
            if groups[other] != groups[index]:
                found[int(index)] = other
                break
    return found


def share_interval(hits: float, count: int) -> tuple[float, float]:
    """The exact (Clopper-Pearson) 95 % interval of a share of `hits` among `count`."""
    from scipy import stats

    if not count:
        return 0.0, 1.0
    tail = LOW / 100
    low = stats.beta.ppf(tail, hits, count - hits + 1) if hits > 0 else 0.0
    high = stats.beta.ppf(HIGH / 100, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The bounds of the middle 95 % of the draws that have a value; NaN if none has."""
    known = np.asarray(values)[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [LOW, HIGH])
    return float(low), float(high)


def _rng(seed: int, *stream: str | int) -> np.random.Generator:
    """An own stream of numbers for every use."""
    words = [int.from_bytes(str(part).encode(), "little") % 2**32 for part in stream]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
