"""The builder: features, splits by patient, ground truth that agrees with the pixels."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ffa_sora_jax import phantom
from tests.tfds_ffa.conftest import NUM_EXAMS
from tfds_ffa.phantom import exams
from tfds_ffa.phantom.phantom_dataset_builder import Builder


@pytest.fixture(scope="module")
def source(data_dir):
    return tfds.builder_from_directory(data_dir / "phantom/64/1.0.0").as_data_source()


def all_records(source):
    return [source[split][i] for split in exams.SPLITS for i in range(len(source[split]))]


def test_plain_tfds_reads_every_feature(source):
    records = all_records(source)
    assert len(records) == NUM_EXAMS
    for record in records:
        assert record["video"].shape == (21, 64, 64, 1) and record["video"].dtype == np.uint8
        assert record["frame_mask"].all() and (np.diff(record["times_s"]) >= 0).all()
        assert record["lesions"].shape == (64, 64) and record["vessels"].shape == (64, 64, 2)
        assert "FFA" in record["report"].decode()


def test_records_are_the_phantoms_of_their_index(source, monkeypatch):
    monkeypatch.setattr(exams, "RENDER_SIZE", 64)
    record = source["train"][3]
    index = int(record["exam_id"].decode().split("-")[-1])
    made = phantom.generate(0, index, size=64)
    np.testing.assert_array_equal(record["video"][..., 0], made.video)
    np.testing.assert_array_equal(record["times_s"], made.times_s)
    assert record["report"].decode() == made.report
    assert ("right", "left")[record["eye"]] == made.eye


def test_no_patient_lies_in_two_splits_and_no_exam_twice(source):
    patients = {
        split: {source[split][i]["patient_id"] for i in range(len(source[split]))}
        for split in exams.SPLITS
    }
    assert not patients["train"] & patients["validation"]
    assert not patients["train"] & patients["test"]
    assert not patients["validation"] & patients["test"]
    ids = [record["exam_id"] for record in all_records(source)]
    assert len(set(ids)) == NUM_EXAMS


def test_two_exams_of_a_patient_are_two_eyes(source):
    eyes = {}
    for record in all_records(source):
        eyes.setdefault(record["patient_id"], []).append(int(record["eye"]))
    pairs = [found for found in eyes.values() if len(found) > 1]
    assert pairs and all(sorted(found) == [0, 1] for found in pairs)


def test_the_disc_lies_on_the_side_of_the_eye(source):
    for record in all_records(source):
        disc_x, fovea_x = record["landmarks_px"][0], record["landmarks_px"][3]
        assert (disc_x > fovea_x) == (record["eye"] == 0)  # right eye: disc on the right


def test_lesion_labels_name_findings_and_lie_at_their_centre(source):
    seen = 0
    for record in all_records(source):
        findings = json.loads(record["findings"])
        labels = set(np.unique(record["lesions"])) - {0}
        assert labels <= {finding["label"] for finding in findings}
        if len(findings) != 1 or not labels or findings[0]["count"] != 1:
            continue
        rows, columns = np.nonzero(record["lesions"])
        x, y = findings[0]["center_px"]
        reach = 1 + 64 * 1.76 / 16 * max(findings[0]["radius"], 0.5) * 1.5
        assert np.hypot(columns.mean() - x, rows.mean() - y) < reach
        seen += 1
    assert seen


def test_vessels_are_bright_in_the_venous_phase(source):
    record = source["train"][0]
    frame = record["video"][np.argmin(abs(record["times_s"] - 12)), ..., 0].astype(float)
    vessel = record["vessels"].max(-1) > 127
    field = frame > 10
    assert frame[vessel & field].mean() > 1.3 * frame[~vessel & field].mean()


def test_the_dataset_describes_itself(data_dir):
    info = tfds.builder_from_directory(data_dir / "phantom/64/1.0.0").info
    assert "patient" in info.description and "FFA Sora" in info.citation
    assert info.metadata["num_exams"] == NUM_EXAMS and info.metadata["seed"] == 0
    assert info.metadata["renderer"] == exams.renderer_fingerprint()


def test_configs_cover_sizes_and_schedules():
    names = set(Builder.builder_configs)
    sizes = ("64", "128", "256", "512")
    assert names == set(sizes) | {f"{size}_full" for size in sizes}


def test_building_and_reading_need_no_tensorflow(data_dir):
    code = (
        "import sys, tensorflow_datasets as tfds, tfds_ffa.phantom.phantom_dataset_builder\n"
        f"b = tfds.builder_from_directory({str(data_dir / 'phantom/64/1.0.0')!r})\n"
        "print(b.as_data_source(split='test')[0]['video'].shape, 'tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(21, 64, 64, 1) False" in done.stdout


# --- Which exams, patients and splits ---


def recipe(**changes):
    return exams.Recipe(**{"size": 64, "schedule": "paper", "seed": 0, "num_exams": 400} | changes)


def test_splits_are_80_10_10_of_the_patients():
    numbers = exams.patient_numbers(3, 400)
    patients = list(dict.fromkeys(numbers))[: len(set(numbers)) // 10 * 10]
    count = {split: 0 for split in exams.SPLITS}
    for patient in patients:
        count[exams.split_of(3, patient)] += 1
    tenth = len(patients) // 10
    assert count == {"train": 8 * tenth, "validation": tenth, "test": tenth}


def test_a_longer_dataset_only_appends():
    short, long = recipe().by_split, recipe(num_exams=700).by_split
    for split in exams.SPLITS:
        assert long[split][: len(short[split])] == short[split]


def test_seeds_differ():
    assert recipe().by_split != recipe(seed=1).by_split


def test_the_eye_known_beforehand_is_the_eye_rendered():
    for index in range(3):
        assert exams.eye_of(5, index) == phantom.generate(5, index, size=32).eye


def test_too_few_exams_for_three_splits_are_refused():
    with pytest.raises(ValueError, match="at least 20"):
        recipe(num_exams=4).by_split  # noqa: B018
    with pytest.raises(ValueError, match="num_exams is 0"):
        recipe(num_exams=0)
    with pytest.raises(ValueError, match="seed is -1"):
        recipe(seed=-1)


def test_shrinking_is_area_averaging():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8)).astype(np.float32)
    want = frames.reshape(2, 4, 2, 4, 2).mean((2, 4))
    np.testing.assert_allclose(exams.shrink(frames, 4), want, atol=1e-4)
