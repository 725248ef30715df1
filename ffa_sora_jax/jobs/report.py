"""`ffa-sora report`: the reports of videos, written by a captioner.

One video without `--output` is printed. Otherwise the reports of all videos go into a table that
`ffa-sora sample --reports` takes as it is. Beside it lies TABLE.parts with the record of every
video: the job may be killed and started again with the same command, and goes on. A video that
cannot be read is recorded with its reason. Exit code: 0 all reports written, 1 stopped (Ctrl-C,
SIGTERM, or the disk is full: make room and start again), 2 bad usage, 3 some videos failed.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import files, interrupts, tables
from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.jobs import clips, shards
from ffa_sora_jax.jobs.clips import ClipItem
from ffa_sora_jax.jobs.manifest import Manifest, only_one, read_records
from ffa_sora_jax.pipelines.video_to_report import VideoToReport, Writing

OK, SOME_FAILED = 0, 3
ENDINGS = (".csv", ".jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `report`."""
    parser.add_argument(
        "videos", metavar="VIDEO",
        help="a video, a folder of videos, a manifest of `ffa-sora sample`, or a dataset",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="TABLE", help="reports, .csv or .jsonl")
    parser.add_argument("--weights", type=Path, help="captioner folder (default: shipped weights)")
    parser.add_argument("--num-beams", type=int, help="beams of the search (default: the model's)")
    parser.add_argument("--max-new-tokens", type=int, help="longest report (default: the model's)")
    parser.add_argument(
        "--temperature", type=float, help="draw the words at random with this temperature"
    )
    parser.add_argument("--top-p", type=float, help="draw from the likeliest words of this share")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--split", default="test", help="of a dataset (default: test)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where datasets lie")
    shards.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the reports that are not there yet; see the module for the exit codes."""
    return interrupts.resumable(lambda: _run(args), "Finished reports are safe")


def _run(args: argparse.Namespace) -> int:
    shard, num_shards = shards.parse_shard(args.shard)
    if args.output is not None and args.output.suffix.lower() not in ENDINGS:
        raise ValueError(f"--output {args.output} must end in {' or '.join(ENDINGS)}.")
    items, missing = find_clips(args.videos, args.split, args.data_dir)
    if args.output is None and len(items) > 1:
        raise ValueError(f"{args.videos} holds {len(items)} videos; name a table: --output x.csv")
    model = VideoToReport.from_pretrained(args.weights)
    writing = _writing(model, args)
    if args.output is None:
        report = model(items[0].read(), seed=args.seed, **dataclasses.asdict(writing))
        sys.stdout.write(report + "\n")
        _say_empty({items[0].name: report})
        return OK
    job = _Job(model, writing, args.seed)
    parts = args.output.with_name(f"{args.output.name}.parts")
    files.check_folder(parts, "--output")
    with only_one(parts, shard=shard, num_shards=num_shards), interrupts.stop_on_oserror():
        manifest = Manifest(parts, shard=shard, num_shards=num_shards)
        failed = job.write(items[shard::num_shards], manifest)
        reports = write_table(args.output, parts)
    failed |= {} if shard else missing
    for name, reason in failed.items():
        sys.stderr.write(f"failed: {name}: {reason}\n")
    sys.stdout.write(f"{len(reports)} reports are in {args.output}; {len(failed)} failed.\n")
    _say_empty(reports)
    return SOME_FAILED if failed else OK


def find_clips(
    given: str, split: str, data_dir: Path
) -> tuple[tuple[ClipItem, ...], Mapping[str, str]]:
    """The clips of a video, folder, manifest or dataset, and reasons for those not there.

    Raises:
      FileNotFoundError, ValueError: nothing there, see `clips.open_clips`.
    """
    path = Path(given)
    if (item := clips.single(path)) is not None:
        return (item,), {}
    if path.suffix.lower() in clips.VIDEO_SUFFIXES and not path.exists():
        raise FileNotFoundError(f"No video {path}.")
    found = clips.open_clips(given, option="VIDEO", split=split, data_dir=data_dir)
    return found.items, found.failed


def write_table(table: Path, parts: Path) -> dict[str, str]:
    """Writes the reports that all processes have finished, and returns them by name.

    Columns: `id`, the name of the video, and `report`. In the order of the names.
    """
    records = sorted(read_records(parts).items())
    done = {name: record["report"] for name, record in records if record["status"] == "ok"}
    tables.write(table, ("id", "report"), list(done.items()))
    return done


def _say_empty(reports: Mapping[str, str]) -> None:
    """An empty report is one, and evaluation counts it; but nobody should miss it."""
    if empty := [name for name, report in reports.items() if not report]:
        sys.stderr.write(
            f"Empty reports: {len(empty)}, such as that of {empty[0]!r}. The model wrote nothing: "
            "it has not learnt enough, or sees what it does not know.\n"
        )


@dataclasses.dataclass(frozen=True)
class _Job:
    model: VideoToReport
    writing: Writing
    seed: int

    def write(self, items: tuple[ClipItem, ...], manifest: Manifest) -> dict[str, str]:
        """Reports of all clips that have none; returns the reasons of those that failed."""
        failed: dict[str, str] = {}
        progress = Progress("reports", len(items))
        for item in items:
            if reason := self._one(item, manifest):
                failed[item.name] = reason
            progress.advance()
        return failed

    def _one(self, item: ClipItem, manifest: Manifest) -> str | None:
        """Why a clip has no report; None where it has."""
        key = self._key(item)
        known = manifest.get(item.name)
        if known is not None and known["status"] == "ok":
            if known["key"] == key:
                return None
            return (
                f"{item.name!r} has a report of another video, seed, setting or weights; give "
                "another --output"
            )
        try:
            video = item.read()
        except (ValueError, OSError) as error:
            manifest.add_failed(item.name, str(error))
            return str(error)
        report = self.model(video, seed=self.seed, **dataclasses.asdict(self.writing))
        manifest.add_done(item.name, key, [], report=report)
        return None

    def _key(self, item: ClipItem) -> str:
        content = {
            "video": item.digest, "weights": self.model.fingerprint,
            "tokenizer": self.model.tokenizer.fingerprint, **dataclasses.asdict(self.writing),
        }  # fmt: skip
        if self.writing.do_sample:
            content["seed"] = self.seed
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _writing(model: VideoToReport, args: argparse.Namespace) -> Writing:
    given: dict[str, Any] = {
        "num_beams": args.num_beams, "max_new_tokens": args.max_new_tokens,
        "temperature": args.temperature, "top_p": args.top_p,
    }  # fmt: skip
    draws = args.temperature is not None or args.top_p is not None
    if draws and args.num_beams is not None:
        raise ValueError("--num-beams searches, --temperature and --top-p draw; give one of them.")
    return model.settings(**given, do_sample=True if draws else None)
