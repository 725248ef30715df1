"""`ffa-sora sample`: videos from one report, or from every row of a table.

The job may be killed at any moment and started again with the same command: rows whose outputs are
there, byte for byte, are skipped; no row is lost and none is made twice. A row that fails is
recorded with its reason and the job goes on. Exit code: 0 all rows done, 1 stopped (Ctrl-C,
SIGTERM, or the disk is full: make room and start again), 2 bad usage, 3 some rows failed.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import files, interrupts
from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.jobs import shards
from ffa_sora_jax.jobs.manifest import Manifest, only_one
from ffa_sora_jax.jobs.rows import BadRow, Row, read_table
from ffa_sora_jax.pipelines.result import FORMATS, VideoResult, check_writable, output_paths
from ffa_sora_jax.pipelines.text_to_video import MAX_SEED, TextToVideo, describe

OK, SOME_FAILED = 0, 3
MAX_MIN_PX = 4096  # every frame of a video is held enlarged in memory


@dataclasses.dataclass(frozen=True)
class Item:
    """One video to make: its file name, and everything that decides what it looks like.

    Attributes:
      name: file name without ending, unique in the output folder.
      key: hash of report, seed, settings and weights.
      report: text.
      seed: seed of this video.
      line: line of the table, 0 for a single report.
    """

    name: str
    key: str
    report: str
    seed: int
    line: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `sample`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--report", metavar="TEXT", help="one report")
    what.add_argument(
        "--reports", type=Path, metavar="TABLE",
        help=".csv or .jsonl with the columns report and, if wanted, id, seed, samples",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder (default: out)")
    parser.add_argument("--weights", type=Path, help="pipeline folder (default: shipped weights)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--samples", type=int, default=1, help="videos per report (default: 1)")
    parser.add_argument("--num-steps", type=int, help="sampler steps (default: the model's)")
    parser.add_argument("--guidance-scale", type=float, help="1 is none (default: the model's)")
    parser.add_argument("--sampler", help="ddim, dpmpp_2m, ... (default: the model's)")
    parser.add_argument("--format", default="mp4", help=f"{', '.join(FORMATS)} (default: mp4)")
    parser.add_argument("--batch-size", type=int, default=1, help="rows per pass (default: 1)")
    shards.add_argument(parser)
    parser.add_argument(
        "--min-px", type=int, default=256,
        help="enlarge smaller videos for viewing (default: 256; 0 keeps the model's pixels)",
    )  # fmt: skip
    parser.add_argument(
        "--mark", action=argparse.BooleanOptionalAction, default=True,
        help="write SYNTHETIC into the pictures (the metadata always say it)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Samples everything that is not there yet; see the module for the exit codes."""
    return interrupts.resumable(lambda: _run(args), "Finished rows are safe")


def _run(args: argparse.Namespace) -> int:
    check_writable(args.format)
    files.check_folder(args.output, "--output")
    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; it must be at least 1.")
    if not 0 <= args.min_px <= MAX_MIN_PX:
        raise ValueError(f"--min-px is {args.min_px}; it must lie in 0 .. {MAX_MIN_PX}.")
    shard, num_shards = shards.parse_shard(args.shard)
    rows = _rows(args)
    pipeline = TextToVideo.from_pretrained(args.weights)
    look = {"format": args.format, "min_px": args.min_px, "mark": args.mark}
    method = pipeline.sampling.make_sampler(
        sampler=args.sampler, num_steps=args.num_steps, guidance_scale=args.guidance_scale
    )
    fixed = {**describe(method), **look, "weights": pipeline.fingerprint}
    items, bad = plan(rows, fixed, single=args.report is not None)
    items, bad = items[shard::num_shards], bad[shard::num_shards]
    total = len(items) + len(bad)
    with only_one(args.output, shard=shard, num_shards=num_shards), interrupts.stop_on_oserror():
        manifest = Manifest(args.output, shard=shard, num_shards=num_shards)
        failed, fresh = _refuse(items, bad, pipeline, manifest)
        todo = [item for item in fresh if not manifest.is_done(item.name)]
        failed |= _make(todo, pipeline, manifest, args)
    for name, reason in failed.items():
        sys.stderr.write(f"failed: {name}: {reason}\n")
    made = [item.name for item in fresh if item.name not in failed]
    _say_where(args.output, made, args.format)
    before = len(fresh) - len(todo)
    sys.stdout.write(
        f"{len(made)} of {total} videos are in {args.output} ({before} were there before); "
        f"{len(failed)} failed.\n"
    )
    return SOME_FAILED if failed else OK


def plan(
    rows: Sequence[Row | BadRow], fixed: dict[str, Any], *, single: bool = False
) -> tuple[list[Item], list[BadRow]]:
    """Every video of a table, and the rows or videos that cannot be made.

    No name is given twice: what would be called like something before it fails under its line.

    Args:
      rows: rows of the table.
      fixed: settings common to all rows; part of each item's key.
      single: name items by their key, so that one folder may take many single reports.
    """
    items: list[Item] = []
    bad: list[BadRow] = []
    names: set[str] = set()
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(dataclasses.replace(row, id=_free_name(row.id, row.line, names)))
            continue
        for k in range(row.samples):
            content = {"report": row.report, "seed": row.seed + k, **fixed}
            key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            name = row.id if row.samples == 1 else f"{row.id}-s{row.seed + k}"
            name = f"video-{key[:8]}" if single else name
            if (free := _free_name(name, row.line, names)) == name:
                items.append(Item(name, key, row.report, row.seed + k, row.line))
            else:
                reason = f"two videos would be called {name!r}; rename an id"
                bad.append(BadRow(row.line, free, reason))
    return items, bad


def _free_name(name: str, line: int, names: set[str]) -> str:
    """The name if it is free, else one made of the line; adds it to the names that are taken."""
    candidates = itertools.chain(
        (name, f"line{line:05d}"), (f"line{line:05d}-{i}" for i in itertools.count(2))
    )
    free = next(candidate for candidate in candidates if candidate not in names)
    names.add(free)
    return free


def _rows(args: argparse.Namespace) -> list[Row | BadRow]:
    if args.samples < 1:
        raise ValueError(f"--samples is {args.samples}; it must be at least 1.")
    if not 0 <= args.seed <= MAX_SEED - args.samples + 1:
        raise ValueError(f"--seed is {args.seed}; seeds must lie in 0 .. {MAX_SEED}.")
    if args.reports is not None:
        return read_table(args.reports, seed=args.seed, samples=args.samples)
    if not args.report.strip():
        raise ValueError("--report is empty; write what the angiogram should show.")
    return [Row("video", args.report.strip(), args.seed, args.samples)]


def _refuse(
    items: list[Item], bad: list[BadRow], pipeline: TextToVideo, manifest: Manifest
) -> tuple[dict[str, str], list[Item]]:
    """Records what cannot be sampled; returns the reasons by name, and the other items."""
    failed: dict[str, str] = {}
    fresh: list[Item] = []
    for row in bad:
        failed[row.id] = f"{row.where}: {row.reason}"
    for item in items:
        known = manifest.get(item.name)
        where = f"line {item.line}: " if item.line else ""
        if known and known["status"] == "ok" and known["key"] != item.key:
            failed[item.name] = (
                f"{where}{item.name!r} was made before from another report, seed, setting or "
                "weights; give a new id or another --output"
            )
            continue
        try:
            pipeline.check_report(item.report)
        except ValueError as error:
            failed[item.name] = f"{where}{error}"
            continue
        fresh.append(item)
    for name, reason in failed.items():
        if (record := manifest.get(name)) is None or record["status"] != "ok":
            manifest.add_failed(name, reason)
    return failed, fresh


def _make(
    todo: list[Item], pipeline: TextToVideo, manifest: Manifest, args: argparse.Namespace
) -> dict[str, str]:
    """Samples and writes the items in batches; returns the reasons of those that failed."""
    failed: dict[str, str] = {}
    progress = Progress("videos", len(todo))
    for start in range(0, len(todo), args.batch_size):
        batch = todo[start : start + args.batch_size]
        results = pipeline(
            [item.report for item in batch],
            seed=[item.seed for item in batch],
            num_steps=args.num_steps,
            guidance_scale=args.guidance_scale,
            sampler=args.sampler,
            batch_size=args.batch_size,
        )
        for item, result in zip(batch, results, strict=True):
            if not result.finite:
                failed[item.name] = "the model gave values that are not finite; check the weights"
                manifest.add_failed(item.name, failed[item.name])
            else:
                _save(item, result, manifest, args)
            progress.advance()
    return failed


def _save(item: Item, result: VideoResult, manifest: Manifest, args: argparse.Namespace) -> None:
    path = args.output / f"{item.name}.{args.format}"
    outputs = result.save(path, min_px=args.min_px, mark=args.mark)
    manifest.add_done(item.name, item.key, outputs, seed=item.seed)


def _say_where(output: Path, names: list[str], ending: str) -> None:
    """Prints the files of a single video; a table's files are listed in its manifest."""
    if len(names) == 1:
        video, sheet, sidecar = output_paths(output / f"{names[0]}.{ending}")
        sys.stdout.write(f"video:   {video}\nsheet:   {sheet}\nsidecar: {sidecar}\n")
