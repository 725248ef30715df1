"""Absolute positions of tokens, alone and in a DiT."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models import embeddings
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.dit import DiT, DiTConfig


def test_grid_sinusoid_tells_the_axes_apart_and_starts_with_the_fastest_wave():
    table = embeddings.grid_sinusoid((2, 3, 4), 24).reshape(2, 3, 4, 3, 2, 4)
    np.testing.assert_allclose(table[1, 0, 0, 0, 0, 0], np.sin(1.0), rtol=1e-6)  # t, sine
    np.testing.assert_allclose(table[0, 2, 0, 1, 1, 0], np.cos(2.0), rtol=1e-6)  # h, cosine
    np.testing.assert_allclose(table[0, 0, 3, 2, 0, 2], np.sin(3.0 / 10.0), rtol=1e-6)  # w
    assert (table[:, 1, 2, 0] == table[:, 0, 0, 0]).all()  # the first third knows only t
    rows = table.reshape(24, -1)
    assert len(np.unique(rows, axis=0)) == 24
    with pytest.raises(ValueError, match="multiple of 6"):
        embeddings.grid_sinusoid((1, 1, 1), 16)


def test_absolute_positions_end_the_blindness_to_translation():
    """With relative positions alone, equal tokens stay equal wherever they lie."""
    x = jnp.ones((1, 2, 4, 4, 8))
    text, t = jnp.ones((1, 3, 16)), jnp.full((1,), 500.0)
    spread = {}
    for absolute in (False, True):
        cfg = DiTConfig.tiny(absolute_position=absolute, sparse1d=False, caption_channels=16,
                             in_channels=8)  # fmt: skip
        bundle = Bundle.create(DiT, cfg)
        y = bundle.apply(bundle.init(jax.random.key(0)), x, t, text, None)
        patches = np.asarray(y).reshape(1, 2, 2, 2, 2, 2, 8).transpose(1, 2, 4, 0, 3, 5, 6)
        spread[absolute] = patches.reshape(8, -1).std(0).max()
    assert spread[False] < 1e-5 < 1e-3 < spread[True]
