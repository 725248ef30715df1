import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ffa_sora_jax.convert.pretrained import create, from_pretrained, save_pretrained
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.clip import CLIP, CLIPConfig
from tests.tolerances import TOL

VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    image_size=16, patch_size=4,
)  # fmt: skip
TEXT = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
    vocab_size=60, max_position_embeddings=12, bos_token_id=58,
)  # fmt: skip
RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(3, 16, 16, 3)).astype(np.float32)


def ids(end: int) -> np.ndarray:
    """Two texts of different length; what follows the end is padded with the end."""
    rows = RNG.integers(1, 50, (2, 9))
    rows[0, 6:] = rows[1, 8] = end
    return rows


@pytest.fixture
def folder(tmp_path):
    cfg = CLIPConfig.tiny()
    abstract = Bundle.create(CLIP, cfg).abstract
    params = jax.tree.map(lambda x: RNG.normal(0.5, 0.3, x.shape).astype(np.float32), abstract)
    model = create("CLIPModel", cfg, params)
    save_pretrained(model, tmp_path / "clip")
    return tmp_path / "clip", model


@pytest.mark.parametrize(
    ("end", "act"), [(59, "quick_gelu"), (2, "quick_gelu"), (59, "gelu")], ids=str
)
def test_agrees_with_pytorch(tmp_path, end, act):
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={**TEXT, "eos_token_id": end, "pad_token_id": 0, "hidden_act": act},
        vision_config={**VISION, "hidden_act": act}, projection_dim=20,
    )  # fmt: skip
    theirs = transformers.CLIPModel(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    assert ours.cfg.text.eos_token_id == end and ours.cfg.vision.hidden_act == act
    texts = ids(59)  # the highest id ends a text whatever old configs say
    with torch.no_grad():
        out = theirs(
            torch.tensor(texts), torch.tensor(PIXELS).permute(0, 3, 1, 2),
            output_hidden_states=True,
        )  # fmt: skip
    call = jax.jit(ours.bundle.apply, static_argnames="method")
    for method, given, theirs_unit in (
        ("encode_images", PIXELS, out.image_embeds), ("encode_texts", texts, out.text_embeds),
    ):  # fmt: skip
        rows = np.asarray(call(ours.params, given, method=method))
        unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
        np.testing.assert_allclose(unit, theirs_unit.numpy(), atol=TOL["model"])
    expected = out.logits_per_image.numpy()
    np.testing.assert_allclose(
        ours(PIXELS, texts), expected, atol=TOL["model"] * np.abs(expected).max()
    )


def test_saving_gives_the_same_folder_back(folder, tmp_path):
    path, model = folder
    state = load_file(path / "model.safetensors")
    assert "vision_model.pre_layrnorm.weight" in state and "logit_scale" in state
    old = state | {"text_model.embeddings.position_ids": np.arange(12)[None]}
    save_file(old, path / "model.safetensors")
    copy = from_pretrained(path)
    assert copy.cfg == model.cfg and copy.fingerprint == model.fingerprint
    save_pretrained(copy, tmp_path / "copy")
    again = load_file(tmp_path / "copy" / "model.safetensors")
    assert again.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(again[key], array)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("vision_config", dict(hidden_act="relu"), "Unknown hidden_act 'relu'"),
        ("vision_config", dict(num_channels=1), "num_channels=1 is not supported"),
        ("text_config", dict(num_hidden_layer=2), "Did you mean 'num_hidden_layers'"),
        ("text_config", dict(num_hidden_layers=1), "unused source keys.*text_model.encoder"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_explained(folder, section, changes, message):
    path, _ = folder
    config = json.loads((path / "config.json").read_text())
    config[section] |= changes
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        from_pretrained(path)
