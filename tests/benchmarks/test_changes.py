"""What several benchmarks do to clips, and that they still run."""

import cv2
import numpy as np
import pytest

from benchmarks import changes, controls, phantom_controls
from ffa_sora_jax.phantom import generate
from tfds_ffa.phantom import exams


@pytest.fixture(scope="module")
def clip():
    return generate(3, 0, size=64).video


def test_changes_hold_for_a_clip_and_for_many(clip):
    both = np.stack([clip, clip[:, ::-1]])
    for change in (
        lambda v: changes.resized(v, 32),
        lambda v: changes.blurred(v, 2),
        lambda v: changes.jpeg(v, 50),
        lambda v: changes.warped(v, 0.1, turn=5, zoom=1.1),
    ):
        np.testing.assert_array_equal(change(both)[0], change(clip))
        assert change(clip).dtype == np.uint8
    assert changes.resized(clip, 32).shape == (21, 32, 32)


def test_changes_do_what_they_say(clip):
    moved = changes.warped(clip, 0.25, 0.125)
    np.testing.assert_array_equal(moved[:, 8:, 16:], clip[:, :-8, :-16])
    gray = np.full((21, 64, 64), 100, np.uint8)
    assert changes.noisy(gray, 8, np.random.default_rng(0)).std() == pytest.approx(8, rel=0.02)
    dot = np.zeros((1, 65, 65), np.uint8)
    dot[0, 32, 32] = 255
    spread = changes.blurred(cv2.dilate(dot[0], np.ones((3, 3)))[None], 2.0)[0].astype(float)
    rows = np.arange(65) - 32
    assert (spread.sum(0) * rows**2).sum() / spread.sum() == pytest.approx(4 + 2 / 3, rel=0.1)


def test_the_shipped_auto_encoder_gives_back_nearly_the_clip(clip):
    size, through = changes.shipped_vae()
    decoded = through(np.repeat(np.repeat(clip, 2, 1), 2, 2))  # is brought to the model's size
    assert size == 64 and decoded.shape == (21, 64, 64) and decoded.dtype == np.uint8
    error = decoded.astype(float) - clip
    assert 0 < np.sqrt((error**2).mean()) < 0.3 * clip.astype(float).std()


def test_controls_of_metrics_still_run(capsys):
    assert controls.main(["--clips", "2", "--size", "64", "--metrics", "ssim"]) == 0
    said = capsys.readouterr().out
    values = dict(
        line.strip("| ").split(" | ") for line in said.splitlines() if line.count(" | ") == 1
    )
    assert float(values["the clip itself"]) == pytest.approx(1, abs=1e-3)
    assert set(controls.CONTROLS) < set(values)
    assert all(float(values[name]) < 0.999 for name in list(controls.CONTROLS)[1:])


def test_every_fault_keeps_number_and_form_of_clips(clip):
    given = np.stack([clip] * 20)
    for name, fault in phantom_controls.FAULTS.items():
        assert fault(given).shape == given.shape, name
        assert fault(given).dtype == np.uint8, name


def test_phantoms_look_as_the_datasets_hold_them():
    recipe = exams.Recipe(size=64, schedule="full", seed=7, num_exams=20)
    made, held = changes.as_stored(7, 3, 64, "full"), exams.render(recipe, 3)
    np.testing.assert_array_equal(made.video, held["video"][..., 0])
    assert (made.report, made.eye) == (held["report"], held["eye"])
