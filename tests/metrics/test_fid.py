"""FID and KID through a narrow network."""

import functools

import jax
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import frechet
from ffa_sora_jax.metrics.features import prepare
from ffa_sora_jax.metrics.fid import FID, KID
from ffa_sora_jax.metrics.kernel import kernel_distance
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.inception import InceptionConfig, InceptionV3
from tests.tolerances import TOL

NARROW = InceptionConfig(divisor=32, num_classes=4)


@functools.cache
def params():
    return Bundle.create(InceptionV3, NARROW).init(jax.random.key(0))


def clip(seed, n=2, frames=3):
    video = np.random.default_rng(seed).uniform(-1.0, 1.0, (n, frames, 20, 26, 1))
    return Clip(video=video.astype(np.float32), exam=np.arange(n))


def test_rows_are_the_features_of_every_counted_frame():
    video = clip(1)
    rows = FID(network=NARROW, frame_stride=2).features(video, params())
    third = prepare(video.video[1:, 2:], "cdfvd", 299)[0]
    single = Bundle.create(InceptionV3, NARROW).apply(params(), third)
    assert rows.shape == (2, 2, single.shape[1])
    np.testing.assert_allclose(rows[1, 1], single[0], atol=TOL["unit"])


def test_resize_rules_differ():
    rules = [
        np.asarray(FID(network=NARROW, frame_stride=3, resize=r).features(clip(1), params()))
        for r in ("pytorch", "tensorflow")
    ]
    assert np.abs(rules[0] - rules[1]).max() > 0.0
    with pytest.raises(ValueError, match="pytorch"):
        FID(resize="torch")
    with pytest.raises(ValueError, match="frame_stride"):
        FID(frame_stride=0)


def test_values_pool_the_frames_of_all_clips():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 3, 4))
    flat = (x.reshape(15, 4) for x in (a, b))
    x, y = flat
    assert FID().value(a, b)["fid"] == frechet.distance_of_sets(x, y)
    assert KID().value(a, b)["kid"] == kernel_distance(x, y)
