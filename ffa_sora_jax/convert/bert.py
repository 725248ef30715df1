"""Tables and config of `BertModel`, `RobertaModel` and `XLMRobertaModel`.

Checkpoints of models with a head around the encoder (`BertForMaskedLM`, ...) are read too; the
head is left unread.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.convert import config_json
from ffa_sora_jax.convert.engine import Format, Rule, dense, norm
from ffa_sora_jax.convert.safetensors_io import Renamed
from ffa_sora_jax.models.bert import Bert, BertConfig

FAMILIES = {"Bert": "bert", "Roberta": "roberta", "XLMRoberta": "xlm-roberta"}
_REQUIRED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip
_HIDDEN = ("position_offset", "context_width", "pooler", "dtype")
_FIXED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
# Heads, and tables of numbers that old checkpoints store.
_IGNORED = ("cls.", "lm_head.", "embeddings.position_ids", "embeddings.token_type_ids")


def rules(cfg: BertConfig) -> tuple[Rule, ...]:
    """The table of one encoder; its layers are stacked."""
    del cfg
    return (
        *embedding_rules("embeddings", "embeddings"),
        *layer_rules("encoder.layer.*", "layers"),
        *dense("pooler.dense", "pooler"),
    )


def embedding_rules(source: str, target: str) -> tuple[Rule, ...]:
    """The table of `Embeddings`."""
    tables = ("words", "word"), ("positions", "position"), ("types", "token_type")
    return (
        *(
            Rule(f"{source}.{theirs}_embeddings.weight", f"{target}/{ours}/embedding", "embed")
            for ours, theirs in tables
        ),
        *norm(f"{source}.LayerNorm", f"{target}/norm"),
    )


def layer_rules(source: str, target: str) -> tuple[Rule, ...]:
    """The table of `Layer`; a `*` in the source stacks."""
    table: list[Rule] = []
    for name in ("attention", "crossattention"):
        for part in ("query", "key", "value"):
            table += dense(f"{source}.{name}.self.{part}", f"{target}/{name}/{part}")
        table += dense(f"{source}.{name}.output.dense", f"{target}/{name}/output")
        table += norm(f"{source}.{name}.output.LayerNorm", f"{target}/{name}/norm")
    table += dense(f"{source}.intermediate.dense", f"{target}/intermediate")
    table += dense(f"{source}.output.dense", f"{target}/output")
    table += norm(f"{source}.output.LayerNorm", f"{target}/norm")
    return tuple(table)


def read_config(
    family: str, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> BertConfig:
    """The config dataclass of a folder's config.json; `family` is a key of `FAMILIES`.

    Raises:
      ValueError: a key that is missing or misspelt, or a setting that is not supported.
    """
    fields = config_json.read_fields(
        config, BertConfig, required=_REQUIRED, fixed=_FIXED, hidden=_HIDDEN, strict=False
    )
    if family != "Bert":
        fields = {"layer_norm_eps": 1e-5, **fields}
        fields["position_offset"] = config.get("pad_token_id", 1) + 1
    return BertConfig(**fields, pooler="pooler.dense.weight" in shapes)


def write_config(family: str, cfg: BertConfig) -> dict[str, Any]:
    """The content of config.json; `family` is a key of `FAMILIES`."""
    written = config_json.write_fields(cfg, hidden=_HIDDEN) | _FIXED
    if family != "Bert":
        written["pad_token_id"] = cfg.position_offset - 1
    return {**written, "architectures": [f"{family}Model"], "model_type": FAMILIES[family]}


def adapt(directory: Path, state: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The encoder without the prefix that a model with a head gives it, and norms by today's names.

    The oldest checkpoints call the scale and the shift of a norm gamma and beta.
    """
    del directory
    renamed = {}
    for key in state:
        name = key.removeprefix("bert.").removeprefix("roberta.")
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        renamed[re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)] = key
    return Renamed(state, renamed)


def _format(family: str) -> Format:
    return Format(
        Bert, "model.safetensors", functools.partial(read_config, family),
        functools.partial(write_config, family), rules, _IGNORED, adapt=adapt,
    )  # fmt: skip


FORMATS = {
    f"{family}{suffix}": _format(family)
    for family in FAMILIES
    for suffix in ("Model", "ForMaskedLM", "ForPreTraining")
}
