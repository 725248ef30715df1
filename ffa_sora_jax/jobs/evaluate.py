"""`ffa-sora evaluate`: generated clips beside real ones, in numbers that say what they are worth.

Written to the output folder, each file whole or not at all:

    results.json   all numbers with interval, floor, provenance
    results.md     the same as a table
    index.html     the same with contact sheets of the best, median and worst clips
    per_clip.csv   the value of every generated clip
    rows/          what was measured; a job that was killed goes on from there

Nothing in them depends on when or in how many parts the work was done. Exit code: 0 all measured,
1 stopped (Ctrl-C, SIGTERM, or the disk is full), 2 bad usage, 3 some clips could not be measured,
or were too few for a metric.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ffa_sora_jax.common import files, interrupts, tables
from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.jobs import clips, evaluate_page, evaluate_rows, pairing, shards
from ffa_sora_jax.jobs.clips import ClipItem, ClipSet
from ffa_sora_jax.jobs.evaluate_page import Report
from ffa_sora_jax.jobs.evaluate_results import Outcome, Plan, outcome
from ffa_sora_jax.jobs.evaluate_rows import Look, Rows
from ffa_sora_jax.jobs.manifest import only_one
from ffa_sora_jax.metrics import registry
from ffa_sora_jax.metrics.registry import Loaded
from ffa_sora_jax.pipelines.report_table import ReportTable
from ffa_sora_jax.video import sheet

OK, SOME_FAILED = 0, 3
MAX_FRAMES, MIN_PX, MAX_PX = 1024, 16, 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `evaluate`."""
    parser.add_argument(
        "--generated", required=True, metavar="CLIPS",
        help="output folder of `ffa-sora sample`, its manifest, or a folder of videos",
    )  # fmt: skip
    parser.add_argument(
        "--reference", required=True, metavar="CLIPS",
        help="folder of videos, or a prepared dataset such as phantom/64",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="of a dataset (default: test)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument(
        "--metrics", default="psnr,ssim", help=f"names with commas: {', '.join(registry.METRICS)}"
    )
    parser.add_argument(
        "--weights", type=Path, help="folder of metric weights (`ffa-sora weights`)"
    )
    parser.add_argument("--output", type=Path, default=Path("evaluation"), help="folder")
    parser.add_argument(
        "--pair", default="auto", help=f"{', '.join(pairing.RULES)} (default: auto)"
    )
    parser.add_argument(
        "--candidate-reports", type=Path, metavar="TABLE",
        help="what was read from the generated clips: a table of `ffa-sora report`, or another "
        ".csv or .jsonl with the name of the clip and its report",
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=21, help="per clip (default: 21)")
    parser.add_argument("--size", type=int, help="side in pixels (default: that of the clips)")
    parser.add_argument("--seed", type=int, default=0, help="of resampling and floors")
    parser.add_argument("--replicates", type=int, default=1000, help="of the bootstrap")
    parser.add_argument(
        "--floor", action=argparse.BooleanOptionalAction, default=True,
        help="measure real clips against real clips too",
    )  # fmt: skip
    shards.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Measures what is missing and writes the results; see the module for the exit codes."""
    return interrupts.resumable(lambda: _run(args), "What was measured is safe")


def _run(args: argparse.Namespace) -> int:
    _check(args)
    shard, num_shards = shards.parse_shard(args.shard)
    names = _names(args.metrics)
    generated = clips.open_clips(args.generated, option="--generated", data_dir=args.data_dir)
    reference = clips.open_clips(
        args.reference, option="--reference", split=args.split, data_dir=args.data_dir
    )
    pairs = pairing.pair(generated, reference, args.pair)
    look = Look(args.frames, _size(args.size, generated, reference))
    candidates: dict[str, str] = {}
    if args.candidate_reports is not None:
        table = ReportTable.read(args.candidate_reports)
        candidates = table.known(item.name for item in generated.items)
    plan = Plan(
        generated, reference, pairs, candidates, args.floor, args.seed, args.replicates
    )  # fmt: skip
    loaded = {name: _load(name, args.weights, plan) for name in names}
    with only_one(args.output, shard=shard, num_shards=num_shards), interrupts.stop_on_oserror():
        rows = {n: Rows(args.output / "rows", loaded[n], look) for n in names}
        wanted = {n: plan.cases(loaded[n]) for n in names}
        share = {n: cases[shard::num_shards] for n, cases in wanted.items()}
        failed = evaluate_rows.measure(share, loaded, rows, look, jax.local_devices())
        waiting = _waiting(wanted, rows, failed) if num_shards > 1 else 0
        if waiting:
            sys.stdout.write(
                f"{waiting} cases are left to other processes; when all are done, run the "
                "command once without --shard to write the results.\n"
            )
            return SOME_FAILED if failed else OK
        outcomes = _outcomes(plan, loaded, rows, look)
        report = _report(plan, look, outcomes, failed)
        _write(args.output, report, plan, look)
    _say(args.output, report)
    without_value = any(o.record["value"] is None for o in outcomes)
    return SOME_FAILED if report.failed or without_value else OK


def _check(args: argparse.Namespace) -> None:
    files.check_folder(args.output, "--output")
    if not 1 <= args.frames <= MAX_FRAMES:
        raise ValueError(f"--frames is {args.frames}; it must lie in 1 .. {MAX_FRAMES}.")
    if args.size is not None and not MIN_PX <= args.size <= MAX_PX:
        raise ValueError(f"--size is {args.size}; it must lie in {MIN_PX} .. {MAX_PX}.")
    if args.replicates < 100:
        raise ValueError(f"--replicates is {args.replicates}; an interval needs at least 100.")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must be 0 or more.")
    if args.weights is not None and not args.weights.is_dir():
        raise FileNotFoundError(f"--weights {args.weights} is no folder; see `ffa-sora weights`.")


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError(f"--metrics is {text!r}; give names such as psnr,ssim.")
    for name in names:
        registry.find(name)
    return names


def _load(name: str, folder: Path | None, plan: Plan) -> Loaded:
    """A metric that the clips can be measured with.

    Raises:
      ValueError: what it compares is not there.
      FileNotFoundError: its weights are missing.
    """
    loaded = registry.load(name, folder)
    cases = plan.cases(loaded)
    if not cases or not plan.samples(loaded):
        raise ValueError(f"{loaded.entry.title}: nothing to measure. {_WHY[loaded.entry.kind]}")
    if loaded.entry.kind != "text":
        return loaded
    references = sorted({case.against for case in cases if case.against})
    params = loaded.metric.setup(loaded.params, references)
    if params is loaded.params:
        return loaded
    seen = hashlib.sha256("\n".join(references).encode()).hexdigest()
    weights = {**loaded.weights, "reference reports": seen}
    return dataclasses.replace(loaded, params=params, weights=weights)


_WHY = {
    "pair": "No generated clip has a partner; see --pair.",
    "sets": "There are no clips.",
    "text": "Give the reports read from the generated clips with --candidate-reports; their ids "
    "are the names of the generated clips, and those or their references must have a report.",
    "clip_text": "No report is known of the generated clips or their references.",
}


def _size(given: int | None, generated: ClipSet, reference: ClipSet) -> tuple[int, int]:
    """The size asked for, or the one that the first readable clips of both sides share."""
    if given is not None:
        return given, given
    made, real = _first_size(generated), _first_size(reference)
    if made != real:
        raise ValueError(
            f"The generated clips are {made[0]} x {made[1]} px, the references {real[0]} x "
            f"{real[1]}. Say with --size at which size they are compared."
        )
    return made


def _first_size(clip_set: ClipSet) -> tuple[int, int]:
    reasons = []
    for item in clip_set.items:
        try:
            return item.read().shape[1:3]  # type: ignore[return-value]
        except (ValueError, OSError) as error:
            reasons.append(str(error))
    raise ValueError(f"No clip of {clip_set.where} can be read; the first: {reasons[0]}")


def _waiting(
    wanted: Mapping[str, Sequence[Any]], rows: Mapping[str, Rows], failed: Mapping[str, Any]
) -> int:
    missing = {
        case.key
        for name, cases in wanted.items()
        for case in cases
        if rows[name].get(case) is None and not any(c.digest in failed for c in case.clips)
    }
    return len(missing)


def _outcomes(
    plan: Plan, loaded: Mapping[str, Loaded], rows: Mapping[str, Rows], look: Look
) -> list[Outcome]:
    """The numbers of all metrics; resampling distances of sets takes minutes."""
    progress, outcomes = Progress("metrics resampled", len(loaded)), []
    for name, metric in loaded.items():
        outcomes.append(outcome(plan, metric, rows[name].get, look))
        progress.advance()
    return outcomes


# --- What is written ---


def _report(
    plan: Plan, look: Look, outcomes: Sequence[Outcome], failed: Mapping[str, tuple[str, str]]
) -> Report:
    generated, reference, pairs = plan.generated, plan.reference, plan.pairing
    about = {
        "generated": _about(generated), "reference": _about(reference),
        "pairing": {
            "rule": pairs.rule, "pairs": len(pairs.pairs), "without a partner": len(pairs.alone),
            "clustered by": plan.clustered_by(),
        },
        "look": {
            "frames": look.frames, "size": list(look.size), "channels": "luma",
            "decoded": "float32 in [-1, 1]",
        },
        "seed": plan.seed, "replicates": plan.replicates,
        "platform": jax.default_backend(),
    }  # fmt: skip
    all_failed = [*generated.failed.items(), *reference.failed.items(), *failed.values()]
    kinds = {o.loaded.entry.kind for o in outcomes}
    if kinds & {"pair", "text"}:
        all_failed += pairs.alone.items()
    if "text" in kinds:
        all_failed += plan.without_candidate().items()
    return Report(
        about, outcomes, [*_remarks(plan), *_remarks_on(outcomes)], sorted(set(all_failed)),
        synthetic=generated.synthetic and reference.synthetic,
    )  # fmt: skip


def _about(clip_set: ClipSet) -> dict[str, Any]:
    """Where clips come from, and what their files say of how they were made."""
    about = {"where": clip_set.where, "clips": len(clip_set.items), "hash": clip_set.fingerprint}
    for key, name in (("weights_fingerprint", "weights"), ("settings", "sampling")):
        found = {json.dumps(item.facts.get(key), sort_keys=True) for item in clip_set.items}
        if found != {"null"}:
            known = [json.loads(text) for text in sorted(found)]
            about[name] = known[0] if len(known) == 1 else known
    return about


def _remarks(plan: Plan) -> list[str]:
    """What spoils numbers without making them impossible."""
    remarks = []
    marked = sum(item.facts.get("marked") is True for item in plan.generated.items)
    if marked:
        remarks.append(
            f"{marked} generated clips carry the word SYNTHETIC in the picture, which every metric "
            "sees. Sample with --no-mark --min-px 0 --format webp to compare the model's pixels."
        )
    lossy = sum(item.facts.get("shown_px", 0) > item.facts.get("height", 10**9)
                for item in plan.generated.items)  # fmt: skip
    if lossy:
        remarks.append(
            f"{lossy} generated clips were enlarged for viewing and are brought back by area "
            "averaging; --min-px 0 keeps the model's pixels."
        )
    if empty := sum(not text for text in plan.candidates.values()):
        remarks.append(f"{empty} candidate reports are empty; they match nothing.")
    if len(plan.generated.items) < 100 or len(plan.reference.items) < 100:
        remarks.append(
            f"{len(plan.generated.items)} generated clips and {len(plan.reference.items)} "
            "references are few: distances of sets are far above their limit. Compare them with "
            "their floor only."
        )
    return remarks


def _remarks_on(outcomes: Sequence[Outcome]) -> list[str]:
    """What the clips were too few for."""
    remarks = []
    for o in outcomes:
        title, values = o.record["title"], o.record["values"]
        if o.record["value"] is None and not o.record["unmeasured"]:
            remarks.append(f"{title} has no value: too few clips on one of the two sides.")
        elif left_out := [
            k for k in getattr(o.loaded.metric, "ks", ()) if f"recall_at_{k}" not in values
        ]:
            remarks.append(
                f"{title}: K = {', '.join(map(str, left_out))} is more than the references and is "
                "left out of the mean; the paper's mean has it."
            )
    return remarks


def _write(folder: Path, report: Report, plan: Plan, look: Look) -> None:
    sheet = _Sheets(plan, look)
    files.write_text(
        folder / "results.json",
        json.dumps(evaluate_page.as_json(report), indent=1, ensure_ascii=False) + "\n",
    )
    files.write_text(folder / "results.md", evaluate_page.as_markdown(report))
    tables.write(folder / "per_clip.csv", *_per_clip(report, plan))
    files.write_text(folder / "index.html", evaluate_page.as_html(report, sheet))


def _per_clip(report: Report, plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of clips."""
    partner = {made.name: real.name for made, real in plan.pairing.pairs}
    columns = [o for o in report.outcomes if o.per_clip]
    rows = []
    for item in plan.generated.items:
        values = [o.per_clip.get(item.name) for o in columns]
        cells = ["" if value is None else f"{value:.7g}" for value in values]
        rows.append([item.name, partner.get(item.name, ""), *cells])
    return ["clip", "reference", *(o.loaded.entry.name for o in columns)], rows


class _Sheets:
    """Contact sheets of a generated clip above its reference."""

    def __init__(self, plan: Plan, look: Look):
        self._look = look
        self._made = {item.name: item for item in plan.generated.items}
        self._real = {made.name: real for made, real in plan.pairing.pairs}
        self._synthetic = plan.reference.synthetic

    def __call__(self, name: str) -> tuple[np.ndarray, str]:
        made, real = self._made[name], self._real.get(name)
        parts = [self._sheet(made, "GENERATED")]
        if real is not None:
            parts.append(self._sheet(real, "REFERENCE" if self._synthetic else sheet.REAL_MARK))
        caption = made.report or (real.report if real else None) or ""
        beside = f"beside {real.name}" if real else "without a partner"
        return np.concatenate(parts), f"{beside}\n{caption}"

    def _sheet(self, item: ClipItem, mark: str) -> np.ndarray:
        video, times = clips.conform(item, self._look.frames, self._look.size)
        return sheet.contact_sheet(video, times, columns=11, mark=mark, phases=False)


def _say(folder: Path, report: Report) -> None:
    for name, reason in report.failed:
        sys.stderr.write(f"failed: {name}: {reason}\n")
    for remark in report.remarks:
        sys.stderr.write(f"note: {remark}\n")
    for line in evaluate_page.summary(report):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{folder / 'index.html'}\n")
