import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from ffa_sora_jax.train.optimizer import make_optimizer, make_schedule


def optim(**values):
    config = common.base().optim
    config.update(values)
    return config


def curve(total, **values):
    schedule = make_schedule(optim(lr=1.0, **values), total)
    return [float(schedule(n)) for n in range(total)]


def test_constant_with_warmup():
    assert curve(6, warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_cosine_ends_at_its_final_ratio():
    rates = curve(101, schedule="cosine", warmup_steps=1, final_lr_ratio=0.1)
    assert rates[0] == rates[1] == pytest.approx(1.0)
    assert rates[51] == pytest.approx(0.55)  # half way between 1 and 0.1
    assert rates[100] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates))


def test_wsd_stays_and_then_falls_linearly():
    rates = curve(100, schedule="wsd", warmup_steps=10, decay_fraction=0.2)
    assert rates[10:80] == pytest.approx([1.0] * 70)
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "adamm"}, "Did you mean 'adamw'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"decay": "matrix"}, "Did you mean 'matrices'"),
        ({"warmup_steps": 100}, "below train.total_steps = 100"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(optim(**values), 100)


PARAMS = {
    "dense": {"kernel": jnp.full((8, 4), 0.5), "bias": jnp.full((4,), 0.5)},
    "stacked": {"kernel": jnp.full((3, 8, 4), 0.5)},
    "conv": {"kernel": jnp.full((3, 3, 3, 8, 4), 0.5)},
    "head": {"kernel": jnp.full((8, 4), 0.5)},
    "table": jnp.full((8, 4), 0.5),
}


def update(grads, **values):
    transform, _ = make_optimizer(optim(lr=0.1, clip_norm=0.0, **values), 10)
    return jax.jit(lambda g, p: transform.update(g, transform.init(p), p)[0])(grads, PARAMS)


def normal(seed=0):
    leaves, tree = jax.tree.flatten(PARAMS)
    rng = np.random.default_rng(seed)
    return tree.unflatten([jnp.asarray(rng.normal(size=x.shape), jnp.float32) for x in leaves])


@pytest.mark.parametrize(("decay", "bias"), [("all", -0.05), ("matrices", 0.0)])
def test_weight_decay_mask(decay, bias):
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    moved = update(zeros, weight_decay=1.0, decay=decay)
    np.testing.assert_allclose(moved["dense"]["kernel"], -0.05, rtol=1e-5)
    np.testing.assert_allclose(moved["dense"]["bias"], bias, rtol=1e-5)


def test_clipping_bounds_the_norm():
    transform, _ = make_optimizer(optim(clip_norm=0.5), 10)
    grads = jax.tree.map(lambda x: 1e4 * x, normal())
    update = jax.jit(lambda g, p: transform.update(g, transform.init(p), p)[1])
    moments = update(grads, PARAMS)[1][0].mu
    assert float(optax.global_norm(moments)) == pytest.approx(0.1 * 0.5, rel=1e-4)  # 1 - b1


# First step of Adam with Nesterov momentum: b1 (1 - b1) / (1 - b1^2) + 1, times the sign.
NADAM_FIRST = 0.9 * 0.1 / (1 - 0.9**2) + 1


def singular_values(matrix):
    return np.linalg.svd(np.asarray(matrix), compute_uv=False)


def test_muon_orthogonalises_exactly_the_kernels():
    moved = update(normal(), name="muon", muon_exclude=("head/kernel",))
    scale = 0.1 * 0.2  # lr x the RMS that matches AdamW
    for matrix in (
        moved["dense"]["kernel"], *moved["stacked"]["kernel"],
        moved["conv"]["kernel"].reshape(27 * 8, 4),
    ):  # fmt: skip
        s = singular_values(matrix) / (scale * np.sqrt(max(matrix.shape)))
        assert s.min() > 0.6 and s.max() < 1.3  # Newton-Schulz is that coarse
    for leaf in (moved["head"]["kernel"], moved["table"], moved["dense"]["bias"]):
        np.testing.assert_allclose(np.abs(leaf), 0.1 * NADAM_FIRST, rtol=1e-4)


def test_muon_gives_the_rest_its_own_rate():
    moved = update(normal(), name="muon", muon_adam_lr_ratio=0.5)
    np.testing.assert_allclose(np.abs(moved["table"]), 0.05 * NADAM_FIRST, rtol=1e-4)


@pytest.mark.parametrize("exclude", [(), ("head/kernel",)])
@pytest.mark.parametrize("decay", ["all", "matrices"])
def test_muon_decays_its_matrices_and_the_rest_only_with_all(exclude, decay):
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    moved = update(zeros, name="muon", weight_decay=1.0, decay=decay, muon_exclude=exclude)
    rest = -0.05 if decay == "all" else 0.0
    for name in ("dense", "stacked", "conv"):
        np.testing.assert_allclose(moved[name]["kernel"], -0.05, rtol=1e-5)
    np.testing.assert_allclose(moved["head"]["kernel"], rest if exclude else -0.05, rtol=1e-5)
    np.testing.assert_allclose(moved["dense"]["bias"], rest, rtol=1e-5)
    np.testing.assert_allclose(moved["table"], rest, rtol=1e-5)
