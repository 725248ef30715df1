"""Stage one of a build: every exam through `process_exam` into the ledger, on processes or Beam.

What lies in the ledger already is not done again. The outcome of an exam does not depend on where
or in which order it was processed.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ffa_sora_jax.common.progress import Progress
from tfds_ffa import workers
from tfds_ffa.curation.ledger import Ledger, Outcome
from tfds_ffa.curation.process import ExamTask, Options, digest, left_out, process_exam


@dataclasses.dataclass(frozen=True)
class Job:
    """One exam to process, and where its outcome goes. Small: it travels to other processes."""

    exam: ExamTask
    options: Options
    digest: str
    staging: Path


def digests(exams: Iterable[ExamTask], options: Options) -> dict[str, str]:
    """{key: digest} of what decides every outcome."""
    return {exam.key: digest(exam, options) for exam in exams}


def finish(job: Job) -> Outcome:
    """Processes one exam and stores what became of it; the arrays stay on disk.

    Raises:
      OSError: the ledger cannot be written, such as on a full disk.
    """
    outcome = process_exam(job.exam, job.options)
    try:
        Ledger(job.staging).write(outcome, job.digest)
    except (TypeError, ValueError) as error:  # facts that are no JSON
        outcome = left_out(job.exam.key, "internal_error", {"error": workers.where(error)})
        Ledger(job.staging).write(outcome, job.digest)
    return dataclasses.replace(outcome, arrays={})


def process_all(
    exams: Sequence[ExamTask],
    wanted: Mapping[str, str],
    options: Options,
    staging: Path,
    *,
    num_workers: int,
    time_limit_s: float,
    runner: Any = None,
) -> dict[str, Outcome]:
    """Processes what is not finished yet.

    Args:
      exams: all exams.
      wanted: `digests(exams, options)`.
      options: what decides the clips.
      staging: folder of the ledger; for a runner on many machines one that all of them see.
      num_workers: processes on this machine.
      time_limit_s: seconds per exam, on this machine.
      runner: `beam.Runner`; it then runs the exams instead of processes.

    Returns:
      An outcome without arrays for every exam, by key.

    Raises:
      OSError: a full disk; what was finished is kept.
    """
    ledger = Ledger(staging)
    found = ledger.finished(wanted)
    jobs = [
        Job(exam, options, wanted[exam.key], staging) for exam in exams if exam.key not in found
    ]
    if runner is not None:
        runner.run(finish, jobs)
        for job in jobs:
            outcome = ledger.read(job.exam.key, job.digest, arrays=False)
            if outcome is None:
                raise ValueError(
                    "The Beam runner finished without storing every exam. All its machines must "
                    f"see the staging folder {staging}; choose one with --staging."
                )
            found[job.exam.key] = outcome
        return found
    progress = Progress("exams processed", len(exams), done=len(found))
    for job, result in workers.run(finish, jobs, num_workers, time_limit_s):
        if isinstance(result, workers.Failure):
            facts = {"time_limit_s": time_limit_s} if result.reason == "time_limit" else {}
            result = left_out(job.exam.key, result.reason, facts)
            ledger.write(result, job.digest)
        found[job.exam.key] = result
        progress.advance()
    return found
