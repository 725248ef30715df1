"""Does the report generator see what is there? Its reports of unseen phantoms, beside guessing.

    python -m benchmarks.reading [--weights DIR] [--count 200] [--seed 901] [--output FILE.json]

Clips come from a phantom population that no training set uses. A report counts by what it says, not
by its words: the metric `report_findings` reads the classes of findings and the eye from the report
that was written and from the phantom's own. Three ways of writing without looking are the floor:

    "frequent"  always the set of classes that scores best over many reports
    "drawn"     the report of another phantom, drawn at random
    "likely"    the same model's report of a clip of mean light: what it writes when it sees nothing
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import changes
from ffa_sora_jax.metrics.bootstrap import bootstrap
from ffa_sora_jax.metrics.findings import FindingsSaid, said_row
from ffa_sora_jax.metrics.wording import Named, named
from ffa_sora_jax.phantom.diseases import sample_exam
from ffa_sora_jax.phantom.oracle_rules import CLASSES
from ffa_sora_jax.phantom.report import write_report
from ffa_sora_jax.pipelines.video_to_report import VideoToReport

METRIC = FindingsSaid()
PRIOR_REPORTS = 2000


def main() -> None:
    args = _arguments()
    model = VideoToReport.from_pretrained(args.weights)
    exams = [
        changes.as_stored(args.seed, i, model.model.cfg.image_size, "full")
        for i in range(args.count)
    ]
    true = [named(exam.report) for exam in exams]
    start = time.monotonic()
    written = model([exam.video for exam in exams], batch_size=16)
    seconds = (time.monotonic() - start) / len(exams)
    blank = np.full_like(exams[0].video, int(np.mean([exam.video.mean() for exam in exams])))
    unseen = model(blank, batch_size=16)
    rng = np.random.default_rng(np.random.SeedSequence((args.seed, 1)))
    prior = [write_report(sample_exam(rng), rng) for _ in range(PRIOR_REPORTS)]
    drawn = [prior[i] for i in rng.permutation(PRIOR_REPORTS)[: len(exams)]]
    frequent = Named("right", best_fixed_set([named(text) for text in prior]), ())
    guesses = {
        "captioner": [named(text) for text in written],
        "frequent": [frequent] * len(exams),
        "drawn": [named(text) for text in drawn],
        "likely": [named(unseen)] * len(exams),
    }
    rows = {name: scores(true, said) for name, said in guesses.items()}
    sys.stdout.write(table(rows))
    sys.stdout.write(f"\n{seconds:.2f} s per report, compile included\n")
    for exam, text in list(zip(exams, written, strict=True))[: args.examples]:
        sys.stdout.write(f"\ntrue:    {exam.report}\nwritten: {text}\n")
    if args.output:
        about = {"count": args.count, "seed": args.seed, "weights": model.fingerprint}
        Path(args.output).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


def scores(true: Sequence[Named], said: Sequence[Named]) -> dict[str, Any]:
    """F1, precision and recall over all classes and by class, the eye; intervals over exams."""
    k, rows = len(CLASSES), np.stack([said_row(t, s) for t, s in zip(true, said, strict=True)])
    groups, found = [str(i) for i in range(len(rows))], METRIC.value(rows)

    def interval(key: str) -> tuple[float, float]:
        resampled = bootstrap(lambda at: METRIC.value(rows[at])[key], groups)
        return resampled.low, resampled.high

    return {
        "f1": found[METRIC.name], "precision": found["precision"], "recall": found["recall"],
        "f1_interval": interval(METRIC.name),
        "laterality": found["laterality"], "laterality_interval": interval("laterality"),
        "same_set": float((rows[:, :k] == rows[:, k : 2 * k]).all(axis=1).mean()),
        "by_class": {
            name: {"n": int(rows[:, j].sum()), "f1": found.get(f"f1.{name}", 0.0)}
            for j, name in enumerate(CLASSES)
        },
    }  # fmt: skip


def best_fixed_set(prior: Sequence[Named]) -> frozenset[str]:
    """The set of classes that, named in every report, has the highest F1."""
    k, rows = len(CLASSES), np.stack([said_row(one, one) for one in prior])
    best: tuple[float, frozenset[str]] = (0.0, frozenset())
    for size in range(1, k + 1):
        for chosen in itertools.combinations(range(k), size):
            rows[:, k : 2 * k] = np.isin(np.arange(k), chosen)
            f1 = METRIC.value(rows)[METRIC.name]
            best = max(best, (f1, frozenset(CLASSES[j] for j in chosen)), key=lambda pair: pair[0])
    return best[1]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| report | F1 of findings | precision | recall | same set | eye |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in rows.items():
        low, high = row["f1_interval"]
        eye_low, eye_high = row["laterality_interval"]
        lines.append(
            f"| {name} | {row['f1']:.3f} ({low:.3f} to {high:.3f}) | {row['precision']:.3f} "
            f"| {row['recall']:.3f} | {row['same_set']:.3f} "
            f"| {row['laterality']:.3f} ({eye_low:.3f} to {eye_high:.3f}) |"
        )
    lines += ["", "| class | exams | " + " | ".join(rows) + " |", "|---|---|" + "---|" * len(rows)]
    for name in CLASSES:
        values = " | ".join(f"{row['by_class'][name]['f1']:.3f}" for row in rows.values())
        lines.append(f"| {name} | {rows['captioner']['by_class'][name]['n']} | {values} |")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="captioner folder (default: the shipped weights)")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=901, help="world seed of the phantom exams")
    parser.add_argument("--examples", type=int, default=3, help="reports to print")
    parser.add_argument("--output", help="JSON file for the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
