"""Tables: CSV whose first line names the columns, or JSON Lines; UTF-8.

A row that cannot be read becomes a reason in place of its fields and never spoils the rows after
it. Whether to go on without it is up to the caller.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import files

ENDINGS = (".csv", ".jsonl", ".ndjson")
_NOT_UTF8 = "not UTF-8 text; save the table as UTF-8"


@dataclasses.dataclass(frozen=True)
class Record:
    """One row.

    Attributes:
      first_line, line: lines of the file, from 1, where it starts and ends.
      fields: value by column; texts in CSV, any JSON in JSON Lines. None if it cannot be read.
      reason: why it cannot be read, or "".
    """

    first_line: int
    line: int
    fields: dict[str, Any] | None
    reason: str = ""

    @property
    def where(self) -> str:
        """ "line 2" or "lines 2-3"."""
        return span(self.first_line, self.line)


@dataclasses.dataclass(frozen=True)
class Table:
    """A file's rows in order.

    Attributes:
      columns: what the first line names; None in JSON Lines, where every row names its own.
      records: the rows, good or bad; blank lines are none.
    """

    columns: tuple[str, ...] | None
    records: tuple[Record, ...]


def read(path: Path) -> Table:
    """Reads a table whose name ends as one of `ENDINGS`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another ending, or a first line that does not name the columns.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No table at {path}; give a .csv or .jsonl file.")
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"Cannot read {path.name}: a table ends in {', '.join(ENDINGS)}.")
    if path.suffix.lower() != ".csv":
        return Table(None, tuple(_json_records(path)))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = list(file)
    reader = csv.reader(lines, strict=True)
    columns = _columns(path, reader)
    return Table(columns, tuple(_csv_records(lines, reader, columns)))


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table, whole or not at all: CSV, or JSON Lines if its name does not end in .csv."""
    text = io.StringIO()
    if path.suffix.lower() == ".csv":
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    else:
        records = (dict(zip(columns, row, strict=True)) for row in rows)
        text.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    files.write_text(path, text.getvalue())


def span(first: int, last: int) -> str:
    """Lines of a file in words: "line 2" or "lines 2-3"."""
    return f"lines {first}-{last}" if first < last else f"line {last}"


def _columns(path: Path, reader: Any) -> tuple[str, ...]:
    try:
        columns = tuple(name.strip() for name in next(reader, []))
    except csv.Error as error:
        raise ValueError(f"The first line of {path} is not readable as CSV ({error}).") from error
    if not _is_utf8(columns):
        raise ValueError(f"The first line of {path} is {_NOT_UTF8}.")
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise ValueError(f"{path} has two columns {twice[0]!r}; every column needs its own name.")
    return columns


def _csv_records(lines: list[str], reader: Any, columns: tuple[str, ...]) -> Iterator[Record]:
    """The rows behind the first line.

    Bytes that are not UTF-8 spoil their own row only. A quote that is not closed spoils the lines
    up to where the reader notices; each of them counts as a row, and none is guessed at.
    """
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = reader.line_num
            reason = f"not readable as CSV ({error}); check the quotes"
            if first < last:
                reason = f"not read; a quote opened on line {first} is not closed"
            for _ in filter(str.strip, lines[first - 1 : last]):
                yield Record(first, last, None, reason)
            continue
        last = reader.line_num
        if not cells:
            continue
        if len(cells) != len(columns):
            reason = f"{len(cells)} fields where the header names {len(columns)}; check quotes"
            yield Record(first, last, None, reason)
        elif not _is_utf8(cells):
            yield Record(first, last, None, _NOT_UTF8)
        else:
            yield Record(first, last, dict(zip(columns, cells, strict=True)))


def _json_records(path: Path) -> Iterator[Record]:
    """The lines that are not blank; only a newline ends one, a report may hold U+2028."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                fields = json.loads(raw.decode("utf-8-sig"))
            except ValueError as error:  # bytes that are not UTF-8, and numbers that are too long
                yield Record(line, line, None, f"not readable as JSON ({error})")
                continue
            if not isinstance(fields, dict):
                kind = "null" if fields is None else type(fields).__name__
                yield Record(line, line, None, f"a JSON {kind} where an object is expected")
            elif not _is_utf8(value for value in fields.values() if isinstance(value, str)):
                yield Record(line, line, None, _NOT_UTF8)
            else:
                yield Record(line, line, fields)


def _is_utf8(texts: Iterable[str]) -> bool:
    """False for lone surrogates: escapes of JSON, or what bytes that were not UTF-8 became."""
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
