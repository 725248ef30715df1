"""The inputs of a build, brought together, and the one outcome that each of them gets.

    table + folder -> gather -> stage.process_all -> conclude -> Curated

An input is a row of the table or, where no row belongs to it, an entry of the exam folder. Every
input has one outcome, so the counts of a build add up to its inputs.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfds_ffa.curation import discover, laterality, leakage, report_text, splits
from tfds_ffa.curation.deidentify import Hasher
from tfds_ffa.curation.discover import Exam
from tfds_ffa.curation.ledger import KEPT, Outcome
from tfds_ffa.curation.process import ExamTask, left_out
from tfds_ffa.curation.reasons import Problem
from tfds_ffa.curation.table import ExamRow

NOTED = "noted"
EYES = ("right", "left")


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What was asked of a build, besides what decides the clips.

    Attributes:
      unseen: diseases that are held out as split "unseen".
      clean_text: remove names, dates and numbering from reports.
      allow_duplicates: near duplicates are reported and kept.
    """

    unseen: tuple[str, ...] = ()
    clean_text: bool = False
    allow_duplicates: bool = False


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that goes into a build, before any pixel is read.

    Attributes:
      exams: exams with a row and a split, by key.
      tasks: the same for `stage`, in the order of the table.
      split_of: key -> split.
      patient_of: key -> salted hash of the patient, or of the report where no patient is known.
      left_out: outcomes of all other inputs.
      problems: what was noticed and stops nothing.
    """

    exams: Mapping[str, Exam]
    tasks: Sequence[ExamTask]
    split_of: Mapping[str, str]
    patient_of: Mapping[str, str]
    left_out: Sequence[Outcome]
    problems: Sequence[Problem]

    @property
    def count(self) -> int:
        """Number of inputs."""
        return len(self.exams) + len(self.left_out)


def gather(
    rows: Sequence[ExamRow],
    problems: Sequence[Problem],
    root: Path,
    hasher: Hasher,
    wishes: Wishes,
    skip: Collection[Path] = (),
) -> Inputs:
    """Matches rows with exams and splits them.

    Args:
      rows: usable rows of the table.
      problems: one for each other row.
      root: folder of the exams.
      hasher: holder of the salt.
      wishes: what was asked.
      skip: what may lie among the exams and is none, such as the salt.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: a disease to hold out that no row has.
    """
    matched = discover.match(rows, root, skip)
    split = splits.split_rows(
        [exam.row for exam in matched.exams], hasher, unseen_diseases=wishes.unseen
    )
    exams = {
        hasher.hashed("exam", exam.row.exam_id): exam
        for exam in matched.exams
        if exam.row.line in split.of_line
    }
    found = [*problems, *matched.problems, *split.problems]
    return Inputs(
        exams=exams,
        tasks=[_task(key, exam) for key, exam in exams.items()],
        split_of={key: split.of_line[exam.row.line] for key, exam in exams.items()},
        patient_of={key: split.group_of_line[exam.row.line] for key, exam in exams.items()},
        left_out=[
            left_out(
                hasher.hashed("input", p.where),
                p.reason,
                {"where": p.where, "what_to_do": p.what_to_do},
            )
            for p in found
            if p.status != NOTED
        ],
        problems=[problem for problem in found if problem.status == NOTED],
    )


def _task(key: str, exam: Exam) -> ExamTask:
    row = exam.row
    return ExamTask(key, exam.path, row.frame_order, row.eye if row.eye in EYES else None)


def build_fingerprint(inputs: Inputs, digests: Mapping[str, str], wishes: Wishes, salt: str) -> str:
    """Short hash of all that decides a dataset; equal for builds that give the same records.

    Args:
      inputs: from `gather`.
      digests: from `stage.digests`.
      wishes: what was asked.
      salt: fingerprint of the salt.
    """
    rows = sorted(
        (key, digests[key], inputs.split_of[key], inputs.patient_of[key], dataclasses.astuple(row))
        for key, row in ((key, exam.row) for key, exam in inputs.exams.items())
    )
    text = json.dumps([rows, dataclasses.asdict(wishes), salt], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


# --- After the exams were processed ---


@dataclasses.dataclass(frozen=True)
class Curated:
    """What a build found out.

    Attributes:
      outcomes: one per input.
      texts: key -> features that are text, of the kept exams.
      problems: what was noticed beside the outcomes.
      leaks: near duplicates, as the build report shows them.
    """

    outcomes: Sequence[Outcome]
    texts: Mapping[str, Mapping[str, str]]
    problems: Sequence[Problem]
    leaks: Sequence[Mapping[str, Any]]

    @property
    def kept(self) -> list[str]:
        """Keys of the kept exams, in the order in which they are written."""
        return sorted(outcome.key for outcome in self.outcomes if outcome.status == KEPT)

    def noticed(self) -> dict[str, int]:
        """code -> number of inputs that were not simply kept, and of remarks on kept ones."""
        found = Counter(outcome.reason for outcome in self.outcomes if outcome.reason)
        found.update(problem.reason for problem in self.problems)
        for outcome in self.outcomes:
            if outcome.status == KEPT:
                found.update(outcome.facts.get("remarks", ()))
        return dict(found)


def conclude(
    inputs: Inputs, processed: Mapping[str, Outcome], hasher: Hasher, wishes: Wishes
) -> Curated:
    """Joins what the pictures and what the table say of every exam."""
    outcomes, texts = {}, {}
    for key, exam in inputs.exams.items():
        outcomes[key], texts[key] = _judged(processed[key], exam, inputs, hasher, wishes)
    leaks = _leaks(outcomes, inputs)
    for leak in leaks:
        for key in leak["exams"]:
            outcomes[key] = _remarked(outcomes[key], "near_duplicate")
    return Curated(
        outcomes=[*outcomes.values(), *inputs.left_out],
        texts={key: texts[key] for key, outcome in outcomes.items() if outcome.status == KEPT},
        problems=inputs.problems,
        leaks=leaks,
    )


def _judged(
    outcome: Outcome, exam: Exam, inputs: Inputs, hasher: Hasher, wishes: Wishes
) -> tuple[Outcome, dict[str, str]]:
    """The outcome of one exam with what the table says of it, and its texts."""
    row = exam.row
    eye = laterality.resolve(
        row.eye, outcome.facts.get("dicom_eye"), *dict.fromkeys((row.report, row.report_zh))
    )
    texts, cleared, remarks = _texts(row, wishes)
    texts |= {
        "eye": eye.value,
        "exam_id": outcome.key,
        "patient_id": inputs.patient_of[outcome.key],
        "language": row.language,
    }
    facts = {
        **outcome.facts,
        "where": row.where,
        "eye": eye.value,
        "language": row.language,
        "disease": texts["disease"],
        "patient_id": texts["patient_id"],
        "has_patient_id": row.patient_id is not None,
        "report_hash": hasher.hashed("report", row.report),
        "cleared": cleared,
        "remarks": sorted({*outcome.facts.get("remarks", ()), *remarks}),
    }
    if outcome.status == KEPT and eye.is_conflict:
        return left_out(outcome.key, "eye_conflict", facts), texts
    if outcome.status == KEPT and not texts["report"].strip():  # nothing but identifiers
        return left_out(outcome.key, "empty_report", facts), texts
    return dataclasses.replace(outcome, facts=facts), texts


def _texts(row: ExamRow, wishes: Wishes) -> tuple[dict[str, str], list[str], list[str]]:
    """Report, Chinese report and disease; what was removed from them; remarks."""
    texts = {
        "report": row.report,
        "report_zh": row.report_zh,
        "disease": row.diagnosis or "",
    }
    if not wishes.clean_text:
        suspected = any(report_text.scan(text) for text in texts.values())
        return texts, [], ["identifier_suspected"] if suspected else []
    cleaned = {name: report_text.clean(text, report_text.KINDS) for name, text in texts.items()}
    removed = sorted({kind for text in cleaned.values() for kind in text.removed})
    return {name: text.text for name, text in cleaned.items()}, removed, []


def _leaks(outcomes: Mapping[str, Outcome], inputs: Inputs) -> list[dict[str, Any]]:
    """Clusters of near duplicates, mirrored ones too, over patients or splits."""
    kept = [key for key, outcome in outcomes.items() if outcome.status == KEPT]
    if len(kept) < 2:
        return []
    found = leakage.find(
        np.array([outcomes[key].facts["fingerprint"] for key in kept], np.uint64),
        [inputs.patient_of[key] for key in kept],
        [inputs.split_of[key] for key in kept],
    )
    return [
        {
            "exams": [kept[member] for member in leak.members],
            "where": ", ".join(outcomes[kept[member]].facts["where"] for member in leak.members),
            "splits": ", ".join(leak.splits),
            "patients": leak.num_groups,
            "differing_bits": leak.distance,
        }
        for leak in found
    ]


def _remarked(outcome: Outcome, code: str) -> Outcome:
    remarks = sorted({*outcome.facts.get("remarks", ()), code})
    return dataclasses.replace(outcome, facts={**outcome.facts, "remarks": remarks})
