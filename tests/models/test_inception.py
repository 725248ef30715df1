"""Inception-v3: sizes of the published network, and what sets it apart from others."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert import inception as converter
from ffa_sora_jax.models import inception
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.inception import InceptionConfig, InceptionV3
from tests.compiling import quick_compile
from tests.pipelines.tiny import random_params

NARROW = InceptionConfig(divisor=32, num_classes=4)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compile():
        yield


def test_published_size():
    """Parameters without statistics and classes: those of torchvision's Inception-v3."""
    abstract = Bundle.create(InceptionV3, InceptionConfig()).abstract
    leaves = jax.tree_util.tree_leaves_with_path({k: v for k, v in abstract.items() if k != "fc"})
    trained = [leaf for path, leaf in leaves if path[-1].key not in ("mean", "variance")]
    assert sum(math.prod(leaf.shape) for leaf in trained) == 21_785_568
    assert abstract["fc"]["kernel"].shape == (2048, 1008)
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    bundle = Bundle.create(InceptionV3, InceptionConfig())
    shape = jax.eval_shape(lambda p, x: bundle.apply(p, x, method="last_block"), abstract, images)
    assert shape.shape == (1, 8, 8, 2048)


def test_mean_pools_leave_out_the_border():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    got = inception._mean_pool(x)[0, :, :, 0]
    assert got[0, 0] == np.mean([0, 1, 3, 4]) and got[0, 1] == np.mean([0, 1, 2, 3, 4, 5])
    assert got[1, 1] == 4.0


def test_last_block_pools_by_the_maximum():
    bundle = Bundle.create(InceptionV3, NARROW)
    model = nnx.eval_shape(lambda: InceptionV3(NARROW, rngs=nnx.Rngs(0)))
    assert model.Mixed_7c.largest and not model.Mixed_7b.largest
    assert bundle.cfg.divisor == 32


def test_files_are_read_with_their_counters_ignored(tmp_path):
    bundle = Bundle.create(InceptionV3, NARROW)
    params = random_params(bundle.abstract, 1)
    state = engine.to_state_dict(converter.RULES, params)
    state["Mixed_5b.branch1x1.bn.num_batches_tracked"] = np.array(1)
    save_file(state, tmp_path / "inception.safetensors")
    _, got = converter.load_inception(tmp_path / "inception.safetensors", NARROW)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), got, params))
    assert {"Mixed_6c.branch7x7dbl_4.bn.running_var", "Conv2d_1a_3x3.conv.weight"} <= set(state)


def test_small_images_and_wrong_configs_are_refused():
    bundle = Bundle.create(InceptionV3, NARROW)
    small = jax.ShapeDtypeStruct((1, 60, 80, 3), jnp.float32)
    with pytest.raises(ValueError, match="60 x 80"):
        jax.eval_shape(bundle.apply, bundle.abstract, small)
    with pytest.raises(ValueError, match="divisor"):
        InceptionConfig(divisor=0)
