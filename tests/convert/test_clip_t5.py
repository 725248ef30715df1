import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ffa_sora_jax.convert.pretrained import create, from_pretrained, save_pretrained
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.clip_t5 import CLIPT5, CLIPT5Config
from tests.tolerances import TOL

RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(2, 16, 16, 3)).astype(np.float32)
BEFORE, AFTER = RNG.integers(1, 96, 5), RNG.integers(1, 96, (2, 7))
MASK = np.arange(7)[None] < np.array([[7], [4]])
DECODER_IDS = np.array([[0, 31, 4], [0, 17, 8]])
TOWER = "vision_tower.vision_tower.vision_model."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with the image tower among its weights, as it is published."""
    path = tmp_path_factory.mktemp("weights") / "clip-flant5"
    cfg = CLIPT5Config.tiny()
    abstract = Bundle.create(CLIPT5, cfg).abstract
    params = jax.tree.map(lambda x: RNG.normal(0.2, 0.3, x.shape).astype(np.float32), abstract)
    model = create("CLIPT5ForConditionalGeneration", cfg, params)
    save_pretrained(model, path)
    return path, model


def copied(path, to, drop="no such key"):
    """The folder again, and the weights that were left out."""
    to.mkdir()
    config = json.loads((path / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config))
    state = load_file(path / "model.safetensors")
    left_out = {key: state.pop(key) for key in list(state) if key.startswith(drop)}
    save_file(state, to / "model.safetensors")
    return left_out


def test_agrees_with_pytorch_put_together_by_hand(folder):
    torch = pytest.importorskip("torch")
    import transformers

    path, model = folder
    state = {k: torch.tensor(v) for k, v in load_file(path / "model.safetensors").items()}
    t5 = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2,
            num_heads=4, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
        )
    ).eval()  # fmt: skip
    t5.lm_head.weight = torch.nn.Parameter(state["lm_head.weight"])
    words = {k: v for k, v in state.items() if k.startswith(("encoder.", "decoder.", "shared."))}
    missing, unknown = t5.load_state_dict(words, strict=False)
    assert not unknown and all("embed_tokens" in k or k == "lm_head.weight" for k in missing)
    tower = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            image_size=16, patch_size=4,
        )
    ).eval()  # fmt: skip
    prefix = "vision_model." if any("vision_model" in k for k in tower.state_dict()) else ""
    tower.load_state_dict({
        prefix + k.removeprefix(TOWER): v for k, v in state.items() if k.startswith(TOWER)
    })  # fmt: skip
    with torch.no_grad():
        hidden = tower(torch.tensor(PIXELS).permute(0, 3, 1, 2), output_hidden_states=True)
        x = hidden.hidden_states[-2][:, 1:]
        for place in (0, 2):
            weight, bias = (state[f"mm_projector.{place}.{part}"] for part in ("weight", "bias"))
            x = torch.nn.functional.linear(x, weight, bias)
            x = torch.nn.functional.gelu(x) if place == 0 else x
        first = t5.shared(torch.tensor(BEFORE))[None].expand(2, -1, -1)
        embeds = torch.cat([first, x, t5.shared(torch.tensor(AFTER))], dim=1)
        mask = np.concatenate([np.ones((2, 5 + 16), int), MASK], axis=1)
        expected = t5(
            inputs_embeds=embeds, attention_mask=torch.tensor(mask),
            decoder_input_ids=torch.tensor(DECODER_IDS),
        ).logits.numpy()  # fmt: skip
    found = model(PIXELS, BEFORE, AFTER, MASK, DECODER_IDS)
    np.testing.assert_allclose(found, expected, atol=TOL["model"] * np.abs(expected).max())


def test_the_tower_may_lie_in_a_folder_of_its_own(folder, tmp_path):
    path, model = folder
    tower = copied(path, tmp_path / "copy", TOWER)
    with pytest.raises(FileNotFoundError, match=r"vision_tower is missing.*openai/clip-vit"):
        from_pretrained(tmp_path / "copy")
    (tmp_path / "copy" / "vision_tower").mkdir()
    renamed = {k.removeprefix("vision_tower.vision_tower."): v for k, v in tower.items()}
    renamed |= {"vision_model.embeddings.position_ids": np.arange(17)[None]}
    renamed |= {"text_model.final_layer_norm.weight": np.ones(3), "logit_scale": np.ones(1)}
    save_file(renamed, tmp_path / "copy" / "vision_tower" / "model.safetensors")
    found = from_pretrained(tmp_path / "copy")
    assert found.fingerprint == model.fingerprint
    save_pretrained(found, tmp_path / "whole")
    assert (
        load_file(tmp_path / "whole" / "model.safetensors").keys()
        == load_file(path / "model.safetensors").keys()
    )


def test_sizes_of_a_published_tower_follow_from_its_arrays(tmp_path):
    """Only the number of heads does not: it is that of a head width of 64."""
    cfg = CLIPT5Config.tiny()
    wide = cfg.vision.__class__(
        hidden_size=128, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        image_size=16, patch_size=4,
    )  # fmt: skip
    cfg = CLIPT5Config.tiny(vision=wide)
    abstract = Bundle.create(CLIPT5, cfg).abstract
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), abstract)
    save_pretrained(create("CLIPT5ForConditionalGeneration", cfg, params), tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    del config["vision_config"]
    for name, message in (("openai/x", None), ("laion/x", "add its vision_config")):
        config["mm_vision_tower"] = name
        (tmp_path / "a" / "config.json").write_text(json.dumps(config))
        if message is None:
            assert from_pretrained(tmp_path / "a").cfg == cfg
        else:
            with pytest.raises(ValueError, match=message):
                from_pretrained(tmp_path / "a")


def test_another_projector_is_refused(folder, tmp_path):
    path, _ = folder
    copied(path, tmp_path / "copy")
    config = json.loads((path / "config.json").read_text()) | {"mm_projector_type": "linear"}
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"mm_projector_type.*linear.*not supported"):
        from_pretrained(tmp_path / "copy")
