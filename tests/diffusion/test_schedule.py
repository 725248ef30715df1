"""Beta tables, the flow path and the samplers' time grids."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ffa_sora_jax.diffusion.schedule import SCHEDULES, Discrete, Flow, get_schedule
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "dit"


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "schedulers.safetensors")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("linear", "linear"),
        ("linear_zsnr", "linear_zero_snr"),
        ("scaled_linear", "scaled_linear"),
        ("scaled_linear_zsnr", "scaled_linear_zero_snr"),
    ],
)
def test_alpha_bar_matches_the_reference_tables(golden, key, name):
    expected = golden[f"acp/{key}"]  # float32: its last values cancel
    np.testing.assert_allclose(
        SCHEDULES[name].alpha_bar, expected, rtol=TOL["schedule_rel"], atol=2e-11
    )


def test_zero_terminal_snr_is_exact_and_leaves_the_first_value():
    plain, rescaled = Discrete(), Discrete(zero_snr=True)
    assert rescaled.alpha_bar[-1] == 0.0
    assert rescaled.alpha_bar[0] == pytest.approx(plain.alpha_bar[0], rel=1e-12)
    alpha, sigma = rescaled.coeffs(jnp.asarray([999]))
    assert (float(alpha[0]), float(sigma[0])) == (0.0, 1.0)


def test_known_values_of_the_linear_table():
    table = Discrete().alpha_bar
    np.testing.assert_allclose(
        table[[0, 249, 500, 749, 999]], [0.9999, 0.52409, 0.077797, 0.0033506, 4.0358e-5], rtol=2e-5
    )


def test_own_range_of_betas():
    table = Discrete(beta_start=0.1, beta_end=0.1, num_train_steps=3).alpha_bar
    np.testing.assert_allclose(table, [0.9, 0.81, 0.729])


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_variance_of_discrete_and_sum_of_flow_coefficients(name):
    t = jnp.asarray([0, 1, 250, 500, 998])
    alpha, sigma = SCHEDULES[name].coeffs(t)
    total = alpha + sigma if name == "flow" else alpha**2 + sigma**2
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    assert alpha.dtype == sigma.dtype == jnp.float32


def test_trailing_grid_matches_the_reference_lists():
    table = json.loads((GOLDEN / "schedulers.json").read_text())["trailing_timesteps"]
    checked = 0
    for steps, lists in table.items():
        if not isinstance(lists, dict) or -1 in lists["ddim"]:
            continue  # the reference's floating-point range adds a time of -1 for some counts
        assert Discrete().grid(int(steps), "trailing").tolist() == lists["ddim"]
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize("num_steps", [61, 103, 121, 206, 999, 1000])
def test_trailing_grid_has_exactly_the_steps_asked_for(num_steps):
    grid = Discrete().grid(num_steps, "trailing")
    assert len(grid) == num_steps and grid[0] == 999 and grid[-1] >= 0
    assert (np.diff(grid) < 0).all()


def test_leading_grid_ends_at_zero():
    assert Discrete().grid(4, "leading").tolist() == [750, 500, 250, 0]


def test_flow_grids():
    np.testing.assert_allclose(Flow().grid(7, "trailing"), np.linspace(1000, 1, 7))
    np.testing.assert_allclose(Flow().grid(4, "even"), [1000, 750, 500, 250])
    shifted = Flow(shift=3.0).grid(4, "even")
    np.testing.assert_allclose(shifted, [1000, 900, 750, 500])  # a s / (1 + (a - 1) s)


def test_training_times_reach_both_ends():
    u = jnp.asarray([1e-6, 0.5, 1 - 1e-6])
    assert Discrete().time(u).tolist() == [0, 500, 999]
    np.testing.assert_allclose(Flow(shift=3.0).time(u)[1], 750.0, rtol=1e-6)


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_number_of_steps_is_checked(num_steps):
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        Discrete().grid(num_steps, "trailing")


def test_unknown_names_offer_near_matches():
    with pytest.raises(ValueError, match="linear_zero_snr"):
        get_schedule("linear_zero_sn")
    with pytest.raises(ValueError, match="trailing"):
        Discrete().grid(4, "trailling")
    with pytest.raises(ValueError, match="even"):
        Flow().grid(4, "evn")
    with pytest.raises(ValueError, match="scaled_linear"):
        Discrete("scaled")
