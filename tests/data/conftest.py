"""A prepared dataset of made-up clips, written by TFDS in a second: no phantom is rendered."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data import clinic
from tfds_ffa.phantom import exams
from tfds_ffa.phantom.phantom_dataset_builder import Builder

NUM_EXAMS = 40


def fake_render(recipe, index):
    """A clip whose pixels tell its index, frame and column."""
    eye = ("right", "left")[index % 2]
    frame = np.arange(exams.NUM_FRAMES)[:, None, None]
    column = np.arange(recipe.size)[None, None, :]
    video = np.broadcast_to(index + 2 * frame + column, (21, recipe.size, recipe.size))
    return {
        "video": video.astype(np.uint8)[..., None],
        "times_s": np.geomspace(2, 400, 21).astype(np.float32),
        "frame_mask": np.ones(21, bool),
        "report": f"{eye.capitalize()} eye FFA: 1. Finding {index} in the {eye} eye.",
        "exam_id": f"phantom-0-{index:07d}",
        "patient_id": f"phantom-0-p{index // 2:07d}",
        "eye": eye,
        "disease": "normal",
        "findings": json.dumps([{"kind": "leak", "label": 1}]),
        "lesions": np.zeros((recipe.size, recipe.size), np.uint8),
        "vessels": np.zeros((recipe.size, recipe.size, 2), np.uint8),
        "landmarks_px": np.zeros(6, np.float32),
    }


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tfds.disable_progress_bar()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exams, "render", fake_render)
        builder = Builder(config="64", data_dir=folder, num_exams=NUM_EXAMS)
        builder.download_and_prepare(download_dir=folder / "downloads", file_format="array_record")
    return folder


@pytest.fixture(scope="session")
def clinic_dir(tmp_path_factory):
    """hospital_exams/64 with two languages and unknown eyes, and ffa_ir/64 beside it."""
    folder = tmp_path_factory.mktemp("clinic")
    clinic.prepare(folder)
    return clinic.prepare(folder, "ffa_ir", counts={"train": 40, "validation": 4, "test": 3})
