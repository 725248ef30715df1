import jax
import numpy as np
import pytest
from einops import rearrange

from ffa_sora_jax.models import rope
from tests.models import dit_golden
from tests.tolerances import TOL


@pytest.mark.parametrize("name", ["rope0", "rope1", "rope2"])
def test_matches_the_reference(name):
    info, golden = dit_golden.meta("dit/units")[name], dit_golden.case("dit/units", name)
    grid = (info["t"], info["h"], info["w"])
    np.testing.assert_array_equal(np.indices(grid).reshape(3, -1), golden["pos_tyx"])
    tables = rope.tables(grid, info["head_dim"], tuple(info["interpolation_scale_thw"]))
    q = rearrange(golden["q_sbhd"], "s b h d -> b s h d")
    expected = rearrange(golden["out_sbhd"], "s b h d -> b s h d")
    np.testing.assert_allclose(jax.jit(rope.rotate)(q, *tables), expected, atol=TOL["unit"])


def test_products_depend_on_relative_positions_only():
    rng = np.random.default_rng(0)
    cos, sin = rope.tables((4, 4, 4), 24)
    q, k = (np.broadcast_to(rng.normal(size=24).astype(np.float32), (1, 64, 1, 24)) for _ in "qk")
    q, k = (np.asarray(jax.jit(rope.rotate)(x, cos, sin))[0, :, 0] for x in (q, k))
    products = (q @ k.T).reshape(4, 4, 4, 4, 4, 4)
    shifted = products[1:, 1:, 1:, 1:, 1:, 1:]
    np.testing.assert_allclose(shifted, products[:-1, :-1, :-1, :-1, :-1, :-1], atol=1e-4)


def test_axes_with_equal_length_keep_their_own_scales():
    cos, _ = rope.tables((3, 3, 3), 12, (1.0, 2.0, 4.0))
    corner = cos[-1]  # position 2 on every axis
    np.testing.assert_allclose(corner[:, 0], np.cos([2.0, 1.0, 0.5]), rtol=1e-6)


@pytest.mark.parametrize(("width", "legal"), [(64, "60 or 66"), (20, "18 or 24"), (2, "6 or 12")])
def test_a_width_without_even_thirds_names_the_legal_ones(width, legal):
    with pytest.raises(ValueError, match=f"multiple of 6, such as {legal}"):
        rope.tables((1, 2, 2), width)
