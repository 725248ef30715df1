"""Configs of runs: loading a file, overriding leaves, checking keys, comparing with a stored run.

    config = load("configs/t2v_phantom.py:runlocal", ["--config.optim.lr=3e-5"])

A config is an `ml_collections.ConfigDict` whose sections `configs/common.py` lists.
"""

import ast
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections as mlc

from ffa_sora_jax.common import files, names, tree

SECTIONS = (
    "seed", "task", "model", "vae", "text_encoder", "data", "diffusion", "optim", "ema", "mesh",
    "train", "eval", "sample",
)  # fmt: skip
# The trainer's own sections; those of the task are checked by the task.
KEYS: dict[str, tuple[str, ...]] = {
    "optim": (
        "name", "lr", "schedule", "warmup_steps", "final_lr_ratio", "decay_fraction", "b1", "b2",
        "eps", "weight_decay", "decay", "clip_norm", "muon_exclude", "muon_adam_lr_ratio",
        "players",
    ),
    "ema": ("decay", "warmup", "players"),
    "mesh": ("axes", "rules"),
    "train": (
        "total_steps", "batch_size", "log_steps", "ckpt_steps", "keep", "max_seconds",
        "calibration_batches", "init_from",
    ),
    "eval": (
        "steps", "batch_size", "num_batches", "num_samples", "metrics", "weights", "num_sheets",
        "use_ema",
    ),
}  # fmt: skip
# Sections read into dataclasses by the task or the data pipeline, which name unknown keys: these
# take keys that the config file does not list, because every field has a default.
OPEN = ("model", "vae", "text_encoder", "data", "diffusion", "sample")
NO_CONFIGS = ("__init__", "common")  # files beside the configs
# What may change when a run is resumed: nothing here alters the update of a single step, except
# that the length of the run moves the end of a decaying learning rate. Where a run started from no
# longer matters once it has a checkpoint.
RESUMABLE = (
    "train/total_steps", "train/log_steps", "train/ckpt_steps", "train/keep", "train/max_seconds",
    "train/init_from", "eval/", "sample/", "mesh/", "data/data_dir", "data/threads",
    "data/prefetch",
)  # fmt: skip
MINIMUM = {
    "train": {"total_steps": 1, "batch_size": 1, "log_steps": 0, "ckpt_steps": 0,
              "calibration_batches": 0},
    "eval": {"steps": 0, "batch_size": 1, "num_batches": 0, "num_samples": 0, "num_sheets": 0},
    "optim": {"lr": 0, "weight_decay": 0},
}  # fmt: skip
PREFIX = "--config."


def load(spec: str, overrides: Iterable[str] = ()) -> mlc.ConfigDict:
    """The config of a file, with overrides applied and checked.

    Args:
      spec: "path/to/config.py" or "path/to/config.py:argument".
      overrides: items such as "--config.optim.lr=3e-5".

    Raises:
      FileNotFoundError: no such file.
      ValueError: bad argument, unknown key, or a value of the wrong type.
    """
    name, _, arg = spec.partition(":")
    path = Path(name)
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        found = [p.as_posix() for p in folder.glob("*.py") if p.stem not in NO_CONFIGS]
        if not found:
            raise FileNotFoundError(f"No config file {name}, and no other one in that folder.")
        raise FileNotFoundError(names.unknown_name("config file", name, found))
    module_spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    config = module.get_config(arg)
    for item in overrides:
        override(config, item)
    check(config)
    return config


def override(config: mlc.ConfigDict, item: str) -> None:
    """Sets one leaf from "--config.a.b=value", read as the type that the leaf has.

    Raises:
      ValueError: malformed item, unknown key (near matches named) or wrong type.
    """
    if not item.startswith(PREFIX) or "=" not in item:
        raise ValueError(f"Unknown option {item!r}. Overrides look like --config.optim.lr=3e-5.")
    path, _, text = item[len(PREFIX) :].partition("=")
    *parents, last = path.split(".")
    node = config
    for depth, key in enumerate(parents):
        names.check_keys(f"config key in {item!r}:", [key], node.keys())
        node = node[key]
        if not isinstance(node, mlc.ConfigDict):
            shown = ".".join(parents[: depth + 1])
            raise ValueError(f"config.{shown} is a value, not a section, in {item!r}.")
    if last not in node and parents[:1] in [[section] for section in OPEN]:
        node[last] = _literal(text)
        return
    names.check_keys(f"config key in {item!r}:", [last], node.keys())
    if isinstance(node[last], mlc.ConfigDict):
        keys = ", ".join(f"{PREFIX}{path}.{key}=..." for key in node[last])
        raise ValueError(f"config.{path} is a section; set its keys: {keys or 'it has none'}.")
    node[last] = _read(path, text, node[last])


def check(config: Mapping[str, Any]) -> None:
    """Checks the sections, and the keys and limits of those sections that the trainer owns.

    Raises:
      ValueError: unknown or missing section or key, or a number that is too small.
    """
    _check_names("config section", config, SECTIONS)
    for section, keys in KEYS.items():
        _check_names(f"key of config.{section}", config[section], keys)
    for section, limits in MINIMUM.items():
        for key, limit in limits.items():
            value = config[section][key]
            if value < limit:
                raise ValueError(f"config.{section}.{key} is {value}; it must be at least {limit}.")
    if not config["ema"]["decay"] < 1:
        raise ValueError(
            f"config.ema.decay is {config['ema']['decay']}; it must be below 1, and 0 keeps no "
            "average."
        )
    for player, values in config["optim"]["players"].items():
        names.check_keys(f"key of config.optim.players.{player}", values, KEYS["optim"])


def to_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """Plain dict of what JSON can hold; tuples become lists."""
    plain = config.to_dict() if isinstance(config, mlc.ConfigDict) else dict(config)
    return json.loads(json.dumps(plain))


def write(config: Mapping[str, Any], path: Path) -> None:
    """Writes the resolved config as JSON; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(to_json(config), indent=2) + "\n")


def read(path: Path) -> dict[str, Any]:
    """The config that a run was started with.

    Raises:
      FileNotFoundError: no config there.
      ValueError: not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"No {path}: no run was started in this folder.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON ({error}). Restore a backup.") from error


def check_resumable(config: Mapping[str, Any], stored: Mapping[str, Any], where: str) -> None:
    """Raises ValueError when a stored run was started with another config; lists differences."""
    new, old = tree.flatten(to_json(config)), tree.flatten(stored)
    lines = [
        f"  {path}: {old.get(path, '(absent)')!r} stored, {new.get(path, '(absent)')!r} given"
        for path in sorted({*new, *old})
        if new.get(path, KeyError) != old.get(path, KeyError) and not path.startswith(RESUMABLE)
    ]
    if lines:
        raise ValueError(
            f"{where} holds a run with another config:\n" + "\n".join(lines) + "\nUse that config "
            "to resume it, or another --workdir to start a new run. Free to change: "
            + ", ".join(path.rstrip("/") for path in RESUMABLE)
            + "."
        )


def _check_names(what: str, given: Iterable[str], expected: Sequence[str]) -> None:
    given = list(given)
    names.check_keys(what, given, expected)
    missing = [key for key in expected if key not in given]
    if missing:
        raise ValueError(f"Missing {what}: {missing}. Start the config from configs.common.base().")


def _literal(text: str) -> Any:
    """A value of which only the text is known: a Python literal, "true", "false", or a string."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _read(path: str, text: str, current: Any) -> Any:
    wrong = ValueError(
        f"config.{path} is {type(current).__name__} {current!r}; {text!r} cannot be read as that."
    )
    if isinstance(current, bool):
        if text.lower() not in ("true", "false"):
            raise wrong
        return text.lower() == "true"
    if isinstance(current, str):
        return text
    if current is None:
        return _literal(text)
    try:
        if isinstance(current, (int, float)):
            return type(current)(text)
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        if isinstance(current, (tuple, list)) and all(isinstance(item, str) for item in current):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        raise wrong from error
    if isinstance(current, (tuple, list)) and not isinstance(value, (tuple, list)):
        raise wrong
    return value
