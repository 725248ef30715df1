import dataclasses

import cv2
import numpy as np
import pytest

from ffa_sora_jax.privacy import copies, disturb, matching, neighbours, traces
from ffa_sora_jax.privacy.calibration import calibrate
from tests.privacy.eyes import clip


@pytest.fixture(scope="module")
def eyes():
    return [traces.trace(clip(74, i)) for i in range(5)]


def moved(video, turn, zoom, x, y):
    size = video.shape[-1]
    matrix = cv2.getRotationMatrix2D((size / 2 - 0.5, size / 2 - 0.5), turn, zoom)
    matrix[:, 2] += (x * size, y * size)
    return np.stack([cv2.warpAffine(frame, matrix, (size, size)) for frame in video])


@pytest.mark.parametrize("channel", ["vessels", "contrast"])
def test_alignment_undoes_a_similarity_and_a_flip(eyes, channel):
    """The pose found is the inverse of what was done, and the agreement is high."""
    gallery = matching.Gallery(eyes, channel)
    query = traces.trace(moved(clip(74, 2), -4.0, 1.02, 0.05, -0.04))
    best = gallery.best(query)[0]
    assert best.index == 2 and best.score > 0.7
    assert not best.alignment.mirrored
    assert best.alignment.turn_deg == pytest.approx(4.0, abs=2.0)
    assert best.alignment.x == pytest.approx(-0.05, abs=0.025)
    assert best.alignment.y == pytest.approx(0.04, abs=0.025)
    turned = gallery.best(traces.trace(disturb.flip(clip(74, 3), np.random.default_rng(0))))[0]
    assert turned.index == 3 and turned.alignment.mirrored and turned.score > 0.98


def test_what_is_excluded_is_not_found(eyes):
    gallery = matching.Gallery(eyes, "vessels")
    found = gallery.best(eyes[1], exclude=[1])
    assert len(found) == 4 and all(match.index != 1 for match in found)
    assert found[0].score < 0.5 < gallery.best(eyes[1])[0].score
    assert copies.print_score(eyes[1].print, traces.stack(eyes, "print"))[1] == 1.0
    assert copies.print_score(eyes[1].print, traces.stack(eyes, "print"), [1])[1] < 0.5


def test_order_of_frames_counts_for_copies(eyes):
    """Slower and faster is allowed, backwards is not."""
    still = matching.Alignment(False, 0.0, 1.0)
    rng = np.random.default_rng(1)
    one = eyes[0]
    assert copies.copy_score(one, one, still) == pytest.approx(1.0, abs=1e-3)
    warped = traces.trace(disturb.time_warp(clip(74, 0), rng))
    backwards = dataclasses.replace(one, frames=one.frames[::-1])
    scores = [copies.copy_score(other, one, still) for other in (warped, backwards, eyes[1])]
    assert scores[0] > 0.95 > scores[1] > scores[2]


def test_best_order_is_the_best_monotone_path():
    """Against all monotone assignments, counted out."""
    from itertools import combinations_with_replacement

    similarity = np.random.default_rng(0).normal(size=(5, 5))
    paths = combinations_with_replacement(range(5), 5)
    expected = max(np.mean([similarity[i, j] for i, j in enumerate(path)]) for path in paths)
    assert copies.best_order(similarity, warp=5) == pytest.approx(expected)
    assert copies.best_order(np.eye(5), warp=0) == 1.0
    assert copies.best_order(np.eye(5)[::-1], warp=0) == pytest.approx(0.2)


def test_traces_survive_storing(eyes, tmp_path):
    traces.save(tmp_path / "one.npz", eyes[0])
    again = traces.load(tmp_path / "one.npz")
    for name in traces.FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(eyes[0], name))
    short = traces.trace(clip(74, 0)[::4])
    assert short.frames.shape == eyes[0].frames.shape


def test_threshold_keeps_its_rate():
    """Maxima of many normal draws are nearly Gumbel; a tenth of a per cent is extrapolated."""
    rng = np.random.default_rng(0)
    null = 0.1 * rng.normal(size=(40000, 60)).max(axis=1)
    for count in (8, 10, 16, 60, 400):
        rates = [(null > calibrate(rng.choice(null, count), 0.01).value).mean() for _ in range(40)]
        assert np.mean(rates) < 0.012, count
    large = calibrate(null[:2000], 0.01)
    assert large.low <= 0.01 <= large.high or large.above < 20
    assert large.chance_of(large.value) < 0.02


def test_a_leak_in_the_hold_out_does_not_hide_copies():
    rng = np.random.default_rng(1)
    null = 0.2 + 0.03 * rng.gumbel(size=30)
    leaking = np.append(null, [0.8, 0.9])
    assert calibrate(leaking, 0.0033).value < 0.55
    assert calibrate(leaking, 0.0033).above == 2
    with pytest.raises(ValueError, match="at least 8"):
        calibrate(null[:5], 0.01)
    with pytest.raises(ValueError, match="rate is 0"):
        calibrate(null, 0)


def test_galleries_of_different_size_are_compared_fairly():
    """All subsets counted out; and without memory the ratio is about 1 and the share a half."""
    from itertools import combinations

    rng = np.random.default_rng(2)
    groups = [f"a{i}" for i in range(7)], [f"b{i}" for i in range(4)]
    train, holdout = rng.random((3, 7)), rng.random((3, 4))
    subsets = [list(c) for c in combinations(range(7), 4)]
    least = np.mean([np.log(train[:, c].min(axis=1)) for c in subsets], axis=0)
    nearer = np.mean([train[:, c].min(axis=1) < holdout.min(axis=1) for c in subsets])
    ratio = neighbours.distance_ratio(train, holdout, groups)
    np.testing.assert_allclose(ratio.of_each, np.exp(least) / holdout.min(axis=1))
    assert ratio.nearer == pytest.approx(nearer)
    mirror = neighbours.distance_ratio(holdout, train, groups[::-1])
    assert mirror.nearer == pytest.approx(1 - nearer)
    assert mirror.value == pytest.approx(1 / ratio.value)


def test_distance_ratio_is_one_without_memory():
    rng = np.random.default_rng(4)
    groups = [f"a{i // 2}" for i in range(60)], [f"b{i // 2}" for i in range(20)]
    values, inside = [], 0
    for _ in range(12):
        ratio = neighbours.distance_ratio(rng.random((30, 60)), rng.random((30, 20)), groups)
        values.append(np.log(ratio.value))
        inside += ratio.low <= ratio.value <= ratio.high
    assert np.mean(values) == pytest.approx(0, abs=0.15) and inside >= 9
    near = rng.random((30, 60)) * np.linspace(0.2, 1, 60)
    found = neighbours.distance_ratio(near, rng.random((30, 20)) + 0.1, groups)
    assert found.value < found.low and found.nearer > found.nearer_high
    assert found.p_value < 0.01


def test_train_share_is_exact_without_memory_and_sees_memory():
    rng = np.random.default_rng(3)
    gallery = rng.normal(size=(60, 12))
    groups = [f"a{i // 2}" for i in range(40)], [f"b{i // 2}" for i in range(20)]
    p_values = []
    for seed in range(30):
        query = np.random.default_rng(seed).normal(size=(20, 12))
        far = neighbours.distances(query, gallery)
        p_values.append(neighbours.train_share(far[:, :40], far[:, 40:], [5], groups)[0].p_value)
    assert 0.3 < np.mean(p_values) < 0.7 and np.min(p_values) < 0.3
    query = gallery[:40] + rng.normal(0, 0.5, (40, 12))
    far = neighbours.distances(query, gallery)
    found = neighbours.train_share(far[:, :40], far[:, 40:], [1, 500], groups)
    assert len(found) == 1 and found[0].value > found[0].high and found[0].p_value < 0.01
