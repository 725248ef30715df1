"""Frechet distance between two sets of features, the number behind FVD and FID.

    d = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

with the mean m and the covariance S of each set: the squared Wasserstein distance of two Gaussians.
Everything is computed in float64 on the host. The trace of the root is taken of a symmetric matrix,
or of the centred features themselves where there are fewer of them than dimensions; it is real by
construction, also for singular covariances, where the root of the non-symmetric product is neither
accurate nor fast.

A finite sample biases the distance upwards, by much: two samples of one distribution, 387 features
of 400 dimensions each, are 22 to 53 % of tr S apart. A distance means little without the distance
between two sets of real data of the same size beside it.
"""

from typing import TypeAlias

import numpy as np

from ffa_sora_jax.common.names import unknown_name

ESTIMATORS = ("set", "paired_mean", "batched")

FloatArray: TypeAlias = np.ndarray


def frechet_distance(
    mu1: FloatArray, sigma1: FloatArray, mu2: FloatArray, sigma2: FloatArray
) -> float:
    """Frechet distance of two Gaussians.

    Args:
      mu1: (d,) mean.
      sigma1: (d, d) covariance, symmetric, positive semi-definite.
      mu2: (d,) mean of the other.
      sigma2: (d, d) covariance of the other.

    Returns:
      The distance, at least 0.

    Raises:
      ValueError: shapes that do not fit, values that are not finite, or a covariance that is not
        symmetric or has a negative eigenvalue beyond rounding.
    """
    mu1, sigma1 = _check_moments(mu1, sigma1, "1")
    mu2, sigma2 = _check_moments(mu2, sigma2, "2")
    if mu1.shape != mu2.shape:
        raise ValueError(f"The means have {mu1.size} and {mu2.size} dimensions; expected the same.")
    root = _root(sigma1)
    _check_positive(np.linalg.eigvalsh(sigma2))
    cross = np.sqrt(_eigenvalues(root @ sigma2 @ root)).sum()
    return _distance(mu1 - mu2, np.trace(sigma1), np.trace(sigma2), cross)


def moments(features: FloatArray, ddof: int = 1) -> tuple[FloatArray, FloatArray]:
    """Mean (d,) and covariance (d, d) of features (n, d), float64.

    Args:
      features: (n, d).
      ddof: the sum of squares is divided by n - ddof; 0 gives the biased covariance that some
        evaluations use. A single feature has covariance zero.
    """
    mean, centred = _centred(features, "features")
    return mean, centred.T @ centred / max(len(centred) - ddof, 1)


def distance_of_sets(sample: FloatArray, reference: FloatArray, ddof: int = 1) -> float:
    """Frechet distance of features (n, d) and (m, d).

    Where n or m is at most d, the trace of the root comes from the singular values of the product
    of the centred features, (n, m): exact, and without a matrix of d x d.
    """
    mean1, x = _centred(sample, "sample")
    mean2, y = _centred(reference, "reference")
    if mean1.shape != mean2.shape:
        raise ValueError(
            f"The features have {mean1.size} and {mean2.size} dimensions; expected the same."
        )
    if min(len(x), len(y)) > x.shape[1]:
        return frechet_distance(*moments(sample, ddof), *moments(reference, ddof))
    x /= np.sqrt(max(len(x) - ddof, 1))
    y /= np.sqrt(max(len(y) - ddof, 1))
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return _distance(mean1 - mean2, np.square(x).sum(), np.square(y).sum(), cross)


def estimate(
    sample: FloatArray,
    reference: FloatArray,
    estimator: str = "set",
    *,
    batch_size: int = 2,
    ddof: int = 1,
) -> float:
    """A Frechet distance by one of the protocols in use; only "set" is a distance of distributions.

    Args:
      sample: (n, d) features.
      reference: (m, d) features; the other estimators than "set" need n = m and pair the rows.
      estimator: "set" compares all with all. "paired_mean" is the mean squared distance of pairs,
        what is left of the formula where it is applied to one clip at a time (the validation of a
        published system). "batched" is the mean over batches of pairs (the evaluation script of
        Open-Sora Plan, with batches of two).
      batch_size: pairs per batch of "batched"; the last one may be smaller.
      ddof: see `moments`.

    Raises:
      ValueError: an unknown estimator, or unequal numbers of features where they are paired.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(unknown_name("estimator", estimator, ESTIMATORS))
    if estimator == "set":
        return distance_of_sets(sample, reference, ddof)
    if len(sample) != len(reference):
        raise ValueError(
            f"The estimator {estimator!r} pairs the features: {len(sample)} and {len(reference)} "
            "were given; expected the same number."
        )
    step = 1 if estimator == "paired_mean" else batch_size
    distances = [
        distance_of_sets(sample[i : i + step], reference[i : i + step], ddof)
        for i in range(0, len(sample), step)
    ]
    return float(np.mean(distances))


def _distance(shift: FloatArray, trace1: float, trace2: float, cross: float) -> float:
    """Rounding may leave a value just below 0."""
    return float(max(shift @ shift + trace1 + trace2 - 2.0 * cross, 0.0))


def _root(sigma: FloatArray) -> FloatArray:
    """Symmetric root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(sigma)
    _check_positive(values)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _check_positive(eigenvalues: FloatArray) -> None:
    """Single precision leaves a covariance eigenvalues of some 1e-7 of the largest below 0."""
    if eigenvalues[0] < -1e-4 * np.abs(eigenvalues).max():
        raise ValueError(
            f"A covariance has the eigenvalue {eigenvalues[0]:.3g}; expected none below 0."
        )


def _eigenvalues(symmetric: FloatArray) -> FloatArray:
    return np.maximum(np.linalg.eigvalsh(0.5 * (symmetric + symmetric.T)), 0.0)


def _centred(features: FloatArray, name: str) -> tuple[FloatArray, FloatArray]:
    """Mean, and the features without it, in float64."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"{name} has shape {features.shape}; expected (n, d), neither of them 0.")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} holds NaN or infinite values.")
    mean = features.mean(axis=0)
    return mean, features - mean


def _check_moments(mu: FloatArray, sigma: FloatArray, name: str) -> tuple[FloatArray, FloatArray]:
    mu, sigma = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    mu, sigma = np.atleast_1d(mu), np.atleast_2d(sigma)
    if mu.ndim != 1 or not mu.size or sigma.shape != (mu.size, mu.size):
        raise ValueError(
            f"mu{name} has shape {mu.shape}, sigma{name} {sigma.shape}; expected (d,) and (d, d)."
        )
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError(f"mu{name} or sigma{name} holds NaN or infinite values.")
    if not np.allclose(sigma, sigma.T, rtol=1e-6, atol=1e-6 * np.abs(sigma).max()):
        raise ValueError(f"sigma{name} is not symmetric; expected a covariance.")
    return mu, sigma
