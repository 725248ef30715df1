"""FFA-IR in its public layout: splits of its authors, both reports, and odd annotation files."""

import json

import numpy as np
import pytest

from tests.tfds_ffa import exams
from tfds_ffa.ffa_ir import annotation

NAME = "ffa_ir/64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ffa_ir")
    exams.ffa_ir(folder)
    assert exams.build(folder, source="ffa_ir", dataset=NAME) == 0
    return folder


@pytest.fixture(scope="module")
def stored(folder):
    return json.loads((folder / "ffa_ir/ffair_annotation.json").read_text(encoding="utf-8"))


def test_cases_stay_in_the_splits_of_the_authors_with_both_reports(folder, stored):
    found = exams.records(folder, NAME)
    names = {"train": "train", "val": "validation", "test": "test"}
    for theirs, ours in names.items():
        wanted = {(c["En_Report"], c["Ch_Report"]) for c in stored[theirs].values()}
        reports = {(r["report"].decode(), r["report_zh"].decode()) for r in found[ours]}
        assert reports == wanted
    for record in (record for split in found.values() for record in split):
        assert record["language"] == b"en" and record["disease"] == b""
        assert record["video"].shape == (21, 64, 64, 1) and not record["times_known"]
        assert record["is_original"].sum() == 5


def test_the_side_comes_from_the_report(folder):
    for record in (r for split in exams.records(folder, NAME).values() for r in split):
        eye = ("right", "left")[record["eye"]]
        assert f"{eye} eye" in record["report"].decode().lower()


# --- The annotation file ---


def write(tmp_path, content):
    path = tmp_path / "ffair_annotation.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def case(**changes):
    fields = {"En_Report": "Left eye FFA.", "Image_path": ["c/10.jpeg", "c/2.jpeg"]}
    return {"train": {"c": fields | changes}}


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    rows, problems = annotation.read(write(tmp_path, case()))
    assert rows[0].frame_order == ("2.jpeg", "10.jpeg") and not problems
    assert (rows[0].path, rows[0].split, rows[0].patient_id) == ("c", "train", None)


def test_a_list_stored_as_text_is_read_too(tmp_path):
    rows, _ = annotation.read(write(tmp_path, case(Image_path="['c/10.jpeg', 'c/2.jpeg']")))
    assert rows[0].frame_order == ("2.jpeg", "10.jpeg")


@pytest.mark.parametrize("key", ["Ch_Report", "Zh_Report", "CN_report", "Chinese_Report"])
def test_the_chinese_report_is_found_under_any_of_its_names(tmp_path, key):
    rows, _ = annotation.read(write(tmp_path, case(**{key: " 左眼造影。 "})))
    assert rows[0].report_zh == "左眼造影。" and rows[0].language == "en"


def test_a_case_with_a_chinese_report_only_is_chinese(tmp_path):
    rows, _ = annotation.read(write(tmp_path, case(En_Report="", Ch_Report="左眼造影。")))
    assert (rows[0].report, rows[0].language) == ("左眼造影。", "zh")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"En_Report": " "}, "empty_report"),
        ({"Image_path": []}, "bad_row"),
        ({"Image_path": ["other/1.jpeg"]}, "bad_row"),
        ({"Image_path": ["../c/1.jpeg", "c/1.jpeg"]}, "bad_row"),
        ({"Image_path": "__import__('os').getcwd()"}, "bad_row"),
        ({"Image_path": "['c/1.jpeg'"}, "bad_row"),
        ({"Image_path": 7}, "bad_row"),
        ({"Image_path": [7]}, "bad_row"),
    ],
)
def test_a_broken_case_is_one_problem(tmp_path, changes, reason):
    content = {"val": case()["train"], "train": case(**changes)["train"]}
    rows, problems = annotation.read(write(tmp_path, content))
    assert [row.split for row in rows] == ["validation"]
    assert [(p.reason, p.where) for p in problems] == [(reason, "line 2")]


def test_a_case_that_is_no_object_is_one_problem(tmp_path):
    rows, problems = annotation.read(write(tmp_path, {"test": {"c": "text"}}))
    assert not rows and problems[0].reason == "bad_row"


@pytest.mark.parametrize("content", [[], {}, {"trian": {}}, {"train": []}, "text"])
def test_another_file_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="ffair_annotation"):
        annotation.read(write(tmp_path, content))


def test_a_file_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match="not JSON"):
        annotation.read(path)


def test_a_missing_download_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ffa_ir/README\.md"):
        annotation.find(tmp_path)
    path = write(tmp_path, case())
    assert annotation.find(tmp_path) == (path, tmp_path)
    (tmp_path / "FFAIR").mkdir()
    assert annotation.find(tmp_path) == (path, tmp_path / "FFAIR")


def test_numbers_sort_before_names():
    names = ["b.jpeg", "10.jpeg", "9.jpeg", "a2.jpeg", "a10.jpeg"]
    assert sorted(np.random.default_rng(0).permutation(names), key=annotation._natural) == [
        "9.jpeg", "10.jpeg", "a2.jpeg", "a10.jpeg", "b.jpeg"
    ]  # fmt: skip
