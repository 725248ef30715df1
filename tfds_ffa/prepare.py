"""`ffa-sora prepare`: renders phantoms, or turns real exams and their reports, into a TFDS dataset.

The work is done in processes; what is finished lies in files beside the dataset, so the same
command goes on where it was killed, and gives the same bytes.
"""

import argparse
import os
import sys
from pathlib import Path

from ffa_sora_jax.common import files
from ffa_sora_jax.common.interrupts import sigterm_as_ctrl_c
from ffa_sora_jax.common.names import unknown_name

PHANTOM = "phantom"
EXAM_DATASETS = ("hospital_exams", "ffa_ir")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `prepare`."""
    add = parser.add_argument
    add("--dataset", required=True, help="phantom/64, hospital_exams/512, ffa_ir/512, ...")
    add("--data-dir", type=Path, default=Path("data"), help="default: data")
    add("--workers", type=int, default=os.cpu_count() or 1)
    add("--overwrite", action="store_true", help="replace what is there")
    _phantom_arguments(parser.add_argument_group("phantoms"))
    _input_arguments(parser.add_argument_group("exams: what goes in"))
    _curation_arguments(parser.add_argument_group("exams: what is kept"))
    _running_arguments(parser.add_argument_group("exams: how it runs"))


def run(args: argparse.Namespace) -> int:
    """Prepares one dataset; 0 when it is complete, 1 when stopped half-way and resumable."""
    if args.workers < 1:
        raise ValueError(f"--workers is {args.workers}; it must be at least 1.")
    family = args.dataset.split("/")[0]
    families = (PHANTOM, *EXAM_DATASETS)
    if family not in families:
        raise ValueError(
            f"{unknown_name('dataset family', family, families)} A dataset is FAMILY/SIZE, and "
            "sizes vary by family: phantom/64, phantom/256_full, hospital_exams/512, ffa_ir/512."
        )
    _check_family(args, family)
    files.check_folder(args.data_dir, "--data-dir")
    if args.staging is not None:
        files.check_folder(args.staging, "--staging")
    try:
        with sigterm_as_ctrl_c():
            return _run_family(args, family)
    except KeyboardInterrupt:  # before there is anything to keep
        sys.stderr.write("prepare: interrupted. Run the same command again.\n")
        return 1


def _run_family(args: argparse.Namespace, family: str) -> int:
    if family in EXAM_DATASETS:
        from tfds_ffa import prepare_exams

        return prepare_exams.run(args)
    from tfds_ffa import prepare_phantom

    return prepare_phantom.run(args)


def _check_family(args: argparse.Namespace, family: str) -> None:
    """Refuses options that would be ignored."""
    others = argparse.ArgumentParser(add_help=False)
    foreign = others.add_argument_group()
    if family == PHANTOM:
        _input_arguments(foreign)
        _curation_arguments(foreign)
        _running_arguments(foreign)
    else:
        _phantom_arguments(foreign)
    unset = vars(others.parse_args([]))
    given = [name for name, value in unset.items() if getattr(args, name) != value]
    if family == "ffa_ir":  # its table is known
        given += [name for name in ("columns", "encoding") if getattr(args, name)]
    given = [f"--{name.replace('_', '-')}" for name in given]
    if given:
        raise ValueError(f"{', '.join(given)} cannot be used with --dataset {args.dataset}.")


def _phantom_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--num-exams", type=int, help="clips over all splits (default: 2000)")
    group.add_argument("--seed", type=int, help="world seed (default: 0)")


def _input_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--exams", type=Path, help="folder of the exams; for ffa_ir: of the downloaded files")
    add("--table", type=Path, help="csv, xlsx, json or jsonl; for ffa_ir: the annotation JSON")
    add(
        "--columns",
        nargs="+",
        default=[],
        metavar="OURS=THEIRS",
        help="names of columns, such as exam_id=Accession",
    )
    add("--encoding", metavar="NAME", help="of the table, such as euc-kr (default: guessed)")
    add("--salt-file", type=Path, help="secret that ids are hashed with; made on first use")


def _curation_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--vessel-filter", default="exclude_video", help="exclude_video, drop_frames or off")
    add("--register", action="store_true", help="align the frames of an exam rigidly")
    add("--clean-text", action="store_true", help="remove names, dates and numbering from reports")
    add("--allow-burned-in-text", action="store_true", help="keep exams with text in the picture")
    add("--allow-duplicates", action="store_true", help="near duplicates are reported only")
    add("--unseen", nargs="+", default=[], metavar="DISEASE", help="held out as split 'unseen'")
    add("--max-frames", type=int, help="leave out exams of more frames")
    add("--max-pixels", type=int, help="leave out exams of larger frames")
    add("--strict", action="store_true", help="any problem stops the build before writing")


def _running_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--staging", type=Path, help="folder of finished exams (default: DATA_DIR/.staging)")
    add("--keep-staging", action="store_true", help="so that a later build redoes no exam")
    add("--time-limit", type=float, default=1800.0, help="seconds per exam (default: 1800)")
    add("--beam-runner", help="run on Apache Beam, such as DirectRunner or DataflowRunner")
    add("--beam-options", nargs="+", default=[], metavar="NAME=VALUE", help="for the runner")
