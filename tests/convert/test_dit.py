import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from ffa_sora_jax.convert import dit as table
from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert.pretrained import create, from_pretrained, save_pretrained
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.dit import DiT, DiTConfig
from tests.models import dit_golden
from tests.tolerances import TOL

NAMES = ["dit/t2v_tiny", "dit/inpaint_tiny"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_a_folder_predicts_as_the_reference(tmp_path):
    golden = dit_golden.case("dit/t2v_tiny_cases", "sparse4")
    dit = from_pretrained(dit_golden.write_folder(tmp_path / "dit", "dit/t2v_tiny"))
    y = dit(*dit_golden.inputs(golden))
    np.testing.assert_allclose(y, dit_golden.last(golden["out"]), atol=TOL["model"])


@pytest.mark.parametrize("name", NAMES)
def test_saving_gives_the_same_weights_and_config_back(tmp_path, name):
    source = dit_golden.write_folder(tmp_path / "source", name)
    dit = from_pretrained(source)
    save_pretrained(dit, tmp_path / "copy")
    given, saved = (load_file(tmp_path / d / WEIGHTS) for d in ("source", "copy"))
    assert saved.keys() == given.keys()
    for key, array in given.items():
        assert saved[key].dtype == array.dtype
        np.testing.assert_array_equal(saved[key], array)
    given, saved = (
        json.loads((tmp_path / d / "config.json").read_text()) for d in ("source", "copy")
    )
    assert saved.items() >= given.items()  # sample sizes and library version included
    assert from_pretrained(tmp_path / "copy").fingerprint == dit.fingerprint


def test_the_released_model_has_the_keys_and_the_size_of_the_reference():
    bundle = Bundle.create(DiT, DiTConfig())
    leaves = engine.tree.flatten(bundle.abstract)
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves.values()) == 2_771_981_600
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    keys = [
        key for entry in engine.plan(table.rules(bundle.cfg), shapes).values() for key in entry.keys
    ]
    assert len(keys) == len(set(keys)) == 32 * 21 + 15
    assert "transformer_blocks.31.attn2.to_out.0.bias" in keys
    inpaint = Bundle.create(DiT, DiTConfig(inpaint=True))
    sizes = [int(np.prod(leaf.shape)) for leaf in engine.tree.flatten(inpaint.abstract).values()]
    assert sum(sizes) == 2_782_713_632


@pytest.mark.parametrize(
    "changes",
    [
        dict(num_layers=1), dict(num_layers=5, sparse1d=False), dict(num_layers=7, sparse_last=6),
        dict(qk_norm=True, norm="rmsnorm", pooled_text=True, zero_init=True,
             absolute_position=True),
        dict(sparse_first=1, sparse_last=3, sparse_n=2, inpaint=True, mask_channels=2),
        dict(patch_size=1, out_channels=6, norm_eps=1e-5, interpolation_scale_t=2.0),
    ],
    ids=str,
)  # fmt: skip
def test_every_option_survives_a_folder(tmp_path, changes):
    cfg = DiTConfig.tiny(**changes)
    class_name = table.INPAINT if cfg.inpaint else table.T2V
    abstract = Bundle.create(DiT, cfg).abstract
    rng = np.random.default_rng(0)
    params = engine.tree.map_with_path(
        lambda _, leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract
    )
    save_pretrained(create(class_name, cfg, params), tmp_path / "dit")
    loaded = from_pretrained(tmp_path / "dit")
    assert loaded.cfg == dataclasses.replace(cfg, out_channels=cfg.channels)
    left, right = engine.tree.flatten(params), engine.tree.flatten(loaded.params)
    assert left.keys() == right.keys()
    for path in left:
        np.testing.assert_array_equal(left[path], right[path])


def test_options_that_only_say_how_to_compute_are_not_stored():
    cfg = DiTConfig.tiny(remat="block", dtype="bfloat16")
    assert not {"remat", "dtype", "inpaint"} & table.write_config(cfg).keys()


def test_settings_left_out_take_the_defaults_of_the_reference(tmp_path):
    left_out = ("sparse1d", "sparse_n", "out_channels", "cross_attention_dim", "patch_size_t")
    folder = dit_golden.write_folder(tmp_path / "dit", "dit/t2v_tiny", drop=left_out)
    cfg = from_pretrained(folder).cfg
    assert not cfg.sparse1d and cfg.channels == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_layer=4), "Unknown key of config.json 'num_layer'. Did you mean 'num_layers'"),
        (dict(remat="block"), "Unknown key of config.json 'remat'"),
        (dict(num_layers=5), "unfilled parameters.*transformer_blocks.4"),
        (dict(num_layers=3), "unused source keys.*transformer_blocks.3"),
        (dict(attention_head_dim=20), "multiple of 6, such as 18 or 24"),
        (dict(caption_channels=8), r"caption_projection.linear_1.weight.*\(48, 40\).*\(48, 8\)"),
        (dict(cross_attention_dim=40), "cross_attention_dim=40 must be.*48"),
        (dict(activation_fn="geglu"), "activation_fn='geglu' is not supported"),
        (dict(patch_size_t=2), "patch_size_t=2 is not supported; allowed: 1"),
        (dict(num_layers="4"), "num_layers='4' is not of type int"),
        (dict(num_layers=None), "lacks.*num_layers"),
        (dict(_class_name="OpenSoraInpaint_v1_3"), "unfilled parameters.*pos_embed_mask"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_explained(tmp_path, changes, message):
    folder = dit_golden.write_folder(tmp_path / "dit", "dit/t2v_tiny", **changes)
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        from_pretrained(folder)
    assert str(folder) in str(error.value)
