"""The benchmark that tunes the oracle: its trees, its scores, its file."""

import json

import numpy as np
import pytest

from benchmarks import oracle, oracle_tuning
from ffa_sora_jax.phantom.oracle_rules import CLASSES, points


def test_f1_counts_hits():
    truth, found = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert oracle_tuning.f1(truth, found) == pytest.approx(0.5)
    assert oracle_tuning.f1(truth, truth) == 1
    assert oracle_tuning.f1(~truth & truth, ~truth & truth) == 1


def test_auc_of_separated_equal_and_mixed_values():
    assert oracle._auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert oracle._auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert oracle._auc(np.array([0.0, 2.0]), np.array([1.0])) == 0.5


def test_cards_learn_a_rule_of_two_features_and_survive_their_file(tmp_path):
    """A class is there where one of its signs is high and another low; the rest is noise."""
    rng = np.random.default_rng(0)
    names = ["delay.a", "delay.b", "dots.c"]
    rows = [dict(zip(names, rng.normal(size=3), strict=True)) for _ in range(400)]
    there = np.array([row["delay.a"] > 0.3 and row["delay.b"] < 0.5 for row in rows])
    truth = np.tile(there[:, None], len(CLASSES))
    card = oracle_tuning._card(
        np.array([[row[n] for n in names[:2]] for row in rows]), names[:2], there
    )
    assert {tree[0] for tree in card["trees"] if isinstance(tree, list)} <= set(names[:2])
    found = np.array([points(card, row) > 0 for row in rows])
    assert oracle_tuning.f1(there, found) > 0.95
    cards = dict.fromkeys(CLASSES, card)
    scores = oracle_tuning.check(cards, rows, truth)
    assert scores["all"] == scores["delay"] > 0.95
    path = tmp_path / "rules.json"
    oracle_tuning.save(path, {"command": "x"}, {"64": {"unseen": scores, "cards": cards}})
    stored = json.loads(path.read_text())["widths"]["64"]["cards"]["delay"]
    assert [points(stored, row) for row in rows] == [points(card, row) for row in rows]


def test_every_class_looks_at_signs_of_its_own():
    assert set(oracle_tuning.SIGNS) == set(CLASSES)
    assert oracle_tuning.SIGNS["delay"] == ("delay.",)  # never from what goes with it


def test_table_has_a_row_per_class():
    text = oracle.table({"clean": dict.fromkeys(CLASSES, 0.5)}, 3)
    assert text.count("0.500") == len(CLASSES) and "| n = 3 | clean |" in text
