"""Side by side with PyTorch: WF-VAE encode and decode, DiT forward and forward+backward.

    python -m benchmarks models [--only wfvae] [--rounds 2] [--output bench.json] [--quick]

Every measurement is a process of its own on the same cores; JAX and PyTorch take turns, so that
other load on the machine hits both. Ratios are JAX / PyTorch of the best round: below 1 is faster
or smaller than PyTorch. Processor seconds are summed over threads and are the steadier figure on a
busy machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CASES = (
    ("wfvae", "encode"),
    ("wfvae", "decode"),
    ("dit", "forward"),
    ("dit", "backward"),
)
TITLES = {
    ("wfvae", "encode"): "WF-VAE 147 M, encode",
    ("wfvae", "decode"): "WF-VAE 147 M, decode",
    ("dit", "forward"): "DiT 84 M, forward",
    ("dit", "backward"): "DiT 84 M, forward+backward",
}
FRAMEWORKS = ("jax", "torch")


def main(argv: list[str]) -> int:
    args = _arguments(argv)
    models = [m for m in ("wfvae", "dit") if args.only in (None, m)]
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(args.weights or scratch)
        for model in models:
            if not (folder / model / "config.json").exists():
                _log(f"making weights of {model}")
                _call(model, "make", weights=folder / model, tiny=args.quick)
        for model, what in CASES:
            if model in models:
                rows.append(_compare(model, what, folder, Path(scratch), args))
    sys.stdout.write(table(rows) + "\n")
    if args.output:
        about = {"machine": platform.processor() or platform.machine(), "cores": args.threads}
        Path(args.output).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return 0


def summary(model: str, what: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Best figures of both sides and their ratios."""
    row: dict[str, Any] = {"model": model, "what": what}
    for side, results in runs.items():
        row[side] = {
            "wall_s": min(min(r["wall_s"]) for r in results),
            "cpu_s": min(min(r["cpu_s"]) for r in results),
            "first_s": min(r["first_s"] for r in results),
            "peak_mib": min(r["peak_mib"] for r in results),
            "process_peak_mib": min(r["process_peak_mib"] for r in results),
        }
    row["ratio"] = {key: row["jax"][key] / row["torch"][key] for key in row["jax"]}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'':28} {'wall s':>17} {'CPU s':>17} {'peak MiB':>17}   ratio JAX/PyTorch",
        f"{'':28} {'JAX':>8} {'PyTorch':>8} {'JAX':>8} {'PyTorch':>8} {'JAX':>8} {'PyTorch':>8}"
        f"   {'wall':>6} {'CPU':>6} {'memory':>6}  difference",
    ]
    for row in rows:
        jax, torch, ratio = row["jax"], row["torch"], row["ratio"]
        lines.append(
            f"{TITLES[row['model'], row['what']]:28}"
            f" {jax['wall_s']:8.2f} {torch['wall_s']:8.2f} {jax['cpu_s']:8.2f}"
            f" {torch['cpu_s']:8.2f} {jax['peak_mib']:8.0f} {torch['peak_mib']:8.0f}"
            f"   {ratio['wall_s']:6.2f} {ratio['cpu_s']:6.2f} {ratio['peak_mib']:6.2f}"
            f"  {row['difference']:.1e}"
        )
    return "\n".join(lines)


def _compare(
    model: str, what: str, folder: Path, outputs: Path, args: argparse.Namespace
) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in FRAMEWORKS}
    options = {"size": 64, "frames": 5} if args.quick else {"size": args.size}
    for index in range(args.rounds):
        for side in FRAMEWORKS:
            _log(f"{TITLES[model, what]}: {side}, round {index + 1} of {args.rounds}")
            line = _call(
                model, side, what, weights=folder / model, outputs=outputs,
                repeats=args.repeats, threads=args.threads, **options,
            )  # fmt: skip
            runs[side].append(json.loads(line))
    row = summary(model, what, runs)
    ours, theirs = (np.load(outputs / f"{model}-{what}-{side}.npz") for side in FRAMEWORKS)
    row["difference"] = max(float(np.abs(ours[key] - theirs[key]).max()) for key in ours)
    return row


def _call(model: str, *words: str, **options: Any) -> str:
    """Runs one measurement in its own process; its last line of output."""
    command = [sys.executable, "-m", f"benchmarks.{model}", *words]
    for name, value in options.items():
        if isinstance(value, bool):
            command += [f"--{name}"] if value else []
        else:
            command += [f"--{name}", str(value)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip().rsplit("\n", 1)[-1]


def _log(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks models", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["wfvae", "dit"])
    parser.add_argument("--rounds", type=int, default=2, help="processes per side")
    parser.add_argument("--repeats", type=int, default=2, help="timed calls per process")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--size", type=int, default=256, help="height and width of the clip")
    parser.add_argument("--weights", help="folder to keep the random weights in")
    parser.add_argument("--output", help="JSON file for the results")
    parser.add_argument("--quick", action="store_true", help="tiny models, to try this program")
    return parser.parse_args(argv)
