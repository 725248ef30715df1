"""What a good FVD-phantom is: its value for known faults, beside the floor of real phantoms.

    python -m benchmarks.phantom_controls [--count 200] [--vae] [--samples DIR]

Every row compares `--count` clips with as many other phantoms. `--vae` adds the round trip through
the shipped auto-encoder, `--samples` the videos of a folder made by `ffa-sora sample`.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import changes
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics.fvd_phantom import PhantomFVD, load_from, load_fvd_phantom

SEED, REFERENCE_SEED = 5_101, 5_102
BATCH = 16

Video = np.ndarray  # (n, t, h, w) uint8


def main(argv: list[str]) -> int:
    args = _arguments(argv)
    metric, params = load_from(args.weights) if args.weights else load_fvd_phantom(None)
    reference = rows(metric, params, phantoms(REFERENCE_SEED, args.count))
    given = phantoms(SEED, args.count)
    faults = dict(FAULTS)
    if args.vae:
        through = changes.shipped_vae()[1]
        faults["through the shipped auto-encoder"] = lambda video: np.stack(
            [through(clip) for clip in video]
        )
    lines = ["| clips | FVD-phantom | KVD-phantom |", "|---|---|---|"]
    for name, change in faults.items():
        lines.append(_line(name, metric, rows(metric, params, change(given)), reference))
    if args.samples:
        made = _videos(args.samples)
        lines.append(
            _line(f"samples, n = {len(made)}", metric, rows(metric, params, made), reference)
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def phantoms(seed: int, count: int) -> Video:
    return np.stack([changes.as_stored(seed, n, 64).video for n in range(count)])


def rows(metric: PhantomFVD, params: dict, video: Video) -> np.ndarray:
    """Features of all clips."""
    state = metric.init()
    for start in range(0, len(video), BATCH):
        part = video[start : start + BATCH].astype(np.float32)[..., None] / 127.5 - 1.0
        clip = Clip(video=part, exam=np.arange(start, start + len(part)))
        state = metric.update(state, clip, None, params)
    return state.sample.rows


# --- Faults ---


def _shuffle(video: Video) -> Video:
    rng = np.random.default_rng(0)
    return np.stack([clip[rng.permutation(len(clip))] for clip in video])


FAULTS: dict[str, Callable[[Video], Video]] = {
    "other phantoms (the floor)": lambda video: video,
    "blur, sigma 1 px": lambda video: changes.blurred(video, 1.0),
    "noise, sigma 25 of 255": lambda video: changes.noisy(video, 25.0, np.random.default_rng(0)),
    "half as bright": lambda video: video // 2,
    "mirrored: the wrong eye and side": lambda video: video[..., ::-1],
    "frames shuffled": _shuffle,
    "frames reversed": lambda video: video[:, ::-1],
    "one frame repeated": lambda video: np.repeat(video[:, 10:11], video.shape[1], axis=1),
    "one clip over and over": lambda video: np.repeat(video[:1], len(video), axis=0),
    "the first tenth, ten times": lambda video: np.concatenate([video[: len(video) // 10]] * 10),
}


def _videos(folder: str) -> Video:
    from ffa_sora_jax.jobs.clips import open_clips

    clips = [item.read()[..., 0] for item in open_clips(folder, option="--samples").items]
    return np.stack([changes.resized(clip, 64) for clip in clips])


def _line(name: str, metric: PhantomFVD, sample: np.ndarray, reference: np.ndarray) -> str:
    value = metric.value(sample, reference)
    return f"| {name} | {value['fvd_phantom']:.2f} | {value['kvd_phantom']:.3f} |"


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phantom_controls")
    parser.add_argument("--count", type=int, default=200, help="clips on each side")
    parser.add_argument("--vae", action="store_true", help="also the shipped auto-encoder")
    parser.add_argument("--samples", help="folder of generated videos")
    parser.add_argument("--weights", type=Path, help="another folder of phantom features")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
