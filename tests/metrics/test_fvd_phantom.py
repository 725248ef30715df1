"""FVD-phantom: its network tells phantoms apart, and its distance grows with what is wrong."""

import functools
import json

import jax
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import fvd_phantom, registry
from ffa_sora_jax.metrics.frechet import distance_of_sets
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.phantom_features import PhantomFeatures
from ffa_sora_jax.phantom import generate

COUNT = 24


@functools.cache
def loaded():
    return fvd_phantom.load_fvd_phantom(None)


@functools.cache
def videos(seed):
    """(n, t, h, w, 1) uint8 of phantoms that the network has not seen."""
    return np.stack([generate(seed, n, size=64).video for n in range(COUNT)])[..., None]


def clip(video):
    return Clip(video=video.astype(np.float32) / 127.5 - 1.0, exam=np.arange(len(video)))


def distance(video):
    metric, params = loaded()
    state = metric.update(metric.init(), clip(video), clip(videos(1)), params)
    return metric.compute(state)


def test_floor_lies_below_every_fault():
    """Other phantoms are nearer than blurred, noisy, frozen or shuffled ones."""
    rng = np.random.default_rng(0)
    given = videos(2)
    shuffled = np.stack([v[rng.permutation(21)] for v in given])
    noisy = np.clip(given + rng.normal(0.0, 40.0, given.shape), 0, 255)
    faults = {
        "shuffled": shuffled,
        "reversed": given[:, ::-1],
        "frozen": np.repeat(given[:, 10:11], 21, axis=1),
        "noisy": noisy,
    }
    floor = distance(given)
    for name, video in faults.items():
        value = distance(video)
        assert value["fvd_phantom"] > 1.5 * floor["fvd_phantom"], name
        assert value["kvd_phantom"] > floor["kvd_phantom"], name


def test_read_outs_know_unseen_phantoms():
    """Far above chance: the feature holds eye and order."""
    metric, params = loaded()
    bundle = Bundle.create(PhantomFeatures, metric.network)
    video = fvd_phantom.prepare_phantom(clip(videos(1)).video, metric.network)

    @jax.jit
    def run(params, video):
        return bundle.apply(params, bundle.apply(params, video), method="read_out")

    eyes = np.array([generate(1, n, size=32).eye == "left" for n in range(COUNT)])
    _, eye, order = run(params, video)
    assert np.mean((np.asarray(eye) > 0) == eyes) >= 0.8
    assert np.mean(np.asarray(order).argmax(1) == 0) >= 0.8
    _, _, backwards = run(params, video[:, ::-1])
    assert np.mean(np.asarray(backwards).argmax(1) == 1) >= 0.8


def test_clips_of_any_length_size_and_channels_are_brought_to_one_form():
    metric, _ = loaded()
    shape = (1, 21, 64, 64, 1)
    assert fvd_phantom.prepare_phantom(np.zeros((1, 40, 128, 96, 3)), metric.network).shape == shape


def test_it_is_never_called_fvd():
    metric, _ = loaded()
    entry = registry.find("fvd_phantom")
    assert metric.name == "fvd_phantom" and "not FVD" in entry.title and entry.paper is None
    a, b = np.random.default_rng(0).normal(size=(2, 6, 4))
    assert metric.value(a, b)["fvd_phantom"] == distance_of_sets(a, b)


def test_its_weights_have_a_fingerprint_in_the_results():
    assert list(registry.load("fvd_phantom").weights) == ["model.safetensors"]


def test_asset_is_small_and_says_how_well_it_does():
    size = (fvd_phantom.SHIPPED / fvd_phantom.WEIGHTS).stat().st_size
    assert size < 3_000_000
    accuracy = json.loads((fvd_phantom.SHIPPED / fvd_phantom.CONFIG).read_text())["accuracy"]
    assert accuracy["eye_accuracy"] > 0.9 and accuracy["order_accuracy"] > 0.9


def test_missing_video_is_refused():
    metric, params = loaded()
    with pytest.raises(ValueError, match="video"):
        metric.features(Clip(video=None), params)
