"""FVD and its relatives: on given features, and through a narrow network from clips to a number."""

import functools

import jax
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import frechet, registry
from ffa_sora_jax.metrics.fvd import FVD, KVD, PROTOCOLS, BatchedFVD, PairedMeanFVD
from ffa_sora_jax.metrics.kernel import kernel_distance
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.i3d import I3D, I3DConfig
from tests.tolerances import TOL

WIDTHS = I3DConfig(stem=(4, 4, 4), mixed=((2, 2, 2, 2, 2, 2),) * 9, num_classes=5)
ALL = (FVD, PairedMeanFVD, BatchedFVD, KVD)


def rows(n, seed, lengths=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, lengths, 6)).astype(np.float32)


@functools.cache
def params():
    return Bundle.create(I3D, WIDTHS).init(jax.random.key(0))


def clip(keys, frames=9):
    """Noise whose contrast and mean differ from clip to clip."""
    rng = np.random.default_rng(list(keys))
    noise = rng.uniform(-1.0, 1.0, (len(keys), frames, 24, 32, 1)).astype(np.float32)
    level = np.array(keys, np.float32).reshape(-1, 1, 1, 1, 1) / 10.0 - 0.5
    return Clip(video=np.clip(0.5 * noise + level, -1.0, 1.0), exam=np.array(keys))


def test_values_are_those_of_the_distances():
    a, b = rows(8, 1), rows(8, 2)
    x, y = a[:, 0], b[:, 0]
    assert FVD().value(a, b)["fvd"] == frechet.distance_of_sets(x, y)
    assert FVD("cdfvd").value(a, b)["fvd"] == frechet.distance_of_sets(x, y, ddof=0)
    assert KVD().value(a, b)["kvd"] == kernel_distance(x, y)
    paired = PairedMeanFVD()
    assert paired.value(a, b)["fvd_paired_mean"] == pytest.approx(np.square(x - y).sum(1).mean())
    assert paired.per_sample(a, b).mean() == pytest.approx(paired.value(a, b)["fvd_paired_mean"])
    batched = BatchedFVD(batch_size=4).value(a, b)["fvd_batched"]
    halves = [frechet.distance_of_sets(x[i : i + 4], y[i : i + 4]) for i in (0, 4)]
    assert batched == pytest.approx(np.mean(halves))


@pytest.mark.parametrize("metric", [kind(lengths=(9, 12)) for kind in ALL], ids=lambda m: m.name)
def test_several_lengths_are_averaged(metric):
    a, b = rows(6, 1, lengths=2), rows(6, 2, lengths=2)
    single = [metric.value(a[:, [i]], b[:, [i]])[metric.name] for i in range(2)]
    assert metric.value(a, b)[metric.name] == pytest.approx(np.mean(single))


@pytest.mark.parametrize("metric", [FVD(), KVD()], ids=lambda m: m.name)
def test_value_does_not_depend_on_the_order_of_rows(metric):
    a, b = rows(9, 1), rows(7, 2)
    value = metric.value(a, b)[metric.name]
    shuffled = metric.value(a[::-1], np.roll(b, 3, axis=0))[metric.name]
    assert shuffled == pytest.approx(value, rel=TOL["frechet_rel"])


def test_from_clips_to_a_number_in_parts_and_at_once():
    metric = FVD(widths=WIDTHS)
    made, real = clip((1, 2, 3, 4)), clip((5, 6, 7, 9))
    whole = metric.update(metric.init(), made, real, params())
    state = metric.init()
    for part in (slice(2, 4), slice(0, 2)):
        pick = functools.partial(jax.tree.map, lambda x, part=part: x[part])
        state = metric.merge(metric.update(metric.init(), pick(made), pick(real), params()), state)
    assert state.sample.keys == whole.sample.keys
    np.testing.assert_allclose(state.sample.rows, whole.sample.rows, atol=TOL["unit"])
    plain = metric.features(made, params())
    np.testing.assert_allclose(whole.sample.rows, plain, atol=TOL["unit"])
    value = metric.compute(whole)["fvd"]
    assert metric.compute(state)["fvd"] == pytest.approx(value, rel=TOL["frechet_routes_rel"])
    assert value > 10.0 * metric.value(whole.sample.rows, whole.sample.rows)["fvd"]


def test_protocols_see_different_things():
    """Epsilon, crop and truncation all reach the features."""
    video = clip((1, 8))
    found = {
        name: np.asarray(FVD(name, widths=WIDTHS).features(video, params())) for name in PROTOCOLS
    }
    names = sorted(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.abs(found[one] - found[other]).max() > 0.0, (one, other)
    assert FVD("videogpt").network.epsilon == 1e-5 and FVD().network.epsilon == 1e-3


def test_lengths_cut_the_clip():
    video = clip((1, 2), frames=11)
    both = FVD(lengths=(9, 11), widths=WIDTHS).features(video, params())
    short = FVD(widths=WIDTHS).features(video.replace(video=video.video[:, :9]), params())
    np.testing.assert_allclose(both[:, 0], short[:, 0], atol=TOL["unit"])
    with pytest.raises(ValueError, match="11 frames"):
        FVD(lengths=(12,), widths=WIDTHS).features(video, params())


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="styleganv"):
        FVD("stylegan")
    with pytest.raises(ValueError, match="same number"):
        BatchedFVD().value(rows(3, 1), rows(4, 2))
    with pytest.raises(ValueError, match="video"):
        FVD().features(Clip(video=None), None)


@pytest.mark.parametrize(
    "name", ["fvd", "fvd_videogpt", "fvd_tfhub", "fvd_paired_mean", "fvd_batched", "kvd", "fid",
             "kid", "lpips", "lpips_vgg"],
)  # fmt: skip
def test_missing_weights_are_named_and_nothing_takes_their_place(name, tmp_path):
    wanted = {"l": "alexnet", "f": "i3d", "k": "i3d"}[name[0]]
    wanted = {"lpips_vgg": "vgg16", "fid": "inception", "kid": "inception"}.get(name, wanted)
    with pytest.raises(FileNotFoundError, match=wanted):
        registry.load(name, tmp_path)
