"""Preparation of clips against the evaluation protocols that it follows."""

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from ffa_sora_jax.metrics.features import as_rgb, prepare, prepare_unit
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "i3d_preprocess.npz"


@functools.cache
def golden(name):
    return rearrange(dict(np.load(GOLDEN))[name], "c t h w -> 1 t h w c")


@pytest.mark.parametrize("how", ["styleganv", "videogpt", "cdfvd", "tfhub"])
@pytest.mark.parametrize("case", ["s0", "s1", "s2", "s3"])
def test_preparations_equal_the_reference(case, how):
    if how == "cdfvd":
        unit = jnp.asarray(golden(f"{case}/video_u8"), jnp.float32) / 255.0
    else:
        unit = jnp.asarray(golden(f"{case}/video01"))
    want = golden(f"{case}/{'tfhub_legacy' if how == 'tfhub' else how}")
    atol = 2.0 * TOL["resize"] if how == "tfhub" else TOL["resize"]
    np.testing.assert_allclose(prepare_unit(unit, how, 16), want, atol=atol)


@pytest.mark.parametrize("how", ["videogpt", "cdfvd", "tfhub"])
def test_eight_bits_survive_the_way_through_floats(how):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1)
    got = prepare(levels.astype(np.float32) / 127.5 - 1.0, how, 16)[..., 0]
    np.testing.assert_array_equal(np.round((np.asarray(got) + 1.0) * 127.5), levels[..., 0])


def test_grey_clips_are_repeated_and_other_channels_refused():
    grey = jnp.linspace(-1.0, 1.0, 4).reshape(1, 1, 2, 2, 1)
    rgb = as_rgb(grey)
    assert rgb.shape == (1, 1, 2, 2, 3)
    np.testing.assert_array_equal(rgb[..., 0], rgb[..., 2])
    with pytest.raises(ValueError, match="2 channels"):
        prepare(jnp.zeros((1, 1, 4, 4, 2)))
    with pytest.raises(ValueError, match="styleganv"):
        prepare(grey, "stylegan")
