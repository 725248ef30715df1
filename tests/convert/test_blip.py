"""BLIP folders: a tiny one that the PyTorch library wrote, and what it computes with it."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ffa_sora_jax.convert import blip, engine, pretrained, safetensors_io
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.captioner import Blip, BlipConfig
from tests.tolerances import TOL

FOLDER = Path(__file__).parents[1] / "golden" / "blip"
CASES = dict(np.load(FOLDER / "cases.npz"))


def video_of(cfg, pixels):
    """Normalised pictures (b c h w) as videos of one frame in [-1, 1]."""
    mean, std = (np.asarray(x)[:, None, None] for x in (cfg.image_mean, cfg.image_std))
    return np.moveaxis((pixels * std + mean) * 2.0 - 1.0, 1, -1)[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    return pretrained.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def video(tiny):
    return video_of(tiny.cfg, CASES["pixels"])


def test_reads_the_sizes(tiny):
    assert tiny.cfg == BlipConfig.tiny()


def test_features_and_logits_match_the_reference(tiny, video):
    np.testing.assert_allclose(tiny.encode(video), CASES["features"], atol=TOL["model"])
    np.testing.assert_allclose(tiny(video, CASES["ids"]), CASES["logits"], atol=TOL["model"])


def test_greedy_and_beams_match_the_reference(tiny, video):
    """The library pads ended beams with the end of sequence."""

    def search(beams, penalty):
        def run(params, video):
            return tiny.bundle.apply(
                params, video, method="search", beams=beams, length=12, length_penalty=penalty
            )

        return jax.jit(run)(tiny.params, video)

    np.testing.assert_array_equal(search(1, 1.0)[0][:, 0], CASES["greedy"])
    ids, scores = search(3, 0.7)
    expected = CASES["beams"].reshape(3, 3, 12)
    ended = np.cumsum(expected == 3, axis=-1) > 1
    np.testing.assert_array_equal(ids, np.where(ended, 0, expected))
    np.testing.assert_allclose(scores, CASES["scores"].reshape(3, 3), atol=TOL["model"])


def test_folder_round_trips_bit_for_bit(tiny, tmp_path):
    pretrained.save_pretrained(tiny, tmp_path)
    given = safetensors_io.open_weights(FOLDER / "model.safetensors")
    made = safetensors_io.open_weights(tmp_path / "model.safetensors")
    assert set(made) == set(given)
    for key in given:
        np.testing.assert_array_equal(made[key], given[key], err_msg=key)
    assert pretrained.from_pretrained(tmp_path).cfg == tiny.cfg


def test_our_own_settings_round_trip(tmp_path):
    cfg = BlipConfig.tiny(
        num_frames=2, stack=3, in_channels=3, image_mean=(0.5,), image_std=(0.25,), heads=4
    )
    bundle = Bundle.create(Blip, cfg)
    params = jax.jit(bundle.init)(jax.random.key(0))
    params["frame_embedding"] += 0.5
    model = pretrained.create("BlipForConditionalGeneration", cfg, params)
    pretrained.save_pretrained(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["num_frames"] == 2 and config["image_mean"] == [0.5]
    again = pretrained.from_pretrained(tmp_path)
    assert again.cfg == cfg and again.fingerprint == model.fingerprint


def test_plain_folders_hold_no_key_of_ours(tiny):
    written = blip.write_config(tiny.cfg)
    assert not set(written) & set(blip._OURS)
    assert "vision_model.frame_embedding" not in pretrained.state_dict(tiny)


def test_absent_heads_are_the_librarys_default():
    config = json.loads((FOLDER / "config.json").read_text())
    del config["text_config"]["num_attention_heads"]
    assert blip.read_config(config, {}).heads == 8


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match="hidden_act"):
        blip.read_config({"text_config": {"hidden_act": "relu"}}, {})


def test_position_ids_of_old_folders_are_kept(tiny):
    state = dict(safetensors_io.open_weights(FOLDER / "model.safetensors"))
    state["text_decoder.bert.embeddings.position_ids"] = np.arange(20)[None]
    form = blip.FORMATS["BlipForConditionalGeneration"]
    params = engine.to_params(
        blip.rules(tiny.cfg), state, tiny.bundle.abstract, ignored=form.ignored
    )
    np.testing.assert_array_equal(params["vision"]["norm"]["scale"].shape, (32,))


def test_base_size_agrees_with_torch():
    """Full width, two layers of each, random weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2}
    theirs = transformers.BlipForConditionalGeneration(
        transformers.BlipConfig(
            text_config={**sizes, "num_attention_heads": 12}, vision_config=sizes
        )
    ).eval()
    cfg = dataclasses.replace(BlipConfig(), vision_layers=2, layers=2)
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    bundle = Bundle.create(Blip, cfg)
    params = engine.to_params(blip.rules(cfg), state, bundle.abstract)
    pixels, ids = torch.randn(1, 3, 384, 384), torch.randint(5, 30000, (1, 12))
    with torch.no_grad():
        expected = theirs(pixels, input_ids=ids).logits.numpy()
    logits = jax.jit(bundle.apply)(params, video_of(cfg, pixels.numpy()), ids.numpy())
    np.testing.assert_allclose(logits, expected, atol=TOL["model"])
