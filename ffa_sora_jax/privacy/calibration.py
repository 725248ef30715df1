"""From scores of clips that cannot be copies to the score from which a clip counts as one.

The score of a clip is its best match among all training clips, a maximum of many comparisons, so
scores of hold-out clips follow about an extreme-value (Gumbel) law, on Fisher's scale artanh(score)
because scores end at 1. Its place and scale come from the median and the upper decile, which a few
hold-out eyes that do lie in the training data cannot move.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ffa_sora_jax.metrics.bootstrap import share_interval

MIN_HOLDOUT = 8  # hold-out clips below which nothing can be calibrated
_MEDIAN, _DECILE = (-np.log(-np.log(p)) for p in (0.5, 0.9))  # of a Gumbel law


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The score from which a clip counts as a match, and what is known of its false alarms.

    Attributes:
      value: the score.
      rate: stated share of clean clips above it.
      place, scale: of the fitted Gumbel law of artanh(score).
      method: "extreme values", or "rank" where the hold-out set is large enough to be counted.
      holdout: hold-out clips it was fitted to.
      above: how many of them lie above it.
      low, high: 95 % interval of the share above it.
    """

    value: float
    rate: float
    place: float
    scale: float
    method: str
    holdout: int
    above: int
    low: float
    high: float

    def chance_of(self, score: float) -> float:
        """The probability that a clean clip scores as high."""
        return float(-np.expm1(-np.exp(-(_fisher(score) - self.place) / self.scale)))


def calibrate(scores: Sequence[float] | np.ndarray, rate: float) -> Threshold:
    """The threshold above which a share `rate` of clean clips lies.

    The fitted scale is enlarged by 2 / sqrt(n), about its standard error, and by 64 / n^2, which
    keeps the rate with fewer than 20 clips too and matters little beyond, so that a small hold-out
    set gives more misses rather than more false alarms. With n large enough (rate (n + 1) >= 1)
    the threshold is not below the rank that keeps the rate whatever the law.

    Args:
      scores: (n,) best match, -1..1, of every hold-out clip among the training clips.
      rate: 0..1.

    Raises:
      ValueError: a rate outside 0..1, or fewer than `MIN_HOLDOUT` clips.
    """
    values = np.sort(np.asarray(scores, np.float64))
    if not 0 < rate < 1:
        raise ValueError(f"The false-positive rate is {rate}; it must lie between 0 and 1.")
    if len(values) < MIN_HOLDOUT:
        raise ValueError(
            f"{len(values)} hold-out clips can be judged; a threshold needs at least {MIN_HOLDOUT}."
        )
    middle, decile = np.quantile(_fisher(values), (0.5, 0.9))
    fitted = max((decile - middle) / (_DECILE - _MEDIAN), 1e-4)
    scale = fitted * (1 + 2 / np.sqrt(len(values)) + 64 / len(values) ** 2)
    place = middle - _MEDIAN * fitted
    value, method = np.tanh(place - scale * np.log(-np.log1p(-rate))), "extreme values"
    rank = int(np.ceil((1 - rate) * (len(values) + 1)))
    if rank <= len(values) and values[rank - 1] > value:
        value, method = float(values[rank - 1]), "rank"
    above = int((values > value).sum())
    bounds = share_interval(above, len(values))
    return Threshold(
        float(value), rate, float(place), float(scale), method, len(values), above, *bounds
    )


def _fisher(score: np.ndarray | float) -> np.ndarray:
    return np.arctanh(np.clip(score, -0.999999, 0.999999))
