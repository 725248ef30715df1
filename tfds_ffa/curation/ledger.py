"""What became of every exam, one file each: written whole, checked when read, never redone.

    staging/exams/ab/abcdef...-0123....exam
        line 1   format name
        line 2   JSON: key, digest, status, reason, facts, and name, type and shape of the arrays
        line 3   SHA-256 of lines 1 and 2, then of the rest
        rest     the arrays, compressed

A file's name carries the digest of everything that decided its content (the exam's files, the
options, the code), so another exam, option or version finds no file and is processed again.
Files name exams by salted hashes only and hold no report.
"""

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffa_sora_jax.common import files

FORMAT = b"ffa-sora exam 1\n"
KEPT = "kept"
STATUSES = (KEPT, "dropped", "quarantined")
RETRIED = ("time_limit", "worker_died")  # say more about the machine than about the exam


@dataclass(frozen=True)
class Outcome:
    """What became of one exam.

    Attributes:
      key: salted hash of the exam id, hex.
      status: "kept", "dropped" or "quarantined".
      reason: a code of `reasons.REASONS`; "" for a kept exam.
      facts: what is known besides the pixels; survives JSON, identifies nobody.
      arrays: the clip of a kept exam: video (t, s, s) uint8, times_s (t,) float32, is_original
        (t,) bool, vessel_ratio (t,) float32. Empty otherwise, and where only facts were read.
    """

    key: str
    status: str
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError where status and reason contradict each other."""
        if self.status not in STATUSES or (self.status == KEPT) == bool(self.reason):
            raise ValueError(
                f"An outcome has status {self.status!r} and reason {self.reason!r}; allowed are "
                f"{', '.join(STATUSES)}, and a reason exactly where the exam is not kept."
            )


class DamagedError(ValueError):
    """A ledger file whose content does not match its checksum."""


class Ledger:
    """The folder of finished exams."""

    def __init__(self, folder: Path):
        """Opens the ledger; `folder` is made by the first `write`."""
        self.folder = folder / "exams"

    def path(self, key: str, digest: str) -> Path:
        """Where the outcome of one exam lies, or will lie."""
        return self.folder / key[:2] / f"{key}-{digest}.exam"

    def write(self, outcome: Outcome, digest: str) -> None:
        """Stores one outcome; its file appears whole or not at all.

        Raises:
          OSError: the disk is full, or the folder cannot be written.
        """
        packed = {name: _pack(array) for name, array in outcome.arrays.items()}
        head, body = _head(outcome, digest, packed), b"".join(packed.values())
        path = self.path(outcome.key, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as partial:
            partial.write_bytes(head + _sums(head, body) + body)

    def read(self, key: str, digest: str, *, arrays: bool = True) -> Outcome | None:
        """The stored outcome, or None where there is no sound one; a damaged file is removed.

        Args:
          key: salted hash of the exam id.
          digest: of what decided the outcome.
          arrays: False leaves the arrays out, which reads only the start of the file.
        """
        path = self.path(key, digest)
        try:
            outcome = _read(path, arrays)
        except FileNotFoundError:
            return None
        except DamagedError:
            logging.warning("A finished exam is damaged on disk; it is processed again.")
            path.unlink(missing_ok=True)
            return None
        return outcome if outcome.key == key else None

    def finished(self, wanted: Mapping[str, str]) -> dict[str, Outcome]:
        """Outcomes without arrays of all exams in {key: digest} that need no more work."""
        found = {key: self.read(key, digest, arrays=False) for key, digest in wanted.items()}
        return {
            key: outcome
            for key, outcome in found.items()
            if outcome is not None and outcome.reason not in RETRIED
        }

    def files(self) -> Iterator[Path]:
        """Every finished file."""
        yield from sorted(self.folder.glob("??/*.exam"))

    def remove(self, wanted: Mapping[str, str]) -> None:
        """Removes the outcomes in {key: digest}, and folders that are empty then."""
        for key, digest in wanted.items():
            self.path(key, digest).unlink(missing_ok=True)
        for folder in (*self.folder.glob("??"), self.folder):
            with contextlib.suppress(OSError):  # another build's exams are in it
                folder.rmdir()

    def remove_others(self, wanted: Mapping[str, str]) -> None:
        """Removes outcomes of other exams, options or versions, and half-written files."""
        keep = {self.path(key, digest) for key, digest in wanted.items()}
        others = [path for path in self.files() if path not in keep]
        for path in (*others, *self.folder.glob("??/*.tmp")):
            path.unlink(missing_ok=True)


def count(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many exams were kept, and how many left out for each reason, most frequent first."""
    found: dict[str, int] = {KEPT: 0}
    for outcome in outcomes:
        name = outcome.reason or KEPT
        found[name] = found.get(name, 0) + 1
    rest = sorted((k for k in found if k != KEPT), key=lambda k: (-found[k], k))
    return {name: found[name] for name in (KEPT, *rest)}


# --- The file ---


def _pack(array: np.ndarray) -> bytes:
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 1)


def _head(outcome: Outcome, digest: str, packed: Mapping[str, bytes]) -> bytes:
    arrays = {
        name: [array.dtype.str, array.shape, len(packed[name])]
        for name, array in outcome.arrays.items()
    }
    fields = {
        "key": outcome.key,
        "digest": digest,
        "status": outcome.status,
        "reason": outcome.reason,
        "facts": outcome.facts,
        "arrays": arrays,
    }
    return FORMAT + json.dumps(fields, allow_nan=False).encode() + b"\n"


def _sums(head: bytes, body: bytes) -> bytes:
    return f"{hashlib.sha256(head).hexdigest()} {hashlib.sha256(body).hexdigest()}\n".encode()


def _read(path: Path, with_arrays: bool) -> Outcome:
    with path.open("rb") as file:
        head = file.readline() + file.readline()
        sums = file.readline()
        head_sum, _, body_sum = sums.decode("ascii", "replace").strip().partition(" ")
        if not head.startswith(FORMAT) or hashlib.sha256(head).hexdigest() != head_sum:
            raise DamagedError("start")
        fields = json.loads(head[len(FORMAT) :])
        body = file.read() if with_arrays else b""
    if with_arrays and hashlib.sha256(body).hexdigest() != body_sum:
        raise DamagedError("arrays")
    return Outcome(
        key=fields["key"],
        status=fields["status"],
        reason=fields["reason"],
        facts=fields["facts"],
        arrays=_unpack(fields["arrays"], body) if with_arrays else {},
    )


def _unpack(arrays: Mapping[str, Any], body: bytes) -> dict[str, np.ndarray]:
    found, at = {}, 0
    for name, (dtype, shape, length) in arrays.items():
        raw = zlib.decompress(body[at : at + length])
        found[name] = np.frombuffer(raw, np.dtype(dtype)).reshape(shape)
        at += length
    return found
