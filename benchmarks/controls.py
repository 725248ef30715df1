"""What the metrics that need no weights say of known disturbances of phantoms.

    python -m benchmarks.controls [--clips 16] [--size 256]

Every reference is a phantom, the "generated" clip the same with noise, blur and so on. The figures
stand in docs/metrics.md, so that a reader knows what a good value is.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np

from benchmarks import changes
from ffa_sora_jax import phantom
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import registry
from ffa_sora_jax.metrics.base import OfTexts

Disturb = Callable[[list[np.ndarray], int, np.random.Generator], np.ndarray]
NAMES = ("psnr", "ssim", "ssim_uniform", "findings", "dye", "vessels")


def _noise(sd: float) -> Disturb:
    return lambda clips, i, rng: _levels(clips[i] + rng.normal(0, sd, clips[i].shape))


def _blur(sigma: float) -> Disturb:
    return lambda clips, i, rng: changes.blurred(clips[i], sigma)


CONTROLS: dict[str, Disturb] = {
    "the clip itself": lambda clips, i, rng: clips[i],
    "noise, sd 5 of 255": _noise(5.0),
    "noise, sd 20": _noise(20.0),
    "blur, sigma 1 px": _blur(1.0),
    "blur, sigma 3 px": _blur(3.0),
    "darker by a fifth": lambda clips, i, rng: _levels(0.8 * clips[i]),
    "shifted by 4 px": lambda clips, i, rng: np.roll(clips[i], 4, axis=2),
    "frames shuffled": lambda clips, i, rng: clips[i][rng.permutation(len(clips[i]))],
    "one frame repeated": lambda clips, i, rng: np.repeat(clips[i][10:11], len(clips[i]), 0),
    "mirrored (wrong eye)": lambda clips, i, rng: clips[i][:, :, ::-1],
    "another patient": lambda clips, i, rng: clips[(i + 1) % len(clips)],
    "noise alone": lambda clips, i, rng: rng.integers(0, 256, clips[i].shape, np.uint8),
    "black": lambda clips, i, rng: np.zeros_like(clips[i]),
}


def main(argv: list[str] | None = None) -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--metrics", default=",".join(NAMES))
    args = parser.parse_args(argv)
    drawn = [phantom.generate(11, i, size=args.size) for i in range(args.clips)]
    names = args.metrics.split(",")
    sys.stdout.write(f"| control | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}\n")
    for control, disturb in CONTROLS.items():
        rng = np.random.default_rng(np.random.SeedSequence(0))
        made = [disturb([p.video for p in drawn], i, rng) for i in range(len(drawn))]
        values = [measured(name, made, drawn) for name in names]
        cells = " | ".join(f"{value:.3g}" for value in values)
        sys.stdout.write(f"| {control} | {cells} |\n")
        sys.stdout.flush()
    return 0


def measured(name: str, made: list[np.ndarray], drawn: list[phantom.Phantom]) -> float:
    """The main value of one metric."""
    loaded = registry.load(name)
    metric, state = loaded.metric, loaded.metric.init()
    for index, (video, real) in enumerate(zip(made, drawn, strict=True)):
        sample = _clip(index, video, real.times_s)
        if isinstance(metric, OfTexts):
            state = metric.update(state, {str(index): real.report}, sample, loaded.params)
        else:
            reference = _clip(index, real.video, real.times_s)
            state = metric.update(state, sample, reference, loaded.params)
    return metric.compute(state)[metric.name]


def _clip(index: int, video: np.ndarray, times_s: np.ndarray) -> Clip:
    levels = video[None, ..., None].astype(np.float32)
    return Clip(video=levels / 127.5 - 1, exam=np.array([index]), times_s=times_s[None])


def _levels(video: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(video), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
