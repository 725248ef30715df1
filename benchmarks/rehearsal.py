"""Every metric at once on samples of the shipped model, from the files of weights to the page.

    python -m benchmarks.rehearsal [--count 22] [--keep FOLDER]

Draws phantoms, lets the shipped model make a video from each report, lets the shipped captioner
read these videos, and evaluates them by every metric of `ffa-sora evaluate` but VideoMAE's.
Networks that nobody may ship have random weights (`benchmarks.random_weights`): their values mean
nothing, and the table says where that is so.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import changes, random_weights
from ffa_sora_jax.metrics.registry import METRICS
from ffa_sora_jax.video import io

SEED = 60_331  # phantoms that no model has seen
SIZE = 64
LEFT_OUT = ("videomae",)
METRICS_RUN = tuple(name for name, e in METRICS.items() if not set(e.needs) & set(LEFT_OUT))


def main(argv: list[str]) -> int:
    """Prints a line per metric; 1 if one has no value."""
    parser = argparse.ArgumentParser(
        prog="benchmarks rehearsal", description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=22, help="reports")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep all files in a new folder"
    )
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=args.keep is None)
        seconds = run(folder, args.count)
        found = json.loads((folder / "evaluation" / "results.json").read_text())["metrics"]
    sys.stdout.write(table(found, seconds) + "\n")
    return int(any(found.get(name, {}).get("value") is None for name in METRICS_RUN))


def run(folder: Path, count: int) -> dict[str, float]:
    """Makes, reads and evaluates; wall seconds of each step."""
    _references(folder / "real", folder / "reports.jsonl", count)
    needed = {key for name in METRICS_RUN for key in METRICS[name].needs}
    random_weights.make(folder / "weights", sorted(needed))
    made, read = folder / "made", folder / "read.csv"
    steps = {
        "sample": (
            "--reports", folder / "reports.jsonl", "--output", made, "--no-mark", "--min-px", 0,
            "--format", "webp",
        ),
        "report": (made, "--output", read),
        "evaluate": (
            "--generated", made, "--reference", folder / "real", "--output", folder / "evaluation",
            "--metrics", ",".join(METRICS_RUN), "--weights", folder / "weights",
            "--candidate-reports", read,
        ),
    }  # fmt: skip
    seconds = {}
    for verb, options in steps.items():
        start = time.perf_counter()
        command = [sys.executable, "-m", "ffa_sora_jax", verb, *map(str, options)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        seconds[verb] = time.perf_counter() - start
    return seconds


def table(found: dict[str, Any], seconds: dict[str, float]) -> str:
    """One line per metric, and the steps' seconds."""
    lines = [f"{'metric':16} {'value':>12} {'N':>5}  network"]
    for name in METRICS_RUN:
        row = found.get(name, {})
        value = "none" if row.get("value") is None else f"{row['value']:.4g}"
        network = "random weights" if METRICS[name].needs else METRICS[name].network or "none"
        lines.append(f"{name:16} {value:>12} {row.get('n', 0):>5}  {network}")
    return "\n".join([*lines, *(f"{step}: {s:.0f} s" for step, s in seconds.items())])


def _references(folder: Path, reports: Path, count: int) -> None:
    """Phantoms as clips with their facts beside them, and their reports as a table."""
    folder.mkdir()
    lines = []
    for index in range(count):
        clip = changes.as_stored(SEED, index, SIZE, "full")
        name = f"eye{index:03d}"
        io.save_video(folder / f"{name}.webp", clip.video)
        facts = {
            "synthetic": True, "report": clip.report, "patient": name,
            "times_s": [float(t) for t in clip.times_s],
        }  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(facts))
        lines.append(json.dumps({"id": name, "report": clip.report, "seed": index}))
    reports.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
