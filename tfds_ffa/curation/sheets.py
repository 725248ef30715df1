"""The cells of a table file, whatever its format, with the line each row stands on.

The format is read from the content, not from the name: a zip is a workbook, text that starts with
a bracket is JSON, anything else is CSV. A row that cannot be read costs that row only.
"""

import csv
import datetime
import functools
import io
import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfds_ffa.curation import columns, encodings
from tfds_ffa.curation.reasons import Problem

DELIMITERS = ",;\t|"
MAX_ROW_LINES = 2000  # a longer quoted cell is a quote that was never closed
MAX_TITLE_ROWS = 10  # among which the headings must be
MAX_CELL_CHARS = 1 << 20
_CELL_ERRORS = ("#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!")
_EXACT_DIGITS = 15  # a workbook keeps no more digits of a number


@dataclass(frozen=True)
class RawRow:
    """One row: its first line and its texts by field; `frames` may be a list already."""

    line: int
    values: dict[str, str]
    frames: tuple[str, ...] | None = None


@dataclass
class Sheet:
    """Rows and unreadable rows of one table file."""

    format: str
    encoding: str | None
    rows: list[RawRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unused_columns: int = 0

    def bad(self, line: int, detail: str) -> None:
        """Notes a row that cannot be read."""
        self.problems.append(Problem.at("bad_row", f"line {line}", detail))


def read_sheet(path: Path, wanted: Mapping[str, str] | None, encoding: str | None) -> Sheet:
    """All rows of a CSV, XLSX, JSON or JSONL file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: no table, no known columns, an encrypted or old workbook, broken JSON, an
        encoding for a workbook.
    """
    data = path.read_bytes()
    if not data.strip():
        raise ValueError("The table is empty. Give a CSV, XLSX, JSON or JSONL file.")
    if data.startswith(b"PK\x03\x04"):
        if encoding is not None:
            raise ValueError("The table is a workbook, which has no encoding to be named.")
        return _read_xlsx(data, wanted)
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError(
            "The table is an encrypted workbook or one in the old .xls format. Save it as .xlsx "
            "without a password, or as CSV."
        )
    text, name = encodings.decode(data, encoding)
    if text.lstrip()[:1] in ("[", "{"):
        return _read_json(text, name, wanted)
    return _read_csv(text, name, wanted)


def _headings(
    rows: Sequence[Sequence[str]], wanted: Mapping[str, str] | None
) -> tuple[int, columns.Columns]:
    """The first row that holds the headings: exports like to begin with a title."""
    errors = []
    for number, row in enumerate(rows):
        try:
            return number, columns.find_columns(row, wanted)
        except ValueError as error:
            errors.append((columns.count_known(row, wanted), -number, error))
    raise max(errors)[2] if errors else ValueError("The table has no rows.")


# --- CSV ---


def _read_csv(text: str, encoding: str, wanted: Mapping[str, str] | None) -> Sheet:
    lines = _lines(text)
    start, delimiter = 0, None
    if lines[0].lower().startswith("sep=") and len(lines[0].strip()) == 5:
        start, delimiter = 1, lines[0].strip()[-1]  # the spreadsheet's own way to say it
    filled = [at for at in range(start, len(lines)) if lines[at].strip()][:MAX_TITLE_ROWS]
    if not filled:
        raise ValueError("The table has no rows. The first line must hold the headings.")
    delimiters = [delimiter or _delimiter(lines[at], wanted) for at in filled]
    heads = [
        next(csv.reader([lines[at]], delimiter=mark))
        for at, mark in zip(filled, delimiters, strict=True)
    ]
    number, found = _headings(heads, wanted)
    start, delimiter = filled[number], delimiters[number]
    sheet = Sheet("csv", encoding, unused_columns=len(found.unused))
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARS))
    for line, cells in _records(lines, start + 1, delimiter, sheet):
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[found.width :]):
            sheet.bad(
                line,
                f"The row has {len(cells)} values for {found.width} columns: put quotes around "
                "texts that hold the delimiter.",
            )
            continue
        values = {name: cells[at] for name, at in found.at.items() if at < len(cells)}
        sheet.rows.append(RawRow(line, values))
    return sheet


def _lines(text: str) -> list[str]:
    """Physical lines. `str.splitlines` would also break at form feeds and the like."""
    return io.StringIO(text, newline="").readlines()


def _delimiter(header: str, wanted: Mapping[str, str] | None) -> str:
    def score(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([header], delimiter=delimiter))
        return columns.count_known(cells, wanted), len(cells)

    return max(DELIMITERS, key=score)


def _records(
    lines: list[str], start: int, delimiter: str, sheet: Sheet
) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of every row. After a broken row, reading goes on at its second line."""
    at = start
    while at < len(lines):
        reader = csv.reader(lines[at : at + MAX_ROW_LINES], delimiter=delimiter, strict=True)
        done = 0  # lines of this window that belong to finished rows
        try:
            for cells in reader:
                yield at + done + 1, cells
                done = reader.line_num
        except csv.Error:
            if at + MAX_ROW_LINES < len(lines) and done:  # perhaps only cut by the window
                at += done
                continue
            sheet.bad(
                at + done + 1,
                "A quote is not closed or stands inside a cell: close it, or double it.",
            )
            done += 1
        at += done


# --- JSON ---


class _Repeated:
    """An object that has a key twice; which value was meant is unknown."""


def _read_json(text: str, encoding: str, wanted: Mapping[str, str] | None) -> Sheet:
    """A list of objects, an object of objects by exam id, or one object per line."""
    sheet = Sheet("json", encoding)
    if text.lstrip()[0] == "{" and _is_lines(text):
        sheet.format = "jsonl"
        entries = _entries_of_lines(text, sheet)
    else:
        entries = _entries_of_document(text)
    find = functools.lru_cache(lambda keys: columns.find_columns(keys, wanted))
    unused: set[str] = set()
    for line, entry in entries:
        if not isinstance(entry, dict):
            sheet.bad(line, "Each entry must be an object with the columns as keys, none twice.")
            continue
        keys = tuple(entry)
        try:
            found = find(keys)
        except ValueError as error:
            sheet.bad(line, str(error))
            continue
        unused |= {keys[number - 1] for number in found.unused}
        _add_entry(sheet, line, {name: entry[keys[at]] for name, at in found.at.items()})
    sheet.unused_columns = len(unused)
    return sheet


def _is_lines(text: str) -> bool:
    """Whether a text that starts with an object holds one object per line."""
    first, _, rest = text.strip().partition("\n")
    if not rest.strip():
        return False
    try:
        json.loads(first)
    except ValueError:
        return rest.lstrip().startswith("{")
    return True


def _entries_of_lines(text: str, sheet: Sheet) -> Iterator[tuple[int, Any]]:
    for line, part in enumerate(text.split("\n"), start=1):
        if part.strip():
            try:
                yield line, json.loads(part, object_pairs_hook=_object)
            except (ValueError, RecursionError):
                sheet.bad(line, "The line is not one JSON object.")


def _entries_of_document(text: str) -> Iterator[tuple[int, Any]]:
    """Entries of `[{...}, ...]`, `{"exams": [{...}]}`, `{"id": {...}, ...}` or of one object."""
    try:
        document = json.loads(text, object_pairs_hook=_object)
        at = _skip(text, 0)
        values = dict(_members(text, at))
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise ValueError(f"The table is broken JSON at line {line}; export it again.") from None
    lists = [key for key, value in values.items() if isinstance(value[1], list)]
    if isinstance(document, dict) and len(values) == len(lists) == 1:
        at = values[lists[0]][0]
        values = dict(_members(text, at))
    elif isinstance(document, dict) and not all(isinstance(v[1], dict) for v in values.values()):
        values = {None: (at, document)}
    starts = [start for start, _ in values.values()]
    lines = [1 + text.count("\n", 0, starts[0])] if starts else []
    for before, start in itertools.pairwise(starts):
        lines.append(lines[-1] + text.count("\n", before, start))
    if len(set(lines)) < len(lines):  # written without line breaks: rows go by their number
        lines = list(range(1, len(lines) + 1))
    for line, (key, (_, value)) in zip(lines, values.items(), strict=True):
        if isinstance(key, str) and isinstance(value, dict):
            value = {"exam_id": key, **value}
        yield line, value


def _members(text: str, at: int) -> Iterator[tuple[Any, tuple[int, Any]]]:
    """(key or number, (position, value)) of the array or object that starts at `at`."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    is_object = text[at] == "{"
    at, key, number = _skip(text, at + 1), None, 0
    while text[at] not in "]}":
        if is_object:
            key, at = decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # past the colon
        value, end = decoder.raw_decode(text, at)
        yield (key if is_object else number), (at, value)
        at, number = _skip(text, end), number + 1
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Repeated:
    entry = dict(pairs)
    return entry if len(entry) == len(pairs) else _Repeated()


def _add_entry(sheet: Sheet, line: int, entry: Mapping[str, Any]) -> None:
    frames = None
    values = {}
    for name, value in entry.items():
        if name == "frame_order" and isinstance(value, list):
            frames = tuple(str(item) for item in value)
        elif value is None:
            continue
        elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            values[name] = str(value)
        else:
            sheet.bad(line, f"The {name} must be a text or a whole number.")
            return
    sheet.rows.append(RawRow(line, values, frames))


# --- XLSX ---


def _read_xlsx(data: bytes, wanted: Mapping[str, str] | None) -> Sheet:
    """The one sheet of a workbook that has the headings."""
    try:
        import openpyxl
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Reading .xlsx needs openpyxl: pip install 'ffa-sora-jax[tables]', or save as CSV."
        ) from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        grids = [_grid(sheet) for sheet in book.worksheets]
    except (KeyError, ValueError, TypeError, SyntaxError, zipfile.BadZipFile, OSError):
        # The library's own message may quote cells.
        raise ValueError("The workbook is damaged or no .xlsx file; save it again.") from None
    tables = []
    errors = []
    for grid in grids:
        heads = [["" if c is None else str(c) for c in row] for _, row in grid[:MAX_TITLE_ROWS]]
        if heads:
            try:
                number, found = _headings(heads, wanted)
                tables.append((found, grid[number + 1 :]))
            except ValueError as error:
                errors.append(error)
    if not tables:
        raise errors[0] if errors else ValueError("The workbook has no rows.")
    if len(tables) > 1:
        raise ValueError(f"{len(tables)} sheets hold reports; put them into one.")
    found, body = tables[0]
    sheet = Sheet("xlsx", None, unused_columns=len(found.unused))
    for line, cells in body:
        _add_cells(
            sheet, line, {name: cells[at] for name, at in found.at.items() if at < len(cells)}
        )
    return sheet


def _grid(sheet: Any) -> list[tuple[int, list[Any]]]:
    """(line, values) of the rows that are not empty, without empty cells at the end."""
    sheet.reset_dimensions()  # some programs store a wrong size, and rows would be cut to it
    grid = []
    for line, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells = list(row)
        while cells and (cells[-1] is None or str(cells[-1]).strip() == ""):
            cells.pop()
        if cells:
            grid.append((line, cells))
    return grid


def _add_cells(sheet: Sheet, line: int, cells: Mapping[str, Any]) -> None:
    values = {}
    for name, cell in cells.items():
        try:
            values[name] = _cell_text(name, cell)
        except ValueError as error:
            sheet.bad(line, str(error))
            return
    sheet.rows.append(RawRow(line, values))


def _cell_text(name: str, cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        if cell in _CELL_ERRORS:
            raise ValueError(f"The {name} is a formula that failed.")
        return cell
    if isinstance(cell, datetime.date | datetime.time | datetime.timedelta | bool):
        raise ValueError(f"The {name} is a date or a truth value; format the column as text.")
    if isinstance(cell, float) and not cell.is_integer():
        raise ValueError(f"The {name} is a fraction; format the column as text.")
    text = str(int(cell))
    if len(text.lstrip("-")) > _EXACT_DIGITS:
        raise ValueError(
            f"The {name} is a number of more than {_EXACT_DIGITS} digits, of which a workbook "
            "loses the last ones; format the column as text and enter it again."
        )
    return text
