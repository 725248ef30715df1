"""Kills a build at random points, goes on, and compares the bytes with an undisturbed build.

python -m tests.corpus.kill [--rounds 20] [--seed 0] [--cases 40]
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.corpus import damage, good, hospital

LIMIT_S = 300.0


def argv(corpus: hospital.Corpus, data_dir: Path, *more: str) -> list[str]:
    """The command line of a build of a corpus, at 64 px."""
    return [
        *("prepare", "--dataset", "hospital_exams/64", "--data-dir", str(data_dir)),
        *(
            "--exams",
            str(corpus.exams),
            "--table",
            str(corpus.table),
            "--salt-file",
            str(corpus.salt),
        ),
        *more,
    ]


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Runs the command line in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ffa_sora_jax", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def killed(
    arguments: Sequence[str], data_dir: Path, after: int, delay_s: float, group: bool
) -> str:
    """Runs a build and kills it once `after` exams are finished, and `delay_s` later.

    Args:
      arguments: of the command line.
      data_dir: the folder it writes into.
      after: exams that must be finished first; 0 for a time after the start alone.
      delay_s: seconds to wait then.
      group: kill the workers with it, as a power cut does; else the parent alone.

    Returns:
      "killed", or "complete" where the build was faster.
    """
    process = start(arguments)
    until = time.monotonic() + LIMIT_S
    while process.poll() is None and len(list(data_dir.rglob("*.exam"))) < after:
        assert time.monotonic() < until, "the build hangs"
        time.sleep(0.01)
    time.sleep(delay_s)
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.communicate()
    return "killed" if process.returncode else "complete"


def finish(arguments: Sequence[str]) -> None:
    """Runs a build to its end."""
    process = start(arguments)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output


def rounds(
    corpus: hospital.Corpus, scratch: Path, wanted: dict[str, bytes], count: int, seed: int
) -> list[str]:
    """Kills `count` builds, each up to three times in a row, and finishes them.

    Returns:
      What happened in each round.

    Raises:
      AssertionError: bytes differ, or files were left over.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    notes = []
    for number in range(count):
        data_dir = scratch / f"round-{number}"
        arguments = argv(corpus, data_dir, "--workers", "2")
        note = []
        for _ in range(int(rng.integers(1, 4))):
            after, group = int(rng.integers(0, corpus.inputs)), bool(rng.integers(2))
            delay_s = float(rng.uniform(0, 2.0))
            done = killed(arguments, data_dir, after, delay_s, group)
            note.append(f"{done} after {after} exams and {delay_s:.2f} s{' all' * group}")
            if done == "complete":
                break
        finish(arguments)
        found = tree(data_dir)
        assert found.keys() == wanted.keys(), sorted(found.keys() ^ wanted.keys())
        different = [name for name in wanted if found[name] != wanted[name]]
        assert not different, different
        notes.append(", ".join(note))
    return notes


def main() -> int:
    """Twenty rounds by hand."""
    parser = argparse.ArgumentParser(prog="tests.corpus.kill")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = [*good.cases()[::2], *damage.cases()][: args.cases]
        corpus = hospital.build(Path(folder) / "corpus", cases)
        whole = Path(folder) / "whole"
        finish(argv(corpus, whole))
        wanted = tree(whole)
        for number in range(args.rounds):
            notes = rounds(corpus, Path(folder) / str(number), wanted, 1, args.seed + number)
            sys.stdout.write(f"round {number + 1}: {notes[0]}: same bytes\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
