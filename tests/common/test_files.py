"""Files that appear whole or not at all, locks, and folders named by users."""

import subprocess
import sys

import pytest

from ffa_sora_jax.common import files


def test_an_error_leaves_the_old_file_and_no_remains(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_the_file_is_replaced_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"b": 1, "a": "ü"})
    with files.replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == '{\n "a": "\\u00fc",\n "b": 1\n}'
    assert path.read_text() == "new"


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # the first example of FIPS 180
    assert files.sha256(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_lock_keeps_another_process_out_until_its_holder_ends(tmp_path):
    path = tmp_path / "lock"
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(1, flush=True)"
    code = f"{hold}; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline()
        with pytest.raises(ValueError, match="taken"), files.locked(path, "taken"):
            pass
        other.kill()
    with files.locked(path, "taken"):
        pass


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    files.check_folder(tmp_path / "new" / "folder", "--output")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"file is a file; --output must be a folder"):
            files.check_folder(folder, "--output")
