"""Evaluating a test set: time and memory of each metric, and whether a killed run writes the same.

    python -m benchmarks evaluate [--clips 16] [--size 512] [--output evaluate.json]
    python -m benchmarks evaluate --clips 387      the paper's test set, whole

Phantoms stand for the real clips, the same with other gain and noise for the generated ones.
Networks run at full width with random weights (their values mean nothing). Every metric is a
process of its own; seconds are those of measuring, without imports and compilation, and what 387
clips would take is the same per case. Then one run of all metrics is killed half-way with SIGKILL,
resumed, and its files are compared with those of a run that was left alone.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, random_weights
from ffa_sora_jax import cli, phantom
from ffa_sora_jax.jobs import evaluate_rows
from ffa_sora_jax.video import io

PAPER_CLIPS = 387
FREE = ("psnr", "ssim", "recall", "vessels", "dye", "findings")
NETWORKS = {"lpips": "alexnet", "fvd": "i3d", "fid": "inception"}
WRITTEN = ("results.json", "results.md", "index.html", "per_clip.csv")


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; 1 where a resumed run wrote other bytes."""
    args = _arguments(argv)
    if args.worker:
        return _work(args)
    with tempfile.TemporaryDirectory(prefix="bench-evaluate-") as scratch:
        folder = Path(scratch)
        make_clips(folder, args.clips, args.size)
        wanted = [NETWORKS[name] for name in args.metrics.split(",") if name in NETWORKS]
        random_weights.make(folder / "weights", wanted)
        rows = [_measured(args, folder, name) for name in args.metrics.split(",")]
        same = resumed_is_the_same(folder, args.frames) if args.kill else None
    sys.stdout.write(table(rows, args) + "\n")
    if same is not None:
        sys.stdout.write(f"killed and resumed: {'the same files' if same else 'OTHER FILES'}\n")
    if args.output:
        about = {"clips": args.clips, "size": args.size, "cores": os.cpu_count(), "same": same}
        Path(args.output).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return int(same is False)


def make_clips(folder: Path, count: int, size: int, distinct: int = 16) -> None:
    """`count` references and as many generated clips; at most `distinct` phantoms are rendered."""
    for side in ("real", "made"):
        (folder / side).mkdir()
    rng = np.random.default_rng(np.random.SeedSequence(0))
    drawn: list[Any] = []
    for index in range(count):
        if index < distinct:
            drawn.append(phantom.generate(0, index, size=size))
        clip = drawn[index % distinct]
        for side, level in (("real", 1.0 + index // distinct), ("made", 4.0)):
            noise = rng.integers(-int(2 * level), int(2 * level) + 1, (size, size))
            video = np.clip(clip.video.astype(np.int16) + noise, 0, 255).astype(np.uint8)
            io.save_video(folder / side / f"eye{index:03d}.mp4", video)
            facts = {
                "synthetic": True, "report": clip.report, "patient": f"p{index // 2}",
                "times_s": [float(t) for t in clip.times_s],
            }  # fmt: skip
            (folder / side / f"eye{index:03d}.json").write_text(json.dumps(facts))


def resumed_is_the_same(folder: Path, frames: int) -> bool:
    """Kills a run when half its rows are there, resumes it, and compares the files."""
    argv = _argv(folder, folder / "alone", "psnr,ssim,recall", frames)
    subprocess.run([sys.executable, "-m", "ffa_sora_jax", *argv], check=True, capture_output=True)
    total = len(list((folder / "alone").rglob("*.npy")))
    argv = _argv(folder, folder / "killed", "psnr,ssim,recall", frames)
    command = [sys.executable, "-m", "ffa_sora_jax", *argv]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((folder / "killed").rglob("*.npy"))) < total // 2 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    return all(
        (folder / "alone" / name).read_bytes() == (folder / "killed" / name).read_bytes()
        for name in WRITTEN
    )


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The rows as text."""
    lines = [
        f"{args.clips} clips of {args.frames} x {args.size} x {args.size}, {os.cpu_count()} cores"
    ]
    lines += [
        f"{'metric':10} {'cases':>6} {'s/case':>8} {'CPU s':>8} {'peak MiB':>9} "
        f"{PAPER_CLIPS:>6} clips"
    ]
    for row in rows:
        minutes = row["wall_s"] / args.clips * PAPER_CLIPS / 60
        lines.append(
            f"{row['metric']:10} {row['cases']:6d} {row['wall_s'] / row['cases']:8.2f} "
            f"{row['cpu_s'] / row['cases']:8.2f} {row['peak_mib']:9.0f} {minutes:8.1f} min"
        )
    return "\n".join(lines)


def _measured(args: argparse.Namespace, folder: Path, name: str) -> dict[str, Any]:
    """One metric in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks", "evaluate", "--worker", name, "--folder", str(folder),
        "--frames", str(args.frames),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _work(args: argparse.Namespace) -> int:
    """Measures one metric twice: the first time compiles, rows are thrown away in between."""
    folder, name = Path(args.folder), args.worker
    result: dict[str, Any] = {}
    original = evaluate_rows.measure

    def measured(wanted: Any, *rest: Any) -> Any:
        cases = next(iter(wanted.values()))
        original({name: cases[:1]}, *rest)  # compiles
        measure.reset_peak()
        start, start_cpu = time.perf_counter(), time.process_time()
        failed = original(wanted, *rest)
        result.update(
            metric=name, cases=len(cases) - 1, wall_s=time.perf_counter() - start,
            cpu_s=time.process_time() - start_cpu, peak_mib=measure.peak_mib(),
        )  # fmt: skip
        return failed

    evaluate_rows.measure = measured
    with contextlib.redirect_stdout(sys.stderr):
        code = cli.main(_argv(folder, folder / f"out-{name}", name, args.frames))
    sys.stdout.write(json.dumps(result) + "\n")
    return code


def _argv(folder: Path, output: Path, metrics: str, frames: int) -> list[str]:
    return [
        "evaluate", "--generated", str(folder / "made"), "--reference", str(folder / "real"),
        "--output", str(output), "--metrics", metrics, "--frames", str(frames),
        "--weights", str(folder / "weights"),
    ]  # fmt: skip


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks evaluate", description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--clips", type=int, default=16, help="on either side")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--metrics", default=",".join((*FREE, *NETWORKS)))
    parser.add_argument("--kill", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output")
    parser.add_argument("--quick", action="store_true", help="six clips of 64 px, three metrics")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.quick:
        args.clips, args.size, args.metrics = 6, 64, "psnr,ssim,recall"  # Recall needs 5
    return args
