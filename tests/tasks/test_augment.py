"""Clips are moved and lit as wholes, within the bounds that were asked for."""

import jax
import numpy as np

from ffa_sora_jax.tasks.augment import vary


def test_vary_moves_and_lights_every_clip_as_a_whole():
    video = np.random.default_rng(0).uniform(-1, 1, (32, 3, 16, 16, 1)).astype(np.float32)
    same = vary(video, jax.random.key(0))
    np.testing.assert_array_equal(same, video)
    moved = np.asarray(vary(video, jax.random.key(0), shift=0.13))
    seen = set()
    for before, after in zip(video, moved, strict=True):
        fits = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if np.array_equal(after[:, 2:-2, 2:-2], before[:, 2 + dy : 14 + dy, 2 + dx : 14 + dx])
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 8
    lit = np.asarray(vary(video, jax.random.key(0), gain=0.5)) + 1
    ratio = lit / (video + 1)
    middle = np.where(lit < 1.99, ratio, np.nan)
    np.testing.assert_allclose(
        np.nanmin(middle, (1, 2, 3, 4)), np.nanmax(middle, (1, 2, 3, 4)), rtol=1e-3
    )
    assert 1 / 1.5 - 1e-3 <= np.nanmin(middle) < 0.9 and 1.1 < np.nanmax(middle) <= 1.5 + 1e-3
