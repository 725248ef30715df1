import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert.pretrained import create, from_pretrained, save_pretrained
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.t5 import T5Config, T5Encoder
from ffa_sora_jax.models.t5_decoder import T5, T5DecoderConfig
from tests.models import dit_golden
from tests.tolerances import TOL

NAME = "t5/mt5_tiny"
CASES = dit_golden.tensors("t5/mt5_tiny_cases")


def state() -> dict[str, np.ndarray]:
    return dict(dit_golden.tensors("t5/mt5_tiny_state"))


@pytest.mark.parametrize("architecture", ["MT5EncoderModel", "T5EncoderModel"])
def test_a_folder_encodes_as_the_reference(tmp_path, architecture):
    folder = dit_golden.write_folder(tmp_path / "t5", NAME, architectures=[architecture])
    encoder = from_pretrained(folder)
    hidden = encoder(CASES["input_ids"], CASES["attention_mask"])
    np.testing.assert_allclose(hidden, CASES["last_hidden_state"], atol=TOL["model"])


@pytest.mark.parametrize("drop", [(), ("encoder.embed_tokens.weight",)])
def test_saving_gives_the_same_keys_back(tmp_path, drop):
    folder = dit_golden.write_folder(tmp_path / "t5", NAME)
    given = {key: value for key, value in state().items() if key not in drop}
    save_file(given, folder / "model.safetensors")
    save_pretrained(from_pretrained(folder), tmp_path / "copy")
    saved = load_file(tmp_path / "copy" / "model.safetensors")
    assert saved.keys() == given.keys()
    for key, array in given.items():
        np.testing.assert_array_equal(saved[key], array)
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert config["architectures"] == ["MT5EncoderModel"] and config["pad_token_id"] == 0


def test_the_embedding_may_be_stored_under_its_other_name(tmp_path):
    folder = dit_golden.write_folder(tmp_path / "t5", NAME)
    given = state()
    del given["shared.weight"]
    save_file(given, folder / "model.safetensors")
    embedding = from_pretrained(folder).params["shared"]["embedding"]
    np.testing.assert_array_equal(embedding, given["encoder.embed_tokens.weight"])


def test_two_different_embeddings_are_refused(tmp_path):
    folder = dit_golden.write_folder(tmp_path / "t5", NAME)
    given = state()
    given["shared.weight"] = given["shared.weight"] + 1
    save_file(given, folder / "model.safetensors")
    with pytest.raises(ValueError, match="must hold the same values"):
        from_pretrained(folder)


def test_the_decoder_of_a_whole_model_is_left_unread(tmp_path):
    whole = {"architectures": ["MT5ForConditionalGeneration"]}
    folder = dit_golden.write_folder(tmp_path / "t5", NAME, **whole)
    extra = {"decoder.block.0.x.weight": np.zeros((2, 2), np.float32), "lm_head.weight": np.ones(1)}
    save_file(state() | extra, folder / "model.safetensors")
    encoder = from_pretrained(folder, encoder_only=True)
    assert encoder.class_name == "MT5EncoderModel"
    save_pretrained(encoder, tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert config["architectures"] == ["MT5EncoderModel"]
    assert from_pretrained(tmp_path / "copy").fingerprint == encoder.fingerprint


def test_version_1_0_is_read_and_written(tmp_path):
    cfg = T5Config.tiny(feed_forward_proj="relu")
    rng = np.random.default_rng(0)
    abstract = Bundle.create(T5Encoder, cfg).abstract
    params = tree.map_with_path(lambda _, x: rng.normal(size=x.shape).astype(np.float32), abstract)
    save_pretrained(create("T5EncoderModel", cfg, params), tmp_path / "t5")
    keys = load_file(tmp_path / "t5" / "model.safetensors").keys()
    assert "encoder.block.2.layer.1.DenseReluDense.wi.weight" in keys
    config = json.loads((tmp_path / "t5" / "config.json").read_text())
    del config["feed_forward_proj"]  # version 1.0 is the library's default
    (tmp_path / "t5" / "config.json").write_text(json.dumps(config))
    assert from_pretrained(tmp_path / "t5").cfg == cfg


VERSIONS = {
    "1.0": dict(feed_forward_proj="relu", tie_word_embeddings=True),
    "1.1": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_whole_model_agrees_with_pytorch(tmp_path, version):
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(0)
    sizes = dict(vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, num_decoder_layers=2, **VERSIONS[version])
    ).eval()
    if version == "1.1":  # the library ties the head of every new model
        theirs.lm_head.weight = torch.nn.Parameter(torch.randn(96, 32))
        theirs.config.tie_word_embeddings = False
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    assert ours.cfg.tied_head == ours.cfg.scale_decoder_outputs == (version == "1.0")
    ids, mask = (np.asarray(CASES[key]) for key in ("input_ids", "attention_mask"))
    decoder_ids = np.random.default_rng(0).integers(0, 96, (2, 140))  # beyond the last bucket
    with torch.no_grad():
        out = theirs(
            torch.tensor(ids), attention_mask=torch.tensor(mask),
            decoder_input_ids=torch.tensor(decoder_ids),
        )  # fmt: skip
    expected = out.logits.numpy()
    np.testing.assert_allclose(
        ours(ids, mask, decoder_ids), expected, atol=TOL["model"] * np.abs(expected).max()
    )
    hidden = out.encoder_last_hidden_state.numpy()
    np.testing.assert_allclose(ours(ids, mask), hidden, atol=TOL["model"])
    save_pretrained(ours, tmp_path / "copy")
    copy = from_pretrained(tmp_path / "copy")
    assert copy.cfg == ours.cfg and copy.fingerprint == ours.fingerprint
    encoder = from_pretrained(tmp_path / "copy", encoder_only=True)
    np.testing.assert_allclose(encoder(ids, mask), hidden, atol=TOL["model"])


@pytest.mark.parametrize("stored", [True, False])
def test_a_tied_head_may_be_stored_twice(tmp_path, stored):
    model = create("T5ForConditionalGeneration", *whole(tied_head=True, scale_decoder_outputs=True))
    save_pretrained(model, tmp_path / "t5")
    state = load_file(tmp_path / "t5" / "model.safetensors")
    assert "lm_head.weight" not in state
    if stored:
        save_file(
            state | {"lm_head.weight": state["shared.weight"]}, tmp_path / "t5/model.safetensors"
        )
    assert from_pretrained(tmp_path / "t5").fingerprint == model.fingerprint
    if stored:
        other = {"lm_head.weight": state["shared.weight"] + 1}
        save_file(state | other, tmp_path / "t5" / "model.safetensors")
        with pytest.raises(ValueError, match="must hold the same values"):
            from_pretrained(tmp_path / "t5")


def whole(**changes) -> tuple[T5DecoderConfig, dict]:
    cfg = T5DecoderConfig.tiny(**changes)
    rng = np.random.default_rng(0)
    abstract = Bundle.create(T5, cfg).abstract
    return cfg, jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), abstract)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_layer=3), "Did you mean 'num_layers'"),
        (dict(feed_forward_proj="gated-silu"), "Unknown feed_forward_proj 'gated-silu'"),
        (dict(d_ff=64), r"wi_0.weight.*\(48, 32\).*\(64, 32\)"),
        (dict(num_layers=2), "unused source keys.*encoder.block.2"),
        (dict(d_model=None), "lacks.*d_model"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_explained(tmp_path, changes, message):
    folder = dit_golden.write_folder(tmp_path / "t5", NAME, **changes)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        from_pretrained(folder)
