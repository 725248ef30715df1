"""A hospital's archive: the exam folder, the table of reports, and what must become of each.

python -m tests.corpus.hospital FOLDER [--table xlsx]
"""

import argparse
import csv
import io
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tests.corpus import damage, formats, good, pictures
from tests.corpus.case import Case

EXAM, PATIENT = "NX-4711", "PX-0815"
FIELDS = (
    *("exam_id", "patient_id", "eye", "report", "report_zh", "language", "diagnosis"),
    *("split", "path", "frame_order", "operator"),
)
TABLES = ("csv", "xlsx", "json", "jsonl")
EYES = {"right": ("right", "OD", "右眼"), "left": ("left", "OS", "左眼")}
ZH = {"right": "右眼", "left": "左眼"}
# Nothing of this may come out of a build.
SECRETS = (*formats.SECRETS, EXAM, PATIENT, damage.LONG[:17], "Ünïcødé", "检查 ")


@dataclass(frozen=True)
class Expected:
    """What must become of one row."""

    where: str
    kind: str
    status: str
    reason: str
    remarks: tuple[str, ...]
    exam_id: str
    patient_id: str


@dataclass(frozen=True)
class Corpus:
    """An archive on disk.

    Attributes:
      exams: the exam folder.
      table: the table of reports.
      salt: a salt file, always the same, so that splits are too.
      rows: one per row of the table.
      leftovers: reasons of files and folders without a usable row.
    """

    exams: Path
    table: Path
    salt: Path
    rows: tuple[Expected, ...]
    leftovers: tuple[str, ...]

    @property
    def inputs(self) -> int:
        """Rows, and files or folders without a row."""
        return len(self.rows) + len(self.leftovers)


def all_cases() -> list[Case]:
    """Every format and every kind of damage."""
    return [*good.cases(), *damage.cases()]


def build(root: Path, cases: Sequence[Case], table: str = "csv") -> Corpus:
    """Writes the archive of these cases below `root`; a longer list only adds to it.

    Args:
      root: an empty or missing folder.
      cases: in order; two neighbours are one patient.
      table: format of the table.
    """
    exams = root / "exams"
    exams.mkdir(parents=True)
    good.folder(".png")(root / "outside", 0)
    cells: list[dict[str, str]] = []
    expected: list[tuple[Case, str]] = []
    for number, case in enumerate(cases):
        index = number // 2 if case.phantom is None else case.phantom
        name = case.name or f"{EXAM}-{number:03d}"
        if case.write is not None:
            case.write(exams / name, index)
        for row, reason in zip(case.rows, case.expected or [case.reason] * 9, strict=False):
            cells.append(_row(number, index, name, row))
            expected.append((case, reason))
    path = root / f"reports.{table}"
    lines = _WRITERS[table](path, cells)
    rows = tuple(
        Expected(
            where=f"line {line}",
            kind=case.kind,
            status=(case.status or "dropped") if reason else "kept",
            reason=reason,
            remarks=case.remarks,
            exam_id=row["exam_id"],
            patient_id=row["patient_id"],
        )
        for line, row, (case, reason) in zip(lines, cells, expected, strict=True)
    )
    leftovers = [case.extra for case in cases if case.extra]
    leftovers += [case.reason for case in cases if not case.rows]
    return Corpus(exams, path, _write_salt(root / "salt"), rows, tuple(leftovers))


def _write_salt(path: Path) -> Path:
    path.touch(mode=0o600)
    path.write_text(f"ffa-sora salt 1\n{bytes(range(32)).hex()}\n")
    return path


def _row(number: int, phantom: int, name: str, changes: Mapping[str, str]) -> dict[str, str]:
    exam = pictures.exam(phantom)
    row = {
        "exam_id": f"{EXAM}-{number:03d}",
        "patient_id": f"{PATIENT}-{number // 2:03d}",
        "eye": EYES[exam.eye][number % 3],
        "report": exam.report,
        "report_zh": "",
        "language": "",
        "diagnosis": "; ".join(exam.exam.diseases),
        "split": "",
        "path": "",
        "frame_order": "",
        "operator": "Plantarius",
    }
    if number % 5 == 3:
        row["report_zh"] = (
            f"{ZH[exam.eye]}FFA：视网膜动静脉充盈时间正常，黄斑区见荧光渗漏{number}处。"
        )
    if number % 10 == 8:
        row |= {"report": row["report_zh"], "report_zh": "", "language": "zh"}
    if number % 7 == 2:
        row["report"] = row["report"].replace(": 1. ", ":\n1. ")
    row |= changes
    other = EYES["left" if exam.eye == "right" else "right"][0]
    return {k: {"*": name, "~": other}.get(v, v) for k, v in row.items()}


# --- Tables: each returns the line on which every row begins ---


def _write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> list[int]:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    lines = []
    for row in rows:
        lines.append(buffer.getvalue().count("\n") + 1)
        writer.writerow(row)
    path.write_bytes(b"\xef\xbb\xbf" + buffer.getvalue().encode())  # as Excel saves it
    return lines


def _write_json(path: Path, rows: Sequence[Mapping[str, str]]) -> list[int]:
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("[\n" + ",\n".join(texts) + "\n]\n", encoding="utf-8")
    return list(range(2, len(rows) + 2))


def _write_jsonl(path: Path, rows: Sequence[Mapping[str, str]]) -> list[int]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(range(1, len(rows) + 1))


def _write_xlsx(path: Path, rows: Sequence[Mapping[str, str]]) -> list[int]:
    """The smallest workbook that spreadsheets open."""
    table = [dict(zip(FIELDS, FIELDS, strict=True)), *rows]
    body = "".join(
        f'<row r="{number}">'
        + "".join(
            f'<c r="{chr(65 + column)}{number}" t="inlineStr"><is><t xml:space="preserve">'
            f"{escape(row[field])}</t></is></c>"
            for column, field in enumerate(FIELDS)
        )
        + "</row>"
        for number, row in enumerate(table, start=1)
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    ooxml = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{ooxml}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{ooxml}.worksheet+xml"/>'
        "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="Reports" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData>'
        "</worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>\n' + text)
    return list(range(2, len(rows) + 2))


_WRITERS = {
    "csv": _write_csv,
    "json": _write_json,
    "jsonl": _write_jsonl,
    "xlsx": _write_xlsx,
}


def main() -> int:
    """Writes the whole corpus into a folder."""
    parser = argparse.ArgumentParser(prog="tests.corpus.hospital")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", choices=TABLES, default="csv")
    parser.add_argument("--many-frames", type=int, default=150)
    parser.add_argument("--large-px", type=int, default=4000)
    args = parser.parse_args()
    damaged = damage.cases(args.many_frames, args.large_px)
    corpus = build(args.folder, [*good.cases(), *damaged], args.table)
    sys.stdout.write(f"{corpus.inputs} inputs: --exams {corpus.exams} --table {corpus.table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
