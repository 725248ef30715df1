"""Tables of reports: CSV or JSON Lines with the columns id, report, seed, samples.

Only `report` is required. A row that cannot be read becomes a `BadRow` with its line and the
reason; it never stops the rows after it.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import tables
from ffa_sora_jax.common.names import check_keys
from ffa_sora_jax.common.tables import Record

COLUMNS = ("id", "report", "seed", "samples")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_SEED = 2**32 - 1
_MAX_SAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Row:
    """One report to sample.

    Attributes:
      id: file name of the outputs, unique in its table.
      report: text as written by the reader of the angiogram.
      seed: first seed, 0 .. 2**32 - 1.
      samples: number of videos, made with seeds `seed`, `seed + 1`, ...
      line: line of the table where the row ends, from 1.
    """

    id: str
    report: str
    seed: int = 0
    samples: int = 1
    line: int = 0


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: where it ends and starts, how it is called, and why.

    `first_line` may be left 0 for a row of one line.
    """

    line: int
    id: str
    reason: str
    first_line: int = 0

    @property
    def where(self) -> str:
        """ "line 2" or "lines 2-3"."""
        return tables.span(self.first_line or self.line, self.line)


def read_table(path: Path, *, seed: int = 0, samples: int = 1) -> list[Row | BadRow]:
    """Reads every row of a table, good or bad, in the order of the file.

    Args:
      path: `.csv`, `.jsonl` or `.ndjson`, UTF-8.
      seed: seed of the rows that name none.
      samples: number of videos of the rows that name none.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the ending or the columns are not known, or the table has no rows.
    """
    table = tables.read(path)
    if table.columns is not None:
        check_keys(f"column in {path.name}", table.columns, COLUMNS)
        if "report" not in table.columns:
            raise ValueError(f"{path} has no column 'report'; the first line names the columns.")
    rows: list[Row | BadRow] = []
    seen: dict[str, int] = {}
    for number, record in enumerate(table.records, start=1):
        row = _row(record, f"row{number:05d}", seed, samples)
        if isinstance(row, Row) and row.id in seen:
            reason = f"id {row.id!r} is taken by line {seen[row.id]}; give every row its own id"
            row = BadRow(row.line, f"line{row.line:05d}", reason)
        seen.setdefault(row.id, row.line)
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no rows; it needs at least a column 'report' and a row.")
    return rows


def _row(record: Record, default_id: str, seed: int, samples: int) -> Row | BadRow:
    def bad(name: str, reason: str) -> BadRow:
        return BadRow(record.line, name, reason, record.first_line)

    fields = record.fields
    if fields is None:
        return bad(default_id, record.reason)
    if unknown := sorted(set(fields) - set(COLUMNS)):
        return bad(default_id, f"unknown keys {unknown}; allowed: {', '.join(COLUMNS)}")
    name = str(fields.get("id") or "").strip() or default_id
    if not _ID.fullmatch(name):
        reason = f"id {name!r} cannot be a file name; use letters, digits, dot, dash, underscore"
        return bad(default_id, reason)
    report = fields.get("report")
    try:
        if not isinstance(report, str):
            raise ValueError("the report is missing or not text")
        if not report.strip():
            raise ValueError("the report is empty")
        count = _integer("samples", fields.get("samples"), samples, 1, _MAX_SAMPLES)
        first = _integer("seed", fields.get("seed"), seed, 0, _MAX_SEED - count + 1)
    except ValueError as error:
        return bad(name, str(error))
    return Row(name, report.strip(), first, count, record.line)


def _integer(name: str, value: Any, default: int, low: int, high: int) -> int:
    """An integer of the table; an absent or blank field takes the default."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or number != float(value):
        raise ValueError(f"{name} {value!r} is not a whole number")
    if not low <= number <= high:
        raise ValueError(f"{name} {number} is outside {low} .. {high}")
    return number
