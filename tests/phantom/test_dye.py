import numpy as np
import pytest

from ffa_sora_jax.phantom.dye import Dye, gamma_variate, sample_dye


def test_gamma_variate_peaks_at_its_time_with_one():
    t = np.linspace(0, 60, 6001)
    g = gamma_variate(t, 9.0, 2.2)
    assert t[np.argmax(g)] == pytest.approx(9.0, abs=0.011)
    assert g.max() == pytest.approx(1.0, abs=1e-6)
    assert (gamma_variate(np.array([-3.0, 0.0]), 9.0, 2.2) == 0).all()


@pytest.mark.parametrize(
    ("second", "level"),
    # computed once from the closed form with tp 9, a 2.2, washout 420
    zip(
        (1, 2, 3, 3.95, 20, 30, 60, 120, 240, 600),
        (0.05, 0.18, 0.35, 0.5, 0.84, 0.72, 0.42, 0.34, 0.26, 0.11),
        strict=True,
    ),
)
def test_curve_passes_through_the_published_points(second, level):
    assert float(Dye()(np.array([second]))[0]) == pytest.approx(level, abs=0.012)


def test_curve_is_zero_before_and_peaks_near_eleven_seconds():
    t = np.arange(-5, 900, 0.05)
    curve = Dye()(t)
    assert (curve[t < 0] < 1e-9).all()
    assert t[np.argmax(curve)] == pytest.approx(11.0, abs=0.7)
    assert curve.max() == pytest.approx(1.0, abs=1e-3)


def test_exposure_only_rises():
    exposure = Dye().exposure(np.arange(-2, 600, 0.5))
    assert (np.diff(exposure) >= 0).all()
    assert exposure[0] == 0 and exposure[-1] > 0.99


def test_injections_differ():
    a, b = (sample_dye(np.random.default_rng(k)) for k in (1, 2))
    assert a != b
    late = np.array([500.0])
    slow, fast = Dye(washout_s=600.0), Dye(washout_s=300.0)
    assert slow(late) > fast(late)
    assert Dye(shape=3.0)(np.array([2.0])) < Dye(shape=1.5)(np.array([2.0]))
