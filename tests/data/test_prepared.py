"""Prepared folders: features of every dataset, stated defaults, fingerprints of the content."""

import json
import shutil

import numpy as np
import pytest

from ffa_sora_jax.data import prepared
from tests.data import clinic


def examples(folder, name="hospital_exams/64", split="train"):
    return list(prepared.Examples(prepared.dataset_folder(folder, name), split))


def by_number(infos):
    return {int(info.exam_id[-15:], 16): info for info in infos}


def test_clinical_clips_tell_eye_language_and_frames(clinic_dir):
    infos = by_number(examples(clinic_dir))
    assert [infos[i].eye for i in range(3)] == ["right", "left", "unknown"]
    assert infos[0].reports == {
        "en": "Right eye: 1. Spot train 0.",
        "zh": "右眼黄斑区见强荧光train0。",
    }
    assert infos[1].language == "zh" and list(infos[1].reports) == ["zh"]
    assert infos[0].is_original.sum() == 11 and infos[1].is_original.all()
    assert np.isnan(infos[0].vessel_ratio[1]) and infos[0].vessel_ratio[0] == np.float32(0.05)
    assert [infos[i].times_known for i in range(4)] == [True, True, True, False]
    assert infos[2].disease == "" and infos[2].findings == []


def test_phantoms_lack_nothing_that_is_asked_for(data_dir):
    info = examples(data_dir, "phantom/64")[0]
    assert info.language == "en" and info.report_zh == "" and info.times_known
    assert info.is_original.shape == (21,) and info.is_original.all()
    assert np.isnan(info.vessel_ratio).all() and info.eye in ("right", "left")


def test_video_and_report_are_enough(tmp_path):
    clinic.prepare(tmp_path, "plain", counts={"train": 2}, keep=("video", "report"))
    first, second = examples(tmp_path, "plain/64")
    assert (first.eye, first.disease, first.findings) == ("unknown", "", [])
    assert first.exam_id == first.patient_id == "plain/64/1.0.0/train/0" != second.exam_id
    assert first.times_s.tolist() == list(range(21)) and not first.times_known
    assert first.language == "en" and first.is_original.all()


def test_padded_frames_are_not_original(tmp_path, monkeypatch):
    def padded(index, split, **how):
        return {"frame_mask": np.arange(21) < 20, **original(index, split, **how)} | {
            "frame_mask": np.arange(21) < 20
        }

    original = clinic.exam
    monkeypatch.setattr(clinic, "exam", padded)
    clinic.prepare(tmp_path, "padded", counts={"train": 1})
    assert examples(tmp_path, "padded/64")[0].is_original.tolist() == [
        n % 2 == 0 and n < 20 for n in range(21)
    ]


@pytest.mark.parametrize("keep", [("report",), ("video",)])
def test_a_dataset_without_clips_or_reports_is_refused(tmp_path, keep):
    clinic.prepare(tmp_path, "odd", counts={"train": 1}, keep=keep)
    with pytest.raises(ValueError, match="no dataset of clips"):
        examples(tmp_path, "odd/64")


def test_splits_are_those_of_the_folder(clinic_dir):
    folder = prepared.dataset_folder(clinic_dir, "hospital_exams/64")
    assert prepared.split_sizes(folder) == clinic.COUNTS
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        prepared.read_split(folder, "trian")


def test_another_build_has_another_fingerprint(clinic_dir, tmp_path):
    folder = prepared.dataset_folder(clinic_dir, "hospital_exams/64")
    mark = prepared.content_fingerprint(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert prepared.content_fingerprint(tmp_path / "copy") == mark
    path = tmp_path / "copy" / "dataset_info.json"
    found = json.loads(path.read_text())
    for change in ({"version": "1.0.1"}, {"splits": found["splits"][::-1]}):
        path.write_text(json.dumps(found | change))
        same = prepared.content_fingerprint(tmp_path / "copy") == mark
        assert same == ("splits" in change)  # their order in the file means nothing
    path.write_text(json.dumps(found))
    (tmp_path / "copy" / "metadata.json").write_text('{"inputs": "others"}')
    assert prepared.content_fingerprint(tmp_path / "copy") != mark
    (tmp_path / "copy" / "metadata.json").unlink()
    found["splits"][0]["numBytes"] = str(int(found["splits"][0]["numBytes"]) + 1)
    path.write_text(json.dumps(found))
    assert prepared.content_fingerprint(tmp_path / "copy") != mark
