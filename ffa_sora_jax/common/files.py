"""Files that appear whole or not at all, their hashes, locks, and folders named by users."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends without an error.

    It lies in the same folder, and no other process uses it. A kill leaves `path` as it was, and
    perhaps a file that ends in .tmp.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave an empty file under the new name


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, keys sorted, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True))


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Holds the lock of a file, which it makes; the system frees it on a kill.

    Raises:
      ValueError: another process holds it; `refusal` is the message.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(refusal) from error
        yield


def check_folder(folder: Path, option: str) -> None:
    """Raises ValueError if a folder to be made, or one that it would lie in, is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file; {option} must be a folder.")
