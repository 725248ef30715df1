"""I3D against the reference graph: its layers, and the whole network at reduced width."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert import i3d as converter
from ffa_sora_jax.metrics.features import prepare
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.i3d import I3D, I3DConfig, Mixed, Unit, max_pool
from tests.models.i3d_golden import channels_last, golden, state_dict, tiny_config
from tests.tolerances import TOL

UNITS = ("u_7x7x7_s2_odd", "u_7x7x7_s2_even", "u_3x3x3_s1", "u_1x1x1", "u_3x3x3_s2_mixed")


def fill(module, weights):
    """Writes weights with published names (without a path) into a Unit."""
    module.kernel[...] = jnp.asarray(weights["conv3d.weight"].transpose(2, 3, 4, 1, 0))
    for ours, theirs in ("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"):
        getattr(module, ours)[...] = jnp.asarray(weights[f"bn.{theirs}"])
    module.variance[...] = jnp.asarray(weights["bn.running_var"])
    return module


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
@pytest.mark.parametrize("case", UNITS)
def test_units_equal_the_reference(case, epsilon):
    data, weights = golden("i3d_unit3d"), state_dict(f"{case}/p/", "i3d_unit3d")
    cout, cin = weights["conv3d.weight"].shape[:2]
    window, stride = data[f"{case}/kernel"], tuple(map(int, data[f"{case}/stride"]))
    unit = Unit(cin, cout, int(window[0]), 1, epsilon=epsilon, rngs=nnx.Rngs(0))
    unit.strides = stride
    got = jax.jit(fill(unit, weights).__call__)(channels_last(data[f"{case}/x"]))
    want = data[f"{case}/y" if epsilon == 1e-5 else f"{case}/y_eps1e-3"]
    np.testing.assert_allclose(got, channels_last(want), rtol=TOL["model"], atol=TOL["i3d"])


def test_head_equals_the_reference():
    data, case = golden("i3d_unit3d"), "u_logits_bias"
    kernel = data[f"{case}/p/conv3d.weight"][:, :, 0, 0, 0].T
    x = channels_last(data[f"{case}/x"])[:, :, 0, 0]
    got = x @ kernel + data[f"{case}/p/conv3d.bias"]
    np.testing.assert_allclose(got, channels_last(data[f"{case}/y"])[:, :, 0, 0], atol=TOL["unit"])


@pytest.mark.parametrize("case", ["p0", "p1", "p2", "p3"])
def test_pools_pad_with_zeros(case):
    data = golden("i3d_maxpool")
    window, stride = (tuple(map(int, data[f"{case}/{k}"])) for k in ("kernel", "stride"))
    for suffix in ("", "_relu", "_neg"):
        x = jnp.asarray(channels_last(data[f"{case}/x{suffix}"]))
        got = max_pool(x, window, stride)
        np.testing.assert_array_equal(got, channels_last(data[f"{case}/y{suffix}"]))


@pytest.mark.parametrize("case", ["m0", "m1"])
def test_mixed_blocks_equal_the_reference(case):
    data, weights = golden("i3d_inception"), state_dict(f"{case}/p/", "i3d_inception")
    widths = tuple(map(int, data[f"{case}/out_channels"]))
    x = channels_last(data[f"{case}/x"])
    block = Mixed(x.shape[-1], widths, epsilon=1e-5, rngs=nnx.Rngs(0))
    for branch in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b"):
        own = {k.removeprefix(f"{branch}."): v for k, v in weights.items() if k.startswith(branch)}
        fill(getattr(block, branch), own)
    want = channels_last(data[f"{case}/y"])
    got = jax.jit(block.__call__)(x)
    np.testing.assert_allclose(got, want, rtol=TOL["model"], atol=TOL["i3d"])


@functools.cache
def outputs(frames, epsilon):
    """Every endpoint, the pooled features and the class scores of the golden clips."""
    bundle = Bundle.create(I3D, tiny_config(epsilon))
    params = engine.to_params(converter.rules(bundle.cfg), state_dict(), bundle.abstract)
    video = channels_last(golden("i3d_tiny")[f"t{frames}/video_u8"])

    @jax.jit
    def run(params, video):
        x = prepare(video.astype(jnp.float32) / 127.5 - 1.0, "styleganv")
        names = bundle.apply(params, x, method="endpoints")
        return names, bundle.apply(params, x, method="pooled"), bundle.apply(params, x)

    return run(params, video)


@pytest.mark.parametrize("frames", [9, 21])
def test_network_equals_the_reference(frames):
    data = golden("i3d_tiny")
    close = functools.partial(np.testing.assert_allclose, rtol=TOL["i3d_rel"], atol=TOL["i3d"])
    endpoints, pooled, logits = outputs(frames, 1e-5)
    close(logits, data[f"t{frames}/logits"])
    close(pooled, channels_last(data[f"t{frames}/features"])[:, :, 0, 0])
    close(outputs(frames, 1e-3)[-1], data[f"t{frames}/logits_eps1e-3"])
    assert {f"t{frames}/end/{name}/shape" for name in endpoints} == {
        key for key in data if key.startswith(f"t{frames}/end/") and key.endswith("/shape")
    }
    for name, value in endpoints.items():
        value = np.asarray(value)
        prefix = f"t{frames}/end/{name}"
        b, c, t, h, w = data[f"{prefix}/shape"]
        assert value.shape == (b, t, h, w, c)
        close(value[:, -1, -2:, -2:, :4].transpose(0, 3, 1, 2), data[f"{prefix}/corner"])
        got = [value.mean(dtype=np.float64), value.std(ddof=1, dtype=np.float64), value.max()]
        close(got, data[f"{prefix}/mean_std_max"])


def test_published_size():
    abstract = Bundle.create(I3D, I3DConfig()).abstract
    trained = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(abstract)
        if path[-1].key not in ("mean", "variance")
    ]
    assert sum(math.prod(leaf.shape) for leaf in trained) == 12_697_264
    assert len(jax.tree.leaves(abstract)) == 287


def test_short_clips_and_wrong_sizes_are_refused():
    bundle = Bundle.create(I3D, tiny_config())
    for shape, why in ((1, 8, 224, 224, 3), "at least 9"), ((1, 9, 112, 224, 3), "h=224"):
        video = jax.ShapeDtypeStruct(shape, jnp.float32)
        with pytest.raises(ValueError, match=why):
            jax.eval_shape(bundle.apply, bundle.abstract, video)
    with pytest.raises(ValueError, match="9"):
        I3DConfig(mixed=())
    with pytest.raises(ValueError, match="epsilon"):
        I3DConfig(epsilon=0.0)
