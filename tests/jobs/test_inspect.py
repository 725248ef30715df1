"""The summary of a prepared dataset: right counts, and an alarm when splits share patients."""

import dataclasses

import pytest
from PIL import Image

from ffa_sora_jax import cli
from ffa_sora_jax.data import prepared
from ffa_sora_jax.jobs import inspect


@pytest.fixture
def one_exam_each(monkeypatch):
    """The made-up patients have two neighbouring exams each, in whatever splits; part them."""
    original = prepared.Examples

    def examples(folder, split):
        return [dataclasses.replace(i, patient_id=i.exam_id) for i in original(folder, split)]

    monkeypatch.setattr(prepared, "Examples", examples)


def test_summary_counts_what_is_there(data_dir, one_exam_each, tmp_path, capsys):
    argv = ["inspect", "--dataset", "phantom/64", "--data-dir", str(data_dir)]
    assert cli.main([*argv, "--reports", "1", "--sheets", str(tmp_path / "sheets")]) == 0
    said = capsys.readouterr().out
    counts = {
        line.split(":")[0]: int(line.split()[1])
        for line in said.splitlines()
        if " clips of " in line
    }
    assert sum(counts.values()) == 40 and set(counts) == {"train", "validation", "test"}
    assert f"train: {counts['train']} clips of 21 x 64 x 64 x 1" in said
    assert "leak 32" in said or f"leak {counts['train']}" in said
    assert "last frame at 400 to 400 s" in said and "LEAK" not in said
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [s.name for s in sheets] == ["test-000.png", "train-000.png", "validation-000.png"]
    assert Image.open(sheets[0]).size[0] > 7 * 64


def test_shared_patients_are_an_alarm(data_dir, capsys):
    argv = ["inspect", "--dataset", "phantom/64", "--data-dir", str(data_dir), "--reports", "0"]
    assert cli.main(argv) == 3
    assert "patients are in train and in validation" in capsys.readouterr().out


def test_overlaps_name_every_pair():
    found = inspect.overlaps({"a": {"1", "2"}, "b": {"2", "3"}, "c": {"3", "2"}})
    assert found == [("a", "b", 1), ("a", "c", 1), ("b", "c", 2)]


def test_a_split_is_described(data_dir):
    folder = prepared.dataset_folder(data_dir, "phantom/64")
    infos = prepared.Examples(folder, "train")[:4]
    said = inspect.describe_split("some", infos, (21, 64, 64, 1))
    eyes = [info.eye for info in infos]
    for eye in set(eyes):
        assert f"{eye} {eyes.count(eye)}" in said


def test_a_negative_count_is_refused(data_dir):
    argv = ["inspect", "--dataset", "phantom/64", "--data-dir", str(data_dir), "--reports", "-1"]
    assert cli.main(argv) == 2


def test_an_unprepared_dataset_is_explained(tmp_path, capsys):
    argv = ["inspect", "--dataset", "phantom/128", "--data-dir", str(tmp_path)]
    assert cli.main(argv) == 2
    assert "ffa-sora prepare --dataset phantom/128" in capsys.readouterr().err
