"""Where arrays live: a device mesh, and rules from parameter paths to shardings.

Mesh axes, each of size 1 unless the config says otherwise:

    data      copies of the model, each with its share of the batch
    fsdp      shares the batch too, and stores a slice of every large parameter
    tensor    splits single layers (heads, feed-forward width)
    sequence  splits the token axis

Rules are an ordered list of (regular expression, spec); the expression must match a whole path
such as "model/blocks/0/attn1/to_q/kernel" and the first match wins. A spec is the tactic
"replicate" or "fsdp", or a tuple with one entry per array axis: an axis name, a tuple of names,
or None. Rules are strict: one that decides nothing is an error, and so is a large parameter
that the tactic "fsdp" cannot split.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ffa_sora_jax.common import names, tree

Spec: TypeAlias = str | Sequence[Any]
Rules: TypeAlias = Sequence[tuple[str, Spec]]

AXES = ("data", "fsdp", "tensor", "sequence")
BATCH_AXES = ("data", "fsdp")
TACTICS = ("replicate", "fsdp")
SMALL_BYTES = 16 * 2**10  # below this, gathering costs more than the memory it saves
LARGE_BYTES = 4 * 2**20


def make_mesh(axes: Sequence[tuple[str, int]], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with all four axes over `devices` (default: all).

    Args:
      axes: (name, size) pairs; one size may be -1, meaning "what is left"; missing axes have
        size 1.
      devices: the devices to use.

    Raises:
      ValueError: unknown or repeated axis, or sizes that do not multiply to the device count.
    """
    devices = jax.devices() if devices is None else list(devices)
    given = dict(axes)
    names.check_keys("mesh axis", given, AXES)
    if len(given) != len(axes):
        raise ValueError(f"Mesh axes {axes} name an axis twice.")
    sizes = [int(given.get(name, 1)) for name in AXES]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise ValueError(
            f"Mesh {dict(zip(AXES, sizes, strict=True))} does not fit {len(devices)} devices. The "
            "sizes must multiply to the number of devices; at most one may be -1 (what is left)."
        )
    # Auto: XLA propagates shardings from parameters and batch; jax's own default is Explicit.
    return jax.make_mesh(tuple(sizes), AXES, devices=devices, axis_types=(AxisType.Auto,) * 4)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array of which every device holds all."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first axis is split over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises ValueError unless every device gets equally many examples."""
    parts = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if batch_size % parts:
        raise ValueError(
            f"{name} is {batch_size}, but the mesh splits batches over {parts} devices "
            f"(data x fsdp). Use a multiple of {parts}, or a smaller mesh."
        )


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Global arrays from the host batch of this process (leading axis: its own examples)."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def constrain(x: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Asks for a sharding of an activation; does nothing where no mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def infer_shardings(abstract: tree.Tree, rules: Rules, mesh: Mesh) -> dict[Any, Any]:
    """One NamedSharding per leaf of a nested dict.

    Raises:
      ValueError: a rule decides nothing, a leaf has no rule, or a spec does not fit its leaf.
    """
    compiled = [(names.compile_pattern("mesh.rules", pattern), spec) for pattern, spec in rules]
    used: set[int] = set()

    def sharding(path: str, leaf: Any) -> NamedSharding:
        for index, (pattern, spec) in enumerate(compiled):
            if pattern.fullmatch(path):
                used.add(index)
                return NamedSharding(mesh, _resolve(path, leaf, spec, mesh))
        raise ValueError(f"No mesh rule matches {path!r}. End the rules with ('.*', 'fsdp').")

    shardings = tree.map_with_path(sharding, abstract)
    for index, (pattern, spec) in enumerate(compiled):
        if index not in used:
            raise ValueError(
                f"Mesh rule ({pattern.pattern!r}, {spec!r}) decides nothing: no parameter path "
                "matches it as a whole, or earlier rules take them all. Paths look like "
                f"{next(iter(tree.flatten(abstract)), '')!r}."
            )
    return shardings


def sharding_table(abstract: tree.Tree, shardings: tree.Tree) -> str:
    """One line per leaf: path, shape, spec, bytes on each device; then the sums."""
    specs = tree.flatten(shardings)
    lines, total, local = [], 0, 0
    leaves = tree.flatten(abstract)
    width = max((len(path) for path in leaves), default=0)
    for path, leaf in leaves.items():
        shard = _num_bytes(specs[path].shard_shape(leaf.shape), leaf.dtype)
        total, local = total + _num_bytes(leaf.shape, leaf.dtype), local + shard
        shape = "x".join(map(str, leaf.shape)) or "scalar"
        spec = ", ".join(map(str, specs[path].spec)) or "replicated"
        lines.append(f"{path:<{width}}  {shape:>16}  {spec:<24}  {shard:>12,} B")
    lines.append(f"{'total':<{width}}  {total:,} B, {local:,} B on each device")
    return "\n".join(lines)


def _num_bytes(shape: Sequence[int], dtype: Any) -> int:
    return math.prod(shape) * dtype.itemsize


def _resolve(path: str, leaf: Any, spec: Spec, mesh: Mesh) -> PartitionSpec:
    if isinstance(spec, str):
        if spec not in TACTICS:
            raise ValueError(names.unknown_name("sharding tactic", spec, TACTICS))
        return PartitionSpec() if spec == "replicate" else _fsdp(path, leaf, mesh)
    entries = [tuple(e) if isinstance(e, (list, tuple)) else e for e in spec]
    if len(entries) > len(leaf.shape):
        raise ValueError(f"Spec {spec} of {path!r} has more entries than its shape {leaf.shape}.")
    for entry, size in zip(entries, leaf.shape, strict=False):
        parts = _num_parts(entry, mesh)
        if size % parts:
            raise ValueError(f"{path!r} of shape {leaf.shape} does not split as {spec} on {mesh}.")
    return PartitionSpec(*entries)


def _num_parts(entry: str | tuple[str, ...] | None, mesh: Mesh) -> int:
    group = () if entry is None else (entry,) if isinstance(entry, str) else entry
    names.check_keys("mesh axis", group, AXES)
    return math.prod(mesh.shape[axis] for axis in group)


def _fsdp(path: str, leaf: Any, mesh: Mesh) -> PartitionSpec:
    """Splits the largest axis that divides evenly; leaves small arrays whole."""
    parts, size = mesh.shape["fsdp"], _num_bytes(leaf.shape, leaf.dtype)
    if parts == 1 or size < SMALL_BYTES:
        return PartitionSpec()
    divisible = [axis for axis, length in enumerate(leaf.shape) if length % parts == 0]
    if divisible:
        best = max(divisible, key=lambda axis: leaf.shape[axis])
        return PartitionSpec(*("fsdp" if axis == best else None for axis in range(best + 1)))
    if size > LARGE_BYTES:
        raise ValueError(
            f"{path!r} {leaf.shape} of {size:,} B has no axis that divides by fsdp={parts}. "
            "Give it its own rule, or 'replicate' to accept the memory."
        )
    return PartitionSpec()


def like_params(state: Any, shardings: Mapping[str, Any], default: NamedSharding) -> Any:
    """Shardings of an optimizer state: moments live where their parameters live.

    Args:
      state: any tree that holds copies of the parameter tree inside, as optax states do.
      shardings: tree of the parameters' shardings.
      default: the sharding of everything else, such as counters.
    """
    by_path = {
        path: leaf for path, leaf in jax.tree_util.tree_flatten_with_path(dict(shardings))[0]
    }

    def find(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        for start in range(len(path)):
            found = by_path.get(path[start:])
            if found is not None and len(leaf.shape) >= len(found.spec):
                return found
        return default

    return jax.tree_util.tree_map_with_path(find, state)
