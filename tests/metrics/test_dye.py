"""Dye curves: the same run scores full, ruined time does not."""

import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import dye
from ffa_sora_jax.metrics.dye import DyeCurves
from ffa_sora_jax.phantom import generate

METRIC = DyeCurves()


@pytest.fixture(scope="module")
def exams():
    return [generate(751, i, 96, "full") for i in range(4)]


def clips(videos, start=0):
    video = np.stack(videos)[..., None].astype(np.float32) / 127.5 - 1
    return Clip(video=video, exam=np.arange(start, start + len(video)))


def test_a_clip_agrees_with_itself(exams):
    for exam in exams[:2]:
        row = dye.compare(exam.video, exam.times_s, exam.video, exam.times_s)
        np.testing.assert_allclose(row, [1, 0, 0, 1], atol=1e-6)


def test_shuffled_and_reversed_frames_are_caught(exams):
    rng = np.random.default_rng(0)
    for exam in exams:
        for order in (rng.permutation(21), np.arange(21)[::-1]):
            row = dye.compare(exam.video[order], exam.times_s, exam.video, exam.times_s)
            assert row[0] < 0.8 and row[1] > 0.02


def test_gain_and_side_do_not_matter(exams):
    exam = exams[0]
    dim = dye.compare((exam.video * 0.6).astype(np.uint8), exam.times_s, exam.video, exam.times_s)
    assert dim[0] > 0.97
    mirrored = dye.compare(exam.video[:, :, ::-1], exam.times_s, exam.video, exam.times_s)
    assert mirrored[0] > 0.9


def test_other_frame_times_are_put_on_one_axis(exams):
    """Every second frame of the same exam runs as the whole does."""
    exam = exams[1]
    half = dye.compare(exam.video[::2], exam.times_s[::2], exam.video, exam.times_s)
    wrong = dye.compare(exam.video[::2], exam.times_s[5:16], exam.video, exam.times_s)
    assert half[0] > 0.85 and half[0] > wrong[0] + 0.1


def test_curves_have_a_column_per_region(exams):
    curve = dye.curves(exams[0].video, exams[0].times_s)
    assert curve.shape == (21, len(dye.REGIONS)) and np.isfinite(curve).all()


def test_metric_merges_and_averages(exams):
    order = np.arange(21)[::-1]
    sample = clips([exams[0].video, exams[1].video[order]])
    reference = clips([e.video for e in exams[:2]])
    whole = METRIC.compute(METRIC.update(METRIC.init(), sample, reference))
    parts = [
        METRIC.update(
            METRIC.init(),
            clips([v], i),
            clips([exams[i].video], i),
        )
        for i, v in enumerate((exams[0].video, exams[1].video[order]))
    ]
    assert METRIC.compute(METRIC.merge(parts[1], parts[0])) == whole
    assert whole["dye_correlation"] < 0.95


def test_still_or_black_clips_have_no_agreement(exams):
    exam = exams[2]
    for video in (np.zeros_like(exam.video), np.repeat(exam.video[8:9], 21, axis=0)):
        row = dye.compare(video, exam.times_s, exam.video, exam.times_s)
        assert np.isfinite(row).all() and row[0] < 0.3


def test_clips_without_common_time_are_refused(exams):
    exam = exams[0]
    with pytest.raises(ValueError, match="share no time"):
        dye.compare(exam.video[:5], exam.times_s[:5], exam.video[10:], exam.times_s[10:])
    with pytest.raises(ValueError, match="sample and reference"):
        METRIC.measure(clips([exam.video]), None)
