import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax import phantom
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import recall_networks
from ffa_sora_jax.metrics.base import OfSets
from ffa_sora_jax.metrics.recall_networks import NetworkRecall, pooled
from tests.tolerances import TOL


@dataclasses.dataclass(frozen=True)
class Angles(OfSets):
    """A direction per frame, by its brightness."""

    name = "angles"
    higher_is_better = False
    value_range = (0.0, 1.0)

    def features(self, clip, params):
        angle = params * jnp.mean(clip.video, (2, 3, 4))
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)

    def value(self, sample, reference):
        raise NotImplementedError


def test_frames_count_by_their_direction():
    rows = np.array([[[3.0, 0.0], [0.0, 0.5]], [[2.0, 0.0], [8.0, 0.0]]])
    expected = np.array([[0.5**0.5, 0.5**0.5], [1.0, 0.0]])
    np.testing.assert_allclose(pooled(rows), expected, atol=TOL["unit"])
    np.testing.assert_allclose(pooled(np.array([[0.0, -4.0]])), [[0.0, -1.0]], atol=TOL["unit"])


def test_clips_find_their_own_by_the_features_of_another_metric():
    level = np.linspace(-0.9, 0.9, 10)
    video = np.broadcast_to(level[:, None, None, None, None], (10, 3, 4, 4, 1)).astype(np.float32)
    batch = Clip(video=video, exam=np.arange(10))
    metric = NetworkRecall(ks=(1, 5), source=Angles())
    same = metric.update(metric.init(), batch, batch, 1.5)
    assert same.sample.rows.shape == (10, 3, 2)
    assert metric.compute(same)["recall_at_1"] == 1.0
    turned = Clip(video=video[::-1], exam=np.arange(10))
    other = metric.update(metric.init(), batch, turned, 1.5)
    values = metric.compute(other)
    # the five most similar levels lie around a clip's own; the mirrored one is 9 - 2 i places away
    assert values["recall_at_1"] == 0.0 and values["chance_at_5"] == pytest.approx(0.5)
    near = [i for i in range(10) if abs(9 - 2 * i) <= 2]
    assert values["recall_at_5"] == pytest.approx(len(near) / 10)
    shares = metric.per_sample(other.sample.rows, other.reference.rows)
    assert np.mean(shares) == pytest.approx(values["recall_at_k"])


def test_the_shipped_features_know_a_clip_that_got_darker():
    metric, params = recall_networks.load_phantom(None)
    video = np.stack([phantom.generate(731, n, size=64).video for n in range(8)])[..., None]
    scaled = video.astype(np.float32) / 127.5 - 1
    clip, darker = (
        Clip(video=jnp.asarray(x), exam=np.arange(8)) for x in (scaled, (scaled + 1) * 0.9 - 1)
    )
    metric = dataclasses.replace(metric, ks=(1,))
    assert metric.compute(metric.update(metric.init(), darker, clip, params))["recall_at_1"] == 1.0
