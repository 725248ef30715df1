"""Table and folder brought together: each input once, whatever lies among the exams."""

from tfds_ffa.curation import curate, table
from tfds_ffa.curation.deidentify import Hasher

HASHER = Hasher(bytes(32))
TABLE = """exam_id,patient_id,report,split
a,P,text,
b,P,text,train
c,Q,text,train
d,Q,text,test
missing,R,text,
e,,,
"""


def gather(folder, skip=()):
    rows, problems = table.read_table(folder / "reports.csv")
    return curate.gather(rows, problems, folder, HASHER, curate.Wishes(), skip)


def test_every_input_has_one_fate(tmp_path):
    (tmp_path / "reports.csv").write_text(TABLE)
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4", "extra.mp4"):
        (tmp_path / name).write_bytes(b"x")
    inputs = gather(tmp_path)
    assert sorted(exam.row.exam_id for exam in inputs.exams.values()) == ["a", "b"]
    assert set(inputs.split_of.values()) == {"train"} and len(set(inputs.patient_of.values())) == 1
    assert sorted((one.reason, one.facts["where"]) for one in inputs.left_out) == [
        ("empty_report", "line 7"), ("exam_without_row", "entry 5"),
        ("row_without_exam", "line 6"), ("split_conflict", "line 4"),
        ("split_conflict", "line 5"),
    ]  # fmt: skip
    advice = {one.facts["where"]: one.facts["what_to_do"] for one in inputs.left_out}
    assert "Name the file or folder after the exam id" in advice["line 6"]
    assert inputs.count == 7 and len({one.key for one in inputs.left_out}) == 5


def test_the_salt_among_the_exams_is_no_exam(tmp_path):
    (tmp_path / "reports.csv").write_text("exam_id,report\na,text\n")
    for name in ("a.mp4", "ids"):
        (tmp_path / name).write_bytes(b"x")
    assert gather(tmp_path).count == 2
    assert gather(tmp_path, [tmp_path / "ids"]).count == 1
