"""The table of reports: one row per exam, checked row by row.

What is wrong with a row is told by its line number only; the schema is in docs/curation.md.

rows, problems = read_table(Path("reports.xlsx"))
"""

import dataclasses
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfds_ffa.curation import columns, sheets
from tfds_ffa.curation.reasons import Problem

__all__ = ["ExamRow", "Problem", "Table", "check_rows", "load_table", "read_table"]

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4095


@dataclass(frozen=True)
class ExamRow:
    """One row of the table.

    Attributes:
      line: its first line in the file, from 1; unique. In JSON with several objects on a line, the
        number of the object.
      exam_id: name of the exam's file or folder; the path where the table has no exam ids.
      patient_id: None where the table has none.
      eye: "right", "left", "both" or None.
      report: the text a model reads, in `language`; surrounding blanks removed, else untouched.
      language: "en" or "zh".
      diagnosis: free text or None.
      split: "train", "validation", "test", "unseen" or None.
      path: file or folder below the exam folder, or None.
      frame_order: file names of the frames in order, or None.
      report_zh: the Chinese report, "" if there is none.
    """

    line: int
    exam_id: str
    patient_id: str | None
    eye: str | None
    report: str
    language: str
    diagnosis: str | None = None
    split: str | None = None
    path: str | None = None
    frame_order: tuple[str, ...] | None = None
    report_zh: str = ""

    @property
    def where(self) -> str:
        """How messages speak of the row."""
        return f"line {self.line}"


@dataclass(frozen=True)
class Table:
    """A table that was read, and how.

    Attributes:
      rows: the rows that can be used.
      problems: one for each row that cannot; rows and these add up to `num_rows`.
      num_rows: filled rows of the file without the headings.
      format: "csv", "xlsx", "json" or "jsonl".
      encoding: of the text, None for a workbook.
      unused_columns: number of columns that are not carried along.
    """

    rows: list[ExamRow]
    problems: list[Problem]
    num_rows: int
    format: str
    encoding: str | None
    unused_columns: int


def read_table(
    path: Path, columns: Mapping[str, str] | None = None
) -> tuple[list[ExamRow], list[Problem]]:
    """The usable rows of a table and one problem for each other row; see `load_table`."""
    table = load_table(path, columns)
    return table.rows, table.problems


def load_table(
    path: Path, columns: Mapping[str, str] | None = None, encoding: str | None = None
) -> Table:
    """Reads and checks a CSV, XLSX, JSON or JSONL table.

    Args:
      path: the file.
      columns: field -> heading, where a heading is not one of the known ones.
      encoding: of a text file, where guessing is not wanted.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file as a whole is no such table. No value of the table is quoted.
    """
    sheet = sheets.read_sheet(path, columns, encoding)
    rows: list[ExamRow] = []
    problems = list(sheet.problems)
    for raw in sheet.rows:
        row = _row(raw)
        (rows if isinstance(row, ExamRow) else problems).append(row)  # type: ignore[arg-type]
    problems.sort(key=lambda problem: int(problem.where.removeprefix("line ")))
    return Table(
        rows,
        problems,
        num_rows=len(rows) + len(problems),
        format=sheet.format,
        encoding=sheet.encoding,
        unused_columns=sheet.unused_columns,
    )


def check_rows(rows: Sequence[ExamRow]) -> tuple[list[ExamRow], list[Problem]]:
    """Rows that agree with each other, and one problem for each that does not.

    Of rows with the same exam id, patient and content the first is kept; where they name two
    patients none can be trusted and all go.
    """
    by_exam: dict[str, list[ExamRow]] = defaultdict(list)
    for row in rows:
        by_exam[row.exam_id].append(row)
    kept, problems = [], []
    for row in rows:
        group = by_exam[row.exam_id]
        patients = {o.patient_id for o in group if o.patient_id is not None}
        others = ", ".join(str(other.line) for other in group[:10] if other is not row)
        if len({patient_key(patient) for patient in patients}) > 1:
            detail = f"Lines {others} have this exam id with another patient."
            problems.append(Problem.at("patient_conflict", row.where, detail))
        elif row is not group[0]:
            detail = f"Line {group[0].line} has this exam id already."
            problems.append(Problem.at("duplicate_exam_id", row.where, detail))
        elif patients and row.patient_id is None:
            kept.append(dataclasses.replace(row, patient_id=min(patients)))
        else:
            kept.append(row)
    return kept, problems


def patient_key(patient_id: str) -> str:
    """The spelling by which patients are told apart.

    Capitals, punctuation, full-width digits and the leading zeros that a workbook swallows do not
    matter: taking two patients for one is harmless, taking one for two leaks across splits.
    """
    text = unicodedata.normalize("NFKC", patient_id).casefold()
    key = re.sub(r"[\W_]+", "", text)
    return (key.lstrip("0") or "0") if key.isdecimal() else key or text


def _row(raw: sheets.RawRow) -> ExamRow | Problem:
    where = f"line {raw.line}"
    values = {name: _clean(text) for name, text in raw.values.items()}
    path = values.get("path") or None
    exam_id = values.get("exam_id") or ("" if "exam_id" in raw.values else path) or ""
    try:
        _check_ids(exam_id, values)
        eye, split, language = (
            columns.parse_choice(name, values.get(name)) for name in ("eye", "split", "language")
        )
        frames = _frames(raw, values.get("frame_order", ""))
    except ValueError as error:
        return Problem.at("bad_row", where, str(error))
    if _too_long(exam_id, MAX_NAME_BYTES if path is None else MAX_PATH_BYTES) or (
        path and (_too_long(path, MAX_PATH_BYTES) or any(map(_too_long, re.split(r"[/\\]", path))))
    ):
        return Problem.at("name_too_long", where)
    report, report_zh = values.get("report", ""), values.get("report_zh", "")
    if not _has_words(report):
        report = report_zh
    if not _has_words(report):
        return Problem.at("empty_report", where)
    language = language or columns.language_of(report)
    return ExamRow(
        line=raw.line,
        exam_id=exam_id,
        patient_id=_known(values.get("patient_id")),
        eye=eye,
        report=report,
        language=language,
        diagnosis=_known(values.get("diagnosis")),
        split=split,
        path=path,
        frame_order=frames,
        report_zh=report_zh or (report if language == "zh" else ""),
    )


def _clean(text: str) -> str:
    """Without blanks around it, composed: two spellings of one id must be one id."""
    return unicodedata.normalize("NFC", text).strip().strip("\ufeff\u200b").strip()


def _known(text: str | None) -> str | None:
    """The text, or None where it only says that there is none: "N/A" is no patient."""
    return None if not text or columns.says_nothing(text) else text


def _check_ids(exam_id: str, values: Mapping[str, str]) -> None:
    if not exam_id:
        raise ValueError("The exam_id is missing.")
    for name in ("exam_id", "patient_id", "path"):
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in values.get(name, "")):
            raise ValueError(f"The {name} holds control characters.")
    if any("\ufffd" in text for text in values.values()):
        raise ValueError("The row holds characters that were lost in an earlier conversion.")


def _frames(raw: sheets.RawRow, text: str) -> tuple[str, ...] | None:
    names = raw.frames if raw.frames is not None else tuple(re.split(r"[;|\n]+", text))
    names = tuple(name.strip() for name in names if name.strip())
    if any("/" in name or "\\" in name or name in (".", "..") for name in names):
        raise ValueError("The frame_order must hold plain file names of one folder.")
    if len(set(names)) < len(names):
        raise ValueError("The frame_order names a frame twice.")
    return names or None


def _too_long(text: str, limit: int = MAX_NAME_BYTES) -> bool:
    return len(text.encode("utf-8", "surrogateescape")) > limit


def _has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)
