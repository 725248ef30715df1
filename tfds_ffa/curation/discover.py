"""Matches the rows of a table with what lies in the exam folder.

An exam is a file (a video, an animation, a DICOM file) or a folder of frames. A row names it by
its path column, or by its exam id, which is then the name of the folder or file, with or without
extension, at any depth. Every row and every exam in the folder is accounted for.

    rows, problems = table.read_table(reports)
    matched = discover.match(rows, root)

Messages speak of "line 12" of the table or "entry 17" of the exam folder, `matched.entries[16]`.
"""

import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from ffa_sora_jax.video.reading import natural_key
from tfds_ffa.curation import folders
from tfds_ffa.curation.reasons import Problem
from tfds_ffa.curation.table import ExamRow, check_rows

NEAR_MISS = "An exam's name differs only in capitals, punctuation or leading zeros."


@dataclass(frozen=True)
class Exam:
    """A row and its file or folder."""

    row: ExamRow
    path: Path


@dataclass(frozen=True)
class Matched:
    """What came of matching.

    Attributes:
      exams: rows that have an exam, in the order of the table.
      problems: exactly one for each other row, and one for each entry that no row points to.
      entries: all exams in the folder in natural order, with or without a row. For the eyes of
        whoever runs the build: paths are not to be logged.
    """

    exams: list[Exam]
    problems: list[Problem]
    entries: list[Path] = field(repr=False)


def match(rows: Sequence[ExamRow], root: Path, skip: Collection[Path] = ()) -> Matched:
    """Finds the exam of every row, and the exams that no row has.

    Args:
      rows: usable rows of the table, each of another line.
      root: the exam folder.
      skip: files or folders in it that are no exams, such as the table or the dataset.

    Raises:
      FileNotFoundError: `root` is no folder.
    """
    tree = folders.walk(root, {row.exam_id for row in rows if row.path is None}, skip)
    found = _find_all(rows, tree)
    claimed = {path for one in found.values() for path in one.claims}
    spoiled = _spoiled(tree, claimed)
    # Rows that were refused point to their exams all the same.
    claimed |= {defect.path for defect in spoiled.values()}
    reasons = _entries(tree, claimed)
    entries = sorted(reasons, key=lambda path: natural_key(str(path)))
    similar = {_loose(path.name) for path in entries if path not in claimed}
    good, problems = check_rows(rows)
    first: dict[Path, int] = {}
    exams = []
    for row in good:
        path, problem = found[row.line].path, found[row.line].problem
        if problem is not None:
            if problem.reason == "row_without_exam" and _loose(row.exam_id) in similar:
                problem = Problem.at(problem.reason, row.where, NEAR_MISS)
            problems.append(problem)
        elif path in spoiled:
            problems.append(Problem.at(spoiled[path].reason, row.where, "Inside of the exam:"))
        elif path in first:
            detail = f"Line {first[path]} points to the same file or folder."
            problems.append(Problem.at("shared_exam", row.where, detail))
        elif path is not None:
            first[path] = row.line
            exams.append(Exam(row, path))
    problems.sort(key=lambda problem: int(problem.where.removeprefix("line ")))
    for number, path in enumerate(entries, start=1):
        if path not in claimed:
            problems.append(Problem.at(reasons[path], f"entry {number}"))
    return Matched(exams, problems, entries)


# --- From a row to a path ---


@dataclass(frozen=True)
class _Found:
    """The exam of a row or why there is none, and all paths that the row points to."""

    path: Path | None
    problem: Problem | None
    claims: tuple[Path, ...] = ()


def _find_all(rows: Sequence[ExamRow], tree: folders.Tree) -> dict[int, _Found]:
    """What every row, by line, points to."""
    found = {}
    for row in rows:
        found[row.line] = _by_path(row, tree.root) if row.path else _by_id(row, tree)
    # A frame may be called like an exam, so files among frames are only looked at for rows that
    # have found nothing else, and only in folders that are not an exam themselves.
    claimed = {path for one in found.values() for path in one.claims}
    for row in rows:
        if not row.path and not found[row.line].claims:
            inside = [path for path in tree.files_named[row.exam_id] if path.parent not in claimed]
            found[row.line] = _only(row, inside)
    return found


def _by_id(row: ExamRow, tree: folders.Tree) -> _Found:
    named = tree.folders_named[row.exam_id]
    # exam/exam.mp4 and exam/exam/1.png: the outer folder stands for what it holds.
    paths = [path for path in named if path.parent not in named]
    for path in tree.files_named[row.exam_id]:
        if _stands_alone(path, tree) and path.parent not in named:
            paths.append(path)
    defects = tree.defects_named[row.exam_id]
    if defects and not paths:
        claims = tuple(defect.path for defect in defects)
        return _Found(None, Problem.at(defects[0].reason, row.where), claims)
    return _only(row, paths)


def _only(row: ExamRow, paths: Sequence[Path]) -> _Found:
    found = tuple(sorted(set(paths)))
    if len(found) == 1:
        return _Found(found[0], None, found)
    if found:
        detail = f"There are {len(found)} of them."
        return _Found(None, Problem.at("ambiguous_exam", row.where, detail), found)
    return _Found(None, Problem.at("row_without_exam", row.where))


def _stands_alone(path: Path, tree: folders.Tree) -> bool:
    """Whether a file is an exam by its place: it is a video, or lies directly in the root."""
    return path.parent == tree.root or not folders.may_be_frame(path.name)


def _by_path(row: ExamRow, root: Path) -> _Found:
    text = row.path or ""
    if "\\" in text and "/" not in text:
        text = text.replace("\\", "/")

    def refused(code: str, *claims: Path) -> _Found:
        return _Found(None, Problem.at(code, row.where), claims)

    path = Path(os.path.normpath(root / text))
    if path.is_absolute() and not path.is_relative_to(root):  # the root may have been a link
        path = Path(os.path.realpath(path.parent)) / path.name
    if PureWindowsPath(text).drive or not path.is_relative_to(root):
        return refused("outside_root")
    if path == root:
        return refused("ambiguous_exam")
    try:
        path = _as_on_disk(root, path.relative_to(root))
        real = Path(os.path.realpath(path, strict=True))
    except (FileNotFoundError, NotADirectoryError):
        return refused("row_without_exam", path)
    except OSError as error:
        return refused(folders.reason_of(error), path)
    if not real.is_relative_to(root):
        return refused("outside_root", path)
    if real == root or root.is_relative_to(real):
        return refused("symlink_loop", path)
    if not real.is_dir() and not real.is_file():
        return refused("unknown_format", path)
    return _Found(real, None, (real,))


def _as_on_disk(root: Path, relative: Path) -> Path:
    """The path as the disk spells it: some systems store decomposed Unicode."""
    path = root
    for part in relative.parts:
        inner = path / part
        if not part.isascii() and not os.path.lexists(inner):
            same = [found for found in path.iterdir() if folders.composed(found.name) == part]
            inner = same[0] if same else inner
        path = inner
    return path


# --- What is in the folder ---


def _entries(tree: folders.Tree, claimed: Collection[Path]) -> dict[Path, str]:
    """Every exam of the folder, with the reason that holds if no row points to it."""
    owned = {*claimed, *_linked(tree, claimed)}
    among_frames = {path.parent for path in claimed if _is_file(path)}
    found = {
        defect.path: defect.reason
        for defect in tree.defects
        if not any(folder in claimed for folder in defect.path.parents)
    }
    waiting = [(tree.top, False)]
    while waiting:
        folder, is_inside = waiting.pop()
        inner = [folder.path / name for name in folder.others]
        holds_exams = folder.path in among_frames
        if folder.num_frames and holds_exams:
            inner = list(folders.files_of(folder.path))
        if folder.path in claimed or (folder.num_frames and not holds_exams):
            inner.append(folder.path)
        # What an exam's folder holds belongs to it, unless another row points to it.
        is_exam = folder.path in owned
        for path in inner:
            if path in claimed or not (is_inside or is_exam):
                found.setdefault(path, "exam_without_row")
        waiting += [(child, is_inside or is_exam) for child in folder.folders]
    return found


def _linked(tree: folders.Tree, claimed: Collection[Path]) -> set[Path]:
    """Folders that exams hold by links, directly or by links behind links."""
    linking, waiting = [], [tree.top]
    while waiting:
        folder = waiting.pop()
        linking += [folder] * bool(folder.links)
        waiting += folder.folders
    owned, found = set(claimed), set()
    while new := {
        target
        for folder in linking
        if not owned.isdisjoint((folder.path, *folder.path.parents))
        for target in folder.links
        if target not in owned
    }:
        owned |= new
        found |= new
    return found


def _spoiled(tree: folders.Tree, claimed: Collection[Path]) -> dict[Path, folders.Defect]:
    """Exam folders that hold a link out of the exam folder, a loop, a pipe or the like."""
    found = {}
    for defect in tree.defects:
        for folder in defect.path.parents:
            if folder == tree.root:
                break
            if folder in claimed:
                found[folder] = defect
                break
    return found


def _loose(name: str) -> str:
    """A name without what tables get wrong: capitals, punctuation, leading zeros, extension."""
    stem = name if not folders.suffix(name) else Path(name).stem
    parts = re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFKC", stem).casefold())
    return " ".join(part.lstrip("0") for part in parts)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        return False
