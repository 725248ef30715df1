"""The rows behind the numbers of `ffa-sora evaluate`: measured once, one small file each.

A row depends on its clips, the metric with its settings and weights, and the look (frames, size):
their hashes make its file name. A job that is killed goes on with the rows that are missing, and
processes share the work by taking every N-th case. Every device takes one clip at a time, so that
a row has the same bits on one device and on eight.
"""

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ffa_sora_jax.common import files
from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.jobs import clips as clips_lib
from ffa_sora_jax.jobs.clips import ClipItem
from ffa_sora_jax.metrics.registry import Loaded

VERSION = 1  # of the rows' meaning

Failures: TypeAlias = dict[str, tuple[str, str]]
Measured: TypeAlias = np.ndarray | ValueError  # a row, or why a case has none


@dataclasses.dataclass(frozen=True)
class Look:
    """How clips are brought to one form.

    Attributes:
      frames: frames per clip.
      size: (h, w).
    """

    frames: int
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Case:
    """What one row is measured of: one or two clips, one or two texts.

    Attributes:
      left: the clip, or the sample of a pair.
      right: the reference of a pair.
      text: prompt, or candidate report.
      against: reference report.
    """

    left: ClipItem | None = None
    right: ClipItem | None = None
    text: str | None = None
    against: str | None = None

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that it is made of."""
        digests = [item and item.digest for item in (self.left, self.right)]
        content = json.dumps([*digests, self.text, self.against])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @property
    def clips(self) -> tuple[ClipItem, ...]:
        """The clips that must be decoded."""
        return tuple(item for item in (self.left, self.right) if item is not None)


class Rows:
    """The stored rows of one metric."""

    def __init__(self, folder: Path, loaded: Loaded, look: Look):
        entry = loaded.entry
        content = {
            "version": VERSION, "metric": entry.rows or entry.name,
            "settings": "" if entry.rows else repr(loaded.metric),
            "weights": dict(sorted(loaded.weights.items())), "look": dataclasses.astuple(look),
            "platform": "host" if is_host(loaded) else jax.default_backend(),
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = folder / f"{entry.rows or entry.name}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, case: Case) -> np.ndarray | None:
        """The row of a case, or None if it was not measured, or its file is damaged."""
        try:
            with self._path(case).open("rb") as file:
                return np.load(file, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None

    def put(self, case: Case, row: np.ndarray) -> None:
        """Stores a row, whole or not at all."""
        with files.replacing(self._path(case)) as partial, partial.open("wb") as file:
            np.save(file, np.asarray(row, np.float32), allow_pickle=False)

    def _path(self, case: Case) -> Path:
        return self.folder / f"{case.key}.npy"


class Reader:
    """Decodes clips ahead of time and keeps the last ones."""

    def __init__(self, look: Look, *, keep: int = 64):
        self._look, self._keep = look, keep
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._known: collections.OrderedDict[str, Any] = collections.OrderedDict()

    def expect(self, items: Iterable[ClipItem]) -> None:
        """Starts to decode what will be asked for soon."""
        for item in items:
            if item.digest not in self._known:
                work = functools.partial(
                    clips_lib.conform, item, self._look.frames, self._look.size
                )
                self._known[item.digest] = self._pool.submit(work)
        while len(self._known) > self._keep:
            self._known.popitem(last=False)

    def clip(self, item: ClipItem) -> tuple[np.ndarray, np.ndarray | None]:
        """Video (t, h, w, c) uint8 and times (t,); ValueError or OSError if it cannot be read."""
        self.expect([item])
        self._known.move_to_end(item.digest)
        return self._known[item.digest].result()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)


def is_host(loaded: Loaded) -> bool:
    """Whether a metric runs clip by clip on the host; those of texts do their own batching."""
    return loaded.entry.kind in ("text", "clip_text") or loaded.metric.host


def measure(
    wanted: Mapping[str, Sequence[Case]], loaded: Mapping[str, Loaded], rows: Mapping[str, Rows],
    look: Look, devices: Sequence[Any],
) -> Failures:  # fmt: skip
    """Measures what is missing and stores it.

    Args:
      wanted: cases by metric; give each process its share.
      loaded: metrics by name.
      rows: stores by name.
      look: form of the clips.
      devices: devices to use.

    Returns:
      Name and reason of every clip that could not be read or measured.
    """
    todo: dict[str, tuple[Case, list[str]]] = {}
    owners: dict[Path, str] = {}  # of rows that metrics share, the first
    for name, cases in wanted.items():
        owner = owners.setdefault(rows[name].folder, name)
        for case in cases:
            if rows[name].get(case) is None:
                names = todo.setdefault(case.key, (case, []))[1]
                names += [] if owner in names else [owner]
    functions = {name: _function(loaded[name], devices) for name in wanted}
    progress = Progress("cases", len(todo), every_s=5.0)
    failed: Failures = {}
    reader = Reader(look, keep=max(64, 6 * len(devices)))
    blocks = list(_blocks(list(todo.values()), len(devices)))
    try:
        for number, (cases, names) in enumerate(blocks):
            for ahead, _ in blocks[number : number + 2]:
                reader.expect(item for case in ahead for item in case.clips)
            good = _readable(cases, reader, failed)
            for name in names if good else ():
                _store(name, good, functions[name](good, reader), rows[name], failed)
            progress.advance(len(cases))
    finally:
        reader.close()
    return failed


def _blocks(
    todo: Sequence[tuple[Case, list[str]]], size: int
) -> Iterator[tuple[list[Case], list[str]]]:
    """Neighbours that go to the same metrics, as many as there are devices."""
    block: list[Case] = []
    names: list[str] = []
    for case, wanted in todo:
        if block and (wanted != names or len(block) == size):
            yield block, names
            block = []
        block, names = [*block, case], wanted
    if block:
        yield block, names


def _readable(cases: Sequence[Case], reader: Reader, failed: Failures) -> list[Case]:
    for item in (item for case in cases for item in case.clips):
        if item.digest not in failed:
            try:
                reader.clip(item)
            except (ValueError, OSError) as error:
                failed[item.digest] = (item.name, str(error))
    return [case for case in cases if not any(item.digest in failed for item in case.clips)]


def _store(
    name: str, cases: Sequence[Case], measured: Sequence[Measured], rows: Rows, failed: Failures
) -> None:
    for case, row in zip(cases, measured, strict=True):
        who = case.left.name if case.left else (case.text or "")[:40]
        if isinstance(row, ValueError):
            failed[f"{name} {case.key}"] = (who, f"{name}: {row}")
        elif np.isfinite(row).all():
            rows.put(case, row)
        else:
            failed[f"{name} {case.key}"] = (who, f"{name} gave values that are not finite")


# --- How a metric runs ---


def _function(
    loaded: Loaded, devices: Sequence[Any]
) -> Callable[[Sequence[Case], Reader], Sequence[Measured]]:
    kind, metric, params = loaded.entry.kind, loaded.metric, loaded.params
    if kind == "text":
        return _one_by_one(lambda case, reader: metric.measure([case.text], [case.against], params))
    if kind == "clip_text":
        return _one_by_one(
            lambda case, reader: metric.measure([case.text], _clip([case.left], reader), params)
        )
    method = metric.measure if kind == "pair" else metric.features
    if metric.host:
        return _one_by_one(lambda case, reader: method(*_arguments(kind, [case], reader), params))
    return _sharded(kind, method, params, devices)


def _one_by_one(
    measure_one: Callable[[Case, Reader], Any],
) -> Callable[[Sequence[Case], Reader], list[Measured]]:
    """On the host; what a metric cannot measure of one case does not stop the others."""

    def run(cases: Sequence[Case], reader: Reader) -> list[Measured]:
        found: list[Measured] = []
        for case in cases:
            try:
                found.append(np.asarray(measure_one(case, reader))[0])
            except ValueError as error:
                found.append(error)
        return found

    return run


def _sharded(
    kind: str, method: Callable[..., Any], params: Any, devices: Sequence[Any]
) -> Callable[[Sequence[Case], Reader], list[np.ndarray]]:
    """One clip per device at a time; a last, short block is filled up with its last case."""
    mesh = Mesh(np.array(devices), ("clip",))
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    split = PartitionSpec("clip")
    count = 2 if kind == "pair" else 1
    compiled = jax.jit(
        jax.shard_map(
            method, mesh=mesh, in_specs=(*[split] * count, PartitionSpec()), out_specs=split,
            check_vma=False,  # networks need not say what varies between devices
        )
    )  # fmt: skip

    def run(cases: Sequence[Case], reader: Reader) -> list[np.ndarray]:
        filled = [*cases, *[cases[-1]] * (len(devices) - len(cases))]
        clips = [clip.replace(times_s=None) for clip in _arguments(kind, filled, reader)]
        measured = np.asarray(compiled(*clips, params))
        return list(measured[: len(cases)])

    return run


def _arguments(kind: str, cases: Sequence[Case], reader: Reader) -> tuple[Clip, ...]:
    left = _clip([case.left for case in cases], reader)
    return (left, _clip([case.right for case in cases], reader)) if kind == "pair" else (left,)


def _clip(items: Sequence[ClipItem | None], reader: Reader) -> Clip:
    """Clips in [-1, 1] as a batch, with times where all have them."""
    known = [reader.clip(item) for item in items if item is not None]
    times = [t for _, t in known if t is not None]
    return Clip(
        video=np.stack([video for video, _ in known]).astype(np.float32) / 127.5 - 1,
        times_s=np.stack(times) if len(times) == len(known) else None,
    )
