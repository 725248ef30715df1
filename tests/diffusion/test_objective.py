"""Noising, targets, weights and losses against recorded reference values."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ffa_sora_jax.diffusion.objective import Objective, mode_law
from ffa_sora_jax.diffusion.schedule import Flow
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "dit"
KINDS = {
    "v_zsnr": {"schedule": "linear_zero_snr", "prediction": "v"},
    "v": {"schedule": "linear", "prediction": "v"},
    "eps": {"schedule": "linear", "prediction": "eps"},
}


@pytest.fixture(scope="module")
def golden():
    """Channels last: the recordings are b c t h w."""
    arrays = load_file(GOLDEN / "train_loss.safetensors")
    return {k: np.moveaxis(a, 1, -1) if a.ndim == 5 else a for k, a in arrays.items()}


@pytest.fixture(scope="module")
def losses():
    return json.loads((GOLDEN / "train_loss.json").read_text())


def noise_of(golden, offset):
    return golden["noise"] + (0.05 * golden["offset_noise"] if offset == "offset" else 0.0)


@pytest.mark.parametrize("offset", ["plain", "offset"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_noising_and_target(golden, kind, offset):
    objective, t = Objective(**KINDS[kind]), jnp.asarray(golden["timesteps"])
    noise = noise_of(golden, offset)
    for name, got in (
        ("noisy", objective.noised(golden["x0"], noise, t)),
        ("target", objective.target(golden["x0"], noise, t)),
    ):
        np.testing.assert_allclose(got, golden[f"{kind}/{offset}/{name}"], atol=TOL["unit"])


@pytest.mark.parametrize("weighting", ["none", "min_snr"])
@pytest.mark.parametrize("masked", ["mask", "nomask"])
@pytest.mark.parametrize("offset", ["plain", "offset"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_losses(golden, losses, kind, offset, masked, weighting):
    objective = Objective(**KINDS[kind], weighting=weighting, snr_gamma=5.0)
    mask = golden["mask"] if masked == "mask" else None
    t = jnp.asarray(golden["timesteps"])
    loss, aux = objective.score(
        golden["model_pred"], golden["x0"], noise_of(golden, offset), t, mask
    )
    key = f"loss_{masked}" if weighting == "none" else f"loss_minsnr_{masked}"
    assert loss.shape == (3,)
    assert float(loss.mean()) == pytest.approx(losses[f"{kind}/{offset}"][key], rel=1e-5)
    assert float(aux["mse"]) == pytest.approx(
        losses[f"{kind}/{offset}"][f"loss_{masked}"], rel=1e-5
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_min_snr_weights(golden, kind):
    objective = Objective(**KINDS[kind], weighting="min_snr")
    weight = objective.weight(jnp.asarray(golden["timesteps"]))
    np.testing.assert_allclose(weight, golden[f"{kind}/minsnr5_weight"], rtol=2e-4, atol=1e-12)


def test_min_snr_with_zero_terminal_snr_ignores_the_terminal_step_unless_floored():
    t = jnp.asarray([899, 999])
    plain = Objective(weighting="min_snr").weight(t)
    floored = Objective(weighting="min_snr", weight_floor=0.05).weight(t)
    assert float(plain[1]) == 0.0 and float(plain[0]) == pytest.approx(1.0e-4, rel=0.1)
    np.testing.assert_allclose(floored, [0.05, 0.05])


@pytest.mark.parametrize("weighting", ["logit_normal", "mode", "sigma_sqrt", "cosmap"])
@pytest.mark.parametrize("masked", ["mask", "nomask"])
def test_flow_losses(golden, losses, weighting, masked):
    """The reference weights by 1 for its two time laws, and by sigma for the other two."""
    objective = Objective(
        schedule="flow", prediction="flow",
        weighting=weighting if weighting in ("sigma_sqrt", "cosmap") else "none",
    )  # fmt: skip
    t = jnp.asarray(golden["rf/timesteps"])
    mask = golden["mask"] if masked == "mask" else None
    loss, _ = objective.score(golden["model_pred"], golden["x0"], golden["noise"], t, mask)
    assert float(loss.mean()) == pytest.approx(
        losses[f"rf/{weighting}"][f"loss_{masked}"], rel=1e-5
    )


def test_flow_noising(golden):
    objective = Objective(schedule="flow", prediction="flow")
    t = jnp.asarray(golden["rf/timesteps"])
    np.testing.assert_allclose(
        objective.noised(golden["x0"], golden["noise"], t), golden["rf/noisy"], atol=TOL["unit"]
    )
    np.testing.assert_allclose(
        objective.target(golden["x0"], golden["noise"], t), golden["rf/target"], atol=TOL["unit"]
    )


def test_mode_law(golden):
    np.testing.assert_allclose(
        mode_law(golden["rf/u_uniform"]), golden["rf/u_mode_scale1.29"], atol=1e-6
    )


@pytest.mark.parametrize("schedule", ["linear", "linear_zero_snr", "flow"])
@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "flow"])
def test_clean_latent_is_recovered_from_a_perfect_prediction(schedule, prediction):
    if prediction == "eps" and schedule != "linear":
        pytest.skip("refused: no information where the signal is zero")
    objective = Objective(schedule=schedule, prediction=prediction)
    key = jax.random.key(0)
    x0, noise = jax.random.normal(key, (2, 4, 1, 2, 2, 3))
    t = jnp.asarray([10, 300, 700, 998])
    x_t = objective.noised(x0, noise, t)
    x0_hat = objective.to_x0(objective.target(x0, noise, t), x_t, t)
    np.testing.assert_allclose(x0_hat, x0, atol=1e-3)
    loss, aux = objective.score(objective.target(x0, noise, t), x0, noise, t)
    assert float(jnp.abs(loss).max()) == 0.0 and float(aux["mse"]) == 0.0


def test_terminal_step_recovers_from_v():
    """alpha is 0 at 999: the detour through eps would divide by it."""
    objective = Objective()
    x0, noise = jnp.full((1, 1, 1, 1, 2), 0.5), jnp.full((1, 1, 1, 1, 2), -1.0)
    t = jnp.asarray([999])
    v = objective.target(x0, noise, t)
    np.testing.assert_allclose(v, -0.5)
    np.testing.assert_allclose(objective.to_x0(v, objective.noised(x0, noise, t), t), x0)


def test_velocity_loss_is_clamped_at_min_sigma():
    """Below the clamp the weight is constant, above it the velocity's own 1 / sigma^2."""
    clamped = Objective(schedule="flow", prediction="x0", velocity_loss=True, min_sigma=0.5)
    weights = clamped.weight(np.float32([100.0, 500.0, 800.0]))  # sigma = t / 1000
    np.testing.assert_allclose(weights, [4.0, 4.0, 1.0 / 0.64], rtol=TOL["unit"])


def test_velocity_loss_equals_flow_loss_of_the_implied_velocity():
    """(x_t - x0_hat) / s is the velocity that a predicted x0 implies on the straight path."""
    by_x0 = Objective(schedule="flow", prediction="x0", velocity_loss=True)
    by_flow = Objective(schedule="flow", prediction="flow")
    x0, noise, x0_hat = jax.random.normal(jax.random.key(1), (3, 2, 1, 2, 2, 3))
    t = jnp.asarray([200.0, 900.0])
    x_t = by_x0.noised(x0, noise, t)
    velocity = (x_t - x0_hat) / (t / 1000).reshape(-1, 1, 1, 1, 1)
    a, _ = by_x0.score(x0_hat, x0, noise, t)
    b, _ = by_flow.score(velocity, x0, noise, t)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    floor = by_x0.weight(jnp.asarray([1.0, 50.0]))
    np.testing.assert_allclose(floor, 400.0, rtol=1e-4)  # 1 / 0.05^2 from s = 0.05 down


@pytest.mark.parametrize("law", ["uniform", "logit_normal", "mode", "mixed"])
@pytest.mark.parametrize("stratified", [False, True])
def test_time_laws(law, stratified):
    objective = Objective(schedule="flow", prediction="flow", time_law=law, stratified=stratified)
    u = np.sort(np.asarray(objective.sample_time(jax.random.key(0), 4096)) / 1000)
    q25, q50, q75 = u[[1024, 2048, 3072]]
    expected = {  # quantiles: logit-normal sigmoid(-+0.6745); mixed solves the mixture's CDF
        "uniform": (0.25, 0.75),
        "logit_normal": (0.3375, 0.6625),
        "mode": (1 - float(mode_law(0.25)), 1 - float(mode_law(0.75))),
        "mixed": (0.304, 0.696),
    }[law]
    assert q50 == pytest.approx(0.5, abs=0.02)
    assert (q25, q75) == pytest.approx(expected, abs=0.03)
    assert u.min() >= 0 and u.max() <= 1


def test_stratified_times_fill_every_slice():
    objective = Objective(stratified=True)
    t = objective.sample_time(jax.random.key(3), 100)
    assert sorted((np.asarray(t) // 10).tolist()) == list(range(100))
    assert t.dtype == jnp.int32
    assert (np.diff(np.asarray(t)) < 0).any()  # in random order, not sorted


def test_shift_moves_training_to_more_noise():
    plain = Objective(schedule="flow", prediction="flow", stratified=True)
    shifted = Objective(schedule=Flow(shift=3.0), prediction="flow", stratified=True)
    a, b = (o.sample_time(jax.random.key(0), 1024).mean() for o in (plain, shifted))
    assert float(a) == pytest.approx(500, abs=5)
    # mean of 3 u / (1 + 2 u) over u in (0, 1) is (3 / 4) (2 - ln 3)
    assert float(b) == pytest.approx(750 * (2 - np.log(3)), abs=5)


def test_noise_offset_is_shared_by_all_positions_of_a_channel():
    objective = Objective(noise_offset=2.0)
    noise = objective.draw_noise(jax.random.key(0), jnp.zeros((64, 2, 8, 8, 4)))
    channel_means = noise.mean((1, 2, 3))
    assert float(channel_means.std()) == pytest.approx(2.0, rel=0.15)
    assert float((noise - channel_means[:, None, None, None]).std()) == pytest.approx(1.0, rel=0.05)


def test_loss_calls_the_denoiser_on_noised_latents():
    objective = Objective(schedule="flow", prediction="x0")
    x0 = jnp.full((8, 2, 4, 4, 3), 0.5)
    seen = {}

    def denoise(x_t, t, cond):
        seen.update(x_t=x_t, t=t, cond=cond)
        return jnp.full_like(x_t, 0.25).astype(jnp.bfloat16)

    loss, aux = objective.loss(denoise, jax.random.key(0), x0, "text")
    np.testing.assert_allclose(loss, 0.0625)
    assert float(aux["x0_mse"]) == pytest.approx(0.0625)
    assert seen["cond"] == "text" and seen["t"].shape == (8,)
    residual = seen["x_t"] - (1 - seen["t"] / 1000).reshape(-1, 1, 1, 1, 1) * x0
    spread = residual.std((1, 2, 3, 4)) / (seen["t"] / 1000)
    np.testing.assert_allclose(spread, 1.0, atol=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "eps"}, "Use 'v'"),
        ({"prediction": "velocity"}, "Unknown prediction"),
        ({"time_law": "logitnormal"}, "Did you mean 'logit_normal'"),
        ({"weighting": "minsnr"}, "Did you mean 'min_snr'"),
        ({"weighting": "cosmap"}, "needs schedule 'flow'"),
        ({"velocity_loss": True}, "re-weights prediction 'x0'"),
        ({"schedule": "cosine"}, "Unknown schedule"),
    ],
)
def test_what_has_no_meaning_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Objective(**change)
