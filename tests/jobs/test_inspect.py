"""The summary of a prepared dataset: right counts, an alarm when splits leak, and the page."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from ffa_sora_jax import cli
from ffa_sora_jax.data import prepared
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.jobs import inspect, summary
from ffa_sora_jax.jobs.rows import read_table


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
    assert f"leak {counts['train']}" in said
    assert "last frame     400 to 400, median 400 s" in said and "LEAK" not in said
    assert re.search(r"report length +\d+ to \d+, median \d+(\.\d)? tokens", said)
    assert "languages      en 32" in said and "interpolated   0.0 %" in said
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [s.name for s in sheets] == ["test-000.png", "train-000.png", "validation-000.png"]
    assert Image.open(sheets[0]).size[0] > 7 * 64


def test_a_clinical_dataset_is_described(clinic_dir, capsys):
    argv = ["inspect", "hospital_exams/64", "--data-dir", str(clinic_dir), "--reports", "0"]
    assert cli.main(argv) == 0
    blocks = re.split(r"\n(?=\w+: )", capsys.readouterr().out)
    train = next(block for block in blocks if block.startswith("train"))
    for part in (
        "train: 13 clips of 21 x 64 x 64 x 1",
        "patients       7",
        "eyes           right 5, left 4, unknown 4",
        "normal 5",
        "branch retinal vein occlusion 4",
        "unknown 4",
        "en + zh 7, zh 6",
        "first frame    10 to 10, median 10 s (of 10 clips)",
        "interpolated   18.3 % of the frames, in 5 clips",  # 5 of 13 clips, 10 of 21 frames
        "vessel area    lowest of a clip 0.05 to 0.05",
    ):
        assert part in train, part
    assert "findings" not in train and any(block.startswith("unseen: 2 ") for block in blocks)


def test_the_page_stands_alone(clinic_dir, tmp_path, capsys):
    page = tmp_path / "deep" / "page.html"
    argv = ["inspect", "hospital_exams/64", "--data-dir", str(clinic_dir), "--output", str(page)]
    assert cli.main([*argv, "--reports", "3"]) == 0
    text = page.read_text("utf-8")
    assert text.count("data:image/webp;base64,") == 3 + 3 + 3 + 2  # unseen has two
    assert "://" not in text and "<script" not in text and "PATIENT DATA" in text
    for part in ("unseen", "branch retinal vein occlusion", "右眼黄斑区", "en + zh", "<svg"):
        assert part in text
    assert "SYNTHETIC" not in text and not list(page.parent.glob(".*"))


def test_a_page_of_phantoms_says_so(data_dir, tmp_path, capsys):
    page = tmp_path / "page.html"
    argv = ["inspect", "phantom/64", "--data-dir", str(data_dir), "--output", str(page)]
    assert cli.main([*argv, "--reports", "0"]) == 3  # made-up patients lie in several splits
    text = page.read_text("utf-8")
    assert "SYNTHETIC: shows no patient" in text and "LEAK: " in text and "PATIENT" not in text


def test_markup_in_a_report_stays_text(clinic_dir, tmp_path, monkeypatch, capsys):
    original = prepared.Split.info

    def info(self, record, index):
        report = "<script>alert(1)</script> & more"
        return dataclasses.replace(original(self, record, index), report=report, disease="<b>x</b>")

    monkeypatch.setattr(prepared.Split, "info", info)
    page = tmp_path / "page.html"
    argv = ["inspect", "hospital_exams/64", "--data-dir", str(clinic_dir), "--output", str(page)]
    assert cli.main(argv) == 0
    text = page.read_text("utf-8")
    assert "<script" not in text and "<b>" not in text and "&lt;script&gt;" in text


def test_real_clips_are_not_called_synthetic(clinic_dir, data_dir):
    def corner(folder, name):
        folder = prepared.dataset_folder(folder, name)
        return next(inspect.clips(folder, "train", 1)).sheet()[:24, :200]

    real, made_up = corner(clinic_dir, "hospital_exams/64"), corner(data_dir, "phantom/64")
    assert real.std() > 10 and not np.array_equal(real, made_up)


def test_shown_clips_are_spread_over_the_split(clinic_dir):
    folder = prepared.dataset_folder(clinic_dir, "hospital_exams/64")
    assert [clip.index for clip in inspect.clips(folder, "train", 3)] == [0, 6, 12]
    assert [clip.index for clip in inspect.clips(folder, "unseen", 9)] == [0, 1]


def test_shared_patients_are_an_alarm(data_dir, capsys):
    argv = ["inspect", "--dataset", "phantom/64", "--data-dir", str(data_dir), "--reports", "0"]
    assert cli.main(argv) == 3
    assert "patients are in train and in validation" in capsys.readouterr().out


def test_what_splits_share_is_named(data_dir):
    folder, tokens = prepared.dataset_folder(data_dir, "phantom/64"), Tokenizer.load()
    info = prepared.Examples(folder, "train")[0]

    def split(name, **changes):
        alone = {"exam_id": name, "patient_id": name, "report": name}
        infos = [dataclasses.replace(info, **alone | changes)]
        return summary.summarise_split(name, infos, (21, 64, 64, 1), tokens)

    plain = {name: split(name) for name in ("a", "b")}
    assert summary.overlaps(plain) == ([], [])
    for change, leaks, remarks in (
        ({"patient_id": "a"}, ["1 patients are in a and in c."], []),
        ({"exam_id": "b"}, ["1 exams are in b and in c."], []),
        ({"report": "b"}, [], ["1 reports are word for word in b and in c."]),
    ):
        assert summary.overlaps(plain | {"c": split("c", **change)}) == (leaks, remarks)


def test_the_table_of_a_split_is_one_that_sample_reads(data_dir, tmp_path):
    folder = inspect.find("phantom/64", data_dir)
    path = tmp_path / "new" / "reports.csv"
    inspect.write_table(path, folder, "train")
    examples = prepared.Examples(folder, "train")
    rows = read_table(path)
    assert [(row.id, row.report) for row in rows] == [(e.exam_id, e.report) for e in examples]


def test_a_folder_may_be_named_by_its_path(clinic_dir, monkeypatch):
    folder = clinic_dir / "hospital_exams" / "64" / "1.0.0"
    assert inspect.find(str(folder), clinic_dir / "x") == folder
    assert inspect.find(str(folder.parent), clinic_dir / "x") == folder
    assert inspect.find("hospital_exams/64", clinic_dir) == folder


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["phantom/64", "--reports", "-1"], "--reports is -1"),
        (["phantom/64", "--dataset", "phantom/64"], "Name one dataset"),
        ([], "Name one dataset"),
        (["phantom/64", "--output", "page.txt"], "written as .html"),
        (["phantom/64", "--table", "reports.json"], "written as .csv"),
        (["phantom/128"], "ffa-sora prepare --dataset phantom/128"),
    ],
)
def test_bad_options_are_explained(data_dir, capsys, argv, message):
    assert cli.main(["inspect", *argv, "--data-dir", str(data_dir)]) == 2
    assert message in capsys.readouterr().err
