"""`ffa-sora inspect`: what a prepared dataset holds, and whether its splits leak.

Prints clips, patients and reports per split, what occurs how often, and the overlap of patients
between splits. Exit code: 0, or 3 if a patient lies in two splits.
"""

import argparse
import collections
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ffa_sora_jax.data import prepared
from ffa_sora_jax.data.prepared import ExampleInfo
from ffa_sora_jax.video import sheet

SPLITS = ("train", "validation", "test")
LEAKS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `inspect`."""
    parser.add_argument("--dataset", required=True, help="phantom/64, phantom/128_full, ...")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--reports", type=int, default=2, help="reports to print per split")
    parser.add_argument(
        "--sheets", type=Path, metavar="FOLDER", help="write a contact sheet of every clip shown"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the summary; 3 if the splits share patients."""
    if args.reports < 0:
        raise ValueError(f"--reports is {args.reports}; it must be 0 or more.")
    folder = prepared.dataset_folder(args.data_dir, args.dataset)
    sys.stdout.write(f"{folder}\n")
    patients: dict[str, set[str]] = {}
    for split in SPLITS:
        opened = prepared.read_split(folder, split)
        infos = list(prepared.Examples(folder, split))
        patients[split] = {info.patient_id for info in infos}
        sys.stdout.write(describe_split(split, infos, opened.video_shape))
        for index in range(min(args.reports, len(infos))):
            sys.stdout.write(f"  {infos[index].exam_id}: {infos[index].report}\n")
            if args.sheets is not None:
                args.sheets.mkdir(parents=True, exist_ok=True)
                video = np.asarray(opened.records[index]["video"])[..., 0]
                path = args.sheets / f"{split}-{index:03d}.png"
                sheet.save_sheet(path, video, infos[index].times_s, title=infos[index].report)
                sys.stdout.write(f"    {path}\n")
    shared = overlaps(patients)
    for first, second, both in shared:
        sys.stdout.write(f"LEAK: {both} patients are in {first} and in {second}.\n")
    return LEAKS if shared else 0


def describe_split(name: str, infos: Sequence[ExampleInfo], shape: tuple[int, ...]) -> str:
    """A few lines about one split: counts, sides, diseases, findings, report lengths."""
    words = [len(info.report.split()) for info in infos]
    kinds = [str(finding.get("kind", "?")) for info in infos for finding in info.findings]
    last = [float(info.times_s[-1]) for info in infos]
    size = " x ".join(str(n) for n in shape)
    return (
        f"{name}: {len(infos)} clips of {size}, {len({i.patient_id for i in infos})} patients, "
        f"{len({i.report for i in infos})} different reports\n"
        f"  eyes      {_counts(info.eye for info in infos)}\n"
        f"  diseases  {_counts(info.disease for info in infos)}\n"
        f"  findings  {_counts(kinds)}\n"
        f"  reports   {min(words)} to {max(words)} words, median {int(np.median(words))}\n"
        f"  last frame at {min(last):.0f} to {max(last):.0f} s\n"
    )


def overlaps(patients: dict[str, set[str]]) -> list[tuple[str, str, int]]:
    """Pairs of splits that share patients, with the number of shared ones."""
    names = list(patients)
    return [
        (first, second, len(both))
        for place, first in enumerate(names)
        for second in names[place + 1 :]
        if (both := patients[first] & patients[second])
    ]


def _counts(values: Iterable[str]) -> str:
    counter = collections.Counter(values)
    return ", ".join(f"{value} {count}" for value, count in counter.most_common()) or "none"
