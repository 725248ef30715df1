"""Samplers against recorded reference trajectories, and on data with a known answer."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ffa_sora_jax.diffusion.guidance import Guidance
from ffa_sora_jax.diffusion.sampler import SAMPLERS, Sampler, sample
from ffa_sora_jax.diffusion.schedule import Flow, get_schedule
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "dit"

# recorded case -> (sampler, schedule, prediction, spacing)
ZERO_SNR = ("linear_zero_snr", "v", "trailing")
PLAIN = ("linear", "eps", "leading")
CASES = {
    "ddim_v_zsnr_trailing": ("ddim", *ZERO_SNR),
    "ddim_v_zsnr_trailing_N7": ("ddim", *ZERO_SNR),
    "ddim_eps_leading": ("ddim", *PLAIN),
    "ddpm_v_zsnr_trailing": ("ddpm", *ZERO_SNR),
    "euler_v_zsnr_trailing": ("euler", *ZERO_SNR),
    "euler_a_v_zsnr_trailing": ("euler_ancestral", *ZERO_SNR),
    "euler_a_v_zsnr_trailing_N7": ("euler_ancestral", *ZERO_SNR),
    "euler_a_eps_leading": ("euler_ancestral", *PLAIN),
    "dpmpp2m_v_zsnr_trailing": ("dpmpp_2m", *ZERO_SNR),
    "dpmpp2m_v_zsnr_trailing_N7": ("dpmpp_2m", *ZERO_SNR),
    "dpmpp2m_eps_leading": ("dpmpp_2m", *PLAIN),
    "flow_match_euler": ("flow_euler", "flow", "flow", "trailing"),
    "flow_match_euler_N7": ("flow_euler", "flow", "flow", "leading"),
}


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "schedulers.safetensors")


def linear_model(x, t):
    """The recorded network: 0.3 x + 0.1 t / 1000."""
    return 0.3 * x + 0.1 * t.reshape(-1, *(1,) * (x.ndim - 1)) / 1000


def test_every_recorded_trajectory_is_covered(golden):
    assert {key.split("/")[0] for key in golden if key.endswith("/traj")} == set(CASES)


@pytest.mark.parametrize("case", list(CASES))
def test_trajectories_match_the_reference(golden, case):
    name, schedule, prediction, spacing = CASES[case]
    expected = golden[f"{case}/traj"]
    sampler = Sampler(name, len(expected) - 1, schedule, prediction, spacing)
    x, states = sampler(
        lambda x, t, cond: linear_model(x, t), None, golden["x_init"],
        step_noise=golden.get(f"{case}/noise"), with_trajectory=True,
    )  # fmt: skip
    scale = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
    np.testing.assert_allclose(states / scale, expected / scale, atol=TOL["sampler_rel"])
    np.testing.assert_array_equal(x, states[-1])
    if f"{case}/timesteps" in golden:
        np.testing.assert_allclose(sampler.rows()["t"], golden[f"{case}/timesteps"], rtol=1e-6)


@pytest.mark.parametrize("case", ["ddim_v_zsnr_trailing", "euler_a_eps_leading"])
def test_network_sees_the_recorded_input(golden, case):
    name, schedule, prediction, spacing = CASES[case]
    sampler = Sampler(name, 10, schedule, prediction, spacing)
    rows = sampler.rows()
    for i, expected in enumerate(golden[f"{case}/model_in"]):
        x_in = rows["scale"][i] * golden[f"{case}/traj"][i]
        np.testing.assert_allclose(x_in, expected, rtol=1e-5, atol=1e-5)


def test_stable_entry_point_gives_the_recorded_end(golden):
    out = sample(
        "euler_ancestral", linear_model, golden["x_init"], num_steps=10,
        schedule="linear_zero_snr", prediction="v", spacing="trailing",
        step_noise=golden["euler_a_v_zsnr_trailing/noise"],
    )  # fmt: skip
    np.testing.assert_allclose(out, golden["euler_a_v_zsnr_trailing/traj"][-1], atol=1e-4)


# --- Data with a known answer: x0 ~ N(MEAN, STD^2), for which the best denoiser is linear ---

MEAN, STD = 0.7, 0.4


def perfect_denoiser(schedule, prediction):
    """The posterior mean of Gaussian data, expressed as the asked prediction."""
    path = get_schedule(schedule)

    def denoise(x, t):
        alpha, sigma = (c.reshape(-1, 1) for c in path.coeffs(t))
        variance = alpha**2 * STD**2 + sigma**2
        x0 = MEAN + alpha * STD**2 / variance * (x - alpha * MEAN)
        noise = sigma / variance * (x - alpha * MEAN)
        return {"eps": noise, "v": alpha * noise - sigma * x0, "x0": x0, "flow": noise - x0}[
            prediction
        ]

    return denoise


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize(
    ("name", "schedule", "prediction"),
    [
        ("ddim", "linear_zero_snr", "v"),
        ("ddim", "linear", "eps"),
        ("ddim", "scaled_linear_zero_snr", "x0"),
        ("ddpm", "linear_zero_snr", "v"),
        ("ddpm", "linear", "eps"),
        ("euler", "linear_zero_snr", "v"),
        ("euler", "linear", "x0"),
        ("euler_ancestral", "linear_zero_snr", "v"),
        ("dpmpp_2m", "linear_zero_snr", "v"),
        ("dpmpp_2m", "flow", "flow"),
        ("flow_euler", "flow", "flow"),
        ("flow_euler", "flow", "x0"),
        ("flow_euler", "flow", "v"),
    ],
)
def test_perfect_denoiser_reproduces_gaussian_data(name, schedule, prediction, spacing):
    noise = jax.random.normal(jax.random.key(0), (64, 512))
    out = sample(
        name, perfect_denoiser(schedule, prediction), noise, num_steps=200, schedule=schedule,
        prediction=prediction, spacing=spacing, rng=jax.random.key(1),
    )  # fmt: skip
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(out.std()) == pytest.approx(STD, rel=0.06)


def test_second_order_is_closer_than_first_at_the_same_cost():
    """The exact end of the probability flow is MEAN + STD * noise for Gaussian data."""
    noise = jax.random.normal(jax.random.key(0), (4, 512))
    error = {}
    for name in ("ddim", "dpmpp_2m"):
        out = sample(
            name, perfect_denoiser("linear_zero_snr", "v"), noise, num_steps=20,
            schedule="linear_zero_snr", prediction="v", spacing="trailing",
        )  # fmt: skip
        error[name] = float(jnp.abs(out - (MEAN + STD * noise)).max())
    assert error["dpmpp_2m"] < 0.7 * error["ddim"]


def test_shifted_flow_reaches_the_same_data():
    noise = jax.random.normal(jax.random.key(0), (64, 512))
    out = sample(
        "flow_euler", perfect_denoiser("flow", "flow"), noise, num_steps=100,
        schedule=Flow(shift=3.0), prediction="flow", spacing="even",
    )  # fmt: skip
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(out.std()) == pytest.approx(STD, rel=0.06)


# --- Interface ---


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_single_step_returns_the_implied_latent(name):
    schedule = "flow" if name == "flow_euler" else "linear_zero_snr"
    out = sample(
        name, lambda x, t: jnp.full_like(x, 0.25), jnp.ones((2, 3)), num_steps=1,
        schedule=schedule, prediction="x0", spacing="trailing", rng=jax.random.key(0),
    )  # fmt: skip
    np.testing.assert_allclose(out, 0.25, atol=1e-6)


def test_same_key_same_sample_and_jit_agrees():
    sampler = Sampler("euler_ancestral", 5)
    run = lambda key: sampler(lambda x, t, c: 0.1 * x, key, jnp.ones((2, 4)))  # noqa: E731
    a, b, c = run(jax.random.key(1)), jax.jit(run)(jax.random.key(1)), run(jax.random.key(2))
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert float(jnp.abs(a - c).max()) > 0.01


def test_condition_is_passed_and_three_argument_functions_work():
    sampler = Sampler("ddim", 4, "linear", "x0")
    out = sampler(lambda x, t, c: c[:, None] + 0 * x, None, jnp.ones((2, 3)), jnp.asarray([1, 2.0]))
    np.testing.assert_allclose(out, [[1, 1, 1], [2, 2, 2]], rtol=1e-4)
    out = sample(
        "ddim", lambda x, t, cond: jnp.zeros_like(x) + (cond is None), jnp.ones((2, 3)),
        num_steps=2, schedule="linear", prediction="x0", spacing="trailing",
    )  # fmt: skip
    np.testing.assert_allclose(out, 1.0, rtol=1e-4)


def test_guidance_inside_the_sampler():
    """With x0 prediction the last step returns the guided prediction: 1 + 3 (2 - 1)."""
    sampler = Sampler("ddim", 4, "linear", "x0", guidance=Guidance(scale=3.0))
    cond, uncond = jnp.full((2,), 2.0), jnp.full((2,), 1.0)
    out = sampler(lambda x, t, c: c[:, None] + 0 * x, None, jnp.ones((2, 3)), cond, uncond)
    np.testing.assert_allclose(out, 4.0, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "dimm"}, "Did you mean 'ddim'"),
        ({"schedule": "flow"}, "needs a schedule of type Discrete.*: dpmpp_2m, flow_euler"),
        ({"name": "flow_euler"}, "needs a schedule of type Flow.*: ddim, ddpm, euler, "),
        ({"prediction": "eps"}, "zero_snr=False"),
        ({"prediction": "epsilon"}, "Unknown prediction"),
        ({"spacing": "even"}, "Unknown spacing"),
        ({"num_steps": 0}, "expected 1 to 1000"),
        ({"name": "ddpm"}, "pass `rng`"),
    ],
)
def test_what_has_no_meaning_is_refused(change, message):
    settings = {
        "name": "ddim", "num_steps": 4, "schedule": "linear_zero_snr", "prediction": "v",
        "spacing": "trailing", **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        sample(denoise=linear_model, noise=jnp.ones((1, 2)), **settings)
