"""The record of a batch job: one JSON line per finished or failed item, appended and synced.

A job that was killed reads the record again: an item counts as done only if its record says so
and every output still has the recorded SHA-256. A line cut short by a kill is dropped.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import files

_NAME = re.compile(r"manifest(-\d{5}-of-\d{5})?\.jsonl")


@contextlib.contextmanager
def only_one(directory: Path, *, shard: int = 0, num_shards: int = 1) -> Iterator[None]:
    """Keeps a second process from the same items; the system frees the lock on a kill.

    Shards of one job work side by side. Shards of two divisions, 1 of 2 and 1 of 3, share items
    and exclude each other; each takes its own lock before it looks at the others', so that of two
    that start together at least one sees the other.

    Raises:
      ValueError: another process holds the shard, or works on another division.
    """
    directory.mkdir(parents=True, exist_ok=True)
    refusal = (
        f"Another process works in {directory}; wait for it, give another --output, or share the "
        "work with --shard, the same N for all."
    )
    with files.locked(directory / f".lock-{shard:05d}-of-{num_shards:05d}", refusal):
        for path in directory.glob(".lock-*-of-*"):
            if not path.name.endswith(f"-of-{num_shards:05d}"):
                with files.locked(path, refusal):
                    pass
        yield


class Manifest:
    """The record of one output folder.

    Every process of a sharded job appends to its own file and reads all of them, so that a job
    may be resumed with another number of processes.
    """

    def __init__(self, directory: Path, *, shard: int = 0, num_shards: int = 1):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        name = f"manifest-{shard:05d}-of-{num_shards:05d}.jsonl"
        self.path = directory / (name if num_shards > 1 else "manifest.jsonl")
        _drop_torn_line(self.path)
        self._records = read_records(directory)

    def get(self, item: str) -> dict[str, Any] | None:
        """The record of an item: a success if there ever was one, otherwise its last failure."""
        return self._records.get(item)

    def is_done(self, item: str) -> bool:
        """True if the item succeeded and all its outputs are there, byte for byte."""
        record = self._records.get(item)
        return record is not None and is_whole(self.directory, record)

    def add_done(self, item: str, key: str, outputs: list[Path], **fields: Any) -> None:
        """Records a success with the SHA-256 of every output, which must lie in the folder."""
        digests = {str(p.relative_to(self.directory)): files.sha256(p) for p in outputs}
        self._append({"id": item, "status": "ok", "key": key, "outputs": digests, **fields})

    def add_failed(self, item: str, reason: str, **fields: Any) -> None:
        """Records a failure, unless the same failure is what the record already says."""
        known = self._records.get(item)
        if known is None or known["status"] == "ok" or known.get("reason") != reason:
            self._append({"id": item, "status": "failed", "reason": reason, **fields})

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._records[record["id"]] = record


def read_records(directory: Path) -> dict[str, dict[str, Any]]:
    """The record of every item by id: a success if there ever was one, else the last failure.

    Reads the files of all shards and changes nothing, so that other jobs may look.
    """
    records: dict[str, dict[str, Any]] = {}
    for path in sorted(p for p in directory.iterdir() if _NAME.fullmatch(p.name)):
        for record in _read_lines(path):
            known = records.get(record["id"])
            if known is None or known["status"] != "ok" or record["status"] == "ok":
                records[record["id"]] = record
    return records


def is_whole(directory: Path, record: dict[str, Any]) -> bool:
    """True for a success whose outputs are all there, byte for byte."""
    if record["status"] != "ok":
        return False
    paths = {directory / name: digest for name, digest in record["outputs"].items()}
    return all(p.is_file() and files.sha256(p) == digest for p, digest in paths.items())


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of one file; a torn last line belongs to a process that may still run."""
    records = []
    for raw in path.read_bytes().split(b"\n")[:-1]:
        try:
            record = json.loads(raw)
        except ValueError:
            continue  # torn by a full disk; the item has no record and is made again
        if isinstance(record, dict) and {"id", "status"} <= set(record):
            records.append(record)
    return records


def _drop_torn_line(path: Path) -> None:
    """Cuts what follows the last newline, so that the next record starts on its own line."""
    if not path.is_file():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
