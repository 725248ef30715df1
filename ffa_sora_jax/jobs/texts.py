"""Tables of reports by the name of a clip: what `ffa-sora report` or another program wrote."""

import csv
import json
from pathlib import Path


def read_texts(path: Path) -> dict[str, str]:
    """Reports by id.

    Args:
      path: .csv with the columns id and report, or .jsonl with these fields; others are passed
        over.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another ending, a line that cannot be read, or an id that comes twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No table {path}.")
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            try:
                rows = [dict(row) for row in table]
            except csv.Error as error:
                raise ValueError(f"{path}, line {table.line_num}: {error}.") from error
    elif path.suffix == ".jsonl":
        rows = [_object(path, n, line) for n, line in enumerate(_lines(path), 1) if line.strip()]
    else:
        raise ValueError(f"{path} must end in .csv or .jsonl.")
    texts: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        name, text = row.get("id"), row.get("report")
        if not isinstance(name, str) or not isinstance(text, str) or not name.strip():
            raise ValueError(f"{path}, row {number}: id and report are needed, both texts.")
        if name in texts:
            raise ValueError(f"{path}, row {number}: the id {name!r} comes twice.")
        texts[name] = text
    return texts


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def _object(path: Path, number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number} is no JSON ({error}).") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number} is no JSON object.")
    return row
