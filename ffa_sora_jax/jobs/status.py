"""`ffa-sora status`: how far a training run is, read from its folder without touching it."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import checkpoint
from ffa_sora_jax.train import config as config_lib
from ffa_sora_jax.train import loop
from ffa_sora_jax.train.hooks import in_words
from ffa_sora_jax.train.writer import read_metrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    parser.add_argument("--verify", action="store_true", help="check every byte of the checkpoints")


def run(args: argparse.Namespace) -> int:
    """Prints the status; exit code 1 when `--verify` finds a damaged checkpoint."""
    config = config_lib.read(args.workdir / loop.CONFIG_FILE)
    try:
        metrics = read_metrics(args.workdir)
    except FileNotFoundError:
        metrics = []
    folder = args.workdir / loop.CHECKPOINTS
    steps = checkpoint.Checkpoints(folder).steps()
    lines = describe(config, metrics, now=time.time())
    damaged = {}
    if args.verify:
        found = {step: checkpoint.verify(folder / str(step)) for step in steps}
        damaged = {step: reason for step, reason in found.items() if reason}
    shown = ", ".join(f"{s} ({damaged[s]})" if s in damaged else str(s) for s in steps)
    checked = ", verified" if args.verify else ""
    lines.append(f"checkpoints: {shown or 'none'}{checked}")
    lines.append(f"folder: {args.workdir}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if damaged else 0


def describe(
    config: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], *, now: float
) -> list[str]:
    """The status as lines of text.

    Args:
      config: stored config of the run.
      metrics: lines of `metrics.jsonl`.
      now: seconds since the epoch.
    """
    total = config["train"]["total_steps"]
    logged = [line for line in metrics if "time/steps_per_s" in line]
    evaluated = [line for line in metrics if any(name.startswith("eval/") for name in line)]
    step = metrics[-1]["step"] if metrics else 0
    lines = [f"task: {config['task']}", f"step: {step} of {total} ({100 * step / total:.1f} %)"]
    if logged:
        rate = logged[-1]["time/steps_per_s"]
        left = "finished" if step >= total else f"{in_words((total - step) / rate)} left"
        lines.append(f"speed: {rate:.2f} steps/s, {left}")
        lines.append(f"last line: {in_words(now - metrics[-1]['time'])} ago")
        lines += _values("train", logged[-1])
    if evaluated:
        lines += _values("eval", evaluated[-1])
    return lines


def _values(group: str, line: Mapping[str, Any]) -> list[str]:
    # Values of single classes, "f1.leak", are in metrics.jsonl and TensorBoard.
    values = {k: v for k, v in line.items() if k.startswith(f"{group}/") and "." not in k}
    shown = ", ".join(f"{name[len(group) + 1 :]} {value:.5g}" for name, value in values.items())
    return [f"{group} at step {line['step']}: {shown}"]
