"""Near duplicates across patients and splits, against a plain comparison of all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffa_sora_jax.video import fingerprint
from tfds_ffa.curation import leakage


def strangers(rng, count):
    return rng.integers(0, 2**64, (count, fingerprint.WORDS), dtype=np.uint64)


def altered(rng, code, num_bits):
    bits = np.unpackbits(code.view(np.uint8))
    bits[rng.permutation(len(bits))[:num_bits]] ^= 1
    return np.packbits(bits).view(np.uint64)


def members(leaks):
    return [leak.members for leak in leaks]


@pytest.mark.parametrize("num_bits", [0, 1, fingerprint.NEAR - 1])
def test_a_copy_is_found_and_its_distance_is_right(num_bits):
    rng = np.random.default_rng(0)
    codes = strangers(rng, 50)
    codes[40] = altered(rng, codes[7], num_bits)
    groups, splits = [f"p{i}" for i in range(50)], ["train"] * 25 + ["test"] * 25
    (leak,) = leakage.find(codes, groups, splits)
    assert leak == leakage.Leak((7, 40), num_bits, ("test", "train"), 2)


def test_just_beyond_the_radius_is_no_copy():
    rng = np.random.default_rng(0)
    codes = strangers(rng, 20)
    codes[3] = altered(rng, codes[2], fingerprint.NEAR)
    assert not leakage.find(codes, [str(i) for i in range(20)], ["train"] * 20)


@pytest.mark.parametrize(
    "change",
    [
        fingerprint.mirrored,
        lambda c: fingerprint.delayed(c, 1),
        lambda c: fingerprint.delayed(c, -1),
    ],
)
def test_mirrored_and_shifted_copies_are_found(change):
    codes = strangers(np.random.default_rng(1), 20)
    codes[11] = change(codes[4])
    assert members(leakage.find(codes, [str(i) for i in range(20)], ["train"] * 20)) == [(4, 11)]


def test_copies_of_one_patient_in_one_split_are_no_leak():
    rng = np.random.default_rng(2)
    codes = strangers(rng, 6)
    codes[1] = codes[0]
    codes[3] = altered(rng, codes[2], 5)
    groups = ["a", "a", "b", "b", "c", "d"]
    assert not leakage.find(codes, groups, ["train"] * 6)
    # the same patient in two splits
    leaks = leakage.find(codes, groups, ["train", "test", "train", "test", "train", "train"])
    assert members(leaks) == [(0, 1), (2, 3)] and [leak.num_groups for leak in leaks] == [1, 1]


def test_a_thousand_copies_are_one_leak():
    codes = np.repeat(strangers(np.random.default_rng(3), 1), 1000, axis=0)
    (leak,) = leakage.find(codes, [str(i) for i in range(1000)], ["train"] * 1000)
    assert len(leak.members) == leak.num_groups == 1000 and leak.distance == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_finds_exactly_what_comparing_all_pairs_finds(seed):
    """Clusters are the connected components of the near pairs, over any borders of blocks."""
    rng = np.random.default_rng(seed)
    codes = strangers(rng, 4)[rng.integers(0, 4, 16)]
    codes = np.stack([altered(rng, code, int(rng.integers(0, 140))) for code in codes])
    groups = [f"p{i}" for i in rng.integers(0, 8, 16)]
    splits = [("train", "test")[i] for i in rng.integers(0, 2, 16)]
    clusters = [{i} for i in range(16)]
    for i in range(16):
        for j in range(i):
            if fingerprint.near_duplicates(codes[i], codes[j]):
                merged = next(c for c in clusters if i in c) | next(c for c in clusters if j in c)
                clusters = [c for c in clusters if not c & merged] + [merged]
    owner = list(zip(groups, splits, strict=True))
    wanted = [tuple(sorted(c)) for c in clusters if len({owner[i] for i in c}) > 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "BLOCK", 5)
        assert members(leakage.find(codes, groups, splits)) == sorted(wanted)


def test_wrong_arguments():
    codes = strangers(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="3 fingerprints, 2 groups"):
        leakage.find(codes, ["a", "b"], ["train"] * 3)
    with pytest.raises(ValueError, match="uint64"):
        leakage.find(codes.astype(np.int64), ["a"] * 3, ["train"] * 3)
    assert leakage.find(codes[:1], ["a"], ["train"]) == []
