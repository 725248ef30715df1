"""Grey levels and times, as metrics on the host see them."""

import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import gray
from ffa_sora_jax.phantom.generator import FULL_S
from tests.tolerances import TOL


def test_nominal_times_keep_their_ends():
    np.testing.assert_allclose(gray.nominal_times(21), FULL_S)
    assert gray.nominal_times(9)[[0, -1]].tolist() == [FULL_S[0], FULL_S[-1]]
    assert (np.diff(gray.nominal_times(33)) > 0).all()


def test_gray_is_the_mean_of_the_channels():
    video = np.array([-1.0, 0.0, 1.0], np.float32).reshape(1, 1, 1, 1, 3)
    (grey, times), *rest = gray.timed(Clip(video=video))
    assert grey.item() == 128 and times.shape == (1,) and not rest
    assert gray.timed(Clip(video=np.full((1, 1, 2, 2, 1), 3.0)))[0][0].max() == 255
    with pytest.raises(ValueError, match="without"):
        gray.timed(Clip(video=None))


def test_both_sides_come_clip_by_clip():
    sides = [
        Clip(video=np.full((2, 3, 4, 4, 1), v), times_s=np.array([[0, 1, v]] * 2))
        for v in (0.0, 1.0)
    ]
    (a, b), _ = gray.timed_pairs(*sides, "a metric")
    assert a[0].shape == (3, 4, 4) and (a[0].max(), b[0].max()) == (128, 255)
    assert (a[1].tolist(), b[1].tolist()) == ([0, 1, 0], [0, 1, 1])
    with pytest.raises(ValueError, match="a metric compares two videos: sample and reference"):
        gray.timed_pairs(sides[0], None, "a metric")


def test_correlation_is_that_of_pearson_and_0_where_nothing_varies():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 7))
    expected = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    assert gray.correlation(a, 3 * b + 2) == pytest.approx(expected, abs=TOL["unit"])
    assert gray.correlation(a, np.ones_like(a)) == 0.0


def test_columns_have_their_means():
    rows = np.array([[1, 10], [2, 30]], np.float32)
    assert gray.column_means(("a", "b"), rows) == {"a": 1.5, "b": 20.0}
