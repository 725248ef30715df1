"""Membership inference by denoising loss: does the model denoise its training clips better?

A clip that the model has learnt by heart is denoised with less error than an unseen one. The
attacker knows the model, the clips and their reports; the attack is the plain loss threshold at
several noise levels. AUC 0.5 is chance; an attack that names few clips but those surely shows in
the true-positive rate at a low false-positive rate (Carlini et al., arXiv 2112.03570).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ffa_sora_jax.metrics.bootstrap import HIGH, LOW, clusters_of

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # share of noise, 0 clean, 1 noise alone
RATE = 0.01  # false-positive rate at which hits are counted
REPLICATES = 500
PERMUTATIONS = 2000
SIGNIFICANT = 0.01  # of the hits

Loss: TypeAlias = Callable[[Any, float], float]  # (clip, noise level) -> denoising error


@dataclasses.dataclass(frozen=True)
class Attack:
    """How well an attacker tells training clips from others.

    Attributes:
      auc: probability that a training clip scores above a hold-out clip; 0.5 is chance.
      auc_interval: 95 %, by bootstrap over patients.
      hits: share of training clips named while at most `rate` of the others are.
      hits_interval: 95 %.
      hits_p_value: exchanges of whole patients between the two sides with as many hits.
      rate: the false-positive rate reached: the stated one, or 0 if the hold-out clips are fewer
        than 1 / rate.
      auc_by_level: AUC of each noise level alone.
      members, others: numbers of clips.
    """

    auc: float
    auc_interval: tuple[float, float]
    hits: float
    hits_interval: tuple[float, float]
    hits_p_value: float
    rate: float
    auc_by_level: dict[float, float]
    members: int
    others: int

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval of the AUC lies above 0.5, or more are named than chance names.

        A model that knows a tenth of its clips by heart hardly moves the AUC, but names them.
        """
        return self.auc_interval[0] > 0.5 or self.hits_p_value < SIGNIFICANT


def losses(loss: Loss, clips: Sequence[Any], levels: Sequence[float] = LEVELS) -> np.ndarray:
    """(n, levels) float64 denoising errors."""
    return np.array([[float(loss(clip, level)) for level in levels] for clip in clips])


def infer(
    members: np.ndarray,
    others: np.ndarray,
    levels: Sequence[float] = LEVELS,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
    rate: float = RATE,
) -> Attack:
    """Attacks with the losses of both groups.

    Args:
      members: (n, levels) losses of training clips.
      others: (m, levels) losses of clips that were not trained on.
      levels: noise levels of the columns.
      groups: patients of both, drawn as wholes for the intervals; None: every clip its own.
      rate: false-positive rate at which hits are counted.

    Raises:
      ValueError: losses that are not finite, or fewer than two clips on a side.
    """
    members, others = (np.asarray(x, np.float64) for x in (members, others))
    for name, x in (("members", members), ("others", others)):
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != len(levels):
            raise ValueError(f"{name} has shape {x.shape}; expected (n >= 2, {len(levels)}).")
        if not np.isfinite(x).all():
            raise ValueError(f"The losses of {name} are not finite; check the model.")
    # levels count alike: each in units of its spread among clips that were not trained on
    center, spread = others.mean(axis=0), np.maximum(others.std(axis=0), 1e-12)
    own, foreign = (-((x - center) / spread).mean(axis=1) for x in (members, others))
    if groups is None:
        groups = tuple([str(i) for i in range(len(x))] for x in (own, foreign))  # type: ignore[assignment]
    assert groups is not None
    intervals = _intervals(own, foreign, groups, rate)
    hits, reached = hits_at(own, foreign, rate)
    by_level = {float(level): auc(-members[:, i], -others[:, i]) for i, level in enumerate(levels)}
    return Attack(
        auc(own, foreign), intervals[0], hits, intervals[1],
        _p_of_hits(own, foreign, groups, rate), reached, by_level, len(members), len(others),
    )  # fmt: skip


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Share of pairs in which the member scores higher; ties count half (Mann-Whitney)."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, members, side="left")
    equal = np.searchsorted(ranked, members, side="right") - below
    return float((below + 0.5 * equal).mean() / len(others))


def hits_at(members: np.ndarray, others: np.ndarray, rate: float = RATE) -> tuple[float, float]:
    """Share of members above the score that at most `rate` of the others exceed, and that rate."""
    allowed = int(np.floor(rate * len(others)))
    threshold = np.sort(others)[::-1][allowed] if allowed < len(others) else -np.inf
    return float((members > threshold).mean()), float((others > threshold).mean())


def _p_of_hits(
    own: np.ndarray, foreign: np.ndarray, groups: tuple[Sequence[str], Sequence[str]], rate: float
) -> float:
    """How often as large a share of "members" is named when patients change sides at random."""
    both = np.concatenate([own, foreign])
    clusters = clusters_of(groups[0])
    split = len(clusters)
    clusters += [c + len(own) for c in clusters_of(groups[1])]
    hits = hits_at(own, foreign, rate)[0]
    rng = np.random.default_rng(np.random.SeedSequence((0, 3)))
    as_many = 0
    for _ in range(PERMUTATIONS):
        order = rng.permutation(len(clusters))
        a, b = (np.concatenate([clusters[i] for i in p]) for p in (order[:split], order[split:]))
        as_many += hits_at(both[a], both[b], rate)[0] >= hits - 1e-12
    return (1 + as_many) / (1 + PERMUTATIONS)


def _intervals(
    own: np.ndarray, foreign: np.ndarray, groups: tuple[Sequence[str], Sequence[str]], rate: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    clusters = [clusters_of(side) for side in groups]
    rng = np.random.default_rng(np.random.SeedSequence((0, 2)))
    values = []
    for _ in range(REPLICATES):
        a, b = (
            np.concatenate([side[i] for i in rng.integers(len(side), size=len(side))])
            for side in clusters
        )
        values.append((auc(own[a], foreign[b]), hits_at(own[a], foreign[b], rate)[0]))
    bounds = np.percentile(np.array(values), [LOW, HIGH], axis=0)
    return tuple((float(low), float(high)) for low, high in bounds.T)  # type: ignore[return-value]
