"""PSNR and SSIM against recorded values of the implementations in use."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics.pixel import PSNR, SSIM, psnr, ssim
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "psnr_ssim.npz"


@pytest.fixture(scope="module", params=["c3", "c1"])
def case(request):
    arrays = np.load(GOLDEN)
    values = {k.split("/")[1]: arrays[k] for k in arrays if k.startswith(request.param)}
    for name in ("v1", "v2"):
        values[name] = np.moveaxis(values[name], 2, -1)  # (b, t, h, w, c)
    return values


def test_psnr_per_frame(case):
    got = psnr(case["v1"], case["v2"])
    np.testing.assert_allclose(got, case["cmvq_psnr_frames"], atol=TOL["psnr_db"])


def test_ssim_per_frame_gaussian(case):
    got = ssim(case["v1"], case["v2"])
    np.testing.assert_allclose(got, case["cmvq_ssim_frames"], atol=TOL["ssim"])
    np.testing.assert_allclose(got, case["skimage_ssim_gauss"], atol=TOL["ssim"])


def test_ssim_per_frame_uniform(case):
    got = ssim(case["v1"], case["v2"], window="uniform")
    np.testing.assert_allclose(got, case["skimage_ssim_default_uniform7"], atol=TOL["ssim"])


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_range_is_the_callers(case, low):
    scale, shift = (2.0, -1.0) if low < 0 else (255.0, 0.0)
    a, b = case["v1"] * scale + shift, case["v2"] * scale + shift
    np.testing.assert_allclose(
        psnr(a, b, data_range=scale), psnr(case["v1"], case["v2"]), atol=1e-3
    )


def test_wrong_range_costs_six_decibels(case):
    """What a published training loop computes: [-1, 1] data with a range of 1."""
    wrong = psnr(case["v1"] * 2 - 1, case["v2"] * 2 - 1)
    np.testing.assert_allclose(
        wrong.mean(0)[1:], case["f2v_psnr_per_t_on_pm1"][0, 1:], atol=TOL["psnr_db"]
    )


def clips(case):
    exam = np.arange(len(case["v1"]))
    return Clip(video=case["v1"] * 2 - 1, exam=exam), Clip(video=case["v2"] * 2 - 1)


def test_metrics_average_over_all_frames(case):
    sample, reference = clips(case)
    for metric, key in (
        (PSNR(), "cmvq_psnr_final"),
        (SSIM(), "cmvq_ssim_final"),
    ):
        state = metric.update(metric.init(), sample, reference)
        assert metric.compute(state)[metric.name] == pytest.approx(case[key][0], rel=1e-4)


def test_clips_with_identical_frames_are_skipped_on_request(case):
    metric = PSNR(identical="skip")
    state = metric.update(metric.init(), *clips(case))
    expected = float(case["wfvae_psnr_skip_identical"])
    assert metric.compute(state)["psnr"] == pytest.approx(expected, abs=1e-3)


def test_constants():
    """Zeros against ones: no signal, and the constants of the formula alone."""
    a, b = jnp.zeros((1, 16, 16, 1)), jnp.ones((1, 16, 16, 1))
    assert float(psnr(a, b)[0]) == pytest.approx(0.0)
    assert float(ssim(a, b)[0]) == pytest.approx(9.999e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(jnp.zeros((4, 4, 1)), jnp.zeros((4, 5, 1))), "expected the same"),
        (lambda: ssim(jnp.zeros((8, 8, 1)), jnp.zeros((8, 8, 1))), "smaller than SSIM"),
        (lambda: psnr(jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1)), 0), "data_range is 0"),
        (lambda: ssim(jnp.zeros((16, 16, 1)), jnp.ones((16, 16, 1)), -1), "data_range is -1"),
        (
            lambda: psnr(np.zeros((4, 4, 1), np.uint8), np.ones((4, 4, 1), np.uint8)),
            "say data_range",
        ),
        (lambda: SSIM(window="gauss"), "Did you mean 'gaussian'"),
        (lambda: PSNR(identical="drop"), "Allowed: cap, skip"),
        (
            lambda: PSNR().update(PSNR().init(), Clip(video=None, exam=np.zeros(1))),
            "compare two videos",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
