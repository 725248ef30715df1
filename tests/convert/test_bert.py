import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ffa_sora_jax.convert.pretrained import create, from_pretrained, save_pretrained
from ffa_sora_jax.models.bert import Bert, BertConfig
from ffa_sora_jax.models.bundle import Bundle
from tests.tolerances import TOL

SIZES = dict(
    vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=40,
)  # fmt: skip
IDS = np.random.default_rng(0).integers(3, 96, (2, 12))
MASK = np.ones((2, 12), bool)
MASK[1, 7:] = False


def random_params(cfg: BertConfig) -> dict:
    """Parameters of which none is zero or one, so that a mix-up shows."""
    rng = np.random.default_rng(1)
    abstract = Bundle.create(Bert, cfg).abstract
    return jax.tree.map(lambda x: rng.normal(0.5, 0.3, x.shape).astype(np.float32), abstract)


@pytest.fixture
def folder(tmp_path):
    """A BERT folder, and the same parameters."""
    model = create("BertModel", BertConfig(**SIZES, pooler=True), random_params(
        BertConfig(**SIZES, pooler=True)
    ))  # fmt: skip
    save_pretrained(model, tmp_path / "bert")
    return tmp_path / "bert", model


@pytest.mark.parametrize("name", ["Bert", "Roberta"])
def test_agrees_with_pytorch_layer_by_layer(tmp_path, name):
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(0)
    pad = {"Bert": 0, "Roberta": 1}[name]
    settings = {**SIZES, "pad_token_id": pad}
    theirs = getattr(transformers, f"{name}Model")(
        getattr(transformers, f"{name}Config")(**settings)
    ).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    assert ours.cfg.layer_norm_eps == theirs.config.layer_norm_eps
    ids = np.where(MASK, IDS, pad)
    with torch.no_grad():
        out = theirs(
            torch.tensor(ids), attention_mask=torch.tensor(MASK), output_hidden_states=True
        )
    call = jax.jit(ours.bundle.apply, static_argnames=("layer", "method"))
    for layer, expected in enumerate(out.hidden_states):
        hidden = np.asarray(call(ours.params, ids, MASK, layer=layer))
        np.testing.assert_allclose(hidden[MASK], expected.numpy()[MASK], atol=TOL["model"])
    np.testing.assert_allclose(hidden, ours(ids, MASK), atol=TOL["unit"])
    pooled = call(ours.params, hidden, method="pool")
    np.testing.assert_allclose(pooled, out.pooler_output.numpy(), atol=TOL["model"])


def test_saving_gives_the_same_folder_back(folder, tmp_path):
    path, model = folder
    copy = from_pretrained(path)
    assert copy.cfg == model.cfg and copy.fingerprint == model.fingerprint
    save_pretrained(copy, tmp_path / "copy")
    stored, again = (load_file(p / "model.safetensors") for p in (path, tmp_path / "copy"))
    assert stored.keys() == again.keys()
    assert "encoder.layer.2.attention.output.LayerNorm.weight" in stored
    for key, array in stored.items():
        np.testing.assert_array_equal(again[key], array)


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertForPreTraining"])
def test_a_model_with_a_head_and_old_names_gives_its_encoder(folder, tmp_path, architecture):
    path, model = folder
    state = load_file(path / "model.safetensors")
    old = {}
    for key, array in state.items():
        if "LayerNorm" in key:
            key = key.replace(".weight", ".gamma").replace(".bias", ".beta")
        old[f"bert.{key}"] = array
    old["bert.embeddings.position_ids"] = np.arange(40)[None]
    old["cls.predictions.bias"] = np.zeros(96, np.float32)
    config = json.loads((path / "config.json").read_text()) | {"architectures": [architecture]}
    (path / "config.json").write_text(json.dumps(config))
    save_file(old, path / "model.safetensors")
    encoder = from_pretrained(path)
    assert encoder.fingerprint == model.fingerprint
    save_pretrained(encoder, tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert written["architectures"] == ["BertModel"]
    assert from_pretrained(tmp_path / "copy").fingerprint == model.fingerprint


def test_a_pytorch_file_is_read_without_running_it(folder):
    torch = pytest.importorskip("torch")
    path, model = folder
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    torch.save({k: torch.tensor(v) for k, v in state.items()}, path / "pytorch_model.bin")
    assert from_pretrained(path).fingerprint == model.fingerprint


def test_roberta_counts_real_tokens_from_its_offset():
    """Every position has its own row; a token's own embedding is all that differs."""
    cfg = BertConfig.tiny(position_offset=2, num_hidden_layers=1)
    bundle, params = Bundle.create(Bert, cfg), random_params(cfg)
    same = np.full((1, 6), 5)
    mask = np.array([[0, 0, 1, 1, 1, 0]], bool)
    padded = bundle.apply(params, same, mask, layer=0)
    plain = bundle.apply(params, same[:, :3], layer=0)
    np.testing.assert_allclose(padded[:, 2:5], plain, atol=TOL["unit"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(hidden_act="relu"), "hidden_act='relu' is not supported"),
        (dict(num_hidden_layer=3), "Did you mean 'num_hidden_layers'"),
        (dict(num_hidden_layers=2), "unused source keys.*encoder.layer.2"),
        (dict(num_attention_heads=5), "not a multiple"),
        (dict(vocab_size=None), "lacks.*vocab_size"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_explained(folder, changes, message):
    path, _ = folder
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        from_pretrained(path)
