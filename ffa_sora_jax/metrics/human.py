"""How far readers agree.

The protocol of the paper: three ophthalmologists score 50 generated videos beside report and real
video, from 1 (modality and lesions match) to 5 (nothing generated). It reports means only; a mean
says little unless the readers agree, so the usual coefficients stand beside it:

- ICC (McGraw and Wong 1996) from the mean squares of rows (cases), columns (readers) and error;
- Cohen's kappa of every two readers with quadratic weights, Fleiss' kappa of all;
- Kendall's W, corrected for ties.

Axes: n cases, k readers.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from ffa_sora_jax.metrics import bootstrap

SCALE = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far k readers of n cases agree.

    Attributes:
      icc: by name, such as "ICC(A,1)": single and average readers, one-way, agreement, consistency.
      icc_interval: 95 % interval of ICC(A,1), cases resampled.
      weighted_kappa: of every two readers (i, j).
      fleiss_kappa: of all readers.
      kendall_w: concordance of ranks.
    """

    icc: dict[str, float]
    icc_interval: bootstrap.Interval
    weighted_kappa: dict[tuple[int, int], float]
    fleiss_kappa: float
    kendall_w: float


def agreement(
    ratings: np.ndarray, scale: Sequence[int] = SCALE, *, seed: int = 0, replicates: int = 1000
) -> Agreement:
    """All coefficients of one reading.

    Args:
      ratings: (n, k) scores, at least two cases and two readers, none missing.
      scale: the scores there are, in their order.
      seed: of the resampling.
      replicates: of the bootstrap.

    Raises:
      ValueError: too few cases or readers, or a score that is not on the scale.
    """
    ratings = _checked(ratings, scale)
    cases = [f"{i:09d}" for i in range(len(ratings))]
    pairs = itertools.combinations(range(ratings.shape[1]), 2)
    return Agreement(
        icc=icc(ratings),
        icc_interval=bootstrap.bootstrap(
            lambda places: icc(ratings[places])["ICC(A,1)"], cases, seed=seed, replicates=replicates
        ),
        weighted_kappa={(i, j): weighted_kappa(ratings[:, [i, j]], scale) for i, j in pairs},
        fleiss_kappa=fleiss_kappa(ratings, scale),
        kendall_w=kendall_w(ratings),
    )


def icc(ratings: np.ndarray) -> dict[str, float]:
    """Intraclass correlations of (n, k) scores; NaN where nothing varies.

    1: one-way random; A: two-way random, absolute agreement; C: two-way, consistency; followed by 1
    for one reader and k for the mean of k.
    """
    x = np.asarray(ratings, np.float64)
    n, k = x.shape
    mean, by_case, by_reader = x.mean(), x.mean(1), x.mean(0)
    rows = k * ((by_case - mean) ** 2).sum() / (n - 1)
    columns = n * ((by_reader - mean) ** 2).sum() / (k - 1)
    within = ((x - by_case[:, None]) ** 2).sum() / (n * (k - 1))
    error = ((x - by_case[:, None] - by_reader + mean) ** 2).sum() / ((n - 1) * (k - 1))
    bias = (columns - error) / n
    return {
        "ICC(1,1)": _ratio(rows - within, rows + (k - 1) * within),
        "ICC(A,1)": _ratio(rows - error, rows + (k - 1) * error + k * bias),
        "ICC(C,1)": _ratio(rows - error, rows + (k - 1) * error),
        "ICC(1,k)": _ratio(rows - within, rows),
        "ICC(A,k)": _ratio(rows - error, rows + bias),
        "ICC(C,k)": _ratio(rows - error, rows),
    }


def weighted_kappa(pair: np.ndarray, scale: Sequence[int] = SCALE) -> float:
    """Cohen's kappa of two readers (n, 2), disagreement weighted by its square; NaN if constant."""
    places = np.searchsorted(scale, np.asarray(pair))
    observed = np.zeros((len(scale), len(scale)))
    np.add.at(observed, (places[:, 0], places[:, 1]), 1.0)
    observed /= observed.sum()
    expected = np.outer(observed.sum(1), observed.sum(0))
    weight = np.subtract.outer(np.arange(len(scale)), np.arange(len(scale))) ** 2.0
    return 1.0 - _ratio((weight * observed).sum(), (weight * expected).sum())


def fleiss_kappa(ratings: np.ndarray, scale: Sequence[int] = SCALE) -> float:
    """Fleiss' kappa of (n, k) scores taken as unordered categories; NaN if all are the same."""
    counts = (np.asarray(ratings)[:, :, None] == np.asarray(scale)).sum(1)  # (n, categories)
    k = counts.sum(1)[0]
    agreeing = ((counts**2).sum(1) - k) / (k * (k - 1))
    chance = ((counts.sum(0) / counts.sum()) ** 2).sum()
    return _ratio(agreeing.mean() - chance, 1.0 - chance)


def kendall_w(ratings: np.ndarray) -> float:
    """Kendall's coefficient of concordance of (n, k) scores, tie-corrected; NaN if constant."""
    n, k = np.shape(ratings)
    ranks, ties = zip(*(_ranks(column) for column in np.asarray(ratings).T), strict=True)
    totals = np.sum(ranks, axis=0)
    spread = ((totals - totals.mean()) ** 2).sum()
    return _ratio(12.0 * spread, k**2 * (n**3 - n) - k * sum(ties))


def _ranks(scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean ranks from 1, and the sum of t^3 - t over groups of t equal scores."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2.0)[place.reshape(-1)], float((count**3 - count).sum())


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below else math.nan


def _checked(ratings: np.ndarray, scale: Sequence[int]) -> np.ndarray:
    ratings = np.asarray(ratings, np.float64)
    if ratings.ndim != 2 or min(ratings.shape) < 2:
        raise ValueError(
            f"ratings have shape {ratings.shape}; expected (cases, readers), at least two of each."
        )
    strange = np.setdiff1d(ratings, np.asarray(scale, np.float64))
    if strange.size or not np.isfinite(ratings).all():
        raise ValueError(f"Score {strange[0]:g} is not on the scale {', '.join(map(str, scale))}.")
    return ratings
