"""The record survives kills: only whole, verified outputs count."""

import json
import subprocess
import sys

import pytest

from ffa_sora_jax.jobs.manifest import Manifest, only_one


def make(folder, name, content=b"video"):
    path = folder / name
    path.write_bytes(content)
    return path


def test_done_means_recorded_and_byte_equal(tmp_path):
    manifest = Manifest(tmp_path)
    assert not manifest.is_done("a")
    output = make(tmp_path, "a.mp4")
    manifest.add_done("a", "key", [output])
    assert Manifest(tmp_path).is_done("a")
    output.write_bytes(b"other")
    assert not Manifest(tmp_path).is_done("a")
    output.unlink()
    assert not Manifest(tmp_path).is_done("a")


def test_an_output_without_a_record_is_not_done(tmp_path):
    make(tmp_path, "a.mp4")
    assert not Manifest(tmp_path).is_done("a")


def test_a_torn_last_line_is_dropped_and_the_next_record_is_whole(tmp_path):
    Manifest(tmp_path).add_done("a", "k", [make(tmp_path, "a.mp4")])
    path = tmp_path / "manifest.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    manifest = Manifest(tmp_path)
    assert manifest.is_done("a")
    manifest.add_done("b", "k", [make(tmp_path, "b.mp4")])
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_a_failure_does_not_undo_a_success_and_is_recorded_once(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.add_done("a", "k", [make(tmp_path, "a.mp4")])
    manifest.add_failed("a", "bad")
    manifest.add_failed("b", "bad")
    manifest.add_failed("b", "bad")
    again = Manifest(tmp_path)
    assert again.is_done("a") and again.get("b")["reason"] == "bad"
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 3


def test_shards_write_their_own_file_and_read_all(tmp_path):
    Manifest(tmp_path, shard=1, num_shards=4).add_done("a", "k", [make(tmp_path, "a.mp4")])
    assert (tmp_path / "manifest-00001-of-00004.jsonl").is_file()
    assert Manifest(tmp_path).is_done("a")
    assert Manifest(tmp_path, shard=0, num_shards=2).is_done("a")


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import sys, pathlib, time\n"
        "from ffa_sora_jax.jobs.manifest import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="Another process"), only_one(tmp_path):
            pass
        other.kill()
    with only_one(tmp_path):
        pass
