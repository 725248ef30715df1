"""Model folders of WF-VAE: parity through the public calls, and the way back."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ffa_sora_jax.convert import wfvae as table
from ffa_sora_jax.convert.pretrained import create, from_pretrained, save_pretrained
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from tests.models.wfvae_golden import last, load, meta, tiny_state
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL

WEIGHTS = "diffusion_pytorch_model.safetensors"


def write_folder(folder, state, drop=(), **changes):
    config = {"_class_name": "WFVAEModel", **meta()["files"]["tiny_weights.safetensors"]["config"]}
    config.update(changes)
    folder.mkdir(exist_ok=True)
    kept = {key: value for key, value in config.items() if key not in drop}
    (folder / "config.json").write_text(json.dumps(kept))
    save_file(state, folder / WEIGHTS)
    return folder


def test_a_folder_encodes_and_decodes_as_the_reference(tmp_path):
    io = load("tiny_io")
    vae = from_pretrained(write_folder(tmp_path / "vae", tiny_state()))
    mean, logvar = vae.encode(last(io["t5.x"]))
    np.testing.assert_allclose(mean, last(io["t5.mean"]), atol=TOL["model"])
    np.testing.assert_allclose(logvar, last(io["t5.moments"])[..., 4:], atol=TOL["model"])
    video = vae.decode(last(io["t5.mean"]))
    np.testing.assert_allclose(video, last(io["t5.dec"]), atol=TOL["model"])


def test_the_released_spelling_of_wavelet_main_is_read_too(tmp_path):
    state = {k.replace("wavelet_tranform", "wavelet_transform"): v for k, v in tiny_state().items()}
    state["encoder.wavelet_transform_in.h_conv.conv.weight"] = np.zeros((1, 1, 2, 2, 2), np.float32)
    state["decoder.inverse_wavelet_transform_out.h"] = np.zeros((1, 1, 2, 2, 2), np.float32)
    vae = from_pretrained(write_folder(tmp_path / "main", state))
    osp = from_pretrained(write_folder(tmp_path / "osp", tiny_state()))
    assert vae.fingerprint == osp.fingerprint


def test_widths_missing_in_the_config_come_from_the_shapes(tmp_path):
    left_out = (
        "encoder_energy_flow_hidden_size", "decoder_energy_flow_hidden_size",
        "connect_res_layer_num",
    )  # fmt: skip
    vae = from_pretrained(write_folder(tmp_path / "vae", tiny_state(), drop=left_out))
    assert vae.cfg.encoder_energy_flow_hidden_size == 6
    assert vae.cfg.decoder_energy_flow_hidden_size == 8
    assert vae.cfg.connect_res_layer_num == 1


def test_saving_gives_the_same_weights_and_config_back(tmp_path):
    given = {"l1_dowmsample_block": "Downsample", "scale": [0.5] * 4, "shift": [1.0] * 4}
    vae = from_pretrained(write_folder(tmp_path / "vae", tiny_state(), **given))
    save_pretrained(vae, tmp_path / "copy")
    saved, original = load_file(tmp_path / "copy" / WEIGHTS), tiny_state()
    assert set(saved) == set(original)
    for key in saved:
        np.testing.assert_array_equal(saved[key], original[key], err_msg=key)
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    before = json.loads((tmp_path / "vae" / "config.json").read_text())
    assert {key: config[key] for key in before} == before
    assert from_pretrained(tmp_path / "copy").fingerprint == vae.fingerprint


def test_a_model_with_a_linear_path_survives_the_round_trip(tmp_path):
    cfg = WFVAEConfig(
        in_channels=1, latent_dim=6, base_channels=32, encoder_num_resblocks=1,
        decoder_num_resblocks=1, encoder_energy_flow_hidden_size=32,
        decoder_energy_flow_hidden_size=32, use_attention=False, linear_path=True, scale=(2.0,),
    )  # fmt: skip
    model = create("WFVAEModel", cfg, random_params(Bundle.create(WFVAE, cfg).abstract, 0))
    save_pretrained(model, tmp_path / "vae")
    read = from_pretrained(tmp_path / "vae")
    assert read.fingerprint == model.fingerprint
    assert read.cfg.linear_path and read.cfg.norm_type == "groupnorm"
    assert read.cfg.scale == (2.0,) * 6


def test_a_new_model_is_stored_with_the_filters_of_the_reference():
    constants = table.wavelet_constants(WFVAEConfig.tiny())
    original = {key: value for key, value in tiny_state().items() if "wavelet_tran" in key}
    assert set(constants) == set(original)
    for key, value in constants.items():
        np.testing.assert_array_equal(value, original[key], err_msg=key)


def test_settings_that_are_not_supported_are_refused_by_name(tmp_path):
    folder = write_folder(tmp_path / "vae", tiny_state(), l1_dowmsample_block="Spatial2x")
    with pytest.raises(ValueError, match="l1_dowmsample_block='Spatial2x' is not supported"):
        from_pretrained(folder)


def test_missing_and_left_over_weights_are_both_listed(tmp_path):
    state = tiny_state()
    state["decoder.extra.weight"] = state.pop("decoder.conv_out.weight")
    with pytest.raises(ValueError) as error:
        from_pretrained(write_folder(tmp_path / "vae", state))
    assert "decoder.extra.weight" in str(error.value)
    assert "decoder.conv_out.weight" in str(error.value)


def test_every_parameter_of_every_preset_has_a_rule():
    from ffa_sora_jax.common import tree
    from ffa_sora_jax.models.bundle import Bundle
    from ffa_sora_jax.models.wfvae import WFVAE

    for cfg in (WFVAEConfig(), WFVAEConfig.v1_3(), WFVAEConfig.small(8), WFVAEConfig.large()):
        abstract = Bundle.create(WFVAE, cfg).abstract
        shapes = {path: leaf.shape for path, leaf in tree.flatten(abstract).items()}
        from ffa_sora_jax.convert import engine

        assert len(engine.plan(table.rules(cfg), shapes)) == len(shapes)
