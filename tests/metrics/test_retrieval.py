from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import retrieval
from ffa_sora_jax.metrics.retrieval import chance_at_k, recall_at_k
from ffa_sora_jax.phantom import generate
from tests.tolerances import TOL

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "retrieval.npz"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("paired", "recall_paired"),
        ("same_patient", "recall_any_same_patient"),
        ("fraction", "recall_fraction_same_patient"),
    ],
)
def test_golden_recalls(golden, mode, name):
    ks = golden["Ks"].tolist()
    relevant = None
    if mode != "paired":
        relevant = retrieval.same_group(golden["patient_id"], golden["patient_id"])
    found = recall_at_k(golden["query"], golden["gallery"], ks, relevant, mode)
    assert list(found) == ks
    np.testing.assert_allclose(list(found.values()), golden[name], atol=1e-12)


def test_golden_ranks_and_ties(golden):
    for query, gallery, name in (
        ("query", "gallery", "rank_of_paired"),
        ("tie_query", "tie_gallery", "tie_rank_stable"),
    ):
        by_k = retrieval.found_at_k(golden[query], golden[gallery], range(1, 41))
        ranks = 40 - np.stack(list(by_k.values())).sum(axis=0)  # found at K for every K > rank
        np.testing.assert_array_equal(ranks, golden[name])


def test_golden_pooling_and_chance(golden):
    np.testing.assert_allclose(
        retrieval.pool_frames(golden["frame_emb"]), golden["video_emb"], atol=TOL["unit"]
    )
    chance = chance_at_k(40, np.ones(40, int), golden["Ks"].tolist())
    np.testing.assert_allclose([c.value for c in chance.values()], golden["chance_paired"])


def test_ties_keep_the_order_of_the_gallery():
    gallery = np.tile([[1.0, 0.0]], (4, 1))
    assert recall_at_k(gallery, gallery, [1, 2, 4]) == {1: 0.25, 2: 0.5, 4: 1.0}


def test_chance_is_what_random_features_give():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 3)
    relevant = retrieval.same_group(groups, groups)
    for mode, which in (("paired", None), ("same_patient", relevant), ("fraction", relevant)):
        chance = chance_at_k(60, np.full(60, 1 if which is None else 3), [4, 9], mode)
        runs = [
            recall_at_k(rng.normal(size=(60, 8)), rng.normal(size=(60, 8)), [4, 9], which, mode)
            for _ in range(150)
        ]
        for k, expected in chance.items():
            values = np.array([run[k] for run in runs])
            assert values.mean() == pytest.approx(expected.value, abs=0.012), (mode, k)
            inside = ((values >= expected.low) & (values <= expected.high)).mean()
            assert 0.90 <= inside <= 1.0, (mode, k)


def test_chance_of_the_paper_is_known():
    """387 clips, one or two of them relevant."""
    one = chance_at_k(387, np.ones(387, int), [5, 10, 50])
    assert [round(c.value, 4) for c in one.values()] == [0.0129, 0.0258, 0.1292]
    two = chance_at_k(387, np.full(387, 2), [5, 10, 50], "same_patient")
    assert [round(c.value, 4) for c in two.values()] == [0.0257, 0.0511, 0.2420]


def test_frames_are_compared_frame_by_frame():
    rng = np.random.default_rng(1)
    gallery = rng.normal(size=(10, 4, 6))
    query = gallery.copy()
    query[:, 2:] = rng.normal(size=(10, 2, 6))
    assert retrieval.recall_of_frames(gallery, gallery, [1]) == {1: 1.0}
    assert 0.5 <= retrieval.recall_of_frames(query, gallery, [1])[1] < 0.75


def test_bad_input_is_named():
    x = np.eye(3)
    with pytest.raises(ValueError, match="K is 4"):
        recall_at_k(x, x, [4])
    with pytest.raises(ValueError, match=r"K is 2\.5"):
        recall_at_k(x, x, [2.5])
    with pytest.raises(ValueError, match="cannot be paired"):
        recall_at_k(x, x[:2], [1])
    with pytest.raises(ValueError, match="Did you mean 'paired'"):
        recall_at_k(x, x, [1], mode="pairs")
    with pytest.raises(ValueError, match="Query 1 has no relevant"):
        recall_at_k(x, x, [1], np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]], bool))
    with pytest.raises(ValueError, match="not finite"):
        recall_at_k(x * np.nan, x, [1])


@pytest.mark.parametrize(
    ("num_gallery", "num_relevant", "ks", "mode", "match"),
    [
        (10, [1, np.nan], [5], "paired", "relevant clips is nan; the gallery has 10"),
        (10, [0], [5], "paired", "relevant clips is 0"),
        (10, [11], [5], "paired", "relevant clips is 11"),
        (np.nan, [1], [5], "paired", "gallery has nan"),
        (10, [1], [np.nan], "paired", "K is nan"),
        (10, [1], [11], "paired", "K is 11"),
        (10, [], [5], "paired", "no query"),
        (10, [1], [5], "pairs", "Did you mean 'paired'"),
    ],
)
def test_chance_of_what_cannot_be_is_refused(num_gallery, num_relevant, ks, mode, match):
    with pytest.raises(ValueError, match=match):
        chance_at_k(num_gallery, num_relevant, ks, mode)


@pytest.fixture(scope="module")
def clips():
    videos = [[generate(51, i, size=64, visit=v).video for v in (0, 1)] for i in range(10)]
    return [np.stack(column) for column in zip(*videos, strict=True)]


def test_features_without_weights_find_copies_and_other_visits(clips):
    first, second = (retrieval.describe(videos) for videos in clips)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=TOL["unit"])
    darker = retrieval.describe((clips[0] * 0.7).astype(np.uint8))
    assert recall_at_k(darker, first, [1])[1] == 1.0
    assert recall_at_k(second, first, [1])[1] >= 0.8


def test_metric_pairs_by_key(clips):
    metric = retrieval.RecallAtK(ks=(1, 5, 50))
    order = np.arange(10)

    def batch(videos, which):
        scaled = jnp.asarray(videos[which], jnp.float32)[..., None] / 127.5 - 1
        return Clip(video=scaled, exam=which)

    whole = metric.update(metric.init(), batch(clips[0], order), batch(clips[0], order))
    scores = metric.compute(whole)
    assert scores["recall_at_1"] == scores["recall_at_k"] == 1.0
    assert scores["chance_at_5"] == pytest.approx(0.5)
    assert "recall_at_50" not in scores
    assert scores["recall_by_chance"] == pytest.approx(0.3)
    shares = metric.per_sample(whole.sample.rows, whole.reference.rows[::-1])
    assert shares.shape == (10,) and shares.mean() == pytest.approx(
        metric.value(whole.sample.rows, whole.reference.rows[::-1])["recall_at_k"]
    )
    parts = metric.merge(
        metric.update(metric.init(), batch(clips[0], order[6:]), batch(clips[0], order[:3])),
        metric.update(metric.init(), batch(clips[0], order[:6]), batch(clips[0], order[3:])),
    )
    assert metric.compute(parts) == scores
    with pytest.raises(ValueError, match="no partner"):
        metric.compute(metric.update(metric.init(), batch(clips[0], order), None))
