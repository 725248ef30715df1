"""Shares of a mixture, position by position."""

import numpy as np
import pytest

from ffa_sora_jax.data.mixture import Mixture, read_weights


def stream(weights, count, seed=0):
    return Mixture(weights, seed).place(np.arange(count))


@pytest.mark.parametrize("weights", [(1, 3), (0.2, 0.3, 0.5), (5, 1, 1, 1), (1.0,), (1e-3, 1)])
def test_every_prefix_keeps_the_proportions(weights):
    part, _ = stream(weights, 20_000)
    share = np.array(weights) / sum(weights)
    for count in (2_000, 7_777, 20_000):
        found = np.bincount(part[:count], minlength=len(weights))
        assert np.abs(found - share * count).max() <= 64  # one block may begin with one dataset
    blocks = np.arange(0, 20_000 - 64, 64)
    if share.min() * 64 >= 1:
        for k, s in enumerate(share):
            found = np.searchsorted(np.flatnonzero(part == k), blocks)
            assert np.abs(found - s * blocks).max() <= 1 + 1e-9


def test_every_dataset_is_read_in_its_own_order_without_gaps():
    part, number = stream((1, 2, 4), 5_000)
    for k in range(3):
        assert number[part == k].tolist() == list(range((part == k).sum()))


def test_a_position_does_not_depend_on_what_is_asked_beside_it():
    mixed = Mixture((1, 2.5), 3)
    part, number = mixed.place(np.arange(10_000))
    for at in (9_999, 0, 4_321, 64, 63):
        one = Mixture((1, 2.5), 3).place(np.array([at]))
        assert (one[0][0], one[1][0]) == (part[at], number[at])
    far = 2**31 * 4096
    part, number = mixed.place(np.array([far]))
    share = 1 / 3.5 if part[0] == 0 else 2.5 / 3.5
    assert abs(number[0] - share * far) <= 65


def test_turns_are_random_and_differ_by_seed():
    a, b = (stream((1, 1), 640, seed)[0].tolist() for seed in (0, 1))
    assert a != b
    runs = np.diff(np.flatnonzero(np.diff(a)))
    assert runs.max() > 2  # not simply in turns


def test_one_dataset_is_the_plain_stream():
    part, number = stream((7.0,), 500)
    assert not part.any() and number.tolist() == list(range(500))


def test_weights_are_read_from_config_command_line_or_json():
    assert read_weights((("a/64", 1), ["b/64", 2.5])) == (("a/64", 1.0), ("b/64", 2.5))
    assert read_weights(()) == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (("a/64", "b/64"), "must be pairs"),
        ((("a/64",),), "must be pairs"),
        ((("a/64", "1"),), "must be pairs"),
        ((("a/64", True),), "must be pairs"),
        (((1.0, "a/64"),), "must be pairs"),
        ((("a/64", float("nan")),), "must be pairs"),
        ((("a/64", 1), ("a/64", 2)), "twice"),
        ((("a/64", 1), ("b/64", 0)), "weight of b/64"),
        ((("a/64", 1), ("b/64", -1)), "weight of b/64"),
        ((("a/64", 1e6), ("b/64", 1)), "Leave the dataset out"),
    ],
)
def test_bad_weights_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        read_weights(value)
