"""The metric around LPIPS: frames, pairs, and its two averages against the reference."""

import functools
from pathlib import Path

import numpy as np
import pytest
from einops import rearrange

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert import lpips as converter
from ffa_sora_jax.metrics.lpips import LPIPSDistance
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.lpips import LPIPS, trunk_config
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "lpips_tiny_alex.npz"
TRUNK = trunk_config("alex").narrowed(6, 10, 12, 8, 8)


@functools.cache
def golden():
    return dict(np.load(GOLDEN))


@functools.cache
def params():
    data = golden()
    names = [key for key in data if key.startswith("p/") and key.endswith(".weight")]
    state = {f"lin{k}.model.1.weight": data[f"lin{k}"] for k in range(5)}
    for index, name in zip((0, 3, 6, 8, 10), names, strict=True):
        state[f"features.{index}.weight"] = data[name]
        state[f"features.{index}.bias"] = data[name.replace(".weight", ".bias")]
    return engine.to_params(converter.rules(TRUNK), state, Bundle.create(LPIPS, TRUNK).abstract)


def clip(name):
    video = rearrange(golden()[name], "b t c h w -> b t h w c").astype(np.float32) / 127.5 - 1.0
    return Clip(video=video, exam=np.array([3, 1]))


@pytest.mark.parametrize("spatial", [True, False])
def test_rows_and_means_equal_the_reference(spatial):
    metric = LPIPSDistance(TRUNK, spatial)
    state = metric.update(metric.init(), clip("v0_u8"), clip("v1_u8"), params())
    name = "per_frame_spatial_mean" if spatial else "per_frame_scalar"
    close = functools.partial(np.testing.assert_allclose, rtol=TOL["lpips_rel"], atol=TOL["lpips"])
    close(state.rows, golden()[name][::-1])  # in the order of the keys
    close(metric.measure(clip("v0_u8"), clip("v1_u8"), params()), golden()[name])  # not compiled
    if spatial:
        close(metric.compute(state)["lpips"], golden()["video_mean"])
        close(metric.compute(state)["lpips_sd"], golden()["video_std_pop"])


def test_a_clip_is_at_distance_zero_from_itself_and_needs_a_partner():
    metric = LPIPSDistance(TRUNK)
    state = metric.update(metric.init(), clip("v0_u8"), clip("v0_u8"), params())
    assert metric.compute(state)["lpips"] == pytest.approx(0.0, abs=TOL["lpips"])
    with pytest.raises(ValueError, match="two videos"):
        metric.measure(clip("v0_u8"), None, params())
