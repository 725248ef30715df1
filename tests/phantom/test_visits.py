from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.phantom.diseases import sample_exam
from ffa_sora_jax.phantom.visits import GROWN, SCARS, Pose, progress, sample_pose

RECORDED = Path(__file__).parents[1] / "golden" / "phantom" / "visit0.npz"


def test_first_visits_are_what_they_were_before_there_were_visits():
    """Recorded before. Equal bytes where it was recorded; another processor may round otherwise."""
    recorded = np.load(RECORDED)
    for name in (n.removeprefix("video_") for n in recorded if n.startswith("video_")):
        seed, index, schedule = name.split("_")
        clip = generate(int(seed), int(index), size=32, schedule=schedule, visit=0)
        difference = np.abs(clip.video.astype(int) - recorded[f"video_{name}"])
        assert (difference == 0).mean() > 0.999 and difference.max() <= 1, name
        assert clip.report == str(recorded[f"report_{name}"])


@pytest.fixture(scope="module")
def eye():
    return [generate(41, 0, size=128, visit=visit) for visit in range(3)]


def test_visits_differ_in_all_but_the_eye(eye):
    first, second, third = eye
    assert first.eye == second.eye == third.eye
    assert first.exam.diseases == second.exam.diseases
    assert not np.array_equal(first.times_s, second.times_s)
    assert not np.array_equal(second.times_s, third.times_s)
    assert [f.kind for f in first.findings] == [f.kind for f in second.findings]
    again = generate(41, 0, size=128, visit=1)
    np.testing.assert_array_equal(again.video, second.video)
    assert again.report == second.report


def test_truth_follows_the_camera(eye):
    """Vessels of a later visit lie where its truth says: bright in the venous phase."""
    for clip in eye:
        vein, artery = clip.truth.vein, clip.truth.artery
        frame = clip.video[int(np.argmin(np.abs(clip.times_s - 20)))].astype(float)
        rows, cols = np.mgrid[:128, :128]
        rest = ~vein & ~artery & (np.hypot(rows - 63.5, cols - 63.5) < 55)
        assert frame[vein].mean() > frame[rest].mean() + 40
        assert np.isfinite(clip.truth.vein_s[vein]).all()
    first, second = eye[0].truth, eye[1].truth
    assert first.disc_px != second.disc_px
    assert np.hypot(*np.subtract(first.disc_px, second.disc_px)) < 0.12 * 128


def test_a_pose_moves_maps_and_points_alike():
    pose = Pose(0.05, -0.03, 4.0, 1.02)
    mask = np.zeros((100, 100), bool)
    mask[28:33, 58:63] = True  # middle at column 60, row 30
    rows, cols = np.nonzero(pose.move_map(mask))
    np.testing.assert_allclose(
        [cols.mean(), rows.mean()], pose.matrix(100) @ [60.0, 30.0, 1.0], atol=0.3
    )
    light = pose.move(np.full((1, 100, 100), 0.5, np.float32))
    np.testing.assert_allclose(light, 0.5, atol=1e-5)


def test_light_reaches_the_rim_of_a_moved_picture(eye):
    """A camera that stands elsewhere sees the field round and lit, without a dark crescent."""
    rows, cols = np.mgrid[:128, :128]
    r = np.hypot(rows - 63.5, cols - 63.5)
    ring = (r > 60) & (r < 64)
    for clip in eye:
        assert np.percentile(clip.video[10][ring], 1) > 8


def test_poses_are_bounded():
    poses = [sample_pose(np.random.default_rng(k)) for k in range(200)]
    assert max(abs(p.x) for p in poses) <= 0.05
    assert max(abs(p.turn_deg) for p in poses) <= 3.75
    assert np.std([p.y for p in poses]) > 0.01


def test_lesions_go_on_from_visit_to_visit():
    exam = sample_exam(np.random.default_rng(3), disease="pdr")
    assert progress(exam, 0, np.random.default_rng(1)) == exam
    visits = [progress(exam, v, np.random.default_rng(1)).findings for v in range(9)]
    sizes = np.array([[f.radius or f.count for f in findings] for findings in visits], float)
    growth = sizes / sizes[0]
    assert (growth >= GROWN[0] - 0.05).all() and (growth <= GROWN[1] + 0.05).all()
    assert (growth[1] != 1).any() and np.abs(np.log(growth[2] / growth[1])).max() < 0.5
    scars = [f.kind in SCARS for f in exam.findings]
    assert any(scars) and (growth[:, scars] == 1).all()


def test_negative_visits_are_refused():
    with pytest.raises(ValueError, match="visit"):
        generate(0, 0, visit=-1)
