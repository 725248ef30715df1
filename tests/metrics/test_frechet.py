"""Frechet distance: closed forms, the reference's values, and few features of many dimensions."""

import functools
from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax.metrics import frechet
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "frechet.npz"
CASES = ("n64_d16", "n24_d48_rankdef", "n50_n70_d12")


@functools.cache
def golden():
    return dict(np.load(GOLDEN))


def features(n, d, seed=0, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * scale + shift


@pytest.mark.parametrize("case", CASES)
def test_distances_equal_the_reference(case):
    data = {k.removeprefix(f"{case}/"): v for k, v in golden().items() if k.startswith(case)}
    exact = pytest.approx(data["exact_f64_unbiased"], rel=TOL["frechet_rel"])
    assert frechet.distance_of_sets(data["a"], data["b"]) == exact
    assert frechet.frechet_distance(*(data[k] for k in ("mu1", "sigma1", "mu2", "sigma2"))) == exact
    biased = frechet.distance_of_sets(data["a"], data["b"], ddof=0)
    assert biased == pytest.approx(data["exact_f64_biased"], rel=TOL["frechet_rel"])
    for other in ("styleganv", "styleganv_osp", "videogpt_f32", "torchmetrics_fid"):
        assert exact == pytest.approx(data[other], rel=TOL["frechet_routes_rel"])
    assert biased == pytest.approx(data["cdfvd_biased"], rel=TOL["frechet_routes_rel"])


@pytest.mark.parametrize("case", CASES)
def test_moments_equal_the_reference(case):
    for which, name in ("a", "1"), ("b", "2"):
        mu, sigma = frechet.moments(golden()[f"{case}/{which}"])
        np.testing.assert_allclose(mu, golden()[f"{case}/mu{name}"], rtol=1e-12)
        np.testing.assert_allclose(sigma, golden()[f"{case}/sigma{name}"], rtol=1e-9, atol=1e-15)


def test_one_pair_is_the_squared_distance_of_its_features():
    a, b = golden()["n1/a"], golden()["n1/b"]
    want = pytest.approx(float(golden()["n1/styleganv"]), rel=TOL["frechet_rel"])
    assert frechet.distance_of_sets(a, b) == want
    assert frechet.estimate(a, b, "paired_mean") == want


def test_diagonal_gaussians_have_their_closed_form():
    data = {k.removeprefix("diag/"): v for k, v in golden().items() if k.startswith("diag/")}
    got = frechet.frechet_distance(data["mu1"], data["sigma1"], data["mu2"], data["sigma2"])
    assert got == pytest.approx(float(data["value"]), rel=TOL["frechet_rel"])


def test_scaled_and_shifted_gaussians_have_their_closed_form():
    """sigma2 = s^2 sigma1 and a shift: |shift|^2 + (s - 1)^2 tr sigma1, for any sigma1."""
    _, sigma = frechet.moments(features(50, 9, seed=3) @ features(9, 9, seed=4))
    shift = np.arange(9.0)
    want = shift @ shift + (2.5 - 1.0) ** 2 * np.trace(sigma)
    got = frechet.frechet_distance(np.zeros(9), sigma, shift, 2.5**2 * sigma)
    assert got == pytest.approx(want, rel=TOL["frechet_rel"])


@pytest.mark.parametrize("n", [2, 5, 40, 400])
def test_a_set_is_at_distance_zero_from_itself(n):
    x = features(n, 40, seed=n, shift=3.0)
    scale = np.trace(frechet.moments(x)[1])
    assert frechet.distance_of_sets(x, x) <= TOL["frechet_rel"] * scale
    assert frechet.distance_of_sets(x, x[::-1]) <= TOL["frechet_rel"] * scale


@pytest.mark.parametrize(("n", "m"), [(5, 7), (12, 200), (30, 30), (31, 31)])
def test_fewer_features_than_dimensions_agree_with_the_covariances(n, m):
    """The singular values of the features and the roots of the covariances are two routes."""
    a, b = features(n, 30, seed=1), features(m, 30, seed=2, scale=1.7, shift=0.2)
    by_covariance = frechet.frechet_distance(*frechet.moments(a), *frechet.moments(b))
    assert frechet.distance_of_sets(a, b) == pytest.approx(by_covariance, rel=1e-5)
    x, y = ((z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (a, b))
    nuclear = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    traces = np.square(x).sum() + np.square(y).sum()
    want = np.square(a.mean(0) - b.mean(0)).sum() + traces - 2.0 * nuclear
    assert by_covariance == pytest.approx(want, rel=1e-5)


def test_order_of_rows_and_of_sets_does_not_matter():
    a, b = features(20, 6, seed=1), features(25, 6, seed=2, shift=1.0)
    value = frechet.distance_of_sets(a, b)
    assert frechet.distance_of_sets(b, a) == pytest.approx(value, rel=TOL["frechet_rel"])
    assert frechet.distance_of_sets(a[::-1], b) == pytest.approx(value, rel=TOL["frechet_rel"])


def test_large_offset_does_not_cancel():
    a, b = features(50, 8, seed=1), features(50, 8, seed=2)
    value = frechet.distance_of_sets(a, b)
    assert frechet.distance_of_sets(a + 1e4, b + 1e4) == pytest.approx(value, rel=TOL["model"])


def test_estimators_are_three_different_things():
    a, b = features(6, 3, seed=1), features(6, 3, seed=2, shift=1.0)
    pairs = np.square(a - b).sum(1)
    assert frechet.estimate(a, b, "paired_mean") == pytest.approx(pairs.mean())
    halves = [frechet.distance_of_sets(a[i : i + 3], b[i : i + 3]) for i in (0, 3)]
    assert frechet.estimate(a, b, "batched", batch_size=3) == pytest.approx(np.mean(halves))
    assert frechet.estimate(a, b) == frechet.distance_of_sets(a, b)
    assert frechet.estimate(a, b, "batched", batch_size=6) == frechet.estimate(a, b)


def test_small_samples_of_one_distribution_are_far_apart():
    """The floor that any figure must be read against: 387 of 400 flat dimensions, about 53 %."""
    a, b = features(387, 400, seed=1), features(387, 400, seed=2)
    assert frechet.distance_of_sets(a, b) / 400 == pytest.approx(0.53, abs=0.02)


def test_what_is_no_set_of_features_is_refused():
    with pytest.raises(ValueError, match="expected \\(n, d\\)"):
        frechet.moments(np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        frechet.distance_of_sets(np.full((3, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="dimensions"):
        frechet.distance_of_sets(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="same number"):
        frechet.estimate(np.zeros((3, 2)), np.zeros((4, 2)), "batched")
    with pytest.raises(ValueError, match="paired"):
        frechet.estimate(np.zeros((3, 2)), np.zeros((3, 2)), "paired")
    with pytest.raises(ValueError, match="not symmetric"):
        frechet.frechet_distance(np.zeros(2), [[1.0, 5.0], [0.0, 1.0]], np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match="dimensions"):
        frechet.frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="expected none below 0"):
        frechet.frechet_distance(np.zeros(2), np.eye(2), np.zeros(2), -np.eye(2))
    with pytest.raises(ValueError, match="expected none below 0"):
        frechet.frechet_distance(np.zeros(2), np.diag([1.0, -0.1]), np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match="expected \\(d,\\)"):
        frechet.frechet_distance([], np.zeros((0, 0)), [], np.zeros((0, 0)))
