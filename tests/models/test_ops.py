"""Every formulation of a convolution computes the same as XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models import ops
from tests.tolerances import TOL

SAME = ((0, 0), (1, 1), (1, 1))


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative(a, b):
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))


@pytest.mark.parametrize("width", [8, 11, 13, 16])
@pytest.mark.parametrize("form", ["auto", "exact"])
def test_forms_agree_at_widths_that_winograd_tiles_do_not_divide(form, width):
    x, kernel = random(0, 2, 4, 5, width, 32), random(1, 3, 3, 3, 32, 16)
    expected = ops.conv3d(x, kernel, padding=SAME, form="native")
    assert expected.shape == (2, 2, 5, width, 16)
    assert relative(ops.conv3d(x, kernel, padding=SAME, form=form), expected) < TOL["unit"]


@pytest.mark.parametrize(
    ("strides", "padding", "size"),
    [
        ((2, 2, 2), ((0, 0), (0, 1), (0, 1)), 3),
        ((1, 2, 2), ((1, 1), (1, 1), (1, 1)), 3),
        ((1, 1, 1), ((0, 0), (0, 0), (0, 0)), 1),
        ((1, 1, 1), ((2, 0), (1, 1), (0, 2)), 3),
    ],
)
def test_strides_and_padding(strides, padding, size):
    x, kernel = random(0, 1, 5, 7, 9, 16), random(1, size, size, size, 16, 16)
    expected = ops.conv3d(x, kernel, strides=strides, padding=padding, form="native")
    got = ops.conv3d(x, kernel, strides=strides, padding=padding)
    assert relative(got, expected) < TOL["unit"]


def test_gradients_of_the_fast_form_agree():
    x, kernel = random(0, 1, 4, 4, 12, 16), random(1, 3, 3, 3, 16, 16)
    cotangent = random(2, 1, 2, 4, 12, 16)

    def pulled(form):
        f = lambda x, kernel: ops.conv3d(x, kernel, padding=SAME, form=form)  # noqa: E731
        return jax.vjp(f, x, kernel)[1](cotangent)

    for fast, native in zip(pulled("auto"), pulled("native"), strict=True):
        assert relative(fast, native) < TOL["unit"]


def test_the_fast_form_is_really_used_and_the_exact_form_is_exact():
    x, kernel = random(0, 1, 3, 8, 16, 32), random(1, 3, 3, 3, 32, 32)
    reference = jax.lax.conv_general_dilated(
        x.astype(np.float64), kernel.astype(np.float64), (1, 1, 1), SAME,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )  # fmt: skip
    fast = ops.conv3d(x, kernel, padding=SAME)
    exact = ops.conv3d(x, kernel, padding=SAME, form="exact")
    assert relative(exact, reference) < 2e-6
    assert not jnp.array_equal(fast, exact)


def test_an_unknown_form_is_named():
    with pytest.raises(ValueError, match=r"Unknown convolution form 'exakt'.*'exact'"):
        ops.conv3d(random(0, 1, 3, 3, 3, 1), random(1, 3, 3, 3, 1, 1), form="exakt")


# --- Frame by frame ---


def convolution_and_gradients():
    """Program text, result and gradients of a fresh program: JAX remembers traced functions."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 6, 8, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 4, 5))

    def loss(x, kernel):
        y = ops.conv2d(x, kernel, strides=(2, 1), padding=((1, 1), (0, 1)))
        return jnp.sum(jnp.sin(y)), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)
    return str(jax.make_jaxpr(loss)(x, kernel)), (y, *grads)


def test_frames_one_by_one_equal_all_at_once(monkeypatch):
    program, at_once = convolution_and_gradients()
    monkeypatch.setattr(ops, "FRAME_PIXELS", 48)
    looped, one_by_one = convolution_and_gradients()
    assert "scan" in looped and "scan" not in program
    for one, whole in zip(one_by_one, at_once, strict=True):
        np.testing.assert_allclose(one, whole, atol=TOL["unit"])
