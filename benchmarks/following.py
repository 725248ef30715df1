"""Does the shipped model draw what the report says? Reads samples back with the phantom's oracle.

    python -m benchmarks.following [--weights DIR] [--count 40] [--seed 900] [--output sheet.png]

Reports come from phantom exams of a seed that no training set uses, half of them right eyes. The
same questions are asked of the phantom's own clips of these reports, averaged down to the model's
size: what the oracle misses there is its own error. `swapped` samples the same report and seed
with "left" and "right" exchanged, so only the words can change the side.
"""

import argparse
import sys
import time

import numpy as np

from benchmarks.changes import resized
from ffa_sora_jax import phantom
from ffa_sora_jax.data.transforms import swap_sides
from ffa_sora_jax.phantom import oracle
from ffa_sora_jax.pipelines.text_to_video import TextToVideo
from ffa_sora_jax.video.sheet import save_sheet

RENDER_SIZE = 256


def main() -> None:
    args = _arguments()
    model = TextToVideo.from_pretrained(args.weights)
    exams = [
        phantom.generate(args.seed, i, size=RENDER_SIZE, schedule="full", eye=eye)
        for i, eye in zip(range(args.count), ("right", "left") * args.count, strict=False)
    ]
    other = {"right": "left", "left": "right"}
    groups = {
        "real": ([resized(e.video, model.sampling.size) for e in exams], [e.eye for e in exams]),
        "sampled": (_sample(model, [e.report for e in exams]), [e.eye for e in exams]),
        "swapped": (
            _sample(model, [swap_sides(e.report) for e in exams]),
            [other[e.eye] for e in exams],
        ),
    }
    sys.stdout.write("| clips | laterality | arteries first | late fading |\n|---|---|---|---|\n")
    for name, (videos, eyes) in groups.items():
        sides = np.mean([oracle.laterality(v) == eye for v, eye in zip(videos, eyes, strict=True)])
        orders = [oracle.phase_order(v, exams[0].times_s) for v in videos]
        first = np.mean([order.arteries_first for order in orders])
        fades = np.mean([order.fades for order in orders])
        sys.stdout.write(
            f"| {name} (n = {len(videos)}) | {sides:.3f} | {first:.3f} | {fades:.3f} |\n"
        )
    if args.output:
        save_sheet(args.output, groups["sampled"][0][0], exams[0].times_s, title=exams[0].report)


def _sample(model: TextToVideo, reports: list[str]) -> list[np.ndarray]:
    start = time.monotonic()
    results = model(reports, seed=list(range(len(reports))), batch_size=8)
    seconds = (time.monotonic() - start) / len(reports)
    sys.stderr.write(f"{len(reports)} samples, {seconds:.2f} s each, compile included\n")
    return [result.video for result in results]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="pipeline folder (default: the shipped weights)")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=900, help="world seed of the phantom exams")
    parser.add_argument("--output", help="write a contact sheet of the first sample here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
