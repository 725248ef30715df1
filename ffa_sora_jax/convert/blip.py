"""Table and config of `BlipForConditionalGeneration`.

Keys of our own, written only where they differ from plain BLIP: `num_frames`, `stack`,
`in_channels`, `image_mean`, `image_std` in config.json, and `vision_model.frame_embedding` among
the weights of a captioner that looks at several pictures.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ffa_sora_jax.convert import bert, config_json
from ffa_sora_jax.convert.engine import Format, Rule, dense, norm
from ffa_sora_jax.models.captioner import Blip, BlipConfig

CLASS_NAME = "BlipForConditionalGeneration"
_VISION = {
    "hidden_size": "vision_width", "num_hidden_layers": "vision_layers",
    "num_attention_heads": "vision_heads", "intermediate_size": "vision_mlp",
    "layer_norm_eps": "vision_norm_eps", "image_size": "image_size", "patch_size": "patch_size",
}  # fmt: skip
_TEXT = {
    "vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "mlp",
    "max_position_embeddings": "max_positions", "layer_norm_eps": "norm_eps",
    "bos_token_id": "bos_id", "sep_token_id": "eos_id", "pad_token_id": "pad_id",
}  # fmt: skip
_OURS = ("num_frames", "stack", "in_channels", "image_mean", "image_std")
# The library's default where config.json leaves the setting out; the released models have 12.
_ABSENT_HEADS = 8
_OTHERS = ("eos_token_id",)  # not what ends a text, whatever its name
_POSITION_IDS = "text_decoder.bert.embeddings.position_ids"
_WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"
_HEAD = "text_decoder.cls.predictions"


def rules(cfg: BlipConfig) -> tuple[Rule, ...]:
    """The table; the layers of both stacks are stacked."""
    del cfg
    layer, ours = "vision_model.encoder.layers.*", "vision/layers"
    embeddings = "vision_model.embeddings"
    return (
        Rule(f"{embeddings}.class_embedding", "vision/class_token"),
        Rule(f"{embeddings}.position_embedding", "vision/positions"),
        Rule(f"{embeddings}.patch_embedding.weight", "vision/patch/kernel", "conv2d"),
        Rule(f"{embeddings}.patch_embedding.bias", "vision/patch/bias"),
        *dense(f"{layer}.self_attn.qkv", f"{ours}/attention/qkv"),
        *dense(f"{layer}.self_attn.projection", f"{ours}/attention/projection"),
        *dense(f"{layer}.mlp.fc1", f"{ours}/fc1"),
        *dense(f"{layer}.mlp.fc2", f"{ours}/fc2"),
        *norm(f"{layer}.layer_norm1", f"{ours}/norm1"),
        *norm(f"{layer}.layer_norm2", f"{ours}/norm2"),
        *norm("vision_model.post_layernorm", "vision/norm"),
        Rule("vision_model.frame_embedding", "frame_embedding"),
        Rule(_WORDS, "decoder/embeddings/words/embedding", "embed",
             aliases=(f"{_HEAD}.decoder.weight",)),
        *bert.embedding_rules("text_decoder.bert.embeddings", "decoder/embeddings"),
        *bert.layer_rules("text_decoder.bert.encoder.layer.*", "decoder/layers"),
        *dense(f"{_HEAD}.transform.dense", "decoder/transform"),
        *norm(f"{_HEAD}.transform.LayerNorm", "decoder/transform_norm"),
        Rule(f"{_HEAD}.bias", "decoder/bias", aliases=(f"{_HEAD}.decoder.bias",)),
    )  # fmt: skip


def read_config(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> BlipConfig:
    """The config dataclass of a folder's config.json.

    Raises:
      ValueError: a key that is misspelt, or a setting that is not supported.
    """
    del shapes
    fixed = {"hidden_act": "gelu"}
    vision = _read(config.get("vision_config") or {}, _VISION, fixed)
    text = {"num_attention_heads": _ABSENT_HEADS, **(config.get("text_config") or {})}
    decoder = _read(text, _TEXT, {**fixed, "is_decoder": True, "tie_word_embeddings": True})
    return BlipConfig(**vision, **decoder, **{k: config[k] for k in _OURS if k in config})


def write_config(cfg: BlipConfig) -> dict[str, Any]:
    """The content of config.json."""
    plain = BlipConfig()
    vision = {theirs: getattr(cfg, ours) for theirs, ours in _VISION.items()}
    text = {theirs: getattr(cfg, ours) for theirs, ours in _TEXT.items()}
    names = {"architectures": [CLASS_NAME], "model_type": "blip"}
    extras = {k: getattr(cfg, k) for k in _OURS if getattr(cfg, k) != getattr(plain, k)}
    return {
        **names,
        "vision_config": {**vision, "model_type": "blip_vision_model"},
        "text_config": {
            **text, "encoder_hidden_size": cfg.vision_width, "model_type": "blip_text_model",
        },
        **{k: list(v) if isinstance(v, tuple) else v for k, v in extras.items()},
    }  # fmt: skip


def _read(
    section: Mapping[str, Any], renamed: Mapping[str, str], fixed: Mapping[str, Any]
) -> dict[str, Any]:
    hidden = BlipConfig.__dataclass_fields__
    return config_json.read_fields(
        section,
        BlipConfig,
        renamed=renamed,
        fixed=fixed,
        bookkeeping=_OTHERS,
        hidden=hidden,
        strict=False,
    )


def _no_constants(cfg: BlipConfig) -> dict[str, np.ndarray]:
    """New folders need none; position ids of old ones are written back."""
    del cfg
    return {}


FORMATS = {
    CLASS_NAME: Format(
        Blip, "model.safetensors", read_config, write_config, rules, (_POSITION_IDS,),
        _no_constants,
    )
}  # fmt: skip
