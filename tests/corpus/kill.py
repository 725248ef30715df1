"""Kills a build at random points, goes on, and compares the bytes with an undisturbed build.

python -m tests.corpus.kill [--rounds 20] [--seed 0] [--cases 40]
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
    arguments: Sequence[str], reached: Callable[[], bool], delay_s: float, group: bool
) -> bool:
    """Runs a build and kills it `delay_s` after it has reached a point.

    Args:
      arguments: of the command line.
      reached: whether it is there.
      delay_s: seconds to wait then.
      group: kill the workers with it, as a power cut does; else the parent alone.

    Returns:
      False where the build was faster.
    """
    process = start(arguments)
    until = time.monotonic() + LIMIT_S
    while process.poll() is None and not reached():
        assert time.monotonic() < until, "the build hangs"
        time.sleep(0.002)
    time.sleep(delay_s)
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode != 0


def points(data_dir: Path, exams: int) -> dict[str, Callable[[], bool]]:
    """Where a build may be killed: after so many exams, while it writes, when all is written."""
    return {
        "start": data_dir.exists,
        f"{exams} exams": lambda: sum(p.suffix == ".exam" for p in paths(data_dir)) >= exams,
        "writing": lambda: any("incomplete" in p.name for p in paths(data_dir)),
        "in place": lambda: any(p.parent.name == "1.0.0" for p in paths(data_dir)),
    }


def paths(folder: Path) -> list[Path]:
    """Files and folders below one in which somebody works: what vanishes meanwhile is left out."""
    return [Path(at) / name for at, inner, files in os.walk(folder) for name in (*inner, *files)]


def finish(arguments: Sequence[str]) -> None:
    """Runs a build to its end."""
    process = start(arguments)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output


def check(corpus: hospital.Corpus, data_dir: Path, wanted: dict[str, bytes], seed: int) -> str:
    """Kills one build one to three times in a row and finishes it; once more if it was faster.

    Returns:
      Where it was killed.

    Raises:
      AssertionError: bytes differ, or files were left over.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    arguments, notes = argv(corpus, data_dir, "--workers", "2"), []
    wanted_kills = int(rng.integers(1, 4))
    for _ in range(20):  # a build may be faster than the wait
        choices = points(data_dir, exams=int(rng.integers(1, len(corpus.rows) // 2)))
        name = str(rng.choice(list(choices)))
        delay_s, group = float(rng.choice([0, 0.01, 0.1, 0.5])), bool(rng.integers(2))
        if not killed(arguments, choices[name], delay_s, group):
            shutil.rmtree(data_dir)
            notes.clear()
            continue
        notes.append(f"{name} + {delay_s:.2f} s{', with its workers' * group}")
        if len(notes) == wanted_kills:
            break
    finish(arguments)
    compare(tree(data_dir), wanted)
    return "; ".join(notes)


def compare(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Raises AssertionError where files or bytes differ."""
    assert found.keys() == wanted.keys(), sorted(found.keys() ^ wanted.keys())
    different = [name for name in wanted if found[name] != wanted[name]]
    assert not different, different


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
        for seed in range(args.seed, args.seed + args.rounds):
            note = check(corpus, Path(folder) / f"seed-{seed}", wanted, seed)
            sys.stdout.write(f"seed {seed}: killed at {note}: same bytes\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
