"""Rows and exams find each other, and each of both is accounted for."""

import os
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfds_ffa.curation import discover
from tfds_ffa.curation.table import ExamRow


def rows(*ids, paths=()):
    named = [ExamRow(i, name, None, None, "r", "en") for i, name in enumerate(ids, start=2)]
    return named + [
        ExamRow(100 + i, f"id {i}", None, None, "r", "en", path=path)
        for i, path in enumerate(paths)
    ]


@pytest.fixture
def make(tmp_path):
    root = tmp_path / "exams"
    root.mkdir()

    def touch(*names):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return root

    return touch


def found(matched, root):
    return {exam.row.exam_id: str(exam.path.relative_to(root)) for exam in matched.exams}


def noticed(matched):
    return {(problem.reason, problem.where) for problem in matched.problems}


def check_accounts(matched, table):
    """Every row is an exam or one problem; every entry is an exam, a problem or a row's fault."""
    of_rows = [p for p in matched.problems if p.where.startswith("line")]
    assert sorted(exam.row.line for exam in matched.exams) == sorted(
        {row.line for row in table} - {int(p.where.split()[1]) for p in of_rows}
    )
    assert len(of_rows) + len(matched.exams) == len(table)
    assert len(set(matched.entries)) == len(matched.entries)
    assert {exam.path for exam in matched.exams} <= set(matched.entries)
    numbers = [int(p.where.split()[1]) for p in matched.problems if p.where.startswith("entry")]
    assert len(set(numbers)) == len(numbers)
    assert not {matched.entries[i - 1] for i in numbers} & {exam.path for exam in matched.exams}


def test_what_an_exam_holds_by_links_is_no_exam_of_its_own(make):
    root = make("E1/1.png", "pool/a/1.png", "pool/b/1.png", "pool/E2/1.png", "pool/c/1.png")
    (root / "E1/more").symlink_to(root / "pool/a")
    (root / "E1/other").symlink_to(root / "pool/E2")  # has a row: an exam all the same
    (root / "pool/a/behind").symlink_to(root / "pool/b")
    table = rows("E1", "E2")
    matched = discover.match(table, root)
    assert found(matched, root) == {"E1": "E1", "E2": "pool/E2"}
    (problem,) = matched.problems
    assert problem.reason == "exam_without_row"
    assert matched.entries[int(problem.where.split()[1]) - 1] == root / "pool/c"
    check_accounts(matched, table)


def test_exams_of_every_shape(make):
    root = make(
        "video.mp4", "frames/1.png", "frames/2.png", "deep/er/clip.avi", "own/own.mp4",
        "own2/own2/1.dcm", "batch/m1.dcm", "batch/m2.dcm", "1.2.840.10/1.2.840.10.5", "noext",
        "notes.txt", ".hidden/1.png", "frames/Thumbs.db", "@eaDir/1.png", "folder.json/1.png",
    )  # fmt: skip
    table = rows(
        "video", "frames", "clip", "own", "own2", "m1", "1.2.840.10", "noext", "m2", "folder.json"
    )  # fmt: skip
    matched = discover.match(table, root)
    assert found(matched, root) == {
        "video": "video.mp4", "frames": "frames", "clip": "deep/er/clip.avi", "own": "own",
        "own2": "own2", "m1": "batch/m1.dcm", "m2": "batch/m2.dcm", "1.2.840.10": "1.2.840.10",
        "noext": "noext", "folder.json": "folder.json",
    }  # fmt: skip
    assert not matched.problems
    check_accounts(matched, table)


def test_rows_without_exam_and_exams_without_row(make):
    root = make("frames10/1.png", "frames9/1.png", "b/1.mp4", "b/2.mp4", "c/1.dcm", "c/2.dcm")
    table = rows("frames10", "missing")
    matched = discover.match(table, root)
    assert [str(path.relative_to(root)) for path in matched.entries] == [
        "b/1.mp4", "b/2.mp4", "c", "frames9", "frames10",
    ]  # fmt: skip
    expected = {("exam_without_row", f"entry {i}") for i in (1, 2, 3, 4)}
    assert noticed(matched) == {("row_without_exam", "line 3")} | expected
    check_accounts(matched, table)


def test_of_a_split_folder_every_file_is_an_exam(make):
    root = make("c/1.dcm", "c/2.dcm", "c/3.dcm", "c/readme.txt")
    table = rows("2")
    matched = discover.match(table, root)
    assert found(matched, root) == {"2": "c/2.dcm"} and len(matched.entries) == 3
    check_accounts(matched, table)


def test_frames_called_like_an_exam_are_none(make):
    root = make("1/1.png", "1/2.png", "2/1.png", "2/2.png")
    assert found(discover.match(rows("1", "2"), root), root) == {"1": "1", "2": "2"}


def test_two_candidates_are_no_match(make):
    root = make("a.mp4", "a.avi", "x/b/1.png", "y/b/1.png")
    matched = discover.match(rows("a", "b"), root)
    assert noticed(matched) == {("ambiguous_exam", "line 2"), ("ambiguous_exam", "line 3")}


def test_paths(make):
    root = make("a/1.png", "sub/ü.mp4", "win/dows.mp4", "c.mp4")
    table = rows(
        paths=("a", "sub/ü.mp4", "win\\dows.mp4", str(root / "c.mp4"), "./a/", "../exams/a",
               "../other", "/etc/hosts", "C:\\x.mp4", "nowhere", ".", "n" * 300, "c.mp4/x")
    )  # fmt: skip
    matched = discover.match(table, root)
    assert set(found(matched, root).values()) == {"a", "sub/ü.mp4", "win/dows.mp4", "c.mp4"}
    reasons = {p.where: p.reason for p in matched.problems}
    assert [reasons[f"line {i}"] for i in range(104, 113)] == [
        "shared_exam", "shared_exam", "outside_root", "outside_root", "outside_root",
        "row_without_exam", "ambiguous_exam", "name_too_long", "row_without_exam",
    ]  # fmt: skip
    check_accounts(matched, table)


def test_links(make, tmp_path):
    root = make("real.mp4", "folder/1.png", "inner/1.png", "store/v.mp4", "leaky/1.png")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.png").write_bytes(b"x")
    for name, target in {
        "loop": "loop", "self": ".", "out": str(tmp_path / "secret"), "gone": "nowhere",
        "alias": "folder", "inner/up": "..", "copy.mp4": "store/v.mp4",
        "leaky/2.png": str(tmp_path / "secret" / "1.png"),
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    table = rows("real", "loop", "self", "out", "gone", "alias", "inner", "copy", "leaky")
    matched = discover.match(table, root)
    assert found(matched, root) == {"real": "real.mp4", "alias": "folder", "copy": "store/v.mp4"}
    assert noticed(matched) == {
        ("symlink_loop", "line 3"), ("symlink_loop", "line 4"), ("outside_root", "line 5"),
        ("unreadable", "line 6"), ("symlink_loop", "line 8"), ("outside_root", "line 10"),
    }  # fmt: skip
    check_accounts(matched, table)
    by_path = discover.match(rows(paths=("loop", "out/1.png", "alias/1.png", "gone")), root)
    assert {p.where: p.reason for p in by_path.problems if p.where.startswith("line")} == {
        "line 100": "symlink_loop", "line 101": "outside_root", "line 103": "row_without_exam",
    }  # fmt: skip


def test_a_pipe_is_never_opened(make):
    root = make("a.mp4")
    os.mkfifo(root / "pipe")
    matched = discover.match(rows("a", "pipe"), root)
    assert noticed(matched) == {("unknown_format", "line 3")}


def test_the_exam_folder_may_be_a_link(make, tmp_path):
    root = make("a/1.png", "b.mp4")
    (tmp_path / "link").symlink_to(root)
    linked = tmp_path / "link"
    table = rows("a", paths=(str(linked / "b.mp4"),))
    assert len(discover.match(table, linked).exams) == 2


def test_composed_and_decomposed_names_are_one(make):
    name = "Müller-ñ"
    root = make(unicodedata.normalize("NFD", name) + "/1.png", "検査/黄.mp4", "😀.mp4")
    table = rows(name, "黄", "😀", paths=(name,))
    matched = discover.match(table, root)
    assert len(matched.exams) == 3 and noticed(matched) == {("shared_exam", "line 100")}


def test_names_that_are_no_unicode_and_long_names(make):
    root = make("n" * 250 + ".mp4")
    (root / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"x")
    matched = discover.match(rows("n" * 250), root)
    assert len(matched.exams) == 1 and noticed(matched) == {("exam_without_row", "entry 1")}


def test_two_rows_for_one_exam(make):
    root = make("a.mp4", "b.mp4")
    table = [
        ExamRow(2, "a", "P", None, "r", "en"), ExamRow(3, "a", "Q", None, "r", "en"),
        ExamRow(4, "b", "P", None, "r", "en"), ExamRow(5, "b", "P", None, "r", "en"),
    ]  # fmt: skip
    matched = discover.match(table, root)
    assert noticed(matched) == {
        ("patient_conflict", "line 2"), ("patient_conflict", "line 3"),
        ("duplicate_exam_id", "line 5"),
    }  # fmt: skip
    check_accounts(matched, table)


def test_near_misses_are_pointed_out(make):
    root = make("E-0012.mp4", "a_7/1.png", "other.mp4")
    matched = discover.match(rows("e12", "A7", "missing", "other"), root)
    hints = [discover.NEAR_MISS in p.what_to_do for p in matched.problems[:3]]
    assert hints == [True, True, False] and len(matched.exams) == 1


def test_files_to_skip(make):
    root = make("a.mp4", "data/1.png", "salt")
    matched = discover.match(rows("a"), root, skip=[root / "data", root / "salt"])
    assert not matched.problems


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="exam folder"):
        discover.match([], tmp_path / "none")


def test_a_folder_and_a_file_in_it_may_both_have_rows(make):
    root = make("a/1.png", "a/b.mp4", "a/c.mp4")
    (root / "first").symlink_to(root / "a")
    table = rows("b", paths=["first"])
    matched = discover.match(table, root)
    assert found(matched, root) == {"b": "a/b.mp4", "id 0": "a"}
    assert not matched.problems
    check_accounts(matched, table)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_any_tree_and_table_are_accounted_for(tmp_path_factory, seed):
    """Random folders, links and rows: every row and entry turns up exactly once."""
    rng = random.Random(seed)
    root = tmp_path_factory.mktemp("tree")
    names = ["a", "b", "c", "1", "é"]
    folders = [root]
    for _ in range(rng.randrange(12)):
        parent, name = rng.choice(folders), rng.choice(names)
        kind = rng.choice(["folder", "file", "file", "link"])
        path = parent / (
            name + rng.choice(["", ".mp4", ".png", ".dcm", ".txt"]) * (kind != "folder")
        )
        if os.path.lexists(path):
            continue
        if kind == "folder":
            path.mkdir()
            folders.append(path)
        elif kind == "file":
            path.write_bytes(b"x")
        else:
            path.symlink_to(rng.choice(["..", ".", "a", "/", "../b", str(root / "a")]))
    table = [
        ExamRow(i, rng.choice(names), rng.choice([None, "P", "Q"]), None, "r", "en", path=path)
        for i in range(rng.randrange(6))
        for path in [rng.choice([None, None, "a", "b/c", "../x", "a.mp4"])]
    ]
    matched = discover.match(table, root)
    check_accounts(matched, table)
    assert all(not path.is_symlink() for path in (exam.path for exam in matched.exams))
    assert all(exam.path.resolve().is_relative_to(root.resolve()) for exam in matched.exams)
