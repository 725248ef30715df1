"""The laws that every metric must obey: identity, order and grouping of `merge`, cuts of batches,
and the same rows with and without jit.

Tables are read in the order of their keys, so the laws of `merge` hold bit for bit; they are
checked on made-up rows where rows come from a large network. Its rows are checked on a small one.
"""

import functools
import itertools
import math

import jax
import numpy as np
import pytest

from ffa_sora_jax.common import tree
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import (
    bertscore,
    clipscore,
    fid,
    fvd,
    fvd_phantom,
    fvd_videomae,
    lpips,
    pixel,
    recall_networks,
    registry,
    vqascore,
)  # fmt: skip
from ffa_sora_jax.metrics.base import OfSets, OfTexts, PerClip, Sets, Table
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.i3d import I3D, I3DConfig
from ffa_sora_jax.models.lpips import LPIPS, trunk_config
from tests.tolerances import TOL

COUNT, FRAMES, SIDE = 6, 9, 40
REPORTS = ["Right eye leakage.", "No leakage.", "Left eye: delay.", "Window defect.", "x", "y z"]
# Metrics of networks by module, with the shape of a row.
NETWORKS = {
    "fvd": ([fvd.FVD(), fvd.PairedMeanFVD(), fvd.BatchedFVD(), fvd.KVD()], (1, 6)),
    "fvd_videomae": ([fvd_videomae.ContentDebiasedFVD()], (6,)),
    "fid": ([fid.FID(), fid.KID()], (3, 4)),
    "lpips": ([lpips.LPIPSDistance()], (FRAMES,)),
    "bertscore": ([bertscore.BERTScore()], (3,)),
    "clipscore": ([clipscore.CLIPScore()], (3,)),
    "vqascore": ([vqascore.VQAScore(), vqascore.VQAScore(mode="concat")], ()),
    "recall_networks": ([recall_networks.NetworkRecall(source=fid.FID())], (3, 4)),
}
FREE = [name for name, entry in registry.METRICS.items() if not entry.needs]
ALL = [
    *[(loaded.metric, loaded.params) for loaded in map(registry.load, FREE)],
    (pixel.PSNR(identical="skip"), None),
    *[(metric, None) for metrics, _ in NETWORKS.values() for metric in metrics],
]
SHAPES = {type(m): shape for metrics, shape in NETWORKS.values() for m in metrics}
SHAPES[fvd_phantom.PhantomFVD] = (6,)


def test_all_entries_of_the_registry_are_covered():
    modules = {entry.loader.split(":")[0].split(".")[-1] for entry in registry.METRICS.values()
               if entry.needs}  # fmt: skip
    assert modules <= set(NETWORKS)


@functools.cache
def clip(seed, places):
    """Moving noise, every clip of another level."""
    videos = []
    for place in places:
        rng = np.random.default_rng([seed, place])
        noise = rng.uniform(-0.4, 0.4, (FRAMES, SIDE, SIDE, 1))
        videos.append((noise + 0.1 * place - 0.3 + 0.01 * seed).astype(np.float32))
    return Clip(video=np.stack(videos), exam=np.array(places))


def state(metric, params, places):
    """The state after one batch of these clips."""
    if isinstance(metric, OfTexts):
        texts = {str(place): REPORTS[place] for place in places}
        against = clip(1, places) if metric.against == "clip" else texts
        return metric.update(metric.init(), texts, against, params)
    return metric.update(metric.init(), clip(1, places), clip(2, places), params)


def parts(metric, params):
    """Three states of two clips each."""
    cuts = ((0, 1), (2, 3), (4, 5))
    if type(metric) not in SHAPES:
        return [state(metric, params, places) for places in cuts]
    shape = SHAPES[type(metric)]
    rows = np.random.default_rng(0).uniform(0.1, 0.9, (2, COUNT, *shape)).astype(np.float32)
    tables = [
        [Table.of([str(p) for p in places], side[list(places)]) for side in rows] for places in cuts
    ]
    return [Sets(*pair) if isinstance(metric, OfSets) else pair[0] for pair in tables]


def values(metric, seen):
    """Values, NaN made comparable."""
    return {k: "nan" if math.isnan(v) else v for k, v in metric.compute(seen).items()}


@pytest.mark.parametrize(
    ("metric", "params"), ALL, ids=[type(metric).__name__ for metric, _ in ALL]
)
def test_merge_obeys_the_laws(metric, params):
    merge, nothing, given = metric.merge, metric.init(), parts(metric, params)
    whole = values(metric, merge(merge(*given[:2]), given[2]))
    for part in given:
        alone = values(metric, part)
        assert values(metric, merge(part, nothing)) == alone
        assert values(metric, merge(nothing, part)) == alone
        assert values(metric, merge(part, part)) == alone
    for a, b, c in itertools.permutations(given):
        assert values(metric, merge(merge(a, b), c)) == whole
        assert values(metric, merge(a, merge(b, c))) == whole
    low, high = metric.value_range
    assert whole[metric.name] == "nan" or low <= whole[metric.name] <= high
    assert hash(metric) == hash(type(metric)(**vars(metric)))


def small(name):
    """A metric with a small network of random weights."""
    widths = I3DConfig(stem=(4, 4, 4), mixed=((2,) * 6,) * 9, num_classes=5)
    trunk = trunk_config("alex").narrowed(6, 10, 12, 8, 8)
    metric, module, cfg = {
        "fvd": (fvd.FVD(widths=widths), I3D, fvd.FVD(widths=widths).network),
        "lpips": (lpips.LPIPSDistance(trunk), LPIPS, trunk),
    }[name]
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        return rng.uniform(0.1, 0.4, leaf.shape).astype(np.float32)

    return metric, tree.map_with_path(draw, Bundle.create(module, cfg).abstract)


def opened(name):
    if name not in FREE:
        return small(name)
    loaded = registry.load(name)
    return loaded.metric, loaded.params


def rows(seen):
    return [seen.rows] if isinstance(seen, Table) else [seen.sample.rows, seen.reference.rows]


@pytest.mark.parametrize("name", [*FREE, "fvd", "lpips"])  # FID: see its own test
def test_batches_may_be_cut_anywhere(name):
    metric, params = opened(name)
    whole = state(metric, params, (3, 1))
    cut = metric.merge(state(metric, params, (1,)), state(metric, params, (3,)))
    for a, b in zip(rows(whole), rows(cut), strict=True):
        assert len(a) == 2 and np.ptp(a, axis=0).any()
        np.testing.assert_allclose(a, b, rtol=TOL["unit"], atol=TOL["i3d"])


@pytest.mark.parametrize("name", [*FREE, "lpips"])
def test_rows_with_and_without_jit(name):
    metric, params = opened(name)
    if metric.host or isinstance(metric, OfTexts):
        pytest.skip("runs on the host, never jitted")
    pair = [c.replace(exam=None) for c in (clip(1, (1, 3)), clip(2, (1, 3)))]
    is_set = isinstance(metric, OfSets)
    method, given = (metric.features, pair[:1]) if is_set else (metric.measure, pair)
    plain = np.asarray(method(*given, params))
    jitted = np.asarray(jax.jit(method)(*given, params))
    assert plain.dtype == jitted.dtype == np.float32
    np.testing.assert_allclose(plain, jitted, rtol=TOL["unit"], atol=TOL["i3d"])


@pytest.mark.parametrize("name", registry.METRICS)
def test_entries_say_what_they_are(name):
    entry = registry.METRICS[name]
    assert entry.name == name and entry.kind in registry.KINDS and entry.definition
    assert entry.network or not (entry.needs or entry.shipped)
    if entry.paper:
        assert entry.paper.value and len(entry.paper.caveat) > 10


@pytest.mark.parametrize("name", FREE)
def test_kinds_are_those_of_the_bases(name):
    kinds = {"pair": PerClip, "sets": OfSets, "text": OfTexts, "clip_text": OfTexts}
    metric = registry.load(name).metric
    assert isinstance(metric, kinds[registry.METRICS[name].kind])
    assert isinstance(metric.higher_is_better, bool)
