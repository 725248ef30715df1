"""What the loader delivers: clips per second of 21 frames, as the trainer reads them.

    python -m benchmarks loader [--size 512] [--threads 2] [--seconds 10] [--output loader.json]
    python -m benchmarks loader --dataset hospital_exams/512 --data-dir data

Without --dataset, phantoms are prepared first (about half a second each at 512 px). "video" reads,
decompresses, mirrors and tokenises; "latents" reads stored moments of the same clips in place of
pixels, as text-to-video training does. An H100 that trains the 2.7 B transformer needs about 0.3
clips a second; the loader should give five times that.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax import cli
from ffa_sora_jax.data import latents, prepared
from ffa_sora_jax.data.pipeline import ClipSource, make_source

NEEDED = 5 * 0.3  # clips/s
EXAMS, BATCH = 20, 4
CHANNELS = 8  # of the reference VAE: 4 frames and 8 x 8 pixels to one latent


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; 1 where the loader is too slow."""
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as scratch:
        folder, name = args.data_dir, args.dataset
        if name is None:
            folder, name = Path(scratch), f"phantom/{args.size}"
            argv = ["prepare", "--dataset", name, "--data-dir", scratch]
            with contextlib.redirect_stdout(sys.stderr):
                cli.main([*argv, "--num-exams", str(EXAMS)])
        config = _config(folder, name, args.threads)
        rows = [{"what": "video", **measure(make_source(config, "train", BATCH, 0), args.seconds)}]
        stored = Path(scratch) / "latents"
        _fake_latents(stored, folder, name, config)
        source = make_source(config | {"latents": str(stored)}, "train", BATCH, 0)
        rows.append({"what": "latents", **measure(source, args.seconds)})
    sys.stdout.write(table(name, rows, args.threads) + "\n")
    if args.output:
        about = {"dataset": name, "threads": args.threads, "cores": os.cpu_count()}
        Path(args.output).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return int(min(row["clips_per_s"] for row in rows) < NEEDED)


def measure(source: ClipSource, seconds: float) -> dict[str, float]:
    """Clips per second of wall time and processor seconds per clip, after the first batch."""
    batches = source.iterate(0)
    next(batches)
    start, start_cpu, clips = time.perf_counter(), time.process_time(), 0
    while (wall := time.perf_counter() - start) < seconds:
        clips += len(next(batches).frame_mask)
    return {"clips_per_s": clips / wall, "cpu_s": (time.process_time() - start_cpu) / clips}


def table(name: str, rows: list[dict[str, Any]], threads: int) -> str:
    """The rows as text."""
    lines = [f"{name}, {threads} threads, batches of {BATCH}; needed: {NEEDED} clips/s"]
    lines += [
        f"{row['what']:8} {row['clips_per_s']:8.1f} clips/s {row['cpu_s'] * 1e3:8.1f} ms of "
        f"processor per clip {row['clips_per_s'] / NEEDED:8.1f} x needed"
        for row in rows
    ]
    return "\n".join(lines)


def _config(folder: Path, name: str, threads: int) -> dict[str, Any]:
    found = prepared.dataset_folder(folder, name)
    frames, size = prepared.read_split(found, "train", skip_video=True).video_shape[:2]
    return {
        "name": name, "data_dir": str(folder), "res": size, "num_frames": frames,
        "text_length": 512, "truncate": True, "threads": threads,
    }  # fmt: skip


def _fake_latents(output: Path, folder: Path, name: str, config: dict[str, Any]) -> None:
    """Stored moments of the right shape; what is in them does not matter to the reader."""
    found = prepared.dataset_folder(folder, name)
    count = prepared.split_sizes(found)["train"]
    key = {
        "dataset": name, "content": prepared.content_fingerprint(found), "vae": "none",
        "mirror": True,
    }  # fmt: skip
    writer = latents.LatentWriter(output, key, {"train": count})
    side = config["res"] // 8
    shape = (2, 1 + (config["num_frames"] - 1) // 4, side, side, 2 * CHANNELS)
    noise = np.random.default_rng(np.random.SeedSequence(0)).standard_normal(shape, np.float32)
    for split, part in writer.missing():
        writer.write(split, part, np.broadcast_to(noise, (len(part), *shape)))
    writer.finish()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks loader", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", help="a prepared dataset in place of phantoms")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--size", type=int, default=512, help="px of the phantoms")
    parser.add_argument("--threads", type=int, default=2, help="reader threads (data.threads)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--output", help="JSON file for the results")
    parser.add_argument("--quick", action="store_true", help="64 px, to try this program")
    args = parser.parse_args(argv)
    if args.quick:
        args.size, args.seconds = 64, 0.5
    return args


if __name__ == "__main__":
    sys.exit(main())
