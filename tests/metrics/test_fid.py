"""FID and KID through a narrow network."""

import functools

import jax
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import frechet
from ffa_sora_jax.metrics.features import prepare
from ffa_sora_jax.metrics.fid import FID, KID, RESIZES
from ffa_sora_jax.metrics.kernel import kernel_distance
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.inception import InceptionConfig, InceptionV3
from tests.compiling import quick_compile
from tests.tolerances import TOL

NARROW = InceptionConfig(divisor=32, num_classes=4)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compile():
        yield


@functools.cache
def params():
    return Bundle.create(InceptionV3, NARROW).init(jax.random.key(0))


def clip(seed, n=2, frames=3):
    video = np.random.default_rng(seed).uniform(-1.0, 1.0, (n, frames, 20, 26, 1))
    return Clip(video=video.astype(np.float32), exam=np.arange(n))


def test_rows_are_the_features_of_every_frame_in_order():
    """One compiled program: turned round, the clips give the same rows the other way round."""
    metric, given = FID(network=NARROW), clip(1)
    turned = given.replace(video=given.video[::-1, ::-1])
    rows, back = (
        metric.update(metric.init(), c, None, params()).sample.rows for c in (given, turned)
    )
    assert rows.shape[:2] == (2, 3) and np.ptp(rows, axis=(0, 1)).any()
    np.testing.assert_allclose(back[::-1, ::-1], rows, atol=TOL["unit"])


def test_frames_may_be_skipped():
    shape = jax.eval_shape(
        FID(network=NARROW, frame_stride=2).features, clip(1, frames=5), params()
    )
    assert shape.shape[:2] == (2, 3)
    with pytest.raises(ValueError, match="frame_stride"):
        FID(frame_stride=0)


def test_resize_rules_are_those_of_two_implementations():
    video = clip(1, n=1, frames=1).video
    one, other = (np.asarray(prepare(video, how, 299)) for how in RESIZES.values())
    assert set(RESIZES) == {"pytorch", "tensorflow"} and np.abs(one - other).max() > 0.01
    with pytest.raises(ValueError, match="pytorch"):
        FID(resize="torch")


def test_values_pool_the_frames_of_all_clips():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 3, 4))
    flat = (x.reshape(15, 4) for x in (a, b))
    x, y = flat
    assert FID().value(a, b)["fid"] == frechet.distance_of_sets(x, y)
    assert KID().value(a, b)["kid"] == kernel_distance(x, y)
