"""Tables of reports: CSV or JSON Lines with the columns id, report, seed, samples.

Only `report` is required. A row that cannot be read becomes a `BadRow` with its line and the
reason; it never stops the rows after it.
"""

import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffa_sora_jax.common.names import check_keys

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

    `first_line` is 0 for a row of one line.
    """

    line: int
    id: str
    reason: str
    first_line: int = 0

    @property
    def where(self) -> str:
        """ "line 2" or "lines 2-3"."""
        return f"lines {self.first_line}-{self.line}" if self.first_line else f"line {self.line}"


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
    if not path.is_file():
        raise FileNotFoundError(f"No table at {path}; give a .csv or .jsonl file of reports.")
    readers = {".csv": _csv_records, ".jsonl": _json_records, ".ndjson": _json_records}
    if path.suffix.lower() not in readers:
        raise ValueError(f"Cannot read {path.name}: a table ends in {', '.join(readers)}.")
    rows: list[Row | BadRow] = []
    seen: dict[str, int] = {}
    for number, (first, line, record) in enumerate(readers[path.suffix.lower()](path), start=1):
        row = _row(record, line, f"row{number:05d}", seed, samples)
        if isinstance(row, BadRow) and first < line:
            row = dataclasses.replace(row, first_line=first)
        if isinstance(row, Row) and row.id in seen:
            reason = f"id {row.id!r} is taken by line {seen[row.id]}; give every row its own id"
            row = BadRow(line, f"line{line:05d}", reason)
        seen.setdefault(row.id, line)
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no rows; it needs at least a column 'report' and a row.")
    return rows


_Records = Iterator[tuple[int, int, dict[str, Any] | str]]


def _csv_records(path: Path) -> _Records:
    """Yields (first line, last line, record or reason).

    Bytes that are not UTF-8 spoil their own row only. A quote that is not closed spoils the lines
    up to where the reader notices; each of them counts as a row, and none is guessed at.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = list(file)
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ValueError(f"The first line of {path} is not readable as CSV ({error}).") from error
    check_keys(f"column in {path.name}", header, COLUMNS)
    if "report" not in header:
        raise ValueError(f"{path} has no column 'report'; the first line names the columns.")
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = reader.line_num
            reason = f"not readable as CSV ({error}); check the quotes"
            if first < last:
                reason = f"not read; a quote opened on line {first} is not closed"
            for _ in filter(str.strip, lines[first - 1 : last]):
                yield first, last, reason
            continue
        last = reader.line_num
        if not fields:
            continue
        if len(fields) != len(header):
            reason = f"{len(fields)} fields where the header names {len(header)}; check quotes"
            yield first, last, reason
        else:
            yield first, last, dict(zip(header, fields, strict=True))


def _json_records(path: Path) -> _Records:
    """Yields (line, line, record or reason) for every line that is not blank."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                record = json.loads(raw.decode("utf-8-sig"))
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                yield line, line, f"not readable as JSON ({error})"
                continue
            if not isinstance(record, dict):
                kind = "null" if record is None else type(record).__name__
                yield line, line, f"a JSON {kind} where an object is expected"
            elif unknown := sorted(set(record) - set(COLUMNS)):
                yield line, line, f"unknown keys {unknown}; allowed: {', '.join(COLUMNS)}"
            else:
                yield line, line, record


def _row(
    record: dict[str, Any] | str, line: int, default_id: str, seed: int, samples: int
) -> Row | BadRow:
    if isinstance(record, str):
        return BadRow(line, default_id, record)
    name = str(record.get("id") or "").strip() or default_id
    if not _ID.fullmatch(name):
        reason = f"id {name!r} cannot be a file name; use letters, digits, dot, dash, underscore"
        return BadRow(line, default_id, reason)
    report = record.get("report")
    try:
        if not isinstance(report, str):
            raise ValueError("the report is missing or not text")
        report.encode("utf-8")  # bytes that were not UTF-8 arrive as lone surrogates
        if not report.strip():
            raise ValueError("the report is empty")
        count = _integer("samples", record.get("samples"), samples, 1, _MAX_SAMPLES)
        first = _integer("seed", record.get("seed"), seed, 0, _MAX_SEED - count + 1)
    except UnicodeEncodeError:
        return BadRow(line, name, "the report is not UTF-8 text")
    except ValueError as error:
        return BadRow(line, name, str(error))
    return Row(name, report.strip(), first, count, line)


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
