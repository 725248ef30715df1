"""Intervals against what theory says they are."""

import numpy as np
import pytest

from ffa_sora_jax.metrics import bootstrap


def draw(seed, *shape):
    return np.random.default_rng(np.random.SeedSequence(seed)).normal(size=shape)


def mean_of(rows):
    return lambda places: float(rows[places].mean())


def test_the_interval_of_a_mean_is_the_one_of_the_central_limit():
    rows = draw(1, 400)
    found = bootstrap.bootstrap(mean_of(rows), [str(i) for i in range(400)], replicates=2000)
    half = 1.96 * rows.std() / 20
    assert found.low == pytest.approx(rows.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(rows.mean() + half, abs=0.15 * half)
    assert found.clusters == 400 and found.method == "bootstrap"


def test_copies_of_a_clip_do_not_narrow_the_interval():
    """Four clips of every patient, all the same: as wide as with one clip of each."""
    rows = draw(2, 100)
    one = bootstrap.bootstrap(mean_of(rows), [f"{i:03d}" for i in range(100)])
    groups = [f"{i // 4:03d}" for i in range(400)]
    four = bootstrap.bootstrap(mean_of(np.repeat(rows, 4)), groups)
    assert (four.low, four.high) == pytest.approx((one.low, one.high))
    naive = bootstrap.bootstrap(mean_of(np.repeat(rows, 4)), [str(i) for i in range(400)])
    assert four.high - four.low > 1.7 * (naive.high - naive.low)


def test_the_order_of_clips_does_not_matter():
    rows, groups = draw(3, 30), [f"g{i % 7}" for i in range(30)]
    turn = np.random.default_rng(0).permutation(30)
    a = bootstrap.bootstrap(mean_of(rows), groups)
    b = bootstrap.bootstrap(mean_of(rows[turn]), [groups[i] for i in turn])
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_half_samples_cover_as_often_as_they_say():
    """A biased distance (never negative) of two sets of 40: the spread of its full-size values."""

    def distance(x, y):
        return lambda a, b: float((x[a].mean() - y[b].mean()) ** 2 + 1.0 / len(a))

    groups = [str(i) for i in range(40)], [f"r{i}" for i in range(40)]
    shifted = [(draw(s, 40) + 2.0, draw(1000 + s, 40)) for s in range(60)]
    truth = 4.0 + 2.0 / 40 + 1.0 / 40  # expectation at this size
    inside = 0
    for x, y in shifted:
        found = bootstrap.half_samples(distance(x, y), *groups, replicates=100)
        inside += found.low <= truth <= found.high
    assert 0.85 * 60 <= inside <= 60


def test_few_clusters_have_no_interval():
    assert np.isnan(bootstrap.bootstrap(mean_of(np.ones(3)), ["a"] * 3).low)
    found = bootstrap.half_samples(lambda a, b: 1.0, ["a", "b", "c"], ["d", "e", "f", "g"])
    assert np.isnan(found.low) and found.clusters == 3


def test_values_that_are_not_numbers_are_left_out_of_the_draws():
    rows = np.array([1.0, 2.0, np.nan, 4.0] * 10)
    found = bootstrap.bootstrap(
        lambda p: float(np.nanmean(rows[p])) if p[0] % 2 else float("nan"),
        [str(i) for i in range(40)],
    )
    assert 1.5 < found.low < found.high < 3.2


def test_halves_share_no_patient():
    groups = [f"p{i // 3}" for i in range(30)]
    for number in range(5):
        one, other = bootstrap.halves(groups, 12, seed=0, draw=number)
        assert len(one) == len(other) == 12
        assert not {groups[i] for i in one} & {groups[i] for i in other}
    first, second = (bootstrap.halves(groups, 12, seed=0, draw=d)[0] for d in (0, 1))
    assert first.tolist() != second.tolist()


def test_partners_are_of_other_patients():
    groups = [f"p{i // 2}" for i in range(10)]
    found = bootstrap.partners(groups, seed=3)
    assert all(groups[i] != groups[j] for i, j in enumerate(found))
    assert bootstrap.partners(["a", "a"], seed=0) == [None, None]


def test_shares_have_their_exact_interval():
    """Tabulated values of Clopper and Pearson's interval."""
    assert bootstrap.share_interval(0, 100) == (0.0, pytest.approx(0.0362, abs=1e-4))
    assert bootstrap.share_interval(50, 100) == pytest.approx((0.3983, 0.6017), abs=1e-4)
    assert bootstrap.share_interval(0, 0) == (0.0, 1.0)
