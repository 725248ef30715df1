"""The verb: workers, resuming after kills, damaged files, a full disk, and refusals in words."""

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax import cli
from tests.tfds_ffa.conftest import NUM_EXAMS
from tests.tfds_ffa.test_workers import wait_until_gone
from tfds_ffa import prepare, prepare_phantom
from tfds_ffa.phantom import exams


def command(folder, *more):
    argv = ["prepare", "--dataset", "phantom/64", "--data-dir", str(folder)]
    return [*argv, "--num-exams", str(NUM_EXAMS), "--workers", "1", *more]


def start(folder, *more):
    """The verb in a process of its own, in chunks of two exams."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tfds_ffa.fast", *command(folder, *more)],
        env=os.environ | {"CHUNK_EXAMS": "2"},
        stderr=subprocess.PIPE,
        text=True,
    )


def records(folder):
    """SHA-256 of every record file."""
    files = sorted((folder / "phantom/64/1.0.0").glob("*.array_record*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def small_renders(monkeypatch):
    monkeypatch.setattr(exams, "RENDER_SIZE", 64)
    monkeypatch.setattr(exams, "CHUNK_EXAMS", 4)


def test_killed_runs_go_on_and_give_the_same_bytes(data_dir, tmp_path):
    for wanted in (2, 7):  # chunks there when the process is killed
        process = start(tmp_path)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("phantom/64/.chunks-*/*.npz"))) < wanted:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not records(tmp_path)
    chunks = tmp_path.glob("phantom/64/.chunks-*/*.npz")
    kept = sum(int(chunk.name.split("-")[1]) for chunk in chunks)
    process = start(tmp_path)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    first = next(line for line in log.splitlines() if line.startswith("exams rendered"))
    assert kept < int(first.split()[2].split("/")[0]) <= kept + 2  # nothing is done again
    assert records(tmp_path) == records(data_dir)
    assert not list(tmp_path.glob("phantom/64/.chunks-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_stopped_run(tmp_path, number):
    process = start(tmp_path, "--workers", "2", "--num-exams", "400")
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("phantom/64/.chunks-*/*.npz"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.send_signal(number)
    _, said = process.communicate(timeout=30)  # ends when nobody holds stderr any more
    wait_until_gone(children)
    if number == signal.SIGTERM:
        assert process.returncode == 1
        assert "chunks of 2 exams are kept. Run the same command again" in said


def test_sigterm_before_there_is_anything_to_keep(tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        prepare, "_run_family", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5)
    )
    assert cli.main(command(tmp_path)) == 1
    assert "same command again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("failure", "message"),
    [("worker_died", "try fewer --workers"), ("time_limit", "more than 3600 s for 16 exams")],
)
def test_a_lost_worker_stops_the_run_in_words(tmp_path, monkeypatch, capsys, failure, message):
    def lost(_, chunks, *__):
        yield chunks[0], prepare_phantom.workers.Failure(failure)

    monkeypatch.setattr(prepare_phantom.workers, "run", lost)
    assert cli.main([*command(tmp_path), "--num-exams", "40", "--workers", "2"]) == 1
    said = capsys.readouterr().err
    assert message in said and "same command again" in said


def test_two_spawned_workers_render_what_one_process_renders(tmp_path):
    recipe = exams.Recipe(size=64, schedule="full", seed=4, num_exams=20)
    chunks = [(2,), (7, 9)]
    made = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        assert sorted(prepare_phantom._render(recipe, folder, chunks, workers)) == [1, 2]
        made.append([exams.read_chunk(folder, recipe, chunk) for chunk in chunks])
    np.testing.assert_equal(made[0], made[1])


def test_damaged_chunks_and_half_written_folders_are_made_again(
    data_dir, tmp_path, monkeypatch, small_renders
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_phantom, "_write_dataset", stop)
        assert cli.main(command(tmp_path)) == 1
    chunks = sorted(tmp_path.glob("phantom/64/.chunks-*/*.npz"))
    chunks[0].write_bytes(chunks[0].read_bytes()[:5000])
    chunks[1].write_bytes(b"")
    half = tmp_path / "phantom/64/incomplete.0123_1.0.0"
    half.mkdir()
    (half / "phantom-train.array_record-00000-of-00001").write_bytes(b"half")
    assert cli.main(command(tmp_path)) == 0
    assert records(tmp_path) == records(data_dir)
    assert not half.exists()


@pytest.mark.parametrize("place", ["write_chunk", "array_record"])
def test_a_full_disk_keeps_what_is_there_and_says_how_to_go_on(
    data_dir, tmp_path, monkeypatch, small_renders, capsys, place
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if place == "write_chunk":
            patch.setattr(exams.np, "savez", full)
        else:
            patch.setattr("tensorflow_datasets.core.writer.ExampleWriter.write", full)
        assert cli.main(command(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "no space left" in said and "same command again" in said
    assert not list(tmp_path.glob("phantom/64/.chunks-*/*.tmp"))
    assert cli.main(command(tmp_path)) == 0
    assert records(tmp_path) == records(data_dir)


def test_too_little_space_is_said_before_anything_is_rendered(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_phantom.shutil, "disk_usage", lambda _: Usage)
    assert cli.main(command(tmp_path)) == 2
    assert "MiB free" in capsys.readouterr().err


class Usage:
    free = 1000


def test_a_finished_dataset_is_left_alone_and_another_one_refused(data_dir, capsys):
    before = records(data_dir)
    assert cli.main(command(data_dir)) == 0
    assert "complete already" in capsys.readouterr().out
    assert cli.main([*command(data_dir), "--seed", "7"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert records(data_dir) == before


def test_overwrite_replaces_a_dataset(tmp_path, small_renders):
    assert cli.main(command(tmp_path)) == 0
    before = records(tmp_path)
    assert cli.main([*command(tmp_path), "--seed", "7", "--overwrite"]) == 0
    after = records(tmp_path)
    assert after and not set(after.values()) & set(before.values())


def test_a_second_prepare_of_the_same_folder_is_refused(tmp_path, capsys):
    folder = tmp_path / "phantom/64"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(command(tmp_path)) == 2
    assert "Another prepare" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "below/it"])
def test_a_file_is_no_data_dir(tmp_path, capsys, below):
    file = tmp_path / "file"
    file.touch()
    assert cli.main(command(file / below)) == 2
    assert f"{file} is a file; --data-dir must be a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dataset", "phantom/46"], "phantom/64"),
        (["--dataset", "phanton/64"], "Did you mean 'phantom'?"),
        (["--dataset", "phanton/64"], "sizes vary by family: phantom/64, phantom/256_full"),
        (["--num-exams", "3"], "at least 20"),
        (["--workers", "0"], "--workers is 0"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
def test_bad_options_are_refused_in_words(tmp_path, capsys, more, message):
    assert cli.main([*command(tmp_path), *more]) == 2
    assert message in capsys.readouterr().err
