"""Recall@K of known clips by the extractors that ship: copies, other visits, other eyes.

    python -m benchmarks.retrieval [--count 50] [--size 64]

Queries are the gallery's phantoms after a disturbance, or others. The figures stand in
docs/metrics.md, so that a reader knows what each extractor can see.
"""

import argparse
import dataclasses
import sys

import numpy as np

from benchmarks import changes
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import registry

SEED = 8808
KS = (1, 5, 10)
EXTRACTORS = ("recall", "recall_phantom")


def main(argv: list[str] | None = None) -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="eyes")
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args(argv)
    clips = _drawn(SEED, args.count, args.size)
    metrics = [registry.load(name) for name in EXTRACTORS]
    columns = [f"{name}, K = {k}" for name in EXTRACTORS for k in KS]
    lines = [f"| n = {args.count} | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for name, queries in controls(clips, args.count, args.size).items():
        found = [recall(loaded, queries, clips) for loaded in metrics]
        cells = [f"{values[f'recall_at_{k}']:.2f}" for values in found for k in KS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def controls(clips: np.ndarray, count: int, size: int) -> dict[str, np.ndarray]:
    """Queries by name, row i made of clip i."""
    rng = np.random.default_rng(np.random.SeedSequence(0))
    return {
        "noise, sd 20": changes.noisy(clips, 20.0, rng),
        "blur, sigma 2 px": changes.blurred(clips, 2.0),
        "frames shuffled": np.stack([clip[rng.permutation(len(clip))] for clip in clips]),
        "another visit of the same eye": _drawn(SEED, count, size, visit=1),
        "mirrored: the wrong side": clips[..., ::-1],
        "another eye": _drawn(SEED + 1, count, size),
    }


def recall(loaded: registry.Loaded, queries: np.ndarray, gallery: np.ndarray) -> dict[str, float]:
    """The metric's values; query i belongs to clip i."""
    sides = (
        Clip(video=side[..., None].astype(np.float32) / 127.5 - 1, exam=np.arange(len(side)))
        for side in (queries, gallery)
    )
    metric = dataclasses.replace(loaded.metric, ks=KS)
    return metric.compute(metric.update(metric.init(), *sides, loaded.params))


def _drawn(seed: int, count: int, size: int, visit: int = 0) -> np.ndarray:
    made = (changes.as_stored(seed, n, size, "full", visit) for n in range(count))
    return np.stack([clip.video for clip in made])


if __name__ == "__main__":
    sys.exit(main())
