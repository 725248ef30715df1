"""Kernel distance: its definition on a few numbers, and that it does not depend on the size."""

import numpy as np
import pytest

from ffa_sora_jax.metrics.kernel import kernel_distance


def test_two_points_each_by_hand():
    """d = 1: k(x, y) = (x y + 1)^3 over {0, 1} and {2, 3}."""
    within = 1.0 + 7.0**3
    between = (1.0 + 1.0 + 3.0**3 + 4.0**3) / 4.0
    got = kernel_distance(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]))
    assert got == pytest.approx(within - 2.0 * between)


@pytest.mark.parametrize("n", [5, 20, 80])
def test_expectation_is_zero_for_one_distribution_at_any_size(n):
    """The mean over draws is within four of its own standard errors of 0; Frechet's is not."""
    rng = np.random.default_rng(n)
    draws = [kernel_distance(*rng.normal(size=(2, n, 8))) for _ in range(400)]
    assert abs(np.mean(draws)) < 4.0 * np.std(draws) / np.sqrt(len(draws))


def test_a_shift_and_a_scale_are_seen():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200, 8))
    floor = abs(kernel_distance(x, y))
    assert kernel_distance(x, y + 1.0) > 10.0 * floor
    assert kernel_distance(x, 2.0 * y) > 10.0 * floor


def test_single_features_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="shapes"):
        kernel_distance(np.zeros((3, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="NaN"):
        kernel_distance(np.full((3, 3), np.inf), np.zeros((4, 3)))
