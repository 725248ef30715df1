"""Vessel maps: the same eye in every frame, and another eye in another clip."""

import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import vessels
from ffa_sora_jax.metrics.vessels import VesselConsistency
from ffa_sora_jax.phantom import generate


@pytest.fixture(scope="module")
def exams():
    return [generate(761, i, 128, "full", eye="right", disease="normal") for i in range(3)]


def clips(videos):
    video = np.stack(videos)[..., None].astype(np.float32) / 127.5 - 1
    return Clip(video=video, exam=np.arange(len(video)))


def test_frames_of_other_eyes_break_consistency(exams):
    mixed = exams[0].video.copy()
    mixed[::2] = exams[1].video[::2]
    assert vessels.within(vessels.vessel_maps(exams[0].video)) > 0.5
    assert vessels.within(vessels.vessel_maps(mixed)) < 0.35


def test_noise_is_inconsistent_and_stills_are_perfect(exams):
    noise = np.random.default_rng(0).integers(0, 255, (8, 128, 128), np.uint8)
    assert abs(vessels.within(vessels.vessel_maps(noise))) < 0.1
    still = np.repeat(exams[0].video[9:10], 6, axis=0)
    assert vessels.within(vessels.vessel_maps(still)) == pytest.approx(1, abs=1e-5)


def test_same_eye_matches_after_a_shift_and_others_are_at_chance(exams):
    maps = [vessels.vessel_maps(e.video).mean(axis=0) for e in exams]
    moved = vessels.vessel_maps(np.roll(exams[0].video, (3, -4), axis=(1, 2))).mean(axis=0)
    assert vessels.between(maps[0], moved) > 0.9
    assert vessels.between(maps[0], maps[1]) < 0.4


def test_values_name_chance(exams):
    metric = VesselConsistency()
    sample = clips([exams[0].video, exams[2].video])
    reference = clips([exams[0].video, exams[1].video])
    state = metric.update(metric.init(), sample, reference)
    value = metric.compute(state)
    assert set(value) == {
        "vessel_consistency",
        "vessel_consistency_reference",
        "vessel_match",
        "vessel_match_chance",
    }
    rows = state.rows
    assert rows[0, 2] == pytest.approx(1, abs=1e-6) and rows[1, 2] < 0.4
    assert abs(rows[1, 2] - rows[1, 3]) < 0.2


def test_one_frame_or_no_reference_is_refused(exams):
    with pytest.raises(ValueError, match="two frames"):
        vessels.within(vessels.vessel_maps(exams[0].video[:1]))
    with pytest.raises(ValueError, match="sample and reference"):
        VesselConsistency().measure(clips([exams[0].video]), None)
