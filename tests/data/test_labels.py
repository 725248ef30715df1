"""Labels: columns by name, the eye as the clip shows it, and refusals before a run starts."""

import numpy as np
import pytest

from ffa_sora_jax.data import labels, part, pipeline

COLUMNS = ("normal", "brvo", "drusen")


def section(folder, **options):
    return {"name": "phantom/64", "data_dir": str(folder), "text_length": 0, **options}


def test_columns_are_the_diseases():
    made = labels.encode(["brvo; drusen", "normal"], ["left", "right"], COLUMNS)
    np.testing.assert_array_equal(made.diseases, [[0, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(made.left, [1, 0])
    assert made.diseases.dtype == made.left.dtype == np.float32
    assert labels.encode(["brvo"], ["unknown"], ()) is None


@pytest.mark.parametrize(
    ("disease", "eye", "match"),
    [("brov", "left", "'brvo'"), ("", "left", "data.diseases"), ("brvo", "unknown", "eye")],
)
def test_what_is_not_known_is_refused(disease, eye, match):
    with pytest.raises(ValueError, match=match):
        labels.encode([disease], [eye], COLUMNS)


def test_a_mirrored_clip_is_labelled_as_the_other_eye(data_dir):
    made = pipeline.make_source(section(data_dir, diseases=COLUMNS), "train", 16, 0)
    clip, rows = made.batch(0), made.rows(0)
    own = np.array([made.examples[i].eye == "left" for i in rows.index])
    np.testing.assert_array_equal(clip.labels.left, own ^ rows.mirrored)
    assert 0 < rows.mirrored.sum() < 16
    np.testing.assert_array_equal(clip.labels.diseases, np.tile([1, 0, 0], (16, 1)))


def test_without_names_there_are_no_labels(data_dir):
    assert pipeline.make_source(section(data_dir), "train", 4, 0).batch(0).labels is None


def test_joined_datasets_keep_words_and_clips_together():
    def loaded(numbers):
        return part.Loaded(
            video=np.array(numbers), frame_mask=np.array(numbers), latent=None,
            exam=np.array(numbers), reports=[f"report {n}" for n in numbers],
            diseases=[f"disease {n}" for n in numbers], eyes=[f"eye {n}" for n in numbers],
        )  # fmt: skip

    made = part.join([loaded([1, 3]), loaded([0, 2])], [np.array([1, 3]), np.array([0, 2])])
    assert made.exam.tolist() == [0, 1, 2, 3]
    for words, name in ((made.reports, "report"), (made.diseases, "disease"), (made.eyes, "eye")):
        assert words == [f"{name} {n}" for n in range(4)]


def test_a_dataset_that_cannot_be_labelled_is_refused_at_once(data_dir, clinic_dir):
    with pytest.raises(ValueError, match=r"phantom/64.*clip 0.*'normal'"):
        pipeline.make_source(section(data_dir, diseases=("brvo",)), "train", 4, 0)
    name = {"name": "hospital_exams/64", "diseases": COLUMNS}
    with pytest.raises(ValueError, match=r"hospital_exams/64.*clip"):
        pipeline.make_source(section(clinic_dir) | name, "train", 4, 0)
