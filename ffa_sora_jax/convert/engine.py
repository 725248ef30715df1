"""Tables that translate PyTorch weights to parameter trees, and back.

One `Rule` pairs a source key with a parameter path. Both are templates:

    Rule("transformer_blocks.*.attn1.to_q.weight", "blocks/attn1/to_q/kernel", "linear")
    Rule("{path}.weight", "{path}/kernel", "kernel")

`{name}` stands for one or more parts of a path ("." on the left, "/" on the right). `*` stands for
one integer: with `*` on both sides it is the same integer; with `*` on the left only, the layers
are stacked along a new leading axis, in the order of `Rule.layers` (0, 1, ... by default).

The tables are read from the parameter side: each parameter takes the first rule whose target
matches it, so specific rules come before general ones. The same plan serves both directions, and
every difference between what is given and what is needed is an error that lists both sides.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common import names, tree
from ffa_sora_jax.common.types import Params

# Rank of the source array, where the transform needs a certain one.
_RANKS = {
    "same": None, "embed": 2, "kernel": None, "linear": 2, "conv1d": 3, "conv2d": 4, "conv3d": 5,
    "pointwise2d": 4, "pointwise3d": 5,
}  # fmt: skip
HOW = tuple(_RANKS)
_MAX_LISTED = 20  # keys shown per side of an error


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
      pattern: template of the source key.
      target: template of the parameter path.
      how: "same" and "embed" copy; "linear", "conv1d", "conv2d", "conv3d" move the output and
        input axes of a kernel from the front to the back, (o, i, *window) to (*window, i, o);
        "kernel" is whichever of these fits the rank; "pointwise2d" and "pointwise3d" store a
        convolution with a window of one as a matrix (i, o).
      layers: the integers that a stacking `*` takes, in order; None for 0, 1, ...
      aliases: further keys that may hold the same values (tied weights). Reading accepts any of
        them, and refuses two that differ.
    """

    pattern: str
    target: str
    how: str = "same"
    layers: tuple[int, ...] | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ValueError(names.unknown_name("transform", self.how, HOW))

    @property
    def stacks(self) -> bool:
        """Whether several source keys fill one parameter."""
        return "*" in self.pattern and "*" not in self.target


def dense(source: str, target: str) -> tuple[Rule, Rule]:
    """The table of a dense layer with a bias."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", "linear"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


def norm(source: str, target: str) -> tuple[Rule, Rule]:
    """The table of scale and shift of a norm."""
    return (
        Rule(f"{source}.weight", f"{target}/scale"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


@dataclasses.dataclass(frozen=True)
class Format:
    """How one reference class is stored in a folder.

    Attributes:
      module: the network, built as `module(cfg, rngs=...)`.
      weights: file name of the weights.
      read_config: (content of config.json, shape of every weight by key) -> config dataclass.
      write_config: config dataclass -> content of config.json, class name included.
      rules: config dataclass -> table.
      ignored: prefixes of keys that belong to parts of the checkpoint which are not used.
      constants: config dataclass -> arrays that the reference stores and nobody trains. They lie
        under the `ignored` prefixes; saving writes them back, or these where none were read.
      adapt: (folder, arrays by stored key) -> arrays by the keys of the table, where checkpoints
        in use differ from it: older names, prefixes, parts that lie in a folder of their own.
      encoder: name of the class to read in place of this one where only its encoder is wanted.
    """

    module: type
    weights: str
    read_config: Callable[[Mapping[str, Any], Mapping[str, tuple[int, ...]]], Any]
    write_config: Callable[[Any], dict[str, Any]]
    rules: Callable[[Any], tuple[Rule, ...]]
    ignored: tuple[str, ...] = ()
    constants: Callable[[Any], dict[str, np.ndarray]] | None = None
    adapt: Callable[[Path, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None
    encoder: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What fills one parameter: its rule and the source keys, several where layers are stacked."""

    rule: Rule
    keys: tuple[str, ...]


def plan(rules: Iterable[Rule], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Entry]:
    """The source keys of every parameter.

    Args:
      rules: the table.
      shapes: shape by parameter path.

    Raises:
      ValueError: a parameter that no rule fills, or a key that fills two parameters.
    """
    rules = tuple(rules)
    entries: dict[str, Entry] = {}
    for path, shape in shapes.items():
        matches = ((rule, _target_regex(rule.target).fullmatch(path)) for rule in rules)
        found = next(((rule, match) for rule, match in matches if match), None)
        if found is None:
            raise ValueError(f"No rule of the table fills the parameter {path!r}.")
        entries[path] = Entry(found[0], _source_keys(found[0], found[1], shape))
    owners: dict[str, str] = {}
    for path, entry in entries.items():
        for key in entry.keys:
            if key in owners:
                raise ValueError(f"{key!r} fills both {owners[key]!r} and {path!r}.")
            owners[key] = path
    return entries


def to_params(
    rules: Iterable[Rule],
    state_dict: Mapping[str, np.ndarray],
    abstract: Params,
    *,
    dtype: Any = None,
    ignored: tuple[str, ...] = (),
) -> Params:
    """Parameters from a PyTorch state dict.

    Args:
      rules: the table.
      state_dict: arrays by key; may load them lazily, each is read once.
      abstract: nested dict of shapes and dtypes to fill.
      dtype: dtype of the result; None for the dtype of `abstract` (float32 for all our models,
        whatever the precision the weights are stored in).
      ignored: prefixes of keys to leave unread.

    Returns:
      Nested dict of numpy arrays with the structure of `abstract`.

    Raises:
      ValueError: keys left over or missing (lists both sides), a wrong shape, a value that is not
        finite, or tied keys that differ.
    """
    leaves = tree.flatten(abstract)
    entries = plan(rules, {path: tuple(leaf.shape) for path, leaf in leaves.items()})
    given = [key for key in state_dict if not key.startswith(ignored)] if ignored else state_dict
    _check_keys(entries, given)
    flat = {
        path: _load(entry, state_dict, path, leaves[path], dtype) for path, entry in entries.items()
    }
    return tree.unflatten_like(flat, abstract)


def to_state_dict(rules: Iterable[Rule], params: Params) -> dict[str, np.ndarray]:
    """A PyTorch state dict from parameters: the table read backwards, without any rounding.

    Returns:
      Contiguous numpy arrays by source key, in the dtype of the parameters; aliases left out.
    """
    leaves = tree.flatten(params)
    entries = plan(rules, {path: tuple(leaf.shape) for path, leaf in leaves.items()})
    state: dict[str, np.ndarray] = {}
    for path, entry in entries.items():
        array = np.asarray(leaves[path])
        parts = list(array) if entry.rule.stacks else [array]
        for key, part in zip(entry.keys, parts, strict=True):
            state[key] = np.ascontiguousarray(_backward(part, entry.rule.how)).reshape(
                _source_shape(part.shape, entry.rule.how)
            )
    return state


# --- Templates ---


@functools.cache
def _target_regex(template: str) -> re.Pattern[str]:
    """A template such as "a/{path}/kernel" or "list/*/bias" as a regular expression."""
    regex = ""
    for part in re.split(r"(\{\w+\}|\*)", template):
        if part.startswith("{"):
            regex += f"(?P<{part[1:-1]}>.+)"
        elif part == "*":
            regex += r"(?P<star>\d+)"
        else:
            regex += re.escape(part)
    return re.compile(regex)


def _source_keys(rule: Rule, match: re.Match[str], shape: tuple[int, ...]) -> tuple[str, ...]:
    key = rule.pattern
    for name, value in match.groupdict().items():
        key = key.replace("*" if name == "star" else f"{{{name}}}", value.replace("/", "."))
    if not rule.stacks:
        return (key,)
    layers = tuple(range(shape[0])) if rule.layers is None else rule.layers
    if len(layers) != shape[0]:
        raise ValueError(
            f"{match.string!r} stacks {shape[0]} layers, its rule names {len(layers)}: {layers}."
        )
    return tuple(key.replace("*", str(layer)) for layer in layers)


# --- Transforms ---


def _forward(array: np.ndarray, how: str) -> np.ndarray:
    if how in ("same", "embed"):
        return array
    if how.startswith("pointwise"):
        return array.reshape(array.shape[:2]).T
    return array.transpose(*range(2, array.ndim), 1, 0)


def _backward(array: np.ndarray, how: str) -> np.ndarray:
    if how in ("same", "embed"):
        return array
    return array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))


def _source_shape(shape: tuple[int, ...], how: str) -> tuple[int, ...]:
    """Shape of the source array of a parameter (of one layer, where layers are stacked)."""
    if how in ("same", "embed"):
        return shape
    window = (1, 1, 1)[: int(how[-2])] if how.startswith("pointwise") else shape[:-2]
    return (shape[-1], shape[-2], *window)


# --- Checks ---


def _check_keys(entries: Mapping[str, Entry], given: Iterable[str]) -> None:
    given = set(given)
    known = {key for entry in entries.values() for key in (*entry.keys, *entry.rule.aliases)}
    left_over = sorted(given - known)
    unfilled = sorted(
        f"{path} (from {key})"
        for path, entry in entries.items()
        for key in entry.keys
        if key not in given and not given.intersection(entry.rule.aliases)
    )
    if left_over or unfilled:
        raise ValueError(
            "The weights do not fit the model.\n"
            f"unused source keys ({len(left_over)}):\n{_listed(left_over, '+')}\n"
            f"unfilled parameters ({len(unfilled)}):\n{_listed(unfilled, '-')}"
        )


def _listed(keys: list[str], mark: str) -> str:
    lines = [f"  {mark} {key}" for key in keys[:_MAX_LISTED]]
    if len(keys) > _MAX_LISTED:
        lines.append(f"  ... and {len(keys) - _MAX_LISTED} more")
    return "\n".join(lines) or "  (none)"


def _load(
    entry: Entry, state_dict: Mapping[str, np.ndarray], path: str, leaf: Any, dtype: Any
) -> np.ndarray:
    shape = tuple(leaf.shape)
    result = np.empty(shape, np.dtype(dtype or leaf.dtype))
    slots = result if entry.rule.stacks else result[None]
    layer_shape = shape[1:] if entry.rule.stacks else shape
    for slot, key in enumerate(entry.keys):
        array = _read(entry.rule, state_dict, key, path, _source_shape(layer_shape, entry.rule.how))
        slots[slot] = _forward(array, entry.rule.how)
    return result


def _read(
    rule: Rule, state_dict: Mapping[str, np.ndarray], key: str, path: str, shape: tuple[int, ...]
) -> np.ndarray:
    """One source array, checked."""
    present = [k for k in (key, *rule.aliases) if k in state_dict]
    array = np.asarray(state_dict[present[0]])
    for alias in present[1:]:
        if not np.array_equal(array, state_dict[alias]):
            raise ValueError(f"{present[0]!r} and {alias!r} must hold the same values, but differ.")
    rank = _RANKS[rule.how]
    if array.shape != shape or (rank is not None and array.ndim != rank):
        raise ValueError(
            f"{present[0]!r} has shape {array.shape}; the parameter {path!r} needs {shape}."
        )
    if not np.issubdtype(array.dtype, np.floating) and array.dtype.kind != "V":
        if array.dtype.name not in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            raise ValueError(f"{present[0]!r} holds {array.dtype}; weights must be floating point.")
    if not np.isfinite(array.astype(np.float32, copy=False)).all():
        raise ValueError(f"{present[0]!r} holds NaN or infinite values: the checkpoint is corrupt.")
    return array
