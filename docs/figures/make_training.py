"""Draws training.png: loss of the shipped text-to-video model, and what its samples show.

Run: python docs/figures/make_training.py [METRICS.jsonl]

Without an argument it draws the run that made the shipped weights, from training.json; with the
metrics.jsonl of a run, it stores that run's curve in training.json first.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
CURVES = (
    "train/loss", "eval/loss", "train/x0_mse", "eval/x0_mse", "eval/laterality",
    "eval/arteries_first", "eval/fades",
)  # fmt: skip


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) pairs of every curve in a metrics file."""
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in CURVES}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name in CURVES:
            if name in row:
                curves[name].append((row["step"], round(row[name], 5)))
    return curves


def draw(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Loss on the left, share of samples that follow the report on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    left.plot(*zip(*curves["train/loss"], strict=True), color="#9ecae9", label="training")
    left.plot(*zip(*curves["eval/loss"], strict=True), "o-", color="#4c78a8", label="validation")
    left.set(xlabel="step (16 clips each)", ylabel="velocity loss", yscale="log")
    left.legend(frameon=False)
    for name, label in (
        ("eval/laterality", "disc on the side of the report"),
        ("eval/arteries_first", "arteries before veins"),
        ("eval/fades", "late fading"),
    ):
        if curves[name]:
            right.plot(*zip(*curves[name], strict=True), "o-", label=label)
    right.set(xlabel="step", ylabel="share of samples", ylim=(-0.03, 1.03))
    right.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Writes the figure beside this file."""
    stored = HERE / "training.json"
    if len(sys.argv) > 1:
        stored.write_text(json.dumps(read_curves(Path(sys.argv[1])), indent=0) + "\n")
    draw(json.loads(stored.read_text()), HERE / "training.png")


if __name__ == "__main__":
    main()
