"""Table and config of `CLIPModel`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ffa_sora_jax.convert import config_json
from ffa_sora_jax.convert.engine import Format, Rule, dense, norm
from ffa_sora_jax.models.clip import CLIP, CLIPConfig, TextConfig, VisionConfig

_HIDDEN = ("dtype",)
_FIXED = {"num_channels": 3}
_TOKENS = ("bos_token_id", "pad_token_id", "sep_token_id")  # settings of text generation
# Tables of numbers that old checkpoints store.
_IGNORED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def rules(cfg: CLIPConfig) -> tuple[Rule, ...]:
    """The table of both towers; their layers are stacked."""
    del cfg
    text = "text_model.embeddings"
    return (
        *vision_rules("vision_model", "vision"),
        Rule(f"{text}.token_embedding.weight", "text/words/embedding", "embed"),
        Rule(f"{text}.position_embedding.weight", "text/positions/embedding", "embed"),
        *_layers("text_model.encoder.layers.*", "text/layers"),
        *norm("text_model.final_layer_norm", "text/final_norm"),
        Rule("{x}_projection.weight", "{x}_projection/kernel", "linear"),
        Rule("logit_scale", "logit_scale"),
    )


def vision_rules(source: str, target: str) -> tuple[Rule, ...]:
    """The table of an image tower."""
    table = f"{source}.embeddings"
    return (
        Rule(f"{table}.class_embedding", f"{target}/class_embedding"),
        Rule(f"{table}.patch_embedding.weight", f"{target}/patch_embedding/kernel", "conv2d"),
        Rule(f"{table}.position_embedding.weight", f"{target}/positions/embedding", "embed"),
        *norm(f"{source}.pre_layrnorm", f"{target}/pre_norm"),  # the reference's spelling
        *_layers(f"{source}.encoder.layers.*", f"{target}/layers"),
        *norm(f"{source}.post_layernorm", f"{target}/post_norm"),
    )


def _layers(source: str, target: str) -> tuple[Rule, ...]:
    return (
        *dense(f"{source}.self_attn.{{x}}", f"{target}/attention/{{x}}"),
        *dense(f"{source}.mlp.fc1", f"{target}/fc1"),
        *dense(f"{source}.mlp.fc2", f"{target}/fc2"),
        *norm(f"{source}.layer_norm1", f"{target}/layer_norm1"),
        *norm(f"{source}.layer_norm2", f"{target}/layer_norm2"),
    )


def read_config(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> CLIPConfig:
    """The config dataclass of a folder's config.json.

    What a section leaves out has the library's default, that of ViT-B/32.

    Raises:
      ValueError: a key that is misspelt, or a setting that is not supported.
    """
    del shapes
    sections = {
        name: {**(config.get(f"{name}_config") or {}), **(config.get(f"{name}_config_dict") or {})}
        for name in ("vision", "text")
    }
    return CLIPConfig(
        VisionConfig(**read_tower(sections["vision"], VisionConfig)),
        TextConfig(**read_tower(sections["text"], TextConfig)),
        config.get("projection_dim", CLIPConfig.projection_dim),
    )


def read_tower(section: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """The arguments of a tower's config dataclass that a section of config.json gives."""
    fixed = _FIXED if cls is VisionConfig else {}
    return config_json.read_fields(
        section, cls, fixed=fixed, bookkeeping=_TOKENS, hidden=_HIDDEN, strict=False
    )


def write_config(cfg: CLIPConfig) -> dict[str, Any]:
    """The content of config.json."""
    sections = {
        f"{field.name}_config": config_json.write_fields(getattr(cfg, field.name), hidden=_HIDDEN)
        for field in dataclasses.fields(cfg)
        if field.name != "projection_dim"
    }
    names = {"architectures": ["CLIPModel"], "model_type": "clip"}
    return {**sections, **names, "projection_dim": cfg.projection_dim}


FORMATS = {
    "CLIPModel": Format(CLIP, "model.safetensors", read_config, write_config, rules, _IGNORED)
}
