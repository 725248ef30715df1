"""Nested dicts of arrays addressed by paths such as "encoder/mid/0/conv1/kernel"."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Tree = Mapping[str, Any]


def flatten(tree: Tree) -> dict[str, Any]:
    """Leaves of a nested dict by path; keys (integers too) are joined with "/"."""
    flat: dict[str, Any] = {}

    def visit(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, Mapping):
            for key, child in node.items():
                visit(child, (*path, str(key)))
        else:
            flat["/".join(path)] = node

    visit(tree, ())
    return flat


def unflatten_like(flat: Mapping[str, Any], template: Tree) -> dict[Any, Any]:
    """A nested dict with the keys of `template` and the leaves of `flat`.

    Raises:
      ValueError: the paths of `flat` are not exactly those of `template`; lists both sides.
    """
    check_same_paths(flat, flatten(template), given="given", expected="expected")

    def build(node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, Mapping):
            return {key: build(child, (*path, str(key))) for key, child in node.items()}
        return flat["/".join(path)]

    return build(template, ())


def map_with_path(fn: Callable[[str, Any], Any], tree: Tree) -> dict[Any, Any]:
    """Applies `fn(path, leaf)` to every leaf and keeps the structure."""
    flat = {path: fn(path, leaf) for path, leaf in flatten(tree).items()}
    return unflatten_like(flat, tree)


def check_same_paths(
    given_paths: Iterable[str], expected_paths: Iterable[str], *, given: str, expected: str
) -> None:
    """Raises ValueError with a two-sided list when the two sets of paths differ."""
    left, right = set(given_paths), set(expected_paths)
    if left == right:
        return
    lines = [f"only in {given}:"] + [f"  + {path}" for path in sorted(left - right)]
    lines += [f"only in {expected}:"] + [f"  - {path}" for path in sorted(right - left)]
    raise ValueError("Trees differ.\n" + "\n".join(lines))
