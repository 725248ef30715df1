"""Guidance, its rescale and its interval."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ffa_sora_jax.diffusion.guidance import Guidance, combine, guided
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "dit" / "guidance.safetensors"


@pytest.mark.parametrize(("rescale", "key"), [(0.0, "guided_gs7.5"), (0.7, "rescaled_0.7")])
def test_combination_matches_the_reference(rescale, key):
    golden = load_file(GOLDEN)
    out = combine(golden["cfg/cond"], golden["cfg/uncond"], Guidance(7.5, rescale))
    np.testing.assert_allclose(out, golden[f"cfg/{key}"], rtol=TOL["unit"], atol=TOL["unit"])


def counting_denoiser(calls):
    def denoise(x, t, cond):
        jax.debug.callback(lambda: calls.append(x.shape[0]))
        return x * 0 + cond["scale"][:, None]

    return denoise


def test_both_conditions_go_through_one_doubled_batch():
    calls = []
    model = guided(
        counting_denoiser(calls), {"scale": jnp.full(2, 3.0)}, {"scale": jnp.full(2, 1.0)},
        Guidance(2.0),
    )  # fmt: skip
    out = model(jnp.ones((2, 3)), jnp.full((2,), 500.0))
    jax.effects_barrier()
    np.testing.assert_allclose(out, 5.0)
    assert calls == [4]


def test_outside_the_interval_one_pass_is_run():
    calls = []
    model = jax.jit(
        guided(
            counting_denoiser(calls), {"scale": jnp.full(2, 3.0)}, {"scale": jnp.full(2, 1.0)},
            Guidance(2.0, interval=(0.2, 0.7)),
        )
    )  # fmt: skip
    outs = [float(model(jnp.ones((2, 3)), jnp.full((2,), t))[0, 0]) for t in (900.0, 500.0, 100.0)]
    jax.effects_barrier()
    assert outs == [3.0, 5.0, 3.0]
    assert calls == [2, 4, 2]


def test_scale_one_needs_no_second_condition():
    calls = []
    model = guided(counting_denoiser(calls), {"scale": jnp.full(2, 3.0)}, None, Guidance())
    np.testing.assert_allclose(model(jnp.ones((2, 3)), jnp.zeros(2)), 3.0)
    with pytest.raises(ValueError, match="unconditional"):
        guided(lambda x, t, c: x, {}, None, Guidance(2.0))


@pytest.mark.parametrize(
    "bad", [{"interval": (0.7, 0.2)}, {"rescale": 1.5}, {"scale": -1.0}, {"scale": float("nan")}]
)
def test_ranges_are_checked(bad):
    with pytest.raises(ValueError, match=r"expected 0|must not be negative"):
        Guidance(**bad)
