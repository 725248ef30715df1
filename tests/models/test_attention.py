"""`ops.attention` against a float64 softmax, in every formulation and with every bias shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models import ops
from tests.tolerances import TOL

B, N, M, HEADS, D = 2, 20, 12, 3, 8


def draw(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def expected(q, k, v, bias, scale):
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    logits = np.einsum("bnhd,bmhd->bhnm", q, k) * scale + (0.0 if bias is None else bias)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhnm,bmhd->bnhd", weights, v)


@pytest.fixture(params=["dense", "headwise", "library"])
def form(request, monkeypatch):
    limit = 0 if request.param == "headwise" else 10**9
    monkeypatch.setattr(ops, "HEADWISE_MIN_LOGITS", limit)
    if request.param == "library":  # what accelerators run
        monkeypatch.setattr(ops.jax, "default_backend", lambda: "gpu")


BIASES = [None, (B, 1, 1, M), (1, HEADS, N, M), (B, HEADS, N, M), (1, 1, 1, M), (N, M)]


@pytest.mark.parametrize("shape", BIASES, ids=str)
@pytest.mark.parametrize("scale", [None, 1.0])
def test_is_a_softmax_of_scaled_products(form, shape, scale):
    q = draw(B, N, HEADS, D, seed=0)
    k, v = (draw(B, M, HEADS, D, seed=s) for s in (1, 2))
    bias = None if shape is None else draw(*shape, seed=3)
    y = jax.jit(functools.partial(ops.attention, scale=scale))(q, k, v, bias)
    want = expected(q, k, v, bias, D**-0.5 if scale is None else scale)
    np.testing.assert_allclose(y, want, atol=TOL["unit"])


def gradients(attention):
    q, k, v = (jnp.asarray(draw(B, N, HEADS, D, seed=s)) for s in range(3))
    bias = jnp.asarray(draw(B, 1, 1, N, seed=3))

    def loss(*arguments):
        return jnp.sum(jnp.sin(attention(*arguments)))

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(q, k, v, bias)


@functools.cache
def library_gradients():
    return gradients(jax.nn.dot_product_attention)


def test_gradients_agree_with_the_library(form):
    for ours, theirs in zip(gradients(ops.attention), library_gradients(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOL["unit"])


def test_large_logits_and_fully_masked_rows_stay_finite(form):
    q = jnp.asarray(draw(B, N, HEADS, D, seed=0)) * 300.0
    bias = jnp.full((B, 1, 1, N), -10_000.0)
    y = jax.jit(ops.attention)(q, q, q, bias)
    assert np.isfinite(y).all()


def test_bfloat16_operands_keep_a_float32_softmax(form):
    q, k, v = (jnp.asarray(draw(B, N, HEADS, D, seed=s), jnp.bfloat16) for s in range(3))
    y = jax.jit(ops.attention)(q, k, v)
    assert y.dtype == jnp.bfloat16
    want = expected(*(np.asarray(x, np.float32) for x in (q, k, v)), None, D**-0.5)
    np.testing.assert_allclose(np.asarray(y, np.float32), want, atol=0.02)
