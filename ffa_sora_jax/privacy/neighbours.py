"""Do generated clips lie closer to training clips than to clips the model has never seen?

Without memory, training and hold-out clips are exchangeable: a generated clip is as near to one
kind as to the other. Galleries of different size are made comparable exactly, over all subsets of
the larger one. Distances are 1 - cosine of features.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from ffa_sora_jax.metrics.bootstrap import clusters_of
from ffa_sora_jax.metrics.retrieval import unit

DRAWS = 1000
RATIO_DRAWS = 200  # label permutations of the distance ratio, which costs more
_SEED = 0
_FLOOR = 1e-4  # distances below count as this, so that one copy does not decide the mean


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Distance to the nearest training clip over that to the nearest hold-out clip.

    Attributes:
      value: geometric mean over the generated clips; 1 without memory, below: nearer to training.
      low, high: bounds of 95 % of label permutations.
      nearer: share of clips whose nearest neighbour is a training clip; 0.5 without memory.
      nearer_low, nearer_high: bounds of 95 % of label permutations.
      p_value: permutations with a ratio at least as small.
      of_each: (n,) ratio of every generated clip.
    """

    value: float
    low: float
    high: float
    nearer: float
    nearer_low: float
    nearer_high: float
    p_value: float
    of_each: np.ndarray


@dataclasses.dataclass(frozen=True)
class TrainShare:
    """Share of training clips among the K nearest of a mixed gallery.

    Attributes:
      k: neighbours per generated clip.
      value: the share.
      chance: its expectation when the labels say nothing.
      low, high: bounds of 95 % of label permutations.
      p_value: permutations with a share at least as high.
    """

    k: int
    value: float
    chance: float
    low: float
    high: float
    p_value: float


def distances(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(n, m) float64 of 1 - cosine."""
    return 1 - unit(np.asarray(query, np.float64)) @ unit(np.asarray(gallery, np.float64)).T


def distance_ratio(
    to_train: np.ndarray, to_holdout: np.ndarray, groups: tuple[Sequence[str], Sequence[str]]
) -> Ratio:
    """Compares nearest neighbours in galleries of equal size.

    Args:
      to_train: (n, a) distances of generated to training clips.
      to_holdout: (n, b) distances to hold-out clips.
      groups: patients of the training and of the hold-out clips, permuted as wholes.
    """
    both = np.concatenate([to_train, to_holdout], axis=1)
    labels = np.arange(both.shape[1]) < to_train.shape[1]
    logs, nearer = _log_ratios(both, labels)
    null = []
    for permuted in _permuted_labels(labels, [*groups[0], *groups[1]])[:RATIO_DRAWS]:
        if 0 < permuted.sum() < len(permuted):
            other_logs, other_nearer = _log_ratios(both, permuted > 0.5)
            null.append((other_logs.mean(), other_nearer.mean()))
    means, shares = np.array(null).T
    low, high = np.quantile(means, (0.025, 0.975))
    bounds = np.quantile(shares, (0.025, 0.975))
    p_value = (1 + (means <= logs.mean() + 1e-12).sum()) / (1 + len(means))
    return Ratio(
        float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)),
        float(nearer.mean()), float(bounds[0]), float(bounds[1]), float(p_value), np.exp(logs),
    )  # fmt: skip


def train_share(
    to_train: np.ndarray,
    to_holdout: np.ndarray,
    ks: Sequence[int],
    groups: tuple[Sequence[str], Sequence[str]],
) -> list[TrainShare]:
    """Recall@K without pairs: how often what is found lies in the training data.

    Args:
      to_train: (n, a) distances of generated to training clips.
      to_holdout: (n, b) distances to hold-out clips.
      ks: neighbours that count; those above a + b are left out.
      groups: patients of the training and of the hold-out clips, permuted as wholes.
    """
    both = np.concatenate([to_train, to_holdout], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    labels = np.zeros(both.shape[1], bool)
    labels[: to_train.shape[1]] = True
    permuted = _permuted_labels(labels, [*groups[0], *groups[1]])
    shares = []
    for k in (k for k in ks if k <= both.shape[1]):
        counts = np.bincount(order[:, :k].ravel(), minlength=both.shape[1])
        value = float(counts[labels].sum() / counts.sum())
        null = permuted @ counts / counts.sum()
        low, high = np.quantile(null, (0.025, 0.975))
        p_value = float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))
        shares.append(
            TrainShare(int(k), value, float(null.mean()), float(low), float(high), p_value)
        )
    return shares


def _permuted_labels(labels: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """(draws, m) float64 labels after exchanging whole patients."""
    clusters = clusters_of(groups)
    own = np.array([labels[cluster[0]] for cluster in clusters])
    member = np.zeros((len(clusters), len(labels)))
    for row, cluster in enumerate(clusters):
        member[row, cluster] = 1
    rng = np.random.default_rng(np.random.SeedSequence((_SEED, 1)))
    return np.stack([rng.permutation(own) for _ in range(DRAWS)]).astype(float) @ member


def _log_ratios(both: np.ndarray, is_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) log ratio of nearest distances, and probability that the nearest is a training clip.

    Both are means over all subsets of the larger gallery that have the size of the smaller one;
    the logarithm makes the mean 0 where labels say nothing.
    """
    train, holdout = both[:, is_train], both[:, ~is_train]
    size = min(train.shape[1], holdout.shape[1])
    logs = _mean_log_least(train, size) - _mean_log_least(holdout, size)
    return logs, _first_is_nearer(train, holdout, size)


def _mean_log_least(values: np.ndarray, size: int) -> np.ndarray:
    """(n,) mean, over all subsets of `size` values of each row, of the logarithm of their least."""
    count = values.shape[1]
    place = np.arange(count - size + 1)  # the i-th smallest is the least of C(m-1-i, s-1) subsets
    weight = np.exp(_log_choose(count - 1 - place, size - 1) - _log_choose(count, size))
    least = np.sort(values, axis=1)[:, : count - size + 1]
    return np.log(np.maximum(least, _FLOOR)) @ weight


def _first_is_nearer(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """(n,) probability that the least of `size` values of `a` lies below that of `size` of `b`."""
    if a.shape[1] < b.shape[1]:
        return 1 - _first_is_nearer(b, a, size)
    least = b.min(axis=1, keepdims=True)
    closer = (a < least).sum(axis=1)
    none = np.where(
        a.shape[1] - closer >= size,
        np.exp(_log_choose(a.shape[1] - closer, size) - _log_choose(a.shape[1], size)),
        0.0,
    )
    return 1 - none


def _log_choose(n: np.ndarray | int, k: int) -> np.ndarray:
    n = np.asarray(n, np.float64)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1)
