import json

import pytest

from ffa_sora_jax.pipelines.report_table import ReportTable, open_reporter, plain_name


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_csv_and_json_lines_alike(tmp_path):
    one = write(tmp_path / "a.csv", 'video,report,reader\nx/case 1.mp4,"Left, eye.",A\n7,右眼,B\n')
    lines = [{"exam": "case 1", "text": "Left, eye."}, {"exam": 7, "text": "右眼"}]
    two = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    a, b = ReportTable.read(one), open_reporter(two)
    assert a.texts == b.texts == {"case 1": "Left, eye.", "7": "右眼"}
    assert a.fingerprint == b.fingerprint
    assert a.reports(["7", "case 1.webp"], []) == ["右眼", "Left, eye."]


def test_a_name_without_a_report_is_named(tmp_path):
    table = ReportTable.read(write(tmp_path / "a.csv", "id,report\na,x\n"))
    with pytest.raises(ValueError, match="no report for 2 of 3 videos, such as b, c"):
        table.reports(["a", "b", "c"])
    assert table.known(["in/a.mp4", "b"]) == {"in/a.mp4": "x"}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,words\na,x\n", "report, text"), ("id,name,report\na,b,x\n", "found id, name"),
        ("id,report\na,x\na,y\n", "line 3: 'a' comes twice, first in line 2"),
        ("id,report\np/a.mp4,x\nq/a.mp4,x\n", "'a' comes twice"),
        ("id,report\n,x\n", "has no name"), ("", "holds no reports"),
        ("id,report\n", "holds no reports"), ("id,report\na,x,y\n", "line 2: 3 fields"),
        ('id,report\na,"x\nb,y\n', "lines 2-3: .*quote opened on line 2"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_with_their_line(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        ReportTable.read(write(tmp_path / "a.csv", text))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        ReportTable.read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"\.csv"):
        ReportTable.read(write(tmp_path / "a.txt", "id,report\na,x\n"))
    with pytest.raises(ValueError, match="line 1: a JSON list"):
        ReportTable.read(write(tmp_path / "a.jsonl", "[1]\n"))
    with pytest.raises(ValueError, match="None, which is no text"):
        ReportTable.read(write(tmp_path / "a.jsonl", '{"id": "a", "report": null}\n'))


def test_a_captioner_may_write_nothing(tmp_path):
    assert ReportTable.read(write(tmp_path / "a.csv", "id,report\na,\n")).reports(["a"]) == [""]


def test_only_the_endings_of_pictures_and_videos_do_not_count():
    assert plain_name("in/p1.visit 2.mp4") == "p1.visit 2"
    assert plain_name("p1.5") == "p1.5"
