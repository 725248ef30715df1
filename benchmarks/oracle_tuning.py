"""Makes the oracle's score cards from phantoms whose findings are known.

For each class a sum of small trees is grown greedily on the logistic loss, from features of the
signs that a reader would use for this class and no others (`SIGNS`): a rule may not conclude a
leak from a delay only because the two go together. The place of the decision is set on clips that
the trees did not see (four folds).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.phantom.oracle_rules import CLASSES, points

ROUNDS, RATE, DEPTH = 60, 0.2, 2
BINS, CALM, LEAST = 24, 3.0, 2.0  # candidate thresholds; shrinkage; curvature of a leaf
SHARE = 0.5  # of the features, tried in each round
FOLDS = 4
SIGNS: dict[str, tuple[str, ...]] = {
    "leak": ("rise.", "blob.", "level.late", "late_dots", "disc.", "late_time"),
    "pooling": ("rise.", "rings.", "blob.", "level.", "centre.", "petal.", "late_time"),
    "stain": (
        "rise.", "rings.", "blob.", "level.", "disc.", "burn.", "late_dots", "grain.", "mottle.",
        "pit.", "late_time",
    ),
    "window": (
        "level.early", "level.mid", "grain.", "fade.", "centre.", "mottle.", "blob.", "dots.",
        "rise.",
    ),
    "blocked": ("pit.", "dark.", "level.", "burn."),
    "nonperfusion": ("dark.", "level.", "pit.", "burn."),
    "delay": ("delay.",),
    "macular_oedema": (
        "rise.", "rings.", "level.", "petal.", "blob.", "grain.late", "centre.", "mottle.",
        "late_time",
    ),
    "cystoid": (
        "rise.", "rings.", "level.", "petal.", "blob.", "grain.late", "centre.", "mottle.late",
        "late_time",
    ),
    "microaneurysms": ("dots.", "late_dots", "early_dots", "grain.", "late_time"),
}  # fmt: skip


def tune(features: Sequence[Mapping[str, float]], truth: np.ndarray) -> dict[str, Any]:
    """Score cards by class, from (n,) features and (n, classes) bool truth."""
    names = sorted(features[0])
    values = np.array([[row[name] for name in names] for row in features], np.float64)
    cards = {}
    for column, name in enumerate(CLASSES):
        used = [j for j, feature in enumerate(names) if feature.startswith(SIGNS[name])]
        cards[name] = _card(values[:, used], [names[j] for j in used], truth[:, column])
    return cards


def f1(truth: np.ndarray, found: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing is found."""
    hits = int((truth & found).sum())
    total = int(truth.sum() + found.sum())
    return 2 * hits / total if total else 1.0


def check(
    cards: Mapping[str, Any], features: Sequence[Mapping[str, float]], truth: np.ndarray
) -> dict[str, float]:
    """F1 by class, and over all classes under "all"."""
    found = np.array([[points(cards[c], row) > 0 for c in CLASSES] for row in features])
    scores = {c: round(f1(truth[:, j], found[:, j]), 4) for j, c in enumerate(CLASSES)}
    return {"all": round(f1(truth, found), 4), **scores}


def save(path: Path, about: Mapping[str, Any], widths: Mapping[str, Any]) -> None:
    """Writes the cards, one tree per line."""
    lines = [f'{{"about": {json.dumps(about)},', '"widths": {']
    for width, part in widths.items():
        lines.append(f'"{width}": {{"unseen": {json.dumps(part["unseen"])}, "cards": {{')
        for name, card in part["cards"].items():
            trees = ",\n".join(json.dumps(tree, separators=(",", ":")) for tree in card["trees"])
            end = "" if name == CLASSES[-1] else ","
            lines.append(f'"{name}": {{"bias": {card["bias"]}, "trees": [\n{trees}]}}{end}')
        lines.append("}}" if width == list(widths)[-1] else "}},")
    path.write_text("\n".join([*lines, "}}"]) + "\n", encoding="utf-8")


def _card(values: np.ndarray, names: Sequence[str], truth: np.ndarray) -> dict[str, Any]:
    fold = np.arange(len(values)) % FOLDS
    unseen = np.zeros(len(values))
    for k in range(FOLDS):
        bias, trees = _grow(values[fold != k], truth[fold != k])
        unseen[fold == k] = bias + sum(_apply(tree, values[fold == k]) for tree in trees)
    bias, trees = _grow(values, truth)
    return {
        "bias": round(bias - _best_threshold(truth, unseen), 3),
        "trees": [_named(tree, names) for tree in trees],
    }


def _best_threshold(truth: np.ndarray, points: np.ndarray) -> float:
    """The middle of the thresholds near 0 whose F1 on unseen clips is (nearly) the best."""
    candidates = np.linspace(-1.5, 1.5, 61)
    scores = np.array([f1(truth, points > c) for c in candidates])
    return float(candidates[scores >= scores.max() - 0.002].mean())


def _grow(values: np.ndarray, truth: np.ndarray) -> tuple[float, list[Any]]:
    rng = np.random.default_rng(0)
    cuts = [np.unique(np.quantile(v, np.linspace(0, 1, BINS + 1)[1:-1])) for v in values.T]
    binned = np.stack(
        [np.searchsorted(c, v, side="right") for c, v in zip(cuts, values.T, strict=True)], axis=1
    )
    share = float(np.clip(truth.mean(), 0.01, 0.99))
    bias = float(np.log(share / (1 - share)))
    points = np.full(len(values), bias)
    trees = []
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-points))
        count = max(1, int(SHARE * len(cuts)))
        columns = np.sort(rng.choice(len(cuts), count, replace=False))
        tree = _split(binned, cuts, columns, p - truth, p * (1 - p), np.arange(len(values)), DEPTH)
        trees.append(tree)
        points = points + _apply(tree, values)
    return bias, trees


def _split(
    binned: np.ndarray,
    cuts: Sequence[np.ndarray],
    columns: np.ndarray,
    slope: np.ndarray,
    curve: np.ndarray,
    rows: np.ndarray,
    depth: int,
) -> Any:
    """A tree on `rows`: a leaf, or (column, threshold, below, above)."""
    leaf = float(-RATE * slope[rows].sum() / (curve[rows].sum() + CALM))
    if depth == 0 or len(rows) < 10:
        return leaf
    sums = np.zeros((2, len(columns), BINS))
    for i, column in enumerate(columns):
        for part, weight in zip(sums, (slope, curve), strict=True):
            part[i] = np.bincount(binned[rows, column], weight[rows], BINS)
    below = sums.cumsum(axis=-1)[..., :-1]
    above = sums.sum(axis=-1, keepdims=True) - below
    gain = below[0] ** 2 / (below[1] + CALM) + above[0] ** 2 / (above[1] + CALM)
    gain[(below[1] < LEAST) | (above[1] < LEAST)] = -1.0
    best = int(gain.argmax())
    if gain.flat[best] <= slope[rows].sum() ** 2 / (curve[rows].sum() + CALM) + 0.05:
        return leaf
    column, cut = int(columns[best // (BINS - 1)]), best % (BINS - 1)
    low = binned[rows, column] <= cut
    grown = (
        _split(binned, cuts, columns, slope, curve, part, depth - 1)
        for part in (rows[low], rows[~low])
    )
    return (column, float(cuts[column][cut]), *grown)


def _apply(tree: Any, values: np.ndarray) -> np.ndarray:
    if not isinstance(tree, tuple):
        return np.full(len(values), tree)
    column, threshold, below, above = tree
    return np.where(values[:, column] < threshold, _apply(below, values), _apply(above, values))


def _named(tree: Any, names: Sequence[str]) -> Any:
    if not isinstance(tree, tuple):
        return round(tree, 3)
    column, threshold, below, above = tree
    return [names[column], float(f"{threshold:.4g}"), _named(below, names), _named(above, names)]
