"""The verb on real exams: resuming after kills, bad exams, strictness, a full disk, refusals."""

import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.video.reading import Limits
from tests.tfds_ffa import exams
from tests.tfds_ffa.test_workers import wait_until_gone
from tfds_ffa import exam_builder, prepare, prepare_exams
from tfds_ffa.curation import stage
from tfds_ffa.curation.ledger import Ledger, Outcome
from tfds_ffa.curation.process import ExamTask


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished build of the dummy exams that keeps its staging folder."""
    folder = tmp_path_factory.mktemp("done")
    exams.hospital(folder)
    assert exams.build(folder, "--keep-staging") == 0
    return folder


@pytest.fixture
def folder(done, tmp_path):
    """The same exams, salt and finished exams, without the dataset."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "data" / exams.NAME / "1.0.0")
    return tmp_path


@pytest.fixture
def fresh(done, tmp_path):
    """The same exams and salt, nothing processed."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "data")
    return tmp_path


def processed(text):
    """What the progress lines counted: first and last number of finished exams."""
    lines = [line for line in text.splitlines() if line.startswith("exams processed")]
    counts = [int(line.split()[2].split("/")[0]) for line in lines]
    return (counts[0], counts[-1]) if counts else None


# --- Resuming ---


def test_a_killed_build_goes_on_and_gives_the_same_bytes(done, fresh, capfd):
    process = subprocess.Popen([sys.executable, "-m", "ffa_sora_jax", *exams.argv(fresh)])
    deadline = time.monotonic() + 60
    while len(exams.staged(fresh)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # its worker leaves, perhaps after one more exam
    there = {path: path.stat().st_mtime_ns for path in exams.staged(fresh)}
    assert not exams.hashes(fresh)
    capfd.readouterr()
    assert exams.build(fresh, "--keep-staging") == 0
    first, last = processed(capfd.readouterr().err) or (4, 4)
    assert (last == 4 and first > len(there)) or len(there) == 4
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())
    assert exams.hashes(fresh) == exams.hashes(done)


def test_sigterm_stops_the_workers_and_says_how_to_go_on(fresh):
    process = subprocess.Popen(
        [sys.executable, "-m", "ffa_sora_jax", *exams.argv(fresh)],
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while len(started := children.read_text().split()) < 2:  # a worker, and Python's tracker
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "finished exams are kept. Run the same command again" in said
    wait_until_gone(started)
    assert not exams.hashes(fresh)


def test_finished_exams_are_not_done_again(done, folder, capfd):
    assert exams.build(folder) == 0
    assert processed(capfd.readouterr().err) is None
    assert exams.hashes(folder) == exams.hashes(done)
    assert not (folder / "data/.staging").exists()


def test_a_staging_folder_elsewhere_is_shared_and_left_as_it_was(done, folder, capfd):
    there = folder / "staging"
    there.mkdir()
    (there / "notes.txt").write_text("of the user")
    shutil.copytree(exams.staging(folder) / "exams", there / "exams")
    assert exams.build(folder, "--staging", str(there), "--keep-staging") == 0
    assert processed(capfd.readouterr().err) is None
    assert exams.hashes(folder) == exams.hashes(done)
    other = ("--data-dir", str(folder / "other"), "--vessel-filter", "off")
    assert exams.build(folder, "--staging", str(there), *other) == 0
    assert len(list(there.glob("exams/*/*.exam"))) == 4  # those of the first build
    assert (there / "notes.txt").read_text() == "of the user"


def test_a_changed_file_is_done_again_and_the_rest_is_not(done, folder, capfd):
    frame = folder / "hospital/exams/A02/2.jpg"
    cv2.imwrite(str(frame), np.clip(cv2.imread(str(frame), 0) * 1.5, 0, 255).astype(np.uint8))
    assert exams.build(folder) == 0
    assert processed(capfd.readouterr().err) == (4, 4)  # 3 + 1
    changed = [r["video"] for r in exams.records(folder)["train"]]
    before = [r["video"] for r in exams.records(done)["train"]]
    assert sum((a != b).any() for a, b in zip(changed, before, strict=True)) <= 1
    assert exams.hashes(folder) != exams.hashes(done)


def test_another_option_and_another_code_version_do_all_again(folder, monkeypatch, capfd):
    assert exams.build(folder, "--vessel-filter", "off", "--keep-staging") == 0
    assert processed(capfd.readouterr().err)[0] == 1
    monkeypatch.setattr("tfds_ffa.curation.process.code_version", lambda: "other")
    assert exams.build(folder, "--vessel-filter", "off", "--overwrite") == 0
    assert processed(capfd.readouterr().err)[0] == 1


def test_a_corrected_report_changes_the_record_without_redoing_the_exam(folder, capfd):
    table = folder / "hospital/reports.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("is seen at the macular", "is visible at the macular"), "utf-8")
    assert text != table.read_text(encoding="utf-8")
    assert exams.build(folder) == 0
    assert processed(capfd.readouterr().err) is None
    reports = [r["report"].decode() for split in exams.records(folder).values() for r in split]
    assert any("is visible at the macular" in report for report in reports)


def test_a_damaged_finished_exam_is_made_again(done, folder):
    first, second, *_ = exams.staged(folder)
    data = bytearray(first.read_bytes())
    data[-10] ^= 1  # in the arrays: only seen when the records are written
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:100])
    assert exams.build(folder) == 0
    assert exams.hashes(folder) == exams.hashes(done)


def test_two_workers_write_what_one_writes(done, fresh):
    assert exams.build(fresh, "--workers", "2") == 0
    assert exams.hashes(fresh) == exams.hashes(done)


def test_another_salt_gives_other_ids(done, fresh):
    exams.salt(fresh, 2)
    assert exams.build(fresh) == 0
    before, after = exams.report(done), exams.report(fresh)
    assert not {e["key"] for e in before["exams"]} & {e["key"] for e in after["exams"]}


# --- Bad exams ---


def finish(job):
    """`stage.finish` with one exam that hangs and one that kills its process."""
    if job.exam.path.name == "A01":
        time.sleep(60)
    if job.exam.path.name == "A02":
        os.kill(os.getpid(), signal.SIGKILL)
    return REAL_FINISH(job)


REAL_FINISH = stage.finish


def test_an_exam_that_hangs_or_kills_its_worker_is_set_aside(done, fresh, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(stage, "finish", finish)
        assert exams.build(fresh, "--time-limit", "5", "--keep-staging") == 0
    assert exams.reasons(fresh) == {"": 2, "time_limit": 1, "worker_died": 1}
    assert exams.report(fresh)["inputs"] == 4
    capfd.readouterr()
    assert exams.build(fresh, "--overwrite") == 0  # the next run tries both again
    assert processed(capfd.readouterr().err)[0] == 3
    assert exams.hashes(fresh) == exams.hashes(done)


def spoil(folder):
    """One empty frame, one exam less, one row less."""
    (folder / "hospital/exams/A01/3.jpg").write_bytes(b"")
    shutil.rmtree(folder / "hospital/exams/A03")
    table = folder / "hospital/reports.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith("A04")), "utf-8")


def test_every_input_is_accounted_for(folder, capsys):
    spoil(folder)
    assert exams.build(folder) == 0
    said = capsys.readouterr()
    assert "4 inputs: kept 1, " in said.out  # three rows, and one exam without a row
    assert "2 of 4 inputs are exams with a row (table: csv, utf-8; 0 of its columns" in said.err
    assert "line 4: row_without_exam. Name the file or folder after the exam id" in said.err
    assert "no patient id" not in said.err
    found = exams.report(folder)
    assert found["inputs"] == sum(found["counts"].values()) == len(found["exams"]) == 4
    assert exams.reasons(folder) == {
        "": 1, "empty_file": 1, "row_without_exam": 1, "exam_without_row": 1
    }  # fmt: skip


def test_patients_that_are_not_found_in_the_table_are_missed_aloud(folder, capsys):
    table = folder / "hospital/reports.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("patient_id", "Whose", 1), "utf-8")
    assert exams.build(folder) == 0
    said = capsys.readouterr().err
    assert "1 of its columns are not read" in said
    assert "4 of 4 exams have no patient id and are split by report" in said
    assert "--columns patient_id=HEADING" in said
    assert (
        sum(split["without patient id"] for split in exams.report(folder)["splits"].values()) == 4
    )
    assert exams.build(folder, "--columns", "patient_id=Whose", "--overwrite") == 0
    assert "no patient id" not in capsys.readouterr().err


def test_strict_stops_before_writing_and_says_what_it_found(folder, capsys):
    spoil(folder)
    assert exams.build(folder, "--strict") == 2
    said = capsys.readouterr().err
    assert "--strict: empty_file 1, exam_without_row 1, row_without_exam 1" in said
    assert "build_report.html" in said and not exams.hashes(folder)

    assert exams.build(folder) == 0
    assert exams.build(folder, "--strict") == 2  # also where it is complete already
    assert "3 inputs were left out" in capsys.readouterr().err


def test_an_encoding_that_is_guessed_wrong_is_told_and_can_be_named(folder, capsys):
    report = "우안: 황반부 후기 누출이 관찰됨."
    table = f"exam_id,patient_id,eye,report\nA01,P1,right,{report}\n"
    (folder / "hospital/reports.csv").write_text(table, encoding="euc-kr")
    exams.build(folder)
    assert "as guessed (--encoding names another)" in capsys.readouterr().err
    assert exams.build(folder, "--encoding", "euc-kr", "--overwrite") == 0
    assert "(table: csv, euc_kr; " in capsys.readouterr().err
    (record,) = next(iter(exams.records(folder).values()))
    assert record["report"].decode() == report


def test_new_rows_that_cannot_be_used_are_told_of_a_finished_dataset_too(done, tmp_path, capsys):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    table = tmp_path / "hospital/reports.csv"
    before = table.read_bytes()
    table.write_bytes(before + b"A09,P9,right,No such exam.,,\n")
    assert exams.build(tmp_path, "--keep-staging") == 0
    said = capsys.readouterr()
    assert "complete already" in said.out and "line 6: row_without_exam" in said.err
    assert exams.build(tmp_path, "--strict", "--keep-staging") == 2
    assert "is of other inputs" in capsys.readouterr().err
    assert exams.build(tmp_path, "--overwrite", "--strict", "--keep-staging") == 2
    table.write_bytes(before)
    assert exams.hashes(tmp_path) == exams.hashes(done)  # the old dataset is still there
    assert exams.build(tmp_path, "--strict", "--keep-staging") == 2
    assert "is of other inputs" in capsys.readouterr().err
    assert exams.build(tmp_path, "--strict", "--overwrite") == 0


def test_strict_passes_a_clean_archive(folder, capsys):
    assert exams.build(folder, "--strict") == 0
    assert exams.build(folder, "--strict") == 0
    assert "complete already" in capsys.readouterr().out


def test_staging_left_by_a_kill_goes_with_the_next_run(done, tmp_path):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    assert exams.build(tmp_path) == 0
    assert not (tmp_path / "data/.staging").exists()
    assert exams.hashes(tmp_path) == exams.hashes(done)


def test_a_wrong_side_is_set_aside(folder):
    table = folder / "hospital/reports.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("A01,P1,right", "A01,P1,left"), encoding="utf-8")
    assert exams.build(folder) == 0
    assert exams.reasons(folder) == {"": 3, "eye_conflict": 1}


def test_identifiers_in_reports_are_noticed_or_removed(folder):
    table = folder / "hospital/reports.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("Right eye FFA: 1.", "Right eye FFA 2021-03-04: 1.", 1), "utf-8")
    assert "2021-03-04" in table.read_text(encoding="utf-8")
    assert exams.build(folder, "--keep-staging") == 0
    remarks = [e.get("remarks", []) for e in exams.report(folder)["exams"]]
    assert remarks.count(["identifier_suspected"]) == 1
    assert exams.build(folder, "--clean-text", "--overwrite") == 0
    reports = [r["report"] for split in exams.records(folder).values() for r in split]
    assert not any(b"2021" in report for report in reports)
    assert any("date" in e.get("cleared", ()) for e in exams.report(folder)["exams"])


def test_copies_under_two_patients_stop_the_build_unless_allowed(folder, capsys):
    shutil.copytree(folder / "hospital/exams/A03", folder / "hospital/exams/A05")
    table = folder / "hospital/reports.csv"
    row = next(x for x in table.read_text("utf-8").splitlines() if x.startswith("A03,P2"))
    with table.open("a", encoding="utf-8") as file:
        file.write(row.replace("A03,P2", "A05,P9") + "\n")
    assert exams.build(folder) == 2
    assert "near-duplicate" in capsys.readouterr().err and not exams.hashes(folder)
    (leak,) = exams.report(folder)["leakage"]
    assert leak["patients"] == 2 and len(leak["exams"]) == 2
    assert exams.build(folder, "--allow-duplicates") == 0
    remarks = [e.get("remarks", []) for e in exams.report(folder)["exams"]]
    assert remarks.count(["near_duplicate"]) == 2


def test_a_disease_is_held_out_as_unseen(folder):
    assert exams.build(folder, "--unseen", "brvo") == 0
    found = exams.records(folder)
    patients = {r["patient_id"] for r in found["unseen"] if b"brvo" in r["disease"]}
    assert patients == {r["patient_id"] for r in found["unseen"]}  # and all that they have
    seen = [r for split, records in found.items() if split != "unseen" for r in records]
    assert seen and not any(b"brvo" in r["disease"] for r in seen)


# --- Disk and lock ---


@pytest.mark.parametrize("place", ["ledger", "array_record"])
def test_a_full_disk_keeps_what_is_there_and_says_how_to_go_on(done, fresh, capsys, place):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        if place == "ledger":
            patch.setattr(stage, "finish", fail_full)
        else:
            patch.setattr("tensorflow_datasets.core.writer.ExampleWriter.write", full)
        assert exams.build(fresh) == 1
    said = capsys.readouterr().err
    assert "no space left" in said and "same command again" in said
    assert len(exams.staged(fresh)) == (2 if place == "ledger" else 4)
    assert exams.build(fresh) == 0
    assert exams.hashes(fresh) == exams.hashes(done)


def fail_full(job):
    """The disk is full from the third exam on."""
    if len(list(Ledger(job.staging).files())) >= 2:
        raise OSError(errno.ENOSPC, "No space left on device")
    return REAL_FINISH(job)


def test_too_little_space_is_said_before_anything_is_processed(fresh, monkeypatch, capsys):
    monkeypatch.setattr(prepare_exams.shutil, "disk_usage", lambda _: Usage)
    assert exams.build(fresh) == 2
    assert "MiB free" in capsys.readouterr().err and not exams.staged(fresh)


class Usage:
    free = 1000


def test_ctrl_c_keeps_finished_exams(folder, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tfds_ffa.writing.write_dataset", stop)
        assert exams.build(folder) == 1
    assert "interrupted. 4 finished exams are kept" in capsys.readouterr().err
    assert exams.build(folder) == 0


def test_a_finished_dataset_is_left_alone_and_another_one_refused(done, capsys):
    before = exams.hashes(done)
    assert exams.build(done, "--keep-staging") == 0
    assert "complete already" in capsys.readouterr().out
    assert exams.build(done, "--vessel-filter", "off") == 2
    said = capsys.readouterr().err
    assert "cleaning.vessel_filter" in said and "--overwrite" in said
    assert exams.hashes(done) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dataset", "hospital_exams/65"], "allowed are 64"),
        (["--dataset", "hospital_exam/64"], "Did you mean"),
        (["--table", "/nowhere.csv"], "nowhere.csv"),
        (["--exams", "/nowhere"], "exam folder does not exist"),
        (["--columns", "exam_id"], "OURS=THEIRS"),
        (["--columns", "exam=id"], "exam_id"),
        (["--vessel-filter", "exclude"], "exclude_video"),
        (["--time-limit", "0"], "--time-limit is 0"),
        (["--unseen", "plague"], "plague"),
        (["--workers", "0"], "--workers is 0"),
        (["--num-exams", "9"], "--num-exams cannot be used with --dataset hospital_exams/64"),
        (["--dataset", "phantom/64"], "--exams, --table, --salt-file cannot be used"),
        (["--dataset", "phantom/64", "--strict"], "--salt-file, --strict cannot be used"),
        (["--dataset", "ffa_ir/64", "--columns", "eye=x"], "--columns cannot be used"),
        (["--dataset", "ffa_ir/64", "--encoding", "big5"], "--encoding cannot be used"),
        (["--encoding", "euc-xx"], "no text encoding 'euc-xx'"),
        (["--max-frames", "1"], "--max-frames is 1; exams have at least 2 frames"),
        (["--max-pixels", "1000"], "--max-pixels is 1000; frames have at least 1024"),
    ],
)
def test_bad_options_are_refused_in_words(fresh, capsys, more, message):
    assert cli.main(exams.argv(fresh, *more)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--data-dir", "--staging"])
def test_what_is_written_must_not_lie_among_the_exams(fresh, capsys, option):
    inside = fresh / "hospital/exams/out"
    assert exams.build(fresh, option, str(inside)) == 2
    assert f"{option} lies in the folder of the exams" in capsys.readouterr().err
    assert not inside.exists()


def test_options_reach_what_they_are_for():
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    more = "--vessel-filter drop_frames --register --allow-burned-in-text --max-frames 40"
    more += " --max-pixels 5000"
    args = parser.parse_args(["--dataset", "hospital_exams/128_f25", *more.split()])
    options = prepare_exams._options(args, exam_builder.config("128_f25"))
    cleaning = options.cleaning
    assert (cleaning.size, cleaning.num_frames) == (128, 25)
    assert (cleaning.vessel_filter, cleaning.register) == ("drop_frames", True)
    assert (options.limits.max_frames, options.limits.max_pixels) == (40, 5000)
    assert options.allow_burned_in_text
    plain = prepare_exams._options(
        parser.parse_args(["--dataset", "hospital_exams/128"]), exam_builder.config("128")
    )
    assert (plain.cleaning.vessel_filter, plain.cleaning.register) == ("exclude_video", False)
    assert plain.limits == Limits()
    assert not plain.allow_burned_in_text


def test_facts_that_are_no_json_cost_one_exam(tmp_path, monkeypatch):
    monkeypatch.setattr(
        stage, "process_exam", lambda exam, _: Outcome(exam.key, "kept", facts={"x": float("nan")})
    )
    job = stage.Job(ExamTask("ab" * 16, tmp_path), None, "0" * 16, tmp_path)
    assert stage.finish(job).reason == "internal_error"
    assert "ValueError" in Ledger(tmp_path).read("ab" * 16, "0" * 16).facts["error"]


def test_exams_table_and_salt_must_be_given(tmp_path, capsys):
    base = ["prepare", "--dataset", exams.NAME, "--data-dir", str(tmp_path / "data")]
    assert cli.main(base) == 2
    assert "--exams" in capsys.readouterr().err
    exams.hospital(tmp_path)
    source = tmp_path / "hospital"
    base += ["--exams", str(source / "exams"), "--table", str(source / "reports.csv")]
    assert cli.main(base) == 2
    assert "--salt-file is missing" in capsys.readouterr().err
    inside = tmp_path / "data/salt"
    assert cli.main([*base, "--salt-file", str(inside)]) == 2
    assert "shared" in capsys.readouterr().err
