"""Tables are read row by row: a bad row is named, and never stops the next one."""

import pytest

from ffa_sora_jax.jobs.rows import BadRow, Row, read_table


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_with_all_columns(tmp_path):
    table = write(tmp_path / "t.csv", 'id,report,seed,samples\na,"Left eye, FFA",7,2\nb,x,,\n')
    assert read_table(table) == [
        Row("a", "Left eye, FFA", 7, 2, line=2),
        Row("b", "x", 0, 1, line=3),
    ]


def test_defaults_come_from_the_caller_and_ids_from_the_place(tmp_path):
    table = write(tmp_path / "t.jsonl", '{"report": "x"}\n\n{"report": "y", "seed": 3}\n')
    first, second = read_table(table, seed=5, samples=4)
    assert (first.id, first.seed, first.samples) == ("row00001", 5, 4)
    assert (second.id, second.seed, second.line) == ("row00002", 3, 3)


def test_byte_order_mark_and_quoted_line_breaks(tmp_path):
    table = write(tmp_path / "t.csv", b'\xef\xbb\xbfreport\r\n"one\r\ntwo"\r\nthree\r\n')
    assert [row.report for row in read_table(table)] == ["one\r\ntwo", "three"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('a,"",1', "empty"),
        ("a,   ,1", "empty"),
        ("a,x,one", "'one' is not a whole number"),
        ("a,x,1.5", "not a whole number"),
        ("a,x,-1", "outside 0"),
        ("a,x,4294967296", "outside 0"),
        ("a,x", "2 fields where the header names 3"),
        ("a,x,1,2", "4 fields where the header names 3"),
        ("../a,x,1", "cannot be a file name"),
        ('a,"x"y,1', "not readable as CSV"),
    ],
)
def test_a_bad_csv_row_is_reported_and_the_next_one_is_read(tmp_path, row, reason):
    table = write(tmp_path / "t.csv", f"id,report,seed\n{row}\nb,good,2\n")
    bad, good = read_table(table)
    assert isinstance(bad, BadRow) and bad.line == 2 and reason in bad.reason
    assert good == Row("b", "good", 2, 1, line=3)


def test_a_quote_that_is_not_closed_names_every_line_it_spoils(tmp_path):
    rows = 'a,"Left eye\nb,"Right eye"\nc,disc\nd,macula\n'
    first, second, c, d = read_table(write(tmp_path / "t.csv", "id,report\n" + rows))
    for row in (first, second):
        assert row.where == "lines 2-3"
        assert row.reason == "not read; a quote opened on line 2 is not closed"
    assert (first.id, second.id) == ("row00001", "row00002")
    assert (c, d) == (Row("c", "disc", line=4), Row("d", "macula", line=5))


def test_a_quote_open_at_the_end_spoils_the_lines_that_hold_text(tmp_path):
    rows = read_table(write(tmp_path / "t.csv", 'report\ngood\n"Left eye\nRight eye\n\n'))
    assert [row.where for row in rows[1:]] == ["lines 3-5"] * 2
    assert "opened on line 3" in rows[1].reason and rows[0].report == "good"


def test_bytes_that_are_not_utf8_spoil_their_row_only(tmp_path):
    table = write(tmp_path / "t.csv", b"id,report\na,\xff\xfe\nb,good\n")
    bad, good = read_table(table)
    assert "UTF-8" in bad.reason and good.report == "good"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json", "not readable as JSON"),
        ("[1, 2]", "JSON list"),
        ("null", "a JSON null where"),
        ('{"raport": "x"}', "unknown keys ['raport']"),
        ('{"id": "a"}', "missing"),
        ('{"report": 3}', "not text"),
        ('{"report": "x", "samples": 0}', "outside 1"),
        ('{"report": "x", "seed": true}', "not a whole number"),
    ],
)
def test_a_bad_json_line_is_reported_and_the_next_one_is_read(tmp_path, line, reason):
    bad, good = read_table(write(tmp_path / "t.jsonl", line + '\n{"report": "good"}\n'))
    assert isinstance(bad, BadRow) and bad.line == 1 and reason in bad.reason
    assert good.report == "good"


def test_an_id_used_twice_fails_the_second_row(tmp_path):
    table = write(tmp_path / "t.csv", "id,report\na,x\na,y\n")
    first, second = read_table(table)
    assert first.id == "a" and isinstance(second, BadRow) and "line 2" in second.reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", "x", "ends in .csv"),
        ("t.csv", "id,reprot\na,b\n", "Did you mean 'report'"),
        ("t.csv", "id,seed\na,1\n", "no column 'report'"),
        ("t.csv", "report\n", "no rows"),
        ("t.csv", 'id,"report\na,x\n', "first line of .* is not readable"),
        ("t.csv", "", "no column 'report'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / name, content))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_table(tmp_path / "none.csv")
