"""One exam of the corpus, or one thing that is wrong in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Write = Callable[[Path, int], None]  # (path without suffix, number of the phantom)


@dataclass(frozen=True)
class Case:
    """What is put into the exam folder and into the table, and what must become of it.

    Attributes:
      kind: what it is, for the reader of a failing test.
      write: makes the file or folder; None where there is none.
      reason: expected code; "" where the exam is kept.
      status: expected status of the row (or of the file, where there is no row).
      remarks: codes that must be noted on a kept exam.
      rows: cells that differ from the usual, one mapping per row; () for no row.
      name: of the file or folder, where it is not called after the exam.
      phantom: number of the phantom, where it is not the patient's.
      expected: reason per row, where the rows differ from each other.
      extra: reason of the file itself, where the rows were refused and the file is left over.
    """

    kind: str
    write: Write | None
    reason: str = ""
    status: str = ""
    remarks: tuple[str, ...] = ()
    rows: tuple[Mapping[str, str], ...] = field(default_factory=lambda: ({},))
    name: str = ""
    phantom: int | None = None
    expected: tuple[str, ...] = ()
    extra: str = ""
