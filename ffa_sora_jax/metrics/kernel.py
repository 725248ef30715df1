"""Kernel distance between two sets of features (KVD, KID): unbiased, so small sets compare too.

The squared maximum mean discrepancy (Gretton et al. 2012) under the polynomial kernel

    k(x, y) = (x . y / d + 1)^3

compares moments up to the third. Unlike the Frechet distance its expectation does not depend on
the number of features, and is 0 for two samples of one distribution; single values may be negative.
"""

import numpy as np

DEGREE = 3


def kernel_distance(sample: np.ndarray, reference: np.ndarray) -> float:
    """Unbiased estimate of the squared discrepancy of features (n, d) and (m, d), in float64.

    All pairs of different features count, no random subsets: the value is a function of the sets.

    Raises:
      ValueError: fewer than two features in a set, dimensions that differ, or values that are not
        finite.
    """
    x, y = (np.asarray(z, np.float64) for z in (sample, reference))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"Features have shapes {x.shape} and {y.shape}; expected (n, d) and (m, d) with n and "
            "m at least 2."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("The features hold NaN or infinite values.")
    return float(_within(x) + _within(y) - 2.0 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** DEGREE


def _within(x: np.ndarray) -> float:
    """Mean kernel of pairs of different features."""
    kernel, n = _kernel(x, x), len(x)
    return (kernel.sum() - np.trace(kernel)) / (n * (n - 1))
