"""Statistics of readers against recorded values of the usual packages, and by hand."""

from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax.metrics import human
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "human.npz"


@pytest.fixture(scope="module")
def case():
    return dict(np.load(GOLDEN))


def test_all_statistics(case):
    found = human.agreement(case["ratings"], replicates=200)
    rtol = TOL["statistics_rel"]
    expected = dict(zip(case["icc_type"].tolist(), case["icc"].tolist(), strict=True))
    assert found.icc == pytest.approx(expected, rel=rtol)
    np.testing.assert_allclose(
        [found.weighted_kappa[pair] for pair in ((0, 1), (0, 2), (1, 2))], case["qwk_pairs"],
        rtol=rtol,
    )  # fmt: skip
    np.testing.assert_allclose(found.fleiss_kappa, case["fleiss_kappa"], rtol=rtol)
    np.testing.assert_allclose(found.kendall_w, case["kendall_w_tie_corrected"], rtol=rtol)
    assert found.icc_interval.low < found.icc["ICC(A,1)"] < found.icc_interval.high


def test_readers_who_agree_in_everything():
    ratings = np.repeat([[1], [3], [5], [2]], 3, axis=1)
    found = human.agreement(ratings, replicates=100)
    assert set(found.icc.values()) == {1.0} and found.fleiss_kappa == 1.0
    assert found.kendall_w == pytest.approx(1.0) and set(found.weighted_kappa.values()) == {1.0}


def test_a_reader_who_scores_one_higher_is_consistent_but_does_not_agree():
    scores = np.array([1, 2, 3, 4, 2, 3])
    found = human.icc(np.stack([scores, scores + 1], 1))
    assert found["ICC(C,1)"] == pytest.approx(1.0) and found["ICC(A,1)"] < 0.8


def test_opposite_readers():
    """Chance expects a mean squared distance of 16/2; they are 16 apart: kappa is -1."""
    assert human.weighted_kappa(np.array([[1, 5], [5, 1]] * 4)) == pytest.approx(-1.0)
    assert human.kendall_w(np.array([[1, 5], [3, 3], [5, 1]])) == pytest.approx(0.0)


def test_nothing_varies():
    ratings = np.full((4, 2), 3)
    found = human.agreement(ratings, replicates=100)
    assert np.isnan([found.icc["ICC(A,1)"], found.fleiss_kappa, found.kendall_w]).all()


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        (np.ones((5, 1)), "at least two of each"),
        (np.array([[1, 6], [2, 2]]), "Score 6 is not on the scale"),
        (np.array([[1, 1.5], [2, 2]]), "Score 1.5 is not on the scale"),
        (np.array([[1, np.nan], [2, 2]]), "not on the scale"),
    ],
)
def test_bad_ratings(ratings, message):
    with pytest.raises(ValueError, match=message):
        human.agreement(ratings)
