"""Between the content of a config.json and a config dataclass."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ffa_sora_jax.common import names


def read_fields(
    config: Mapping[str, Any],
    cls: type,
    *,
    required: Iterable[str] = (),
    renamed: Mapping[str, str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    bookkeeping: Iterable[str] = (),
    hidden: Iterable[str] = (),
    strict: bool = True,
) -> dict[str, Any]:
    """The arguments of a config dataclass that a config.json gives.

    Args:
      config: content of config.json; keys that start with "_" and null values are passed over.
      cls: the dataclass; its defaults say which type a value must have.
      required: keys that must be there.
      renamed: our field name by key, where they differ.
      fixed: settings that have one supported value.
      bookkeeping: further keys to pass over.
      hidden: fields that config.json may not set.
      strict: refuse every unknown key; else only those that nearly equal a known one.

    Raises:
      ValueError: a key is missing or unknown, or a value is unsupported or of a wrong type.
    """
    renamed, fixed = renamed or {}, fixed or {}
    config = {k: v for k, v in config.items() if not k.startswith("_") and v is not None}
    missing = [key for key in required if key not in config]
    if missing:
        raise ValueError(f"config.json lacks {missing}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    ours = {name: name for name in fields if name not in (*hidden, *renamed.values())} | {**renamed}
    arguments: dict[str, Any] = {}
    for key, value in config.items():
        if key in fixed:
            if value != fixed[key]:
                raise ValueError(f"{key}={value!r} is not supported; allowed: {fixed[key]!r}.")
        elif key in ours:
            arguments[ours[key]] = _typed(key, value, fields[ours[key]].default)
        elif key not in bookkeeping and (strict or _is_misspelt(key, ours)):
            raise ValueError(names.unknown_name("key of config.json", key, [*ours, *fixed]))
    return arguments


def write_fields(
    cfg: Any,
    *,
    renamed: Mapping[str, str] | None = None,
    extras: Iterable[str] = (),
    hidden: Iterable[str] = (),
) -> dict[str, Any]:
    """The inverse of `read_fields`.

    Args:
      cfg: config dataclass.
      renamed: our field name by key, where they differ.
      extras: fields that the reference does not know, written only where they are not default.
      hidden: fields that are never written.
    """
    keys = {field: key for key, field in (renamed or {}).items()}
    return {
        keys.get(field.name, field.name): getattr(cfg, field.name)
        for field in dataclasses.fields(cfg)
        if field.name not in hidden
        and not (field.name in extras and getattr(cfg, field.name) == field.default)
    }


def _typed(key: str, value: Any, default: Any) -> Any:
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted in (bool, int, float, str) and type(value) is not wanted:
        raise ValueError(f"{key}={value!r} is not of type {wanted.__name__}, such as {default!r}.")
    return value


def _is_misspelt(key: str, known: Mapping[str, str]) -> bool:
    return bool(difflib.get_close_matches(key, known, n=1, cutoff=0.85))
