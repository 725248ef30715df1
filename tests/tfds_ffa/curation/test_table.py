"""Tables in every format and encoding, and what becomes of rows that are wrong."""

import codecs
import csv
import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfds_ffa.curation import columns, encodings, reasons
from tfds_ffa.curation.table import ExamRow, check_rows, load_table, read_table

CHINESE = "右眼视网膜动脉充盈时间正常，黄斑区可见散在点状微血管瘤样强荧光，晚期荧光素渗漏。"
ENGLISH = "Right eye FFA: 1. Arterial filling is normal; no leakage."
HEADER = ["exam_id", "patient_id", "eye", "report"]
ROWS = [["E1", "P1", "OD", ENGLISH], ["E2", "P2", "左眼", CHINESE]]


def as_csv(rows, delimiter=",", newline="\r\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=newline).writerows(rows)
    return out.getvalue()


def write(tmp_path, text, name="table.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def check_two_rows(rows):
    assert [(r.exam_id, r.patient_id, r.eye, r.report, r.language) for r in rows] == [
        ("E1", "P1", "right", ENGLISH, "en"),
        ("E2", "P2", "left", CHINESE, "zh"),
    ]
    assert [r.report_zh for r in rows] == ["", CHINESE]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_in_any_encoding_and_with_any_delimiter(tmp_path, encoding, delimiter):
    text = as_csv([HEADER, *ROWS], delimiter)
    table = load_table(write(tmp_path, text, encoding=encoding))
    check_two_rows(table.rows)
    assert not table.problems and table.num_rows == 2 and table.format == "csv"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_and_a_line_that_names_the_delimiter(tmp_path, newline):
    text = f"sep=;{newline}" + as_csv([HEADER, *ROWS], ";", newline)
    rows, problems = read_table(write(tmp_path, text))
    check_two_rows(rows)
    assert not problems and [row.line for row in rows] == [3, 4]


def test_traditional_chinese_and_western_accents_are_told_apart(tmp_path):
    traditional = "右眼視網膜動脈充盈時間正常，黃斑區可見散在點狀微血管瘤樣強螢光，晚期滲漏。"
    table = load_table(write(tmp_path, as_csv([HEADER, ["1", "", "", traditional]]), "a", "big5"))
    assert table.encoding == "big5" and table.rows[0].report == traditional
    western = "Œil gauche : diffusion tardive près de la fovéa, pôle postérieur inchangé."
    table = load_table(write(tmp_path, as_csv([HEADER, ["1", "", "", western]]), "a", "cp1252"))
    assert table.encoding == "cp1252" and table.rows[0].report == western


def test_a_named_encoding_is_not_guessed(tmp_path):
    path = write(tmp_path, as_csv([HEADER, *ROWS]), encoding="gb18030")
    with pytest.raises(ValueError, match=r"not utf-8 text: line 3"):
        load_table(path, encoding="utf-8")
    for name in ("gb18031", "zip", "undefined"):
        with pytest.raises(ValueError, match=f"no text encoding '{name}'.*gb18030"):
            load_table(path, encoding=name)
    with pytest.raises(ValueError, match="zero bytes"):
        encodings.decode(b"a\0b", "utf-8")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("euc-kr", "우안: 황반부 후기 누출이 관찰됨."), ("cp1251", "Правый глаз: поздняя утечка."),
     ("UTF8", "右眼：晚期渗漏。"), ("shift-jis", "右眼：後期漏出あり。")],
)  # fmt: skip
def test_encodings_that_are_not_guessed_can_be_named(tmp_path, encoding, text):
    table = as_csv([HEADER, ["1", "", "", text]]).encode(encoding)
    path = write(tmp_path, codecs.BOM_UTF8 * (encoding == "UTF8") + table)
    (row,) = load_table(path, encoding=encoding).rows
    assert (row.exam_id, row.report) == ("1", text)


@pytest.mark.parametrize(("most", "stray"), [("utf-8", "gb18030"), ("gb18030", "cp1252")])
def test_a_line_in_another_encoding_costs_one_row(tmp_path, most, stray):
    path = tmp_path / "t.csv"
    lines = as_csv([HEADER, *ROWS]).encode(most)
    path.write_bytes(lines + "E3,P3,OD,视网膜 café".encode(stray, "ignore") + b"\r\n")
    table = load_table(path)
    assert table.encoding == most and table.num_rows == 3
    check_two_rows(table.rows)
    assert [(p.where, p.reason) for p in table.problems] == [("line 4", "bad_row")]
    assert "lost in an earlier conversion" in table.problems[0].what_to_do


@pytest.mark.parametrize(
    ("cell", "eye"),
    [("OD (右眼)", "right"), ("OS（左眼）", "left"), ("Rt", "right"), ("Lt. eye", "left"),
     ("left eye - OS", "left"), ("R/E", "right")],
)  # fmt: skip
def test_an_eye_may_be_named_twice(tmp_path, cell, eye):
    rows, problems = read_table(write(tmp_path, as_csv([HEADER, ["E1", "P1", cell, "text"]])))
    assert not problems and rows[0].eye == eye


@pytest.mark.parametrize("cell", ["eye", "OD, OS", "右眼 左", "right or left"])
def test_a_word_that_names_no_one_eye_costs_the_row(tmp_path, cell):
    _, (problem,) = read_table(write(tmp_path, as_csv([HEADER, ["E1", "P1", cell, "text"]])))
    assert problem.reason == "bad_row" and "right, left, both" in problem.what_to_do


CHINESE_HEADER = ["检查号", "患者编号", "眼别", "报告", "姓名", "出生日期"]


@pytest.mark.parametrize(
    "header",
    [
        CHINESE_HEADER,
        ["Exam ID", "MRN", "Laterality", "Report Text"],
        ["Exam No.", "Patient No.", "Side", "Findings"],
        ["檢查號", "病歷號", "眼別", "報告"],
    ],
)
def test_headings_in_both_languages(tmp_path, header):
    extra = [""] * (len(header) - 4)
    table = load_table(write(tmp_path, as_csv([header, *(row + extra for row in ROWS)])))
    check_two_rows(table.rows)
    assert table.unused_columns == len(extra)


def test_titles_above_the_headings(tmp_path):
    title = "Reports of the eye clinic\r\nyear;2020\r\n\r\n"
    rows, problems = read_table(write(tmp_path, title + as_csv([HEADER, *ROWS])))
    check_two_rows(rows)
    assert not problems and [row.line for row in rows] == [5, 6]
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Reports of the eye clinic"], [], HEADER, *ROWS):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    check_two_rows(read_table(tmp_path / "t.xlsx")[0])
    with pytest.raises(ValueError, match="no encoding"):
        load_table(tmp_path / "t.xlsx", encoding="utf-8")


def test_ambiguous_headings_are_refused(tmp_path):
    path = write(tmp_path, as_csv([[*HEADER, "Report"], [*ROWS[0], "x"]]))
    with pytest.raises(ValueError, match="2 columns could be the report"):
        read_table(path)
    path = write(tmp_path, as_csv([["title"], ["id", "Impression", "Findings"], ["E1", "a", "b"]]))
    with pytest.raises(ValueError, match="findings and impression could both be the report"):
        read_table(path)
    assert read_table(path, {"report": "impression"})[0][0].report == "a"
    path = write(tmp_path, as_csv([["id", "Impression", "report"], ["E1", "a", "b"]]))
    assert read_table(path)[0][0].report == "b"  # the field's own name
    path = write(tmp_path, as_csv([["id", "text", "label"], ["E1", "report", "BRVO"]]))
    with pytest.raises(ValueError, match="asked for twice"):
        read_table(path, {"report": "text", "diagnosis": "text"})
    # what is asked for wins over what the heading would mean
    (one,), _ = read_table(path, {"report": "label", "diagnosis": "text"})
    assert (one.report, one.diagnosis) == ("BRVO", "report")


def test_no_heading_means_two_things():
    names = [columns._key(name) for names in columns.ALIASES.values() for name in names]
    assert len(set(names)) == len(names)


def test_other_headings_are_named(tmp_path):
    path = write(tmp_path, as_csv([["Nr", "Who", "Which", "What"], *ROWS]))
    with pytest.raises(ValueError, match="None of the 4 columns") as caught:
        read_table(path)
    assert "Who" not in str(caught.value)  # it might be a patient
    names = {"exam_id": "nr", "patient_id": "Who", "eye": "Which", "report": "What"}
    check_two_rows(read_table(path, names)[0])
    with pytest.raises(ValueError, match="No column is called 'Nrr'"):
        read_table(path, names | {"exam_id": "Nrr"})
    with pytest.raises(ValueError, match="Did you mean 'report'"):
        read_table(path, {"reprot": "What"})


def test_xlsx(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["notes"])
    sheet = book.create_sheet("reports")
    sheet.append([])
    for row in ([*HEADER, "split"], [*ROWS[0], "train"], [], [*ROWS[1], "test"]):
        sheet.append(row)
    sheet.append([12, 34.0, "R", "numbers are ids too"])
    sheet.append([1234567890123456, "", "R", "too many digits"])
    sheet.append(["E9", "", "R", "#REF!"])
    book.save(tmp_path / "t.dat")  # the name does not matter
    table = load_table(tmp_path / "t.dat")
    check_two_rows(table.rows[:2])
    assert [(row.line, row.split) for row in table.rows] == [(3, "train"), (5, "test"), (6, None)]
    assert (table.rows[2].exam_id, table.rows[2].patient_id) == ("12", "34")
    assert [(p.reason, p.where) for p in table.problems] == [
        ("bad_row", "line 7"), ("bad_row", "line 8"),
    ]  # fmt: skip
    assert "15 digits" in table.problems[0].what_to_do and table.num_rows == 5


def test_a_wrong_size_in_a_workbook_hides_no_rows(tmp_path):
    """Some programs write the size of a sheet wrongly, and readers that trust it stop there."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for cells in (HEADER, *ROWS):
        book.active.append(cells)
    book.save(tmp_path / "right.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "right.xlsx") as right,
        zipfile.ZipFile(tmp_path / "wrong.xlsx", "w") as wrong,
    ):
        for name in right.namelist():
            data = right.read(name)
            assert name != "xl/worksheets/sheet1.xml" or b'ref="A1:D3"' in data
            wrong.writestr(name, data.replace(b'ref="A1:D3"', b'ref="A1:A1"'))
    check_two_rows(read_table(tmp_path / "wrong.xlsx")[0])


def test_workbooks_that_cannot_be_used(tmp_path):
    pytest.importorskip("openpyxl")
    for data, words in (
        (b"PK\x03\x04rubbish", "damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 more", "without a password"),
        (b" \n", "empty"),
    ):
        with pytest.raises(ValueError, match=words):
            read_table(write(tmp_path, data))


ENTRIES = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
BY_ID = {e["exam_id"]: {k: v for k, v in e.items() if k != "exam_id"} for e in ENTRIES}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "document", [ENTRIES, {"exams": ENTRIES}, BY_ID], ids=["list", "exams", "ids"]
)
def test_json(tmp_path, document, indent):
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    table = load_table(write(tmp_path, text, "t.json"))
    check_two_rows(table.rows)
    lines = text.split("\n")
    for row in table.rows if indent else ():
        assert "{" in lines[row.line - 1]
    assert indent or [row.line for row in table.rows] == [1, 2]  # rows must be told apart
    assert table.format == "json" and not table.problems


def test_json_lines_lose_only_broken_lines(tmp_path):
    lines = [json.dumps(entry) for entry in ENTRIES]
    broken = ['{"exam_id": "E3", ', '{"exam_id": "E4", "exam_id": "E5", "report": "r"}', "[1]"]
    wrong = ['{"exam_id": 1.5, "report": "r"}', '{"exam_id": "E6"}']
    table = load_table(write(tmp_path, "\n".join([lines[0], *broken, "", lines[1], *wrong])))
    check_two_rows(table.rows)
    assert [p.where for p in table.problems] == [f"line {i}" for i in (2, 3, 4, 7, 8)]
    assert {p.reason for p in table.problems} == {"bad_row"}
    assert table.format == "jsonl" and table.num_rows == 7


def test_broken_json_says_where(tmp_path):
    with pytest.raises(ValueError, match="broken JSON at line 3"):
        read_table(write(tmp_path, '[\n{"exam_id": "E1", "report": "r"},\n{"exam_id" "E2"}\n]'))


WRONG_ROWS = {
    "E1,P1,OD": "empty_report",
    "E1,P1,OD,  - . ": "empty_report",
    ",P1,OD,text": "bad_row",
    "E1,P1,top,text": "bad_row",
    "E1,P1,OD,a text, with a comma": "bad_row",
    'E1,P1,OD,"a "quote" inside"': "bad_row",
    'E1,P1,OD,"never closed': "bad_row",
    "E\x01,P1,OD,text": "bad_row",
    "E1,P1,OD,caf\ufffd": "bad_row",
    "E" * 300 + ",P1,OD,text": "name_too_long",
}


@pytest.mark.parametrize("row", WRONG_ROWS, ids=range(len(WRONG_ROWS)))
def test_a_wrong_row_costs_one_row(tmp_path, row):
    good = as_csv(ROWS)
    table = load_table(write(tmp_path, f"{','.join(HEADER)}\r\n{row}\r\n{good}"))
    check_two_rows(table.rows)
    (problem,) = table.problems
    assert (problem.reason, problem.where) == (WRONG_ROWS[row], "line 2")
    assert table.num_rows == 3


def test_many_unclosed_quotes_do_not_take_quadratic_time(tmp_path):
    lines = [",".join(HEADER), *[f'E{i},P,OD,"open {i}' for i in range(3000)], "E,P,OD,text"]
    table = load_table(write(tmp_path, "\n".join(lines)))
    assert len(table.rows) + len(table.problems) == table.num_rows
    assert table.rows[-1].exam_id == "E"


def test_messages_hold_no_values(tmp_path):
    secret = "Zhang Wei 13912345678"
    for row in (f"E1,{secret},{secret},text", f"E1,P1,OD,text,{secret}", f'E,P,OD,"{secret}'):
        for problem in read_table(write(tmp_path, f"{','.join(HEADER)}\n{row}\n"))[1]:
            assert "Zhang" not in repr(problem) and "139" not in repr(problem)


@pytest.mark.parametrize(
    "path,reason",
    [("a/b.mp4", None), ("a" * 256, "name_too_long"), ("a/" * 2100 + "b", "name_too_long")],
)
def test_paths_stand_in_for_exam_ids(tmp_path, path, reason):
    rows, problems = read_table(write(tmp_path, as_csv([["path", "report"], [path, "text"]])))
    assert [row.exam_id for row in rows] == ([] if reason else [path])
    assert [problem.reason for problem in problems] == ([reason] if reason else [])


@pytest.mark.parametrize("word", ["", " ", "-", "N/A", "NULL", "unknown", "未知", "无"])
def test_a_word_for_nothing_is_no_patient(tmp_path, word):
    (one,), _ = read_table(write(tmp_path, as_csv([HEADER, ["E", word, word, "text"]])))
    assert one.patient_id is None and one.eye is None


def test_frame_order(tmp_path):
    entry = {"exam_id": "E", "report": "r", "frame_order": ["b.png", "a.png"]}
    rows, _ = read_table(write(tmp_path, json.dumps([entry])))
    assert rows[0].frame_order == ("b.png", "a.png")
    header = ["exam_id", "report", "frames"]
    rows, problems = read_table(
        write(
            tmp_path,
            as_csv([header, ["E", "r", "b.png; a.png"], ["F", "r", "a;a"], ["G", "r", "../a"]]),
        )
    )
    assert [row.frame_order for row in rows] == [("b.png", "a.png")]
    assert [problem.where for problem in problems] == ["line 3", "line 4"]


CELLS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffd"), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8), st.sampled_from(",;\t|"))
def test_whatever_stands_in_cells_every_row_is_accounted_for(tmp_path_factory, cells, delimiter):
    """Cells of any text come back as they are or as a problem; none vanishes or doubles."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    header = ["exam_id", "patient_id", "report"]
    path.write_text(as_csv([header, *cells], delimiter), encoding="utf-8")
    table = load_table(path, encoding="utf-8")
    filled = [row for row in cells if any(cell.strip() for cell in row)]
    assert len(table.rows) + len(table.problems) == table.num_rows == len(filled)
    assert all(problem.reason in reasons.REASONS for problem in table.problems)
    usable = [
        row for row in filled if row[0].strip("\u200b \ufeff") and any(map(str.isalnum, row[2]))
    ]
    assert len(table.rows) <= len(usable)


def row(line, exam_id, patient=None):
    return ExamRow(line, exam_id, patient, None, "r", "en")


def test_rows_that_contradict_each_other():
    rows = [row(2, "A", "P"), row(3, "A", "P"), row(4, "B", "P"), row(5, "B", "Q"), row(6, "C")]
    kept, problems = check_rows([*rows, row(7, "B", "P"), row(8, "C", "R")])
    assert [r.line for r in kept] == [2, 6]
    assert kept[1].patient_id == "R"  # the other row of this exam knows the patient
    assert {(p.where, p.reason) for p in problems} == {
        ("line 3", "duplicate_exam_id"), ("line 4", "patient_conflict"),
        ("line 5", "patient_conflict"), ("line 7", "patient_conflict"),
        ("line 8", "duplicate_exam_id"),
    }  # fmt: skip
