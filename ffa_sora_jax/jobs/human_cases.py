"""`ffa-sora human cases`: chooses and blinds the cases of a reading, by seed.

    readers/case-001.webp, ...            generated videos under names that say nothing
    readers/case-001.reference.webp, ...  the real ones beside them, unless --no-show-reference
    readers/cases.csv                     case and report
    readers/scores.csv                    case, reader, score: to be filled in
    key.csv                               which case is which clip; keep it from the readers

The same seed chooses the same cases. Files with pixels of patients stay on this machine's disk: who
may see the exams may see this folder. Exit code: 0, or 2 for bad usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffa_sora_jax.common import files, tables
from ffa_sora_jax.jobs import clips, pairing
from ffa_sora_jax.jobs.clips import ClipItem
from ffa_sora_jax.pipelines.result import FORMATS, check_writable, enlarge
from ffa_sora_jax.video import io

SCALE = (
    "1 modality and lesions match, 2 basically consistent, 3 slightly consistent, "
    "4 modality only, lesions missing, 5 nothing generated"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `human cases`."""
    parser.add_argument("--generated", required=True, metavar="CLIPS", help="as for `evaluate`")
    parser.add_argument("--reference", required=True, metavar="CLIPS", help="as for `evaluate`")
    parser.add_argument("--split", default="test", help="of a dataset (default: test)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--pair", default="auto", help=", ".join(pairing.RULES))
    parser.add_argument("--cases", type=int, default=50, help="default: 50")
    parser.add_argument(
        "--readers", default="reader1,reader2,reader3", help="names for scores.csv, with commas"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--format", default="webp", help=f"{', '.join(FORMATS)} (default: webp)")
    parser.add_argument("--min-px", type=int, default=256, help="enlarge smaller videos")
    parser.add_argument(
        "--show-reference", action=argparse.BooleanOptionalAction, default=True,
        help="lay the real video beside each generated one, as the paper did",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Writes the folder."""
    check_writable(args.format)
    files.check_folder(args.output, "--output")
    if args.output.is_dir() and any(args.output.iterdir()):
        raise ValueError(f"--output {args.output} is not empty; give a new folder.")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must be 0 or more.")
    readers = [name.strip() for name in args.readers.split(",") if name.strip()]
    if not readers or len(set(readers)) < len(readers):
        raise ValueError(f"--readers is {args.readers!r}; give different names with commas.")
    generated = clips.open_clips(args.generated, option="--generated", data_dir=args.data_dir)
    reference = clips.open_clips(
        args.reference, option="--reference", split=args.split, data_dir=args.data_dir
    )
    for name, reason in sorted({**reference.failed, **generated.failed}.items()):
        sys.stderr.write(f"left out: {name}: {reason}\n")
    chosen = choose(
        pairing.pair(generated, reference, args.pair).pairs, args.cases, seed=args.seed
    )  # fmt: skip
    for item in (item for both in chosen for item in both):
        _check_readable(item)
    (args.output / "readers").mkdir(parents=True)
    for number, (made, real) in enumerate(chosen, 1):
        _save(args, f"case-{number:03d}", made)
        if args.show_reference:
            _save(args, f"case-{number:03d}.reference", real, real=not reference.synthetic)
    _write_tables(args.output, chosen, readers, args.seed)
    sys.stdout.write(f"{len(chosen)} cases in {args.output}. Scale: {SCALE}.\n")
    return 0


def choose(
    pairs: Sequence[tuple[ClipItem, ClipItem]], count: int, *, seed: int
) -> list[tuple[ClipItem, ClipItem]]:
    """`count` pairs of different references, in an order that says nothing.

    Depends on the names and the seed alone, not on the order of the pairs.

    Raises:
      ValueError: fewer than `count` references, or `count` below 1.
    """
    by_reference: dict[str, list[tuple[ClipItem, ClipItem]]] = {}
    for pair in sorted(pairs, key=lambda pair: pair[0].name):
        by_reference.setdefault(pair[1].name, []).append(pair)
    if not 1 <= count <= len(by_reference):
        raise ValueError(
            f"--cases is {count}; there are {len(by_reference)} references with a generated clip."
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x68756D61]))
    names = sorted(by_reference)
    picked = [names[i] for i in rng.permutation(len(names))[:count]]
    return [by_reference[name][rng.integers(len(by_reference[name]))] for name in picked]


def _check_readable(item: ClipItem) -> None:
    """Before anything is written: half a folder could not be gone on with."""
    try:
        item.read()
    except (ValueError, OSError) as error:
        raise ValueError(f"Case {item.name} cannot be shown: {error}") from error


def _save(args: argparse.Namespace, name: str, item: ClipItem, *, real: bool = False) -> None:
    video = item.read()
    if video.shape[-1] == 1:
        video = enlarge(video[..., 0], args.min_px)
    path = args.output / "readers" / f"{name}.{args.format}"
    io.save_video(path, video, synthetic=not real)


def _write_tables(
    folder: Path, chosen: Sequence[tuple[ClipItem, ClipItem]], readers: Sequence[str], seed: int
) -> None:
    cases = [f"case-{number:03d}" for number in range(1, len(chosen) + 1)]
    numbered = list(zip(cases, chosen, strict=True))
    reports = [(case, made.report or real.report or "") for case, (made, real) in numbered]
    key = [(case, made.name, real.name, seed) for case, (made, real) in numbered]
    tables.write(folder / "readers/cases.csv", ("case", "report"), reports)
    blank = [(case, reader, "") for reader in readers for case in cases]
    tables.write(folder / "readers/scores.csv", ("case", "reader", "score"), blank)
    tables.write(folder / "key.csv", ("case", "generated", "reference", "seed"), key)
