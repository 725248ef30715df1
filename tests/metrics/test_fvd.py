"""FVD and its relatives: on given features, and through a narrow network from clips to a number."""

import functools

import jax
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import frechet, registry
from ffa_sora_jax.metrics.features import prepare
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


def test_from_clips_to_a_number():
    metric = FVD(widths=WIDTHS)
    state = metric.update(metric.init(), clip((1, 2, 3, 4)), clip((5, 6, 7, 9)), params())
    rows = state.sample.rows
    assert rows.shape == (4, 1, 5)
    assert metric.compute(state)["fvd"] > 10.0 * metric.value(rows, rows)["fvd"]


def test_protocols_prepare_clips_differently_and_set_epsilon():
    video = clip((1, 8), frames=2).video
    found = {p: np.asarray(prepare(video, PROTOCOLS[p].preparation)) for p in PROTOCOLS}
    names = sorted(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.abs(found[one] - found[other]).max() > 0.0, (one, other)
    assert FVD("videogpt").network.epsilon == 1e-5 and FVD().network.epsilon == 1e-3


def test_lengths_cut_the_clip():
    """What comes after a cut changes the line of the longer clip only."""
    metric, given = FVD(lengths=(9, 11), widths=WIDTHS), clip((1,), frames=11)
    other = given.replace(video=np.concatenate([given.video[:, :9], -given.video[:, 9:]], axis=1))
    one, two = (metric.update(metric.init(), c, None, params()).sample.rows for c in (given, other))
    np.testing.assert_allclose(one[:, 0], two[:, 0], atol=TOL["unit"])
    assert np.abs(one[:, 1] - two[:, 1]).max() > 10.0 * TOL["unit"]
    with pytest.raises(ValueError, match="11 frames"):
        FVD(lengths=(12,), widths=WIDTHS).features(given, params())


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
