"""The sampling job over a table: resumes, loses nothing, redoes nothing, and says what failed.

The model is a stand-in that writes its report and seed; the real one is tested in tests/pipelines.
"""

import argparse
import errno
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from ffa_sora_jax.jobs import sample
from ffa_sora_jax.pipelines.folder import SamplingConfig
from ffa_sora_jax.pipelines.result import VideoResult, output_paths

SAMPLING = SamplingConfig(
    schedule="linear", prediction="eps", sampler="ddim", spacing="trailing", num_steps=4,
    guidance_scale=2.0, size=16, num_frames=5, channels=1, text_length=8,
    times_s=(0, 1, 2, 3, 4),
)  # fmt: skip


class Result(VideoResult):
    """Writes small text files instead of a video."""

    def save(self, path, *, min_px=256, mark=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        paths = output_paths(path)
        for output in paths:
            output.write_text(f"{self.report} {self.seed} {min_px} {mark}")
        return paths


class Model:
    """Counts its calls; reports longer than eight words are refused."""

    def __init__(self):
        self.calls, self.sampling, self.fingerprint = [], SAMPLING, "f" * 16
        self.before_call = lambda: None

    def check_report(self, report):
        if len(report.split()) > 8:
            raise ValueError(f"The report has {len(report.split())} tokens; at most 8.")

    def __call__(self, report, *, seed, batch_size, **settings):
        self.before_call()
        self.calls += list(zip(report, seed, strict=True))
        assert len(report) <= batch_size
        return [
            Result(
                video=np.zeros((5, 16, 16), np.uint8), times_s=np.arange(5.0), report=text,
                seed=number, settings={}, fingerprint=self.fingerprint, finite=text != "nan",
            )
            for text, number in zip(report, seed, strict=True)
        ]  # fmt: skip


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr(
        sample, "TextToVideo", SimpleNamespace(from_pretrained=lambda directory: made)
    )
    return made


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,report,seed,samples\na,left eye,1,1\nb,right eye,2,2\nc,disc,,\n")
    return path


def run(*options):
    parser = argparse.ArgumentParser()
    sample.add_arguments(parser)
    return sample.run(parser.parse_args([str(option) for option in options]))


def records(folder):
    lines = [json.loads(line) for p in folder.glob("manifest*") for line in p.open()]
    return {(line["id"], line["status"]) for line in lines}


def test_every_row_is_made_once_and_never_again(tmp_path, model, table, capsys):
    out = tmp_path / "out"
    assert run("--reports", table, "--output", out) == 0
    assert model.calls == [("left eye", 1), ("right eye", 2), ("right eye", 3), ("disc", 0)]
    assert {p.name for p in out.glob("*.mp4")} == {"a.mp4", "b-s2.mp4", "b-s3.mp4", "c.mp4"}
    capsys.readouterr()
    assert run("--reports", table, "--output", out) == 0
    assert len(model.calls) == 4
    assert "4 of 4 videos" in capsys.readouterr().out


def test_a_damaged_output_is_made_again(tmp_path, model, table):
    out = tmp_path / "out"
    run("--reports", table, "--output", out)
    (out / "c.mp4").write_text("damaged")
    assert run("--reports", table, "--output", out) == 0
    assert model.calls[4:] == [("disc", 0)]


def test_bad_rows_are_reported_and_the_others_are_made(tmp_path, model, capsys):
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text(
        "id,report,seed\na,left eye,x\nb,,1\nc," + "word " * 9 + ",1\nd,nan,1\ne,disc,1\n"
    )
    assert run("--reports", table, "--output", out) == 3
    assert records(out) == {
        ("a", "failed"), ("b", "failed"), ("c", "failed"), ("d", "failed"), ("e", "ok"),
    }  # fmt: skip
    said = capsys.readouterr()
    assert "1 of 5 videos" in said.out and "line 2" in said.err and "9 tokens" in said.err
    table.write_text("id,report,seed\na,left eye,1\nb,macula,1\ne,disc,1\n")
    assert run("--reports", table, "--output", out) == 0
    assert ("a", "ok") in records(out) and model.calls.count(("disc", 1)) == 1


@pytest.mark.parametrize(
    ("rows", "made", "failed"),
    [
        ("a,disc,0,2\na-s1,macula,0,1\nb,x,0,1\n", {"a-s0", "a-s1", "b"}, {"line00003"}),
        ("a-s1,macula,0,1\na,disc,0,2\n", {"a-s1", "a-s0"}, {"line00003"}),
        (
            "a-s0,x,0,1\na-s1,x,0,1\na,disc,0,2\n",
            {"a-s0", "a-s1"}, {"line00004", "line00004-2"},
        ),
        ("a,disc,0,2\na-s1,,0,1\n", {"a-s0", "a-s1"}, {"line00003"}),
        ("a,,0,1\na,,0,1\nb,x,0,1\n", {"b"}, {"a", "line00003"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("num_shards", [1, 2])
def test_names_that_clash_fail_under_their_line(
    tmp_path, model, capsys, rows, made, failed, num_shards
):
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("id,report,seed,samples\n" + rows)
    for shard in range(num_shards):
        run("--reports", table, "--output", out, "--shard", f"{shard}/{num_shards}")
    said = capsys.readouterr().out
    wanted = {(name, "ok") for name in made} | {(name, "failed") for name in failed}
    assert records(out) == wanted
    assert len(list(out.glob("*.mp4"))) == len(made)
    if num_shards == 1:
        total = len(made) + len(failed)
        assert f"{len(made)} of {total} videos" in said and f"; {len(failed)} failed" in said


def test_rows_behind_an_open_quote_are_counted_and_named(tmp_path, model, capsys):
    table = tmp_path / "t.csv"
    table.write_text('id,report\na,"Left eye\nb,"Right eye"\nc,disc\nd,macula\n')
    assert run("--reports", table, "--output", tmp_path / "out") == 3
    said = capsys.readouterr()
    assert "2 of 4 videos" in said.out and "2 failed" in said.out
    assert said.err.count("lines 2-3: not read; a quote opened on line 2 is not closed") == 2


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_kill_loses_and_repeats_no_finished_row(tmp_path, model, table, when):
    class Killed(BaseException):
        pass

    def die():
        if len(model.calls) == when:
            raise Killed

    out = tmp_path / "out"
    model.before_call = die
    with pytest.raises(Killed):
        run("--reports", table, "--output", out)
    model.before_call = lambda: None
    assert run("--reports", table, "--output", out) == 0
    assert sorted(model.calls) == sorted(set(model.calls)) and len(model.calls) == 4


def test_a_full_disk_stops_the_job_with_its_own_code(tmp_path, model, table, monkeypatch, capsys):
    out, whole = tmp_path / "out", Result.save

    def save(self, path, **options):
        if self.seed == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(self, path, **options)

    monkeypatch.setattr(Result, "save", save)
    assert run("--reports", table, "--output", out) == 1
    assert "No space left" in capsys.readouterr().err
    monkeypatch.setattr(Result, "save", whole)
    assert run("--reports", table, "--output", out) == 0
    assert model.calls.count(("left eye", 1)) == 1


@pytest.fixture
def ctrl_c():
    """A shell lets what it starts in the background ignore Ctrl-C; here it has its usual effect."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_job_with_a_word_and_it_goes_on(tmp_path, model, table, capsys, number):
    def interrupt():
        if len(model.calls) == 2:
            os.kill(os.getpid(), number)

    out, before = tmp_path / "out", signal.getsignal(signal.SIGTERM)
    model.before_call = interrupt
    assert run("--reports", table, "--output", out) == 1
    assert "run the same command again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    model.before_call = lambda: None
    assert run("--reports", table, "--output", out) == 0
    assert len(model.calls) == len(set(model.calls)) == 4


def test_shards_share_the_rows_without_overlap(tmp_path, model, table):
    out = tmp_path / "out"
    for shard in range(3):
        assert run("--reports", table, "--output", out, "--shard", f"{shard}/3") == 0
    assert len(model.calls) == 4 and len(set(model.calls)) == 4
    assert run("--reports", table, "--output", out) == 0
    assert len(model.calls) == 4


@pytest.mark.parametrize(
    ("second", "allowed"), [("0/2", False), ("1/2", True), ("0/1", False), ("2/3", False)]
)
def test_two_processes_never_work_on_the_same_items(tmp_path, model, table, second, allowed):
    def start_another():
        model.before_call = lambda: None
        if allowed:
            assert run("--reports", table, "--output", out, "--shard", second) == 0
        else:
            with pytest.raises(ValueError, match=r"Another process works in .*--shard"):
                run("--reports", table, "--output", out, "--shard", second)

    out, model.before_call = tmp_path / "out", start_another
    assert run("--reports", table, "--output", out, "--shard", "0/2") == 0
    assert len(model.calls) == len(set(model.calls)) == (4 if allowed else 2)
    assert run("--reports", table, "--output", out) == 0, "the lock is free again"


def test_batches_are_filled_by_the_model_not_by_the_job(tmp_path, model, table):
    assert run("--reports", table, "--output", tmp_path / "out", "--batch-size", 3) == 0
    assert len(model.calls) == 4


def test_the_same_id_with_another_report_or_setting_is_refused(tmp_path, model, table, capsys):
    out = tmp_path / "out"
    run("--reports", table, "--output", out)
    table.write_text("id,report\nc,macula\n")
    assert run("--reports", table, "--output", out) == 3
    assert "made before" in capsys.readouterr().err
    assert run("--reports", table, "--output", out, "--guidance-scale", 3) == 3
    assert (out / "c.mp4").read_text().startswith("disc")


def test_single_reports_share_a_folder(tmp_path, model, capsys):
    out = tmp_path / "out"
    for report in ("left eye", "right eye", "left eye"):
        assert run("--report", report, "--output", out) == 0
    assert len(model.calls) == 2 and len(list(out.glob("*.mp4"))) == 2
    assert "1 were there before" in capsys.readouterr().out
    assert run("--report", "left eye", "--output", out, "--samples", 2) == 0
    assert len(model.calls) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--report", "  "), "empty"),
        (("--report", "x", "--seed", "-1"), "seeds must lie in"),
        (("--report", "x", "--samples", "0"), "at least 1"),
        (("--report", "x", "--format", "avi"), "Unknown video format 'avi'"),
        (("--report", "x", "--shard", "3/3"), "runs from 0"),
        (("--report", "x", "--shard", "one"), "expected I/N"),
        (("--report", "x", "--sampler", "ddmi"), "Unknown sampler 'ddmi'"),
        (("--report", "x", "--num-steps", "0"), "num_steps"),
        (("--report", "x", "--guidance-scale", "-1"), "must not be negative"),
        (("--report", "x", "--guidance-scale", "nan"), "guidance scale is nan"),
        (("--report", "x", "--guidance-scale", "inf"), "guidance scale is inf"),
        (("--report", "x", "--batch-size", "0"), "at least 1"),
        (("--report", "x", "--min-px", "-5"), r"in 0 \.\. 4096"),
        (("--report", "x", "--min-px", "4097"), r"in 0 \.\. 4096"),
    ],
)
def test_bad_usage_is_explained(tmp_path, model, options, message):
    with pytest.raises(ValueError, match=message):
        run(*options, "--output", tmp_path / "out")
    assert not model.calls


@pytest.mark.parametrize("output", ["table.csv", "table.csv/out/deep"])
def test_an_output_that_is_a_file_is_refused_before_sampling(tmp_path, model, table, output):
    with pytest.raises(ValueError, match=r"table\.csv is a file; --output must be a folder"):
        run("--reports", table, "--output", tmp_path / output)
    assert not model.calls
