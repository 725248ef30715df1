"""One exam to one outcome: what is found out, what never leaves, and what decides it."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest

from ffa_sora_jax.video.cleaning import CleaningConfig
from ffa_sora_jax.video.reading import Limits
from tests.tfds_ffa import exams
from tfds_ffa.curation import process
from tfds_ffa.curation.ledger import RETRIED
from tfds_ffa.curation.process import ExamTask, Options, process_exam

KEY = "0123456789abcdef" * 2
OPTIONS = Options(CleaningConfig(size=64))


@pytest.fixture
def task(tmp_path):
    shutil.copytree(exams.ROOT / "hospital_exams/dummy_data/exams/A01", tmp_path / "Doe_Jane")
    return ExamTask(KEY, tmp_path / "Doe_Jane")


def test_a_good_exam_is_kept_with_its_facts(task):
    found = process_exam(task, OPTIONS)
    assert (found.key, found.status, found.reason) == (KEY, "kept", "")
    assert found.arrays["video"].shape == (21, 64, 64)
    wanted = {"kind": "frames", "bits": 8, "width": 96, "height": 96, "source_frames": 5}
    assert {name: found.facts[name] for name in wanted} == wanted
    assert [frame["used"] for frame in found.facts["frames"]] == [True] * 5
    assert found.facts["times_known"] is False and found.facts["dicom_eye"] is None
    assert json.loads(json.dumps(found.facts, allow_nan=False)) == found.facts


def test_it_is_a_pure_function(task):
    first, second = process_exam(task, OPTIONS), process_exam(task, OPTIONS)
    assert first.facts == second.facts
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])


@pytest.mark.parametrize(
    ("spoil", "reason", "status"),
    [
        (lambda path: (path / "1.jpg").write_bytes(b""), "empty_file", "dropped"),
        (lambda path: (path / "1.jpg").write_bytes(b"no picture"), "unreadable", "dropped"),
        (lambda path: [p.unlink() for p in list(path.iterdir())[1:]], "too_few_frames", "dropped"),
        (lambda path: black(path), "no_field_of_view", "dropped"),
    ],
)
def test_a_bad_exam_is_left_out_with_a_reason(task, spoil, reason, status):
    spoil(task.path)
    found = process_exam(task, OPTIONS)
    assert (found.status, found.reason) == (status, reason) and not found.arrays
    assert "Jane" not in json.dumps(found.facts)


def black(path):
    for frame in path.iterdir():
        cv2.imwrite(str(frame), np.zeros((96, 96), np.uint8))


def test_text_in_the_picture_is_set_aside_unless_allowed(task, monkeypatch):
    real = process.clean_exam

    def with_text(*args):
        clip = real(*args)
        clip.burned_in_text = True
        return clip

    monkeypatch.setattr(process, "clean_exam", with_text)
    found = process_exam(task, OPTIONS)
    assert (found.status, found.reason) == ("quarantined", "burned_in_text")
    assert not found.arrays  # such pixels are not stored anywhere
    allowed = Options(OPTIONS.cleaning, allow_burned_in_text=True)
    assert process_exam(task, allowed).status == "kept"


def test_an_error_of_the_program_is_told_by_its_place_only(task, monkeypatch):
    def broken(*_):
        raise KeyError("Doe_Jane")

    monkeypatch.setattr(process, "clean_exam", broken)
    found = process_exam(task, OPTIONS)
    assert (found.status, found.reason) == ("quarantined", "internal_error")
    assert found.facts["error"].startswith("KeyError at test_process.py:")
    assert "Jane" not in json.dumps(found.facts)


def test_too_little_memory_is_no_fault_of_the_exam(task, monkeypatch):
    def hungry(*_):
        raise MemoryError

    monkeypatch.setattr(process, "clean_exam", hungry)
    found = process_exam(task, OPTIONS)
    assert found.reason == "worker_died" and found.reason in RETRIED


def test_limits_and_the_order_of_frames_are_honoured(task):
    few = Options(OPTIONS.cleaning, Limits(max_frames=4))
    assert process_exam(task, few).reason == "too_many_frames"
    back = process_exam(ExamTask(KEY, task.path, ("4.jpg", "2.jpg", "0.jpg")), OPTIONS)
    forth = process_exam(task, OPTIONS)
    turned = forth.arrays["video"][[20, 0]].astype(float)
    assert abs(back.arrays["video"][[0, 20]] - turned).mean() < 0.01  # the field's edge may move
    assert abs(turned[0] - turned[1]).mean() > 1


# --- What an outcome depends on ---


def test_the_digest_follows_files_options_and_code(task, monkeypatch):
    found = {process.digest(task, OPTIONS)}
    assert process.digest(task, OPTIONS) in found
    found.add(process.digest(task, Options(CleaningConfig(size=64, vessel_filter="off"))))
    found.add(process.digest(ExamTask(KEY, task.path, ("0.jpg",)), OPTIONS))
    found.add(process.digest(ExamTask(KEY, task.path, eye="left"), OPTIONS))
    os.utime(task.path / "0.jpg", ns=(0, 0))
    found.add(process.digest(task, OPTIONS))
    (task.path / "5.jpg").write_bytes(b"x")
    found.add(process.digest(task, OPTIONS))
    monkeypatch.setattr(process, "code_version", lambda: "other")
    found.add(process.digest(task, OPTIONS))
    assert len(found) == 7


def test_the_digest_does_not_depend_on_where_the_exam_lies(task, tmp_path):
    before = process.digest(task, OPTIONS)
    moved = task.path.rename(tmp_path / "elsewhere")
    assert process.digest(ExamTask("f" * 32, moved), OPTIONS) == before


def test_a_link_to_nowhere_has_a_digest(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    assert process.digest(ExamTask(KEY, tmp_path / "a"), OPTIONS)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert process.digest(ExamTask(KEY, tmp_path), OPTIONS)


def test_the_digest_sees_changes_behind_links_to_folders(task, tmp_path):
    exam = tmp_path / "exam"
    exam.mkdir()
    (exam / "frames").symlink_to(task.path)
    (task.path / "again").symlink_to(exam)  # a loop: must end
    linked = ExamTask(KEY, exam)
    before = process.digest(linked, OPTIONS)
    assert process.digest(linked, OPTIONS) == before
    os.utime(next(task.path.glob("*.jpg")), ns=(1, 1))
    assert process.digest(linked, OPTIONS) != before
