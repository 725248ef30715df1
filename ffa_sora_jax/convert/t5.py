"""Tables and config of `MT5EncoderModel` and `T5EncoderModel`.

Checkpoints of the whole encoder-decoder model are read too; their decoder is left unread.
"""

import functools
from collections.abc import Mapping
from typing import Any

from ffa_sora_jax.convert import config_json
from ffa_sora_jax.convert.engine import Format, Rule
from ffa_sora_jax.models.t5 import T5Config, T5Encoder

_REQUIRED = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
# The library's default, where config.json leaves the setting out: version 1.0 of T5.
_ABSENT = {"T5": {"feed_forward_proj": "relu"}, "MT5": {"feed_forward_proj": "gated-gelu"}}
_HIDDEN = ("dtype",)
_MODEL_TYPE = {"T5": "t5", "MT5": "mt5"}
_DECODER = ("decoder.", "lm_head.")
_TIED = ("encoder.embed_tokens.weight",)
_BLOCK = "encoder.block.*.layer"
_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def rules(cfg: T5Config) -> tuple[Rule, ...]:
    """The table of one encoder; its layers are stacked."""
    del cfg
    return (
        Rule("shared.weight", "shared/embedding", "embed", aliases=_TIED),
        Rule(_BIAS, "relative_attention_bias/embedding", "embed"),
        Rule("encoder.final_layer_norm.weight", "final_norm/scale"),
        Rule(f"{_BLOCK}.0.layer_norm.weight", "layers/attention_norm/scale"),
        Rule(f"{_BLOCK}.1.layer_norm.weight", "layers/ff_norm/scale"),
        Rule(f"{_BLOCK}.0.SelfAttention.{{x}}.weight", "layers/attention/{x}/kernel", "linear"),
        Rule(f"{_BLOCK}.1.DenseReluDense.{{x}}.weight", "layers/ff/{x}/kernel", "linear"),
    )


def read_config(
    family: str, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> T5Config:
    """The config dataclass of a folder's config.json; `family` is "T5" or "MT5".

    Raises:
      ValueError: a key that is missing or misspelt, or a setting that is not supported.
    """
    del shapes
    fields = config_json.read_fields(
        config, T5Config, required=_REQUIRED, hidden=_HIDDEN, strict=False
    )
    return T5Config(**{**_ABSENT[family], **fields})


def write_config(family: str, cfg: T5Config) -> dict[str, Any]:
    """The content of config.json; `family` is "T5" or "MT5"."""
    written = config_json.write_fields(cfg, hidden=_HIDDEN)
    names = {"architectures": [f"{family}EncoderModel"], "model_type": _MODEL_TYPE[family]}
    return {**written, **names}


def _format(family: str, ignored: tuple[str, ...]) -> Format:
    return Format(
        T5Encoder, "model.safetensors", functools.partial(read_config, family),
        functools.partial(write_config, family), rules, ignored,
    )  # fmt: skip


FORMATS = {
    f"{family}{suffix}": _format(family, ignored)
    for family in _MODEL_TYPE
    for suffix, ignored in (("EncoderModel", ()), ("ForConditionalGeneration", _DECODER))
}
