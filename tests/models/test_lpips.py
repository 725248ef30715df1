"""LPIPS against the reference graph at reduced width, and its heads as they are released."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from safetensors.numpy import load_file, save_file

from ffa_sora_jax.convert import lpips as converter
from ffa_sora_jax.models import lpips
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.lpips import LPIPS, LPIPSConfig
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
WIDTHS = {"alex": (6, 10, 12, 8, 8), "vgg": (4, 6, 8, 10, 10)}
# Position of each convolution in torchvision's numbering, in the order of the golden file.
INDICES = {
    "alex": (0, 3, 6, 8, 10),
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
PARAMETERS = {"alex": 2_469_696, "vgg": 14_714_688}  # torchvision's `features`


@functools.cache
def golden(name):
    return dict(np.load(GOLDEN / f"{name}.npz"))


@functools.cache
def heads(net):
    """The released heads, as the reference stores them."""
    return [golden(f"lpips_heads_{net}")[f"lin{k}"] for k in range(5)]


@pytest.fixture(scope="module", params=["alex", "vgg"])
def net(request):
    return request.param


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    data, folder = golden(f"lpips_tiny_{net}"), tmp_path_factory.mktemp("lpips")
    names = [key for key in data if key.startswith("p/") and key.endswith(".weight")]
    trunk = {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for index, name in zip(INDICES[net], names, strict=True):
        trunk[f"features.{index}.weight"] = data[name]
        trunk[f"features.{index}.bias"] = data[name.replace(".weight", ".bias")]
    save_file(trunk, folder / f"{converter.FILES[net]}.safetensors")
    lins = {f"lin{k}.model.1.weight": data[f"lin{k}"].reshape(1, -1, 1, 1) for k in range(5)}
    save_file(lins, folder / "heads.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(net, folder):
    """`apply` of the reduced network, compiled per method."""
    cfg = lpips.trunk_config(net).narrowed(*WIDTHS[net])
    bundle, params = converter.load_lpips(folder, net, cfg=cfg, heads=folder / "heads.safetensors")

    def apply(*args, **kwargs):
        return jax.jit(functools.partial(bundle.apply, **kwargs))(params, *args)

    return apply


def clip(net, name):
    video = rearrange(golden(f"lpips_tiny_{net}")[name], "b t c h w -> b t h w c")
    return video.astype(np.float32) / 127.5 - 1.0


def nhwc(x):
    return rearrange(jnp.asarray(x), "n c h w -> n h w c")


def test_distances_of_frames_equal_the_reference(net, model):
    got = model(clip(net, "v0_u8"), clip(net, "v1_u8"))
    want = golden(f"lpips_tiny_{net}")["per_frame_scalar"]
    np.testing.assert_allclose(got, want, rtol=TOL["lpips_rel"], atol=TOL["lpips"])


def test_spatial_maps_and_their_means_equal_the_reference(net, model):
    data = golden(f"lpips_tiny_{net}")
    pair = clip(net, "v0_u8"), clip(net, "v1_u8")
    got = model(*pair, spatial=True)
    maps = model(pair[0][:1, :1], pair[1][:1, :1], method="maps")
    close = functools.partial(np.testing.assert_allclose, rtol=TOL["lpips_rel"], atol=TOL["lpips"])
    close(got, data["per_frame_spatial_mean"])
    close(got.mean(), data["video_mean"])
    close(np.asarray(got, np.float64).std(), data["video_std_pop"])
    close(maps[0, 0], data["spatial_map_frame0"])


def test_one_grey_channel_counts_as_three(net, model):
    data = golden(f"lpips_tiny_{net}")
    pair = (clip(net, name)[..., :1] for name in ("v0_u8", "v1_u8"))
    got = model(*pair, spatial=True)
    want = data["gray_per_frame_spatial_mean"]
    np.testing.assert_allclose(got, want, rtol=TOL["lpips_rel"], atol=TOL["lpips"])


def test_taps_equal_the_reference(net, model):
    data = golden(f"lpips_tiny_{net}")
    taps = model(clip(net, "v0_u8")[:1, :1], method="features")
    for k, tap in enumerate(taps):
        np.testing.assert_allclose(tap, nhwc(data[f"tap{k}_frame0"]), atol=TOL["unit"])


@pytest.mark.parametrize("size", [None, (20, 24)])
def test_released_heads_equal_the_reference(net, size):
    data = golden(f"lpips_heads_{net}")
    x, y = ([nhwc(data[f"{f}_{k}"]) for k in range(5)] for f in ("f0", "f1"))
    name = "y_spatial1" if size else "y_spatial0"
    shipped = load_file(converter.released_heads(net))
    shipped = [shipped[f"lin{k}.model.1.weight"].reshape(-1) for k in range(5)]
    for which, weights in ("lin1", shipped), ("lin0", [np.ones_like(h) for h in shipped]):
        got = lpips.compare(x, y, weights, size)
        want = data[f"{name}_{which}"].reshape(got.shape)
        np.testing.assert_allclose(got, want, rtol=TOL["model"], atol=TOL["lpips"])


def test_shipped_heads_are_the_released_ones(net):
    shipped = load_file(converter.released_heads(net))
    for k, head in enumerate(heads(net)):
        np.testing.assert_array_equal(shipped[f"lin{k}.model.1.weight"].reshape(-1), head)


def test_full_trunks_have_the_published_sizes(net):
    abstract = Bundle.create(LPIPS, lpips.trunk_config(net)).abstract
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract["stages"]))
    assert count == PARAMETERS[net]
    widths = [head.shape for head in abstract["heads"].values()]
    assert widths == [head.shape for head in heads(net)]


def test_equal_clips_have_distance_zero_and_a_finite_gradient(model):
    video = jnp.full((1, 1, 64, 64, 1), -1.0)
    value, grad = jax.value_and_grad(lambda x: model(x, video).sum())(video)
    assert value == pytest.approx(0.0, abs=TOL["lpips"])
    assert bool(jnp.isfinite(grad).all())


def test_frames_that_leave_nothing_to_a_stage_are_refused(model, net):
    smallest = {"alex": 31, "vgg": 16}[net]
    video, other = (jnp.full((1, 1, smallest, smallest, 1), v) for v in (-0.5, 0.5))
    for spatial in (False, True):
        assert np.isfinite(model(video, other, spatial=spatial)).all()
        with pytest.raises(ValueError, match=f"at least {smallest} px"):
            model(video[:, :, 1:], other[:, :, 1:], spatial=spatial)


def test_published_file_names_are_found_and_missing_ones_named(tmp_path, net):
    published = converter.PUBLISHED[net]
    with pytest.raises(FileNotFoundError, match=published):
        converter.load_lpips(tmp_path, net)
    (tmp_path / published).touch()
    assert converter.find_trunk(tmp_path, net).name == published
    with pytest.raises(ValueError, match="squeeze"):
        converter.find_trunk(tmp_path, "squeeze")
    with pytest.raises(ValueError, match="squeeze"):
        lpips.trunk_config("squeeze")


def test_default_is_vgg16():
    assert LPIPSConfig.vgg16() == LPIPSConfig()
