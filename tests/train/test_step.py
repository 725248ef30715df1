import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ffa_sora_jax.common import seeds
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.train.state import new_state
from ffa_sora_jax.train.step import ema_decay, make_step, to_model_range
from tests.train.toy import ToySource, ToyTask

EMA = {"decay": 0.9999, "warmup": True}


@pytest.mark.parametrize(
    ("updates", "expected"),
    # Effective decay at optimizer step n, counted from 1, as diffusers' EMA model gives it.
    [(1, 0.0), (2, 0.1818182), (3, 0.25), (100, 0.9174312), (1000, 0.9910803), (200_000, 0.9999)],
)
def test_ema_warmup_is_the_reference_rule(updates, expected):
    assert float(ema_decay(updates - 1, 0.9999)) == pytest.approx(expected, abs=1e-6)


def test_ema_without_warmup():
    assert float(ema_decay(0, 0.5, warmup=False)) == 0.5


def first_step(ema=EMA):
    task, optimizer = ToyTask(), optax.sgd(0.1)
    params = jax.jit(task.init)(jax.random.key(0))
    state = jax.jit(lambda p: new_state(p, {"model": optimizer}, ("model",)))(params)
    step = make_step(task, "model", optimizer, ema)
    root = seeds.stream(0, "train")
    return params, state, lambda s, n: step(s, task.frozen(), root, clip(n))


def clip(step):
    batch = ToySource().batch(step)
    return Clip(video=batch.video)


def test_average_copies_first_and_mixes_then():
    _, state, step = first_step()
    one, _ = step(state, 0)
    w1 = np.asarray(one.params["model"]["up"]["kernel"])
    np.testing.assert_array_equal(one.ema["model"]["up"]["kernel"], w1)
    two, _ = step(one, 1)
    w2 = np.asarray(two.params["model"]["up"]["kernel"])
    expected = w1 * 2 / 11 + w2 * 9 / 11
    np.testing.assert_allclose(two.ema["model"]["up"]["kernel"], expected, atol=1e-7)
    assert int(two.step) == 2


def test_gradient_norm_is_that_of_the_update():
    params, state, step = first_step()
    before = jax.tree.map(np.array, params)
    after, scalars = step(state, 0)
    moved = jax.tree.map(lambda a, b: (np.asarray(a) - b) / 0.1, after.params, before)
    assert float(optax.global_norm(moved)) == pytest.approx(float(scalars["grad_norm"]), rel=1e-4)
    assert float(scalars["loss"]) == float(scalars["mse"])


def test_state_is_donated():
    _, state, step = first_step()
    step(state, 0)
    assert state.params["model"]["up"]["kernel"].is_deleted()


def test_bytes_become_model_range():
    video = np.array([0, 255, 51], np.uint8).reshape(1, 3, 1, 1, 1)
    x = to_model_range(Clip(video=video)).video
    np.testing.assert_allclose(x.ravel(), [-1.0, 1.0, -0.6], atol=1e-6)
    latent_only = Clip(video=None, latent=jnp.ones((1, 2)))
    assert to_model_range(latent_only) is latent_only
