"""Ids that lead back to nobody: salted hashes, and the salt file.

The salt lies outside the dataset. Who has it can hash an id of the hospital and find the exam;
who has only the dataset cannot. Losing it means that exams added later get other ids and splits.
"""

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
import unicodedata
from pathlib import Path

SALT_BYTES = 32
ID_BYTES = 16  # 128 bits: no two of 10**12 ids meet
_HEADER = "ffa-sora salt 1"


class Hasher:
    """Turns ids into salted hashes."""

    def __init__(self, salt: bytes):
        if len(salt) != SALT_BYTES:
            raise ValueError(f"A salt has {SALT_BYTES} bytes, not {len(salt)}.")
        self._salt = salt

    def __repr__(self) -> str:
        """Without the salt."""
        return "Hasher()"

    def hashed(self, kind: str, value: str) -> str:
        """32 hexadecimal digits for one id; other kinds of the same id get others.

        Args:
          kind: "exam", "patient", ...; at most 16 ASCII characters.
          value: the id; compared after Unicode composition and without blanks around it.
        """
        text = unicodedata.normalize("NFC", value).strip().encode("utf-8", "surrogateescape")
        person = kind.encode("ascii")
        return hashlib.blake2b(
            text, key=self._salt, person=person, digest_size=ID_BYTES
        ).hexdigest()

    @property
    def fingerprint(self) -> str:
        """8 digits that tell two salts apart; safe to store with the dataset."""
        return self.hashed("salt", "fingerprint")[:8]


def open_salt(path: Path, dataset: Path) -> Hasher:
    """The salt of `path`; makes a new one, readable by its owner only, where there is none.

    Args:
      path: the salt file.
      dataset: folder that will be shared; the salt must not lie in it.

    Raises:
      ValueError: the salt would lie in the dataset, others may read it, or it is no salt.
      FileNotFoundError: the folder of the salt file does not exist.
    """
    real, shared = path.resolve(), dataset.resolve()
    if real.is_relative_to(shared):
        raise ValueError(
            "The salt file lies in the folder of the dataset, where it would be shared with it. "
            "Choose a place outside, for example ~/ffa-sora.salt."
        )
    if not real.parent.is_dir():
        raise FileNotFoundError("The folder of the salt file does not exist; create it first.")
    if not real.exists():
        _create(real)
    with real.open("rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(4096)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("The salt file is no file.")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(
            f"The salt file may be used by others (mode {stat.S_IMODE(status.st_mode):04o}). "
            "Run chmod 600 on it."
        )
    return Hasher(_parse(data))


def _create(path: Path) -> None:
    """Puts a whole salt file there, or leaves that of a process which was faster."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".salt-")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{_HEADER}\n{secrets.token_hex(SALT_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _parse(data: bytes) -> bytes:
    lines = data.decode("ascii", "replace").split()
    head, value = " ".join(lines[:-1]), lines[-1] if lines else ""
    try:
        salt = bytes.fromhex(value)
    except ValueError:
        salt = b""
    if head != _HEADER or len(salt) != SALT_BYTES:
        raise ValueError(
            "The salt file is damaged or is another file. Restore it; with a new salt all exams "
            "would get other ids and splits."
        )
    return salt
