"""`ffa-sora inspect`: what a prepared dataset holds, and whether its splits leak.

    ffa-sora inspect hospital_exams/512 --data-dir data --output page.html
    ffa-sora inspect phantom/64_full --split test --table reports.csv

Prints clips, patients, reports, sides, diseases, languages, frame times and report lengths of every
split, and what the splits share; `--output` writes the same with contact sheets into one HTML file
that needs no other. Exit code: 0, or 3 if a patient or an exam lies in two splits.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ffa_sora_jax.common import files, tables
from ffa_sora_jax.common.places import evenly
from ffa_sora_jax.data import prepared
from ffa_sora_jax.data.prepared import ExampleInfo
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.jobs import inspect_page, summary
from ffa_sora_jax.video import sheet

LEAKS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `inspect`."""
    parser.add_argument(
        "name", nargs="?", metavar="DATASET",
        help="phantom/64, hospital_exams/512, ..., or the folder of a prepared dataset",
    )  # fmt: skip
    parser.add_argument("--dataset", help="the same as DATASET")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument(
        "--reports", type=int, default=2, metavar="N", help="clips to show of every split"
    )
    parser.add_argument("--tokenizer", type=Path, help="that counts; default: the one that ships")
    parser.add_argument("--output", type=Path, metavar="PAGE.html", help="write a web page")
    parser.add_argument(
        "--sheets", type=Path, metavar="FOLDER", help="write a contact sheet of every clip shown"
    )
    parser.add_argument(
        "--table", type=Path, metavar="TABLE.csv",
        help="write ids and reports of a split, for `ffa-sora sample --reports`",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="of --table (default: test)")


def run(args: argparse.Namespace) -> int:
    """Prints the summary; 3 if the splits share patients or exams."""
    if args.reports < 0:
        raise ValueError(f"--reports is {args.reports}; it must be 0 or more.")
    if (args.name is None) == (args.dataset is None):
        raise ValueError("Name one dataset, such as: ffa-sora inspect phantom/64 --data-dir data")
    if args.output is not None and args.output.suffix != ".html":
        raise ValueError(f"--output is {args.output}; the page is written as .html.")
    if args.table is not None and args.table.suffix != ".csv":
        raise ValueError(f"--table is {args.table}; the table is written as .csv.")
    folder = find(args.name or args.dataset, args.data_dir)
    if args.table is not None:
        write_table(args.table, folder, args.split)
        sys.stdout.write(f"{args.table}\n")
    splits = summary.summarise(folder, Tokenizer.load(args.tokenizer))
    leaks, remarks = summary.overlaps(splits)
    sys.stdout.write(f"{folder}: {size_mib(folder):.1f} MiB\n")
    for name, split in splits.items():
        sys.stdout.write(describe_split(split))
        for shown in clips(folder, name, args.reports):
            sys.stdout.write(f"  {shown.info.exam_id}: {' / '.join(shown.info.reports.values())}\n")
            if args.sheets is not None:
                path = args.sheets / f"{name}-{shown.index:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(shown.sheet()).save(path)
                sys.stdout.write(f"    {path}\n")
    for line in remarks:
        sys.stdout.write(f"{line}\n")
    for line in leaks:
        sys.stdout.write(f"LEAK: {line}\n")
    if args.output is not None:
        _write_page(args.output, folder, splits, (leaks, remarks), args.reports)
        sys.stdout.write(f"{args.output}\n")
    return LEAKS if leaks else 0


def write_table(path: Path, folder: Path, split: str) -> None:
    """Writes id and report of every clip of a split, in the order of the split."""
    rows = [(info.exam_id, info.report) for info in prepared.Examples(folder, split)]
    path.parent.mkdir(parents=True, exist_ok=True)
    tables.write(path, ("id", "report"), rows)


def find(name: str, data_dir: Path) -> Path:
    """The versioned folder of a dataset, by name or by path.

    Raises:
      FileNotFoundError: there is none.
    """
    path = Path(name)
    if (path / "dataset_info.json").exists():
        return path
    if not (data_dir / name).is_dir() and path.is_dir() and path.parent != path:
        return prepared.dataset_folder(path.parent, path.name)
    return prepared.dataset_folder(data_dir, name)


class Shown:
    """One clip to look at: its place in the split, what is known of it, its sheet."""

    def __init__(self, split: prepared.Split, index: int):
        self.index = index
        self._record = split.read([index])[0]
        self.synthetic = split.synthetic
        self.info: ExampleInfo = split.info(self._record, index)

    def sheet(self) -> np.ndarray:
        """(H, W, 3) uint8 contact sheet, marked as synthetic or as patient data."""
        return sheet.contact_sheet(
            np.asarray(self._record["video"])[..., 0],
            self.info.times_s if self.info.times_known else None,
            title=self.info.report if self.info.report.isascii() else self.info.exam_id,
            mark=sheet.MARK if self.synthetic else sheet.REAL_MARK,
            phases=self.synthetic,  # times of real exams start with the first frame or injection
        )


def clips(folder: Path, split: str, number: int) -> Iterator[Shown]:
    """Clips spread evenly over a split."""
    opened = prepared.read_split(folder, split)
    number = min(number, len(opened))
    for index in evenly(len(opened), number):
        yield Shown(opened, int(index))


def describe_split(split: summary.SplitSummary) -> str:
    """A few lines about one split."""
    rows = split.rows()
    lines = [f"{split.name}: {rows.pop('clips').replace(' of ', ' clips of ')}"]
    lines += [f"  {what:<14} {value}" for what, value in rows.items()]
    return "\n".join(lines) + "\n"


def size_mib(folder: Path) -> float:
    """What the files of a folder take."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 2**20


def _write_page(
    path: Path, folder: Path, splits: Mapping[str, summary.SplitSummary],
    found: tuple[list[str], list[str]], number: int,
) -> None:  # fmt: skip
    """Writes the page; it appears whole or not at all."""
    shown = [
        inspect_page.Picture(name, clip.info, clip.sheet())
        for name in splits
        for clip in clips(folder, name, number)
    ]
    synthetic = all(prepared.read_split(folder, name).synthetic for name in splits)
    page = inspect_page.render(
        f"{folder.parents[1].name}/{folder.parent.name} {folder.name}",
        splits, found, shown, synthetic=synthetic, size_mib=size_mib(folder),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, page)
