"""The laws every metric must obey, checked on those that exist."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics.base import MeanState
from ffa_sora_jax.metrics.pixel import PSNR, SSIM

METRICS = [PSNR(), PSNR(identical="skip"), SSIM(), SSIM(window="uniform")]


def batches():
    rng = np.random.default_rng(np.random.SeedSequence(0))
    videos = [rng.uniform(-1, 1, (n, 2, 12, 12, 1)).astype(np.float32) for n in (1, 3, 2)]
    return [(Clip(video=v), Clip(video=v + 0.1 * i)) for i, v in enumerate(videos)]


def seen(metric, pairs):
    state = metric.init()
    for pair in pairs:
        state = metric.update(state, *pair)
    return state


def same(metric, a, b):
    assert metric.compute(a) == pytest.approx(metric.compute(b), rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_laws(metric):
    a, b, c = (seen(metric, [pair]) for pair in batches())
    merge = metric.merge
    same(metric, merge(a, metric.init()), a)
    same(metric, merge(metric.init(), a), a)
    for x, y, z in itertools.permutations((a, b, c)):
        same(metric, merge(merge(x, y), z), merge(x, merge(y, z)))
        same(metric, merge(x, y), merge(y, x))
    same(metric, merge(merge(a, b), c), seen(metric, batches()))


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_batches_may_be_cut_anywhere(metric):
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches())
    same(metric, seen(metric, [whole]), seen(metric, batches()))


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_metrics_declare_themselves(metric):
    assert hash(metric) == hash(type(metric)(**vars(metric)))
    low, high = metric.value_range
    value = metric.compute(seen(metric, batches()))[metric.name]
    assert low <= value <= high and metric.higher_is_better


def test_mean_of_nothing_is_not_a_number():
    assert np.isnan(MeanState.empty().mean())
