"""Tables and configs of T5 and mT5: `T5EncoderModel`, and `T5ForConditionalGeneration` as a whole.

The encoder alone can be read from a checkpoint of the whole model (`encoder_only`).
"""

import functools
from collections.abc import Mapping
from typing import Any

from ffa_sora_jax.convert import config_json
from ffa_sora_jax.convert.engine import Format, Rule
from ffa_sora_jax.models.t5 import T5Config, T5Encoder
from ffa_sora_jax.models.t5_decoder import T5, T5DecoderConfig

_REQUIRED = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
# The library's default, where config.json leaves the setting out: version 1.0 of T5.
_ABSENT = {"T5": {"feed_forward_proj": "relu"}, "MT5": {"feed_forward_proj": "gated-gelu"}}
_HIDDEN = ("dtype",)
_HEAD = ("tied_head", "scale_decoder_outputs")
_MODEL_TYPE = {"T5": "t5", "MT5": "mt5"}
_DECODER = ("decoder.", "lm_head.")
EMPTY = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.",)
_TIED = ("encoder.embed_tokens.weight",)


def rules(cfg: T5Config) -> tuple[Rule, ...]:
    """The table of one encoder; its layers are stacked."""
    del cfg
    return (
        Rule("shared.weight", "shared/embedding", "embed", aliases=_TIED),
        *_stack("encoder", "", {"attention": "SelfAttention", "ff": "DenseReluDense"}),
    )


def whole_rules(cfg: T5DecoderConfig) -> tuple[Rule, ...]:
    """The table of encoder, decoder and head."""
    tied = (*_TIED, "decoder.embed_tokens.weight", *(("lm_head.weight",) if cfg.tied_head else ()))
    layers = {"attention": "SelfAttention", "ff": "DenseReluDense"}
    decoder = {
        "attention": "SelfAttention", "crossattention": "EncDecAttention", "ff": "DenseReluDense",
    }  # fmt: skip
    return (
        Rule("shared.weight", "encoder/shared/embedding", "embed", aliases=tied),
        *_stack("encoder", "encoder/", layers),
        *_stack("decoder", "decoder/", decoder),
        Rule("lm_head.weight", "head/kernel", "linear"),
    )


def _stack(source: str, target: str, parts: Mapping[str, str]) -> tuple[Rule, ...]:
    """The table of a stack; `parts` are those of a layer in their order, theirs by ours."""
    bias = f"{source}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    table = [
        Rule(bias, f"{target}relative_attention_bias/embedding", "embed"),
        Rule(f"{source}.final_layer_norm.weight", f"{target}final_norm/scale"),
    ]
    for index, (ours, theirs) in enumerate(parts.items()):
        layer = f"{source}.block.*.layer.{index}"
        table.append(Rule(f"{layer}.layer_norm.weight", f"{target}layers/{ours}_norm/scale"))
        kernels = f"{target}layers/{ours}/{{x}}/kernel"
        table.append(Rule(f"{layer}.{theirs}.{{x}}.weight", kernels, "linear"))
    return tuple(table)


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


def read_whole_config(
    family: str, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> T5DecoderConfig:
    """The same for the whole model; see `read_config`.

    Outputs are scaled where the head is said to be the table of embeddings. A head that is stored
    and not scaled is one of its own, whatever the config says: some libraries rewrite that entry.
    """
    hidden = (*_HIDDEN, *_HEAD)
    fields = config_json.read_fields(
        config, T5DecoderConfig, required=_REQUIRED, hidden=hidden, strict=False
    )
    tied = config.get("tie_word_embeddings", family == "T5")
    scaled = config.get("scale_decoder_outputs", tied)
    return T5DecoderConfig(**{
        **_ABSENT[family], "num_decoder_layers": fields["num_layers"], **fields,
        "scale_decoder_outputs": scaled, "tied_head": scaled or "lm_head.weight" not in shapes,
    })  # fmt: skip


def write_whole_config(family: str, cfg: T5DecoderConfig) -> dict[str, Any]:
    """The content of config.json of the whole model; `family` is "T5" or "MT5"."""
    written = config_json.write_fields(cfg, hidden=(*_HIDDEN, *_HEAD))
    names = {"architectures": [f"{family}ForConditionalGeneration"]}
    head = {"tie_word_embeddings": cfg.scale_decoder_outputs}
    return {**written, **names, **head, "model_type": _MODEL_TYPE[family]}


def _formats(family: str) -> dict[str, Format]:
    partial, encoder = functools.partial, f"{family}EncoderModel"
    return {
        encoder: Format(
            T5Encoder, "model.safetensors", partial(read_config, family),
            partial(write_config, family), rules, _DECODER,
        ),
        f"{family}ForConditionalGeneration": Format(
            T5, "model.safetensors", partial(read_whole_config, family),
            partial(write_whole_config, family), whole_rules, EMPTY, encoder=encoder,
        ),
    }  # fmt: skip


FORMATS = {**_formats("T5"), **_formats("MT5")}
