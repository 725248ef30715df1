"""The same dataset through Apache Beam. Runs where Beam is installed: docs/curation.md."""

import importlib.util
import subprocess
import sys

import pytest

from tests.tfds_ffa import exams
from tfds_ffa import beam

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="Apache Beam is not installed"
)


@needs_beam
def test_beam_writes_the_bytes_that_processes_write(tmp_path):
    for folder in (tmp_path / "processes", tmp_path / "beam"):
        folder.mkdir()
        exams.hospital(folder)
    assert exams.build(tmp_path / "processes") == 0
    assert exams.build(tmp_path / "beam", "--beam-runner", "DirectRunner") == 0
    wanted, found = exams.hashes(tmp_path / "processes"), exams.hashes(tmp_path / "beam")
    for files in (wanted, found):  # the copies of the exams have other times of change
        del files["metadata.json"]
    assert found == wanted and any("train" in name for name in found)
    assert exams.reasons(tmp_path / "beam") == {"": 4}


@needs_beam
def test_beam_does_no_exam_and_no_shard_twice(tmp_path, monkeypatch):
    exams.ffa_ir(tmp_path)
    argv = {"source": "ffa_ir", "dataset": "ffa_ir/64"}
    with monkeypatch.context() as patch:
        patch.setattr("tfds_ffa.writing.write_dataset", interrupt)
        assert exams.build(tmp_path, **argv) == 1
    there = {path: path.stat().st_mtime_ns for path in exams.staged(tmp_path, "ffa_ir/64")}
    runner = ("--beam-runner", "DirectRunner", "--keep-staging")
    assert exams.build(tmp_path, *runner, **argv) == 0
    assert len(there) == 6 and {p: p.stat().st_mtime_ns for p in there} == there
    assert {k: len(v) for k, v in exams.records(tmp_path, "ffa_ir/64").items()} == {
        "train": 4, "validation": 1, "test": 1
    }  # fmt: skip


def interrupt(*_, **__):
    raise KeyboardInterrupt


@needs_beam
def test_an_option_for_the_runner_must_be_a_pair():
    assert beam.Runner("DirectRunner", ("direct_num_workers=2",)).pipeline_options()
    with pytest.raises(ValueError, match="NAME=VALUE"):
        beam.Runner("DirectRunner", ("direct_num_workers",))


def test_without_beam_the_extra_is_named():
    code = (
        "import importlib.util\n"
        "importlib.util.find_spec = lambda name: None\n"
        "from tfds_ffa import beam\n"
        "try: beam.Runner('DirectRunner')\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ffa-sora-jax[beam]" in done.stdout
