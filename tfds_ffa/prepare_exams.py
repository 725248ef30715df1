"""`ffa-sora prepare` for real exams: from a folder and a table to a dataset and a build report.

    gather -> process (resumable, stage.py) -> conclude -> build report -> TFDS -> into place

The staging folder lies outside the dataset, names exams by hashes, and goes when the dataset is
complete unless it is asked to stay.
"""

import argparse
import contextlib
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.video.cleaning import CleaningConfig
from ffa_sora_jax.video.reading import Limits
from tfds_ffa import exam_builder, writing
from tfds_ffa.beam import Runner
from tfds_ffa.curation import build_report, curate, deidentify, ledger, process, stage, table
from tfds_ffa.curation.reasons import Problem
from tfds_ffa.curation.table import ExamRow
from tfds_ffa.ffa_ir import annotation
from tfds_ffa.ffa_ir.ffa_ir_dataset_builder import Builder as FfaIr
from tfds_ffa.hospital_exams.hospital_exams_dataset_builder import Builder as HospitalExams

STAGING = ".staging"  # below the data folder
SAID = 20  # kinds of problems that are told before the work begins
BUILDERS = {"hospital_exams": HospitalExams, "ffa_ir": FfaIr}


def run(args: argparse.Namespace) -> int:
    """Prepares one dataset; 0 when it is complete, 1 when stopped half-way and resumable.

    Raises:
      ValueError: bad options or table; near duplicates; with --strict any problem.
      FileNotFoundError: the exams or the table are not there.
    """
    build = Build(args)
    if writing.is_ready(build.target, build.metadata, args.overwrite):
        sys.stderr.write(build.about_inputs())  # may hold new ones that cannot be used
        build.check_report()
        build.tidy()  # where the last run was killed before it could
        sys.stdout.write(f"{build.target} is complete already.\n")
        return 0
    try:
        with writing.only_one(build.target.parent):
            build.check_space()
            sys.stderr.write(build.about_inputs())
            curated = build.examine()
            build.write(curated)
    except KeyboardInterrupt:
        return build.stopped("interrupted")
    except OSError as error:
        if error.errno not in writing.DISK_FULL:
            raise
        return build.stopped(writing.no_space(build.target.parent))
    sys.stdout.write(build.summary(curated))
    return 0


class Build:
    """One run of the verb: what was asked, what goes in, and where everything lies.

    Attributes:
      target: folder of the finished dataset.
      staging: folder of finished exams.
      reports: folder of the build report.
      options: what decides the clips.
      inputs: everything that goes in.
      table_note: how the table was read.
      tasks: exams by key.
      digests: what decides every exam, by key.
      metadata: stored with the dataset.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        family, _, name = args.dataset.partition("/")
        self.builder_class, self.config = BUILDERS[family], exam_builder.config(name)
        self.options, self.wishes = _options(args, self.config), _wishes(args)
        self.runner = _runner(args)
        rows, problems, root, self.table_note = _tables(args, family)
        if args.salt_file is None:
            raise ValueError(
                "--salt-file is missing: a secret file outside the dataset that ids are hashed "
                "with, for example ~/ffa-sora.salt. It is made on first use; keep it."
            )
        self.hasher = deidentify.open_salt(args.salt_file, args.data_dir)
        skip = [path for path in (args.table, args.salt_file) if path is not None]
        self.inputs = curate.gather(rows, problems, root, self.hasher, self.wishes, skip)
        self.tasks = {task.key: task for task in self.inputs.tasks}
        self.digests = stage.digests(self.inputs.tasks, self.options)
        self.metadata = self._metadata()
        self.target = Path(self.builder().data_dir)
        self.staging = args.staging or args.data_dir / STAGING / args.dataset.replace("/", "-")
        self.reports = self.target.parent / "build_report"
        for folder, option in ((self.target, "--data-dir"), (self.staging, "--staging")):
            if folder.resolve().is_relative_to(root.resolve()):
                raise ValueError(f"{option} lies in the folder of the exams; choose another one.")

    def builder(self, plan: exam_builder.Plan | None = None) -> Any:
        """The TFDS builder, with a plan when it is to write."""
        name = self.config.name
        known = name in self.builder_class.builder_configs
        return self.builder_class(
            config=name if known else self.config, data_dir=self.args.data_dir, plan=plan
        )

    def examine(self) -> curate.Curated:
        """Processes all exams, and writes the build report."""
        processed = stage.process_all(
            self.inputs.tasks,
            self.digests,
            self.options,
            self.staging,
            num_workers=self.args.workers,
            time_limit_s=self.args.time_limit,
            runner=self.runner,
        )
        curated = curate.conclude(self.inputs, processed, self.hasher, self.wishes)
        self.reports.mkdir(parents=True, exist_ok=True)
        build_report.write_report(
            self.reports,
            curated.outcomes,
            inputs=self.inputs.count,
            problems=curated.problems,
            splits=self.inputs.split_of,
            leakage=curated.leaks,
            settings=self.metadata,
            dataset=self.args.dataset,
            load_clip=self._clip,
        )
        self._check(curated)
        return curated

    def write(self, curated: curate.Curated) -> None:
        """Writes the kept exams as a dataset, and cleans up."""
        splits: dict[str, list[exam_builder.Entry]] = {}
        for key in curated.kept:
            entry = exam_builder.Entry(self.tasks[key], self.digests[key], curated.texts[key])
            splits.setdefault(self.inputs.split_of[key], []).append(entry)
        plan = exam_builder.Plan(
            splits={name: splits[name] for name in exam_builder.SPLITS if name in splits},
            staging=self.staging,
            options=self.options,
            metadata=self.metadata,
        )
        writing.write_dataset(
            lambda: self.builder(plan),
            self.target,
            self.staging,
            overwrite=self.args.overwrite,
            beam_runner=self.runner and self.runner.name,
            beam_options=self.runner and self.runner.pipeline_options(),
        )
        self.tidy()

    def about_inputs(self) -> str:
        """What goes in, and what cannot and why, told before hours are spent on the rest."""
        found = self.inputs
        lines = [
            f"{len(found.exams)} of {found.count} inputs are exams with a row{self.table_note}"
        ]
        groups: dict[tuple[str, str], list[str]] = {}
        for one in found.left_out:
            key = one.reason, str(one.facts["what_to_do"])
            groups.setdefault(key, []).append(one.facts["where"])
        largest = sorted(groups.items(), key=lambda group: -len(group[1]))[:SAID]
        for (reason, advice), where in largest:
            more = f" and {len(where) - 3} more" if len(where) > 3 else ""
            lines.append(f"  {', '.join(where[:3])}{more}: {reason}. {advice}")
        if len(groups) > SAID:
            lines.append(f"  and {len(groups) - SAID} more kinds; the build report names all.")
        rows = [exam.row for exam in found.exams.values()]
        lone = sum(row.patient_id is None and row.split is None for row in rows)
        if lone:
            lines.append(
                f"{lone} of {len(rows)} exams have no patient id and are split by report: two "
                "visits of one patient may lie in different splits. If the table names patients, "
                "give the heading with --columns patient_id=HEADING."
            )
        return "\n".join(lines) + "\n"

    def check_space(self) -> None:
        """Raises ValueError where the disk cannot hold the exams that are still to be processed."""
        self.staging.mkdir(parents=True, exist_ok=True)
        there = len(list(ledger.Ledger(self.staging).files()))
        clip = 0.6 * self.config.num_frames * self.config.size**2  # angiograms compress to this
        needed = clip * (2 * len(self.inputs.tasks) - there)
        free = shutil.disk_usage(self.staging).free
        if needed > free:
            raise ValueError(
                f"{len(self.inputs.tasks)} exams of {self.config.size} px need about "
                f"{needed / 2**20:.0f} MiB, {self.staging} has {free / 2**20:.0f} MiB free. Make "
                "room, or name another folder with --staging."
            )

    def stopped(self, why: str) -> int:
        """Says how to go on; the exit code."""
        done = len(list(ledger.Ledger(self.staging).files()))
        sys.stderr.write(f"prepare: {why}. {done} finished exams are kept. {writing.RETRY}\n")
        return 1

    def summary(self, curated: curate.Curated) -> str:
        """What became of everything."""
        counts = ", ".join(f"{name} {n}" for name, n in ledger.count(curated.outcomes).items())
        return (
            f"{writing.summary(self.target)}{self.inputs.count} inputs: {counts}\n"
            f"{self.reports / build_report.HTML_NAME} shows what was kept, and why others not\n"
        )

    def check_report(self) -> None:
        """Holds a dataset that was finished without --strict to it, by its build report.

        Raises:
          ValueError: something was left out or noticed.
        """
        path = self.reports / build_report.JSON_NAME
        if not (self.args.strict and path.exists()):
            return
        report = json.loads(path.read_text(encoding="utf-8"))
        if (report["settings"], report["inputs"]) != (self.metadata, self.inputs.count):
            raise ValueError(
                f"--strict: {path} is of other inputs: of a build that was refused, or of fewer "
                "rows and files. Make dataset and report again with --overwrite."
            )
        left = report["inputs"] - report["counts"][ledger.KEPT]
        noticed = sum(bool(exam.get("remarks")) for exam in report["exams"])
        if left or noticed or report["problems"]:
            raise ValueError(
                f"--strict: {self.target} was built without it. {left} inputs were left out and "
                f"{noticed} have remarks; see {path}."
            )

    def _metadata(self) -> dict[str, Any]:
        cleaning = dataclasses.asdict(self.options.cleaning)
        limits = dataclasses.asdict(self.options.limits)
        found = {
            **{f"cleaning.{key}": value for key, value in cleaning.items()},
            **{f"limits.{key}": value for key, value in limits.items()},
            "allow_burned_in_text": self.options.allow_burned_in_text,
            "allow_duplicates": self.wishes.allow_duplicates,
            "clean_text": self.wishes.clean_text,
            "unseen": list(self.wishes.unseen),
            "salt": self.hasher.fingerprint,
            "code": process.code_version(),
            "inputs": curate.build_fingerprint(
                self.inputs, self.digests, self.wishes, self.hasher.fingerprint
            ),
        }
        return json.loads(json.dumps(found))  # as it will be read back

    def tidy(self) -> None:
        """Removes what is not needed any more. A folder of --staging may hold other builds too."""
        book = ledger.Ledger(self.staging)
        if self.args.staging is None:
            book.remove_others(self.digests)
        if not self.args.keep_staging:
            book.remove(self.digests)
        shutil.rmtree(self.staging / writing.DOWNLOADS, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: kept, or shared with other builds
            self.staging.rmdir()
            if self.args.staging is None:
                self.staging.parent.rmdir()

    def _clip(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """A kept clip and its mask of original frames, for the report."""
        outcome = exam_builder.load(self.staging, self.options, self.tasks[key], self.digests[key])
        return outcome.arrays["video"], outcome.arrays["is_original"]

    def _check(self, curated: curate.Curated) -> None:
        """Stops before anything is written, where that was asked or is needed."""
        see = f"See {self.reports / build_report.HTML_NAME}."
        if curated.leaks and not self.wishes.allow_duplicates:
            raise ValueError(
                f"{len(curated.leaks)} groups of near-duplicate clips lie across splits or "
                f"patients. {see} Remove all but one of each group, give them the same patient "
                "id, or accept them with --allow-duplicates."
            )
        noticed = curated.noticed()
        if self.args.strict and noticed:
            found = ", ".join(f"{name} {number}" for name, number in sorted(noticed.items()))
            raise ValueError(f"--strict: {found}. Nothing was written. {see}")
        if not curated.kept:
            raise ValueError(f"None of {self.inputs.count} inputs can be kept. {see}")


def _options(args: argparse.Namespace, config: exam_builder.ExamConfig) -> process.Options:
    cleaning = CleaningConfig(
        size=config.size,
        num_frames=config.num_frames,
        vessel_filter=args.vessel_filter,
        register=args.register,
    )
    if args.max_frames is not None and args.max_frames < cleaning.min_frames:
        raise ValueError(
            f"--max-frames is {args.max_frames}; exams have at least {cleaning.min_frames} frames."
        )
    if args.max_pixels is not None and args.max_pixels < Limits.min_side_px**2:
        raise ValueError(
            f"--max-pixels is {args.max_pixels}; frames have at least {Limits.min_side_px**2}."
        )
    limits = {"max_frames": args.max_frames, "max_pixels": args.max_pixels}
    given = {name: value for name, value in limits.items() if value is not None}
    return process.Options(
        cleaning, Limits(**given), allow_burned_in_text=args.allow_burned_in_text
    )


def _runner(args: argparse.Namespace) -> Runner | None:
    if not args.beam_runner:
        return None
    return Runner(args.beam_runner, tuple(args.beam_options))


def _wishes(args: argparse.Namespace) -> curate.Wishes:
    if args.time_limit <= 0:
        raise ValueError(f"--time-limit is {args.time_limit}; it must be above 0 seconds.")
    return curate.Wishes(
        unseen=tuple(args.unseen),
        clean_text=args.clean_text,
        allow_duplicates=args.allow_duplicates,
    )


def _tables(
    args: argparse.Namespace, family: str
) -> tuple[list[ExamRow], list[Problem], Path, str]:
    """Usable rows, a problem for each other row, the folder of the exams, how it was read."""
    if args.exams is None or (family == "hospital_exams" and args.table is None):
        raise ValueError(
            "Give the folder of the exams with --exams and the table of reports with --table "
            "(for ffa_ir: --exams with the downloaded files)."
        )
    if family == "ffa_ir":
        path, root = annotation.find(args.exams, args.table)
        return *annotation.read(path), root, ""
    names = dict(_pair(text) for text in args.columns)
    found = table.load_table(args.table, names or None, args.encoding)
    kind = f"{found.format}, {found.encoding}" if found.encoding else found.format
    is_sure = args.encoding or not found.encoding or found.encoding.startswith("utf")
    kind += "" if is_sure else " as guessed (--encoding names another)"
    note = f" (table: {kind}; {found.unused_columns} of its columns are not read)"
    return found.rows, found.problems, args.exams, note


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise ValueError(f"--columns: {text!r} must have the form OURS=THEIRS.")
    return ours, theirs
