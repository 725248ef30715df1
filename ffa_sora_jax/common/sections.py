"""Sections of a config as dataclasses, with every key and the type of every value checked."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ffa_sora_jax.common import names

T = TypeVar("T")


def read(cls: type[T], section: Mapping[str, Any], name: str) -> T:
    """The dataclass `cls` of one section; lists become tuples where it has tuples.

    Args:
      cls: config dataclass; its annotations say which values are allowed.
      section: values by field; what is left out takes its default.
      name: how messages call the section, such as "model" for config.model.

    Raises:
      ValueError: unknown key (near matches named), or a value of a wrong type.
    """
    hints = typing.get_type_hints(cls)
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    names.check_keys(f"key of config.{name}", section, fields)
    values = {}
    for key, value in section.items():
        if not _fits(value, hints[key]):
            raise ValueError(
                f"config.{name}.{key} is {value!r} of type {type(value).__name__}; it must be "
                f"{_in_words(hints[key])}."
            )
        values[key] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from a config file, the command line or JSON may stand in a field."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint in (int, float):
        allowed = (int, float) if hint is float else int
        return isinstance(value, allowed) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, tuple | list)
    kind = origin or hint
    return not isinstance(kind, type) or isinstance(value, kind)


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_in_words(part) for part in typing.get_args(hint))
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
