"""The job that makes the phantom features, with a handful of clips."""

import argparse

import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.jobs import train_phantom_features as job
from ffa_sora_jax.metrics import fvd_phantom
from ffa_sora_jax.models.phantom_features import PhantomFeaturesConfig
from ffa_sora_jax.phantom.diseases import DISEASES


def test_what_it_writes_can_be_measured_with(tmp_path):
    parser = argparse.ArgumentParser()
    job.add_arguments(parser)
    options = ["--clips", "6", "--held-out", "6", "--steps", "3", "--batch-size", "2"]
    assert job.run(parser.parse_args(["--out", str(tmp_path), *options])) == 0
    metric, params = fvd_phantom.load_from(tmp_path)
    assert metric.network.diseases == tuple(DISEASES)
    clip = Clip(video=np.zeros((2, 21, 64, 64, 1), np.float32), exam=np.arange(2))
    state = metric.update(metric.init(), clip, None, params)
    assert state.sample.rows.shape == (2, 128) and np.isfinite(state.sample.rows).all()


def test_batches_are_labelled_as_they_are_ordered():
    frames = np.arange(5, dtype=np.uint8).reshape(1, 5, 1, 1) * np.ones((1, 1, 2, 2), np.uint8)
    clips = job.Clips(np.repeat(40 * frames, 3, 0), np.eye(3, dtype=np.float32), np.zeros(3))
    rng = np.random.default_rng(0)
    video, diseases, _, order = job._batch(clips, 60, rng)
    means = video.mean((2, 3, 4))
    for steps, kind in zip(np.diff(means), order, strict=True):
        assert kind != 0 or (steps > 0).all()
        assert kind != 1 or (steps < 0).all()
    shuffled = np.diff(means)[order == 2]
    assert np.mean((shuffled > 0).any(1) & (shuffled < 0).any(1)) > 0.8
    assert set(order) == {0, 1, 2} and diseases.shape == (60, 3)
    assert (clips.video[0] == 40 * frames[0]).all(), "the clips themselves stay in order"


def test_held_out_clips_are_others():
    cfg = PhantomFeaturesConfig(diseases=tuple(DISEASES))
    a, b = job.draw(cfg, 1, 0), job.draw(cfg, 1, job._HELD_OUT)
    assert not np.array_equal(a.video, b.video)


def test_area_under_the_curve_by_hand():
    scores, labels = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, 1])
    assert job._area(scores, labels) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
