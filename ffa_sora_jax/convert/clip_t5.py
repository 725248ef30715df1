"""Table and config of `CLIPT5ForConditionalGeneration`, the model behind VQAScore.

The image tower lies in the checkpoint, or in a folder of its own, `vision_tower/`, as CLIP's
weights are published. Its sizes are those of its arrays.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.convert import clip, config_json, safetensors_io, t5
from ffa_sora_jax.convert.engine import Format, Rule, dense
from ffa_sora_jax.models.clip import VisionConfig
from ffa_sora_jax.models.clip_t5 import CLIPT5, CLIPT5Config

TOWER = "vision_tower"  # folder of the image tower, where it is not in the checkpoint
HEAD_WIDTH = 64  # of every image tower that OpenAI published
_PREFIX = "vision_tower.vision_tower.vision_model."
_FIXED = {"mm_projector_type": "mlp2x_gelu", "mm_vision_select_feature": "patch"}


def rules(cfg: CLIPT5Config) -> tuple[Rule, ...]:
    """The table of T5, image tower and projector."""
    words = (
        dataclasses.replace(rule, target=f"t5/{rule.target}") for rule in t5.whole_rules(cfg.t5)
    )
    return (
        *words,
        *clip.vision_rules(_PREFIX[:-1], "vision"),
        *dense("mm_projector.0", "projector/0"),
        *dense("mm_projector.2", "projector/1"),  # an activation lies between
    )


def read_config(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> CLIPT5Config:
    """The config dataclass of a folder's config.json.

    Raises:
      ValueError: a key that is missing or misspelt, or a setting that is not supported.
    """
    wrong = {k: config[k] for k, v in _FIXED.items() if config.get(k, v) != v}
    if wrong:
        raise ValueError(f"{wrong} is not supported; allowed: {_FIXED}.")
    words = {k: v for k, v in config.items() if not k.startswith("mm_") and k != "vision_config"}
    return CLIPT5Config(
        t5.read_whole_config("T5", words, shapes),
        _read_tower(config, shapes),
        config.get("mm_vision_select_layer", CLIPT5Config.select_layer),
    )


def _read_tower(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> VisionConfig:
    if "vision_config" in config:
        return VisionConfig(**clip.read_tower(config["vision_config"], VisionConfig))
    name = config.get("mm_vision_tower", "openai")
    if "laion" in name:
        raise ValueError(
            f"The image tower {name!r} is not OpenAI's; add its vision_config to config.json."
        )
    table = f"{_PREFIX}embeddings"
    width, _, patch, _ = shapes[f"{table}.patch_embedding.weight"]
    positions, _ = shapes[f"{table}.position_embedding.weight"]
    layers = {key.split(".")[5] for key in shapes if key.startswith(f"{_PREFIX}encoder.layers.")}
    return VisionConfig(
        hidden_size=width,
        intermediate_size=shapes[f"{_PREFIX}encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=len(layers),
        num_attention_heads=max(width // HEAD_WIDTH, 1),
        image_size=math.isqrt(positions - 1) * patch,
        patch_size=patch,
    )


def write_config(cfg: CLIPT5Config) -> dict[str, Any]:
    """The content of config.json."""
    names = {"architectures": ["CLIPT5ForConditionalGeneration"], "model_type": "clip_t5"}
    tower = {
        "vision_config": config_json.write_fields(cfg.vision, hidden=("dtype",)),
        "mm_hidden_size": cfg.vision.hidden_size,
        "mm_vision_select_layer": cfg.select_layer,
    }
    return {**t5.write_whole_config("T5", cfg.t5), **_FIXED, **tower, **names}


def adapt(directory: Path, state: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The checkpoint with the image tower, from the folder of its own where that is needed.

    Raises:
      FileNotFoundError: the tower is in neither place.
    """
    if any(key.startswith(_PREFIX) for key in state):
        return state
    folder = directory / TOWER
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{directory} holds no image tower, and {folder} is missing. Put the folder of "
            "openai/clip-vit-large-patch14-336 there, under that name."
        )
    tower = safetensors_io.open_weights(safetensors_io.find_weights(folder))
    names = {
        f"{_PREFIX}{key.removeprefix('vision_model.')}": key
        for key in tower
        if key.startswith(("vision_model.", "embeddings.", "encoder.", "pre_layrnorm.", "post_"))
    }
    owner: dict[str, Mapping[str, np.ndarray]] = dict.fromkeys(state, state)
    return safetensors_io.Sharded(
        owner | dict.fromkeys(names, safetensors_io.Renamed(tower, names))
    )


FORMATS = {
    "CLIPT5ForConditionalGeneration": Format(
        CLIPT5, "model.safetensors", read_config, write_config, rules,
        (*t5.EMPTY, f"{_PREFIX}embeddings.position_ids"), adapt=adapt,
    )
}  # fmt: skip
