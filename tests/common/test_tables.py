"""Tables by row: what cannot be read is a reason and spoils nothing else.

What both kinds of file refuse row by row is tested in tests/jobs/test_rows.py.
"""

import pytest

from ffa_sora_jax.common import tables
from ffa_sora_jax.common.tables import Record


def write(path, content):
    path.write_bytes(content)
    return path


def test_csv_and_json_lines_give_the_same_rows(tmp_path):
    one = tables.read(
        write(tmp_path / "a.CSV", b'\xef\xbb\xbf id ,text\r\na,x\r\n\r\nb,"y\r\nz"\r\n')
    )
    rows = b'{"id": "a", "text": "x"}\n\n{"id": "b", "text": "y\\r\\nz"}\n'
    two = tables.read(write(tmp_path / "a.ndjson", rows))
    assert (one.columns, two.columns) == (("id", "text"), None)
    assert [r.fields for r in one.records] == [r.fields for r in two.records]
    assert [r.where for r in one.records] == ["line 2", "lines 4-5"]
    assert two.records[1] == Record(3, 3, {"id": "b", "text": "y\r\nz"})


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_written_is_read_back(tmp_path, name):
    rows = [("1", 'said "no", twice'), ("2", "右眼\r\nline two")]
    tables.write(tmp_path / name, ("id", "text"), rows)
    found = tables.read(tmp_path / name).records
    assert [tuple(record.fields.values()) for record in found] == rows
    assert list(found[0].fields) == ["id", "text"]


def test_only_a_newline_ends_a_line_of_json(tmp_path):
    text = "one\u2028two"
    table = tables.read(write(tmp_path / "a.jsonl", f'{{"report": "{text}"}}\n'.encode()))
    assert [r.fields for r in table.records] == [{"report": text}]


def test_text_that_is_not_utf8_spoils_its_row_only(tmp_path):
    table = tables.read(write(tmp_path / "a.csv", b"id,note\na,\xe9\nb,good\n"))
    bad, good = table.records
    assert (
        bad.fields is None and "UTF-8" in bad.reason and good.fields == {"id": "b", "note": "good"}
    )
    (bad,) = tables.read(write(tmp_path / "a.jsonl", b'{"id": "\\ud800"}\n')).records
    assert bad.fields is None and "UTF-8" in bad.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,text,id\n", "two columns 'id'"),
        ("id,text\n".encode("utf-16"), "not UTF-8"),
        (b'id,"text\n', "not readable as CSV"),
    ],
)
def test_a_first_line_that_does_not_name_the_columns_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        tables.read(write(tmp_path / "a.csv", content))


def test_columns_without_a_name_may_be_several(tmp_path):
    assert tables.read(write(tmp_path / "a.csv", b"id,,\na,,\n")).columns == ("id", "", "")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No table at .*none\.csv"):
        tables.read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"a table ends in \.csv"):
        tables.read(write(tmp_path / "a.xlsx", b"x"))
