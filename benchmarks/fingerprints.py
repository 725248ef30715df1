"""How far apart are copies of a clip, visits of one eye, and different eyes?

    python -m benchmarks.fingerprints [--eyes 50] [--visits 4] [--px 128]

Prints the table of `docs/video.md`: distances of fingerprints in bits, the least over mirroring
and one frame of delay, for exams of several numbers of original frames.
"""

import argparse
import sys
from collections.abc import Callable

import cv2
import numpy as np

from benchmarks.changes import blurred, each_frame, jpeg, noisy, warped
from ffa_sora_jax.phantom import generate
from ffa_sora_jax.video import fingerprint
from ffa_sora_jax.video.standardize import standardize

SEED = 31
COUNTS = (21, 14, 9, 5, 3)


def graded(video: np.ndarray, gain: float = 1, gamma: float = 1, offset: float = 0) -> np.ndarray:
    levels = gain * 255 * (video / 255.0) ** gamma + offset * (video > 4)
    return np.clip(levels, 0, 255).astype(np.uint8)


def shrunk(video: np.ndarray, factor: float) -> np.ndarray:
    return each_frame(
        video, lambda f: cv2.resize(f, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    )


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 30": lambda v: jpeg(v, 30),
    "gain 0.7": lambda v: graded(v, 0.7),
    "gain 1.4": lambda v: graded(v, 1.4),
    "gamma 0.7": lambda v: graded(v, gamma=0.7),
    "gamma 1.4": lambda v: graded(v, gamma=1.4),
    "offset 20": lambda v: graded(v, offset=20),
    "shift 1 %": lambda v: warped(v, 0.01, -0.007),
    "shift 2 %": lambda v: warped(v, -0.02, 0.01),
    "turn 1 deg": lambda v: warped(v, turn=1),
    "zoom 3 %": lambda v: warped(v, zoom=1.03),
    "half": lambda v: shrunk(v, 0.5),
    "quarter": lambda v: shrunk(v, 0.25),
    "noise 8": lambda v: noisy(v, 8, np.random.default_rng(0)),
    "blur 2 px": lambda v: blurred(v, 2),
    "several": lambda v: jpeg(graded(warped(v, 0.01, 0.01), 1.1, 0.85), 40),
    "mirrored": lambda v: np.ascontiguousarray(v[:, :, ::-1]),
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--eyes", type=int, default=50)
    parser.add_argument("--visits", type=int, default=4)
    parser.add_argument("--px", type=int, default=128)
    args = parser.parse_args(argv)
    eyes = [visits(index, args.px, args.visits) for index in range(args.eyes)]
    for count in COUNTS:
        rows = distances(eyes, count)
        sys.stdout.write(f"{count} original frames, near below {fingerprint.NEAR} bits\n")
        for name, values in rows.items():
            near = np.mean(np.asarray(values) < fingerprint.NEAR)
            sys.stdout.write(
                f"  {name:8} {len(values):6d} pairs  min {min(values):4d}  median "
                f"{np.median(values):6.1f}  max {max(values):4d}  mean {np.mean(values):6.1f}  "
                f"sd {np.std(values):5.1f}  near {near:.4f}\n"
            )
    return 0


def visits(index: int, px: int, count: int) -> list[np.ndarray]:
    """`count` clips (21, px, px) of one eye."""
    return [generate(SEED, index, px, visit=visit).video for visit in range(count)]


def distances(eyes: list[list[np.ndarray]], count: int) -> dict[str, list[int]]:
    """Bits between copies, between visits of one eye, between the first visits of two eyes."""
    place = np.round(np.linspace(0, len(eyes[0][0]) - 1, count)).astype(int)

    def code(video: np.ndarray) -> np.ndarray:
        return fingerprint.clip_fingerprint(*standardize(video))

    codes = [[code(video[place]) for video in eye] for eye in eyes]
    return {
        "copies": [
            nearest(own[0], code(change(eye[0][place])))
            for own, eye in zip(codes, eyes, strict=True)
            for change in COPIES.values()
        ],
        "visits": [nearest(a, b) for eye in codes for i, a in enumerate(eye) for b in eye[:i]],
        "eyes": [
            nearest(a[k], b[-k])
            for i, a in enumerate(codes)
            for b in codes[:i]
            for k in range(len(a))
        ],
    }


def nearest(a: np.ndarray, b: np.ndarray) -> int:
    """The least distance over mirroring and one frame of delay, as `near_duplicates` has it."""
    delayed = [b, *(fingerprint.delayed(b, frames) for frames in (1, -1))]
    return min(fingerprint.distance(a, c) for d in delayed for c in (d, fingerprint.mirrored(d)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
