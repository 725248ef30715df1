"""The annotation file of FFA-IR as rows of a table of reports.

    {"train": {"case_1": {"En_Report": "...", "Ch_Report": "...",
                          "Image_path": ["case_1/0.jpeg", ...]}, ...}, "val": {...}, "test": {...}}

What the public description leaves open is read either way: the key of the Chinese report, and
whether `Image_path` is a list or the text of one.
"""

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tfds_ffa.curation.reasons import Problem
from tfds_ffa.curation.table import ExamRow

FILE_NAMES = ("ffair_annotation.json", "annotation.json")
FOLDER = "FFAIR"
SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
CHINESE_KEYS = ("ch_report", "zh_report", "cn_report", "chinese_report")


def find(downloads: Path, table: Path | None = None) -> tuple[Path, Path]:
    """The annotation file and the folder of the cases.

    Args:
      downloads: folder of the downloaded and unpacked files.
      table: the annotation file, where it has another name.

    Raises:
      FileNotFoundError: one of the two is not there.
    """
    candidates = [table] if table else [downloads / name for name in FILE_NAMES]
    found = [path for path in candidates if path.is_file()]
    if not downloads.is_dir() or not found:
        raise FileNotFoundError(
            f"FFA-IR needs the folder {downloads} with {FILE_NAMES[0]} (or --table FILE) and the "
            f"unpacked folder {FOLDER} of cases. tfds_ffa/ffa_ir/README.md tells how to get them."
        )
    cases = downloads / FOLDER
    return found[0], cases if cases.is_dir() else downloads


def read(path: Path) -> tuple[list[ExamRow], list[Problem]]:
    """One row per usable case, and one problem for each other case; "line n" is the n-th case.

    Raises:
      ValueError: the file is no annotation file.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON in UTF-8 ({type(error).__name__}).") from error
    if not isinstance(stored, dict) or not stored.keys() <= SPLITS.keys() or not stored:
        raise ValueError(f"{path} must hold an object with the splits {', '.join(SPLITS)}.")
    if not all(isinstance(cases, dict) for cases in stored.values()):
        raise ValueError(f"{path}: every split must hold an object of cases.")
    rows: list[ExamRow] = []
    problems: list[Problem] = []
    cases = [(name, *case) for name in stored for case in stored[name].items()]
    for line, (split, case, fields) in enumerate(cases, 1):
        row = _row(line, SPLITS[split], case, fields)
        (rows if isinstance(row, ExamRow) else problems).append(row)  # type: ignore[arg-type]
    return rows, problems


def _row(line: int, split: str, case: str, fields: Any) -> ExamRow | Problem:
    where = f"line {line}"
    try:
        names = _frames(case, fields)
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError):
        return Problem.at("bad_row", where, "Image_path is no list of images of this case.")
    texts = {key.lower(): str(text).strip() for key, text in fields.items()}
    english = texts.get("en_report", "")
    chinese = next((texts[key] for key in CHINESE_KEYS if texts.get(key)), "")
    if not (english or chinese):
        return Problem.at("empty_report", where)
    return ExamRow(
        line=line,
        exam_id=case,
        patient_id=None,
        eye=None,
        report=english or chinese,
        language="en" if english else "zh",
        split=split,
        path=case,
        frame_order=names,
        report_zh=chinese,
    )


def _frames(case: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """File names of a case in the order of their numbers."""
    paths = fields["Image_path"]
    paths = ast.literal_eval(paths) if isinstance(paths, str) else paths
    parts = [PurePosixPath(path) for path in paths]
    if PurePosixPath(case).name != case or any(
        part.parent.name not in ("", case) for part in parts
    ):
        raise ValueError("an image lies in another case")
    names = sorted((part.name for part in parts), key=_natural)
    if not names or len(set(names)) < len(names):
        raise ValueError("no image, or one named twice")
    return tuple(names)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part or 0) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", name)]
