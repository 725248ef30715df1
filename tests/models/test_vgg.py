"""LPIPS against the reference graph at reduced width, through the published file layout."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from safetensors.numpy import save_file

from ffa_sora_jax.convert import vgg
from ffa_sora_jax.models.vgg import VGGConfig
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "lpips_tiny_vgg.npz"
# Position of each convolution in torchvision's numbering, by its name in the golden file.
INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


@functools.cache
def golden():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    data, folder = golden(), tmp_path_factory.mktemp("lpips")
    names = [key for key in data if key.startswith("p/") and key.endswith(".weight")]
    trunk = {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for index, name in zip(INDICES, names, strict=True):
        trunk[f"features.{index}.weight"] = data[name]
        trunk[f"features.{index}.bias"] = data[name.replace(".weight", ".bias")]
    save_file(trunk, folder / "vgg16.safetensors")
    heads = {f"lin{k}.model.1.weight": data[f"lin{k}"].reshape(1, -1, 1, 1) for k in range(5)}
    save_file(heads, folder / "lpips_vgg.safetensors")
    return vgg.load_lpips(folder, VGGConfig.tiny())


def clip(name):
    return rearrange(golden()[name], "b t c h w -> b t h w c").astype(np.float32) / 127.5 - 1.0


def test_distances_of_frames_equal_the_reference(model):
    bundle, params = model
    got = bundle.apply(params, clip("v0_u8"), clip("v1_u8"))
    np.testing.assert_allclose(got, golden()["per_frame_scalar"], atol=TOL["model"])


def test_equal_clips_have_distance_zero_and_a_finite_gradient(model):
    bundle, params = model
    video = jnp.full((1, 1, 32, 32, 1), -1.0)
    value, grad = jax.value_and_grad(lambda x: bundle.apply(params, x, video).sum())(video)
    assert value == 0.0
    assert bool(jnp.isfinite(grad).all())


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vgg16\.safetensors.*perceptual_weight=0"):
        vgg.load_lpips(tmp_path)
