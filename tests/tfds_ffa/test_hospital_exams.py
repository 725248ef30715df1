"""The builder of hospital exams on its dummy data: features, splits, ids, and no TensorFlow."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.tfds_ffa import exams
from tfds_ffa import exam_builder
from tfds_ffa.hospital_exams.hospital_exams_dataset_builder import Builder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital")
    exams.hospital(folder)
    assert exams.build(folder) == 0
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    with (folder / "hospital/reports.csv").open(encoding="utf-8", newline="") as file:
        return {row["report"]: row for row in csv.DictReader(file)}


def all_records(folder):
    return [record for split in exams.records(folder).values() for record in split]


def test_every_exam_is_there_with_its_row(folder, rows):
    records = all_records(folder)
    assert len(records) == len(rows) == 4
    for record in records:
        row = rows[record["report"].decode()]
        assert exam_builder.EYES[record["eye"]] == row["eye"]
        assert record["disease"].decode() == row["diagnosis"]
        assert (record["language"], record["report_zh"]) == (b"en", b"")
        assert record["findings"] == b"[]"


def test_clips_are_the_five_frames_and_what_lies_between(folder):
    for record in all_records(folder):
        video, original = record["video"], record["is_original"]
        assert video.shape == (21, 64, 64, 1) and video.dtype == np.uint8
        assert record["frame_mask"].all()
        np.testing.assert_array_equal(np.flatnonzero(original), [0, 5, 10, 15, 20])
        np.testing.assert_array_equal(np.isnan(record["vessel_ratio"]), ~original)
        assert (record["vessel_ratio"][original] >= 0.005).all()
        between = 0.6 * video[0].astype(float) + 0.4 * video[5]
        assert abs(video[2] - between).max() <= 0.5
        assert not record["times_known"]
        np.testing.assert_allclose(record["times_s"], np.linspace(0, 4, 21), atol=1e-6)


def test_ids_are_hashes_and_patients_stay_together(folder, rows):
    patients = {}
    for split, records in exams.records(folder).items():
        for record in records:
            assert len(record["exam_id"]) == len(record["patient_id"]) == 32
            int(record["exam_id"], 16)
            patient = rows[record["report"].decode()]["patient_id"]
            patients.setdefault(patient, set()).add((record["patient_id"], split))
    assert sorted(map(len, patients.values())) == [1, 1, 1]
    assert len({id_ for (id_, _), *_ in map(list, patients.values())}) == 3


def test_nothing_written_names_an_exam_a_patient_or_a_file(folder):
    for path in (folder / "data").rglob("*"):
        assert "A01" not in path.name and "P1" not in path.name
        if path.is_file() and "array_record" not in path.name:
            text = path.read_text(encoding="utf-8")
            for secret in ("A01/0", '"A01"', '"P1"', "0.jpg", str(folder / "hospital")):
                assert secret not in text, path


def test_the_dataset_describes_itself(folder):
    info = tfds.builder_from_directory(folder / "data" / exams.NAME / "1.0.0").info
    assert "salted hashes" in info.description and "FFA Sora" in info.citation
    assert info.metadata["cleaning.vessel_filter"] == "exclude_video"
    assert info.metadata["cleaning.size"] == 64 and len(info.metadata["salt"]) == 8


def test_a_plain_builder_says_which_command_to_run(tmp_path):
    builder = Builder(config="128", data_dir=tmp_path)
    with pytest.raises(ValueError, match="ffa-sora prepare --dataset hospital_exams/128"):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(), file_format="array_record"
        )


def test_configurations_are_sizes_and_numbers_of_frames():
    assert set(Builder.builder_configs) == {"64", "128", "256", "512", "768"}
    config = exam_builder.config("256_f25")
    assert (config.size, config.num_frames) == (256, 25)
    for name in ("63", "256_f24", "256_25", "", "x"):
        with pytest.raises(ValueError, match="allowed are 64, 128"):
            exam_builder.config(name)


def test_large_splits_are_cut_into_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(exam_builder, "SHARD_BYTES", 2 * 21 * 64 * 64)
    entries = [exam_builder.Entry(None, "", {}) for _ in range(5)]
    plan = exam_builder.Plan({"train": entries}, tmp_path, None, {})
    builder = Builder(config="64", data_dir=tmp_path, plan=plan)
    shards = builder._shard_iterators_per_split(None)["train"]
    assert [len(shard.args[2]) for shard in shards] == [2, 2, 1]
    assert [shard.args[3] for shard in shards] == [0, 2, 4]


def test_building_needs_no_tensorflow_and_no_jax():
    code = (
        "import sys, tfds_ffa.prepare_exams\n"
        "print({'tensorflow', 'jax', 'torch', 'apache_beam'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
