"""Speed and memory, each benchmark by its name, or all of them.

    python -m benchmarks                         all
    python -m benchmarks --quick                 all, tiny, to try the programs
    python -m benchmarks models --rounds 2       the networks beside PyTorch
    python -m benchmarks exams                   from a hospital's files to clips
    python -m benchmarks loader                  clips per second, as the trainer reads them
    python -m benchmarks evaluate                metrics over a test set: time, memory, resuming
    python -m benchmarks audit                   planted copies and other visits, found or not
    python -m benchmarks oracle --count 200      findings read back from unseen phantoms

`python -m benchmarks NAME --help` lists the options of one.
"""

import importlib
import sys

BENCHMARKS = ("models", "exams", "loader", "evaluate", "audit", "oracle")
_MODULES = {"models": "benchmarks.run"}


def main(argv: list[str]) -> int:
    """Runs one benchmark with its options, or all of them."""
    if argv and argv[0] in BENCHMARKS:
        return _run(argv[0], argv[1:])
    if not set(argv) <= {"--quick"}:
        sys.stderr.write(__doc__ or "")
        return 2
    return max(_run(name, argv) for name in BENCHMARKS)


def _run(name: str, argv: list[str]) -> int:
    module = importlib.import_module(_MODULES.get(name, f"benchmarks.{name}"))
    return module.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
