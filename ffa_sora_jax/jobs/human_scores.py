"""`ffa-sora human scores`: how readers scored, and how far they agree, from a CSV.

Either one line per score with the columns case, reader, score, or one line per case with a column
per reader. Cases that not every reader scored count in the means of those who did, and are left
out of the coefficients of agreement. Exit code: 0, or 2 for a table that cannot be used.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common import files
from ffa_sora_jax.metrics import bootstrap, human
from ffa_sora_jax.metrics.bootstrap import Interval

LONG = ("case", "reader", "score")
MIN_REPLICATES = 100
PAPER = "FFA Sora (50 videos, 3 readers): 1.515, 1.460, 1.737, mean 1.570; no agreement reported"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `human scores`."""
    parser.add_argument(
        "table", type=Path, help=".csv: case,reader,score or case and one per reader"
    )
    parser.add_argument("--output", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--scale", default="1,2,3,4,5", help="the scores there are, in order")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    parser.add_argument("--replicates", type=int, default=1000, help="of the bootstrap")


def run(args: argparse.Namespace) -> int:
    """Prints the statistics."""
    scale = _scale(args.scale)
    if args.replicates < MIN_REPLICATES:
        raise ValueError(
            f"--replicates is {args.replicates}; an interval needs at least {MIN_REPLICATES}."
        )
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it must be 0 or more.")
    if args.output is not None and args.output.is_dir():
        raise ValueError(f"--output {args.output} is a folder; name a file such as scores.json.")
    scores = read_scores(args.table, scale)
    numbers = statistics(scores, scale, seed=args.seed, replicates=args.replicates)
    sys.stdout.write(_table(numbers))
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(args.output, numbers)
        sys.stdout.write(f"{args.output}\n")
    return 0


def read_scores(path: Path, scale: Sequence[int]) -> dict[str, dict[str, float]]:
    """Scores by case and reader.

    Raises:
      FileNotFoundError: no such file.
      ValueError: columns missing, a row with too many cells, a score without a reader or not on the
        scale, or a case scored twice by a reader.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No table {path}.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, strict=True)
        try:
            rows = list(table)
        except csv.Error as error:
            raise ValueError(f"{path}, line {table.line_num}: {error}.") from error
        columns = list(table.fieldnames or [])
    if "case" not in columns or len(columns) < 2:
        raise ValueError(
            f"{path} has the columns {', '.join(columns) or 'none'}; expected case, reader, score, "
            "or case and one column per reader."
        )
    scores: dict[str, dict[str, float]] = {}
    for number, case, reader, text in _cells(rows, columns):
        value = _score(path, number, text, scale)
        if value is None:
            continue
        if not reader:
            raise ValueError(f"{path}, row {number}: the score {text!r} has no reader.")
        if reader in scores.setdefault(case, {}):
            raise ValueError(f"{path}, row {number}: {reader} has scored case {case!r} before.")
        scores[case][reader] = value
    if not scores:
        raise ValueError(f"{path} has no scores.")
    return scores


def statistics(
    scores: Mapping[str, Mapping[str, float]], scale: Sequence[int], *, seed: int, replicates: int
) -> dict[str, Any]:
    """The numbers as JSON."""
    readers = sorted({reader for by_reader in scores.values() for reader in by_reader})
    whole = [case for case in sorted(scores) if len(scores[case]) == len(readers)]
    own = {r: [by_reader[r] for by_reader in scores.values() if r in by_reader] for r in readers}
    by_reader = {
        reader: {
            "n": len(values), "mean": _number(np.mean(values)),
            "sd": _number(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
        for reader, values in own.items()
    }  # fmt: skip
    numbers: dict[str, Any] = {
        "cases": len(scores), "cases_read_by_all": len(whole), "readers": by_reader,
        "mean_of_readers": _number(np.mean([entry["mean"] for entry in by_reader.values()])),
        "paper": PAPER,
    }  # fmt: skip
    if len(readers) < 2 or len(whole) < 2:
        return {**numbers, "agreement": None}
    ratings = np.array([[scores[case][reader] for reader in readers] for case in whole])
    found = human.agreement(ratings, scale, seed=seed, replicates=replicates)
    pairs = {f"{readers[i]}, {readers[j]}": k for (i, j), k in found.weighted_kappa.items()}
    return {
        **numbers,
        "agreement": {
            "mean_interval": _interval(_mean_interval(scores, readers, seed, replicates)),
            "icc": {name: _number(value) for name, value in found.icc.items()},
            "icc_a1_interval": _interval(found.icc_interval),
            "weighted_kappa": {name: _number(value) for name, value in pairs.items()},
            "fleiss_kappa": _number(found.fleiss_kappa), "kendall_w": _number(found.kendall_w),
        },
    }  # fmt: skip


def _mean_interval(
    scores: Mapping[str, Mapping[str, float]], readers: Sequence[str], seed: int, replicates: int
) -> Interval:
    """Of the mean of the readers' means, over all cases that count in it."""
    cases = sorted(scores)
    table = np.array([[scores[case].get(reader, math.nan) for reader in readers] for case in cases])

    def value(places: np.ndarray) -> float:
        drawn = table[places]
        known = np.isfinite(drawn)
        with np.errstate(invalid="ignore"):  # a draw without any score of a reader has no value
            return float((np.nansum(drawn, axis=0) / known.sum(axis=0)).mean())

    return bootstrap.bootstrap(value, cases, seed=seed, replicates=replicates)


def _cells(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> Iterator[tuple[int, str, str, str | None]]:
    """Row, case, reader, score as text."""
    long = set(LONG) <= set(columns)
    for number, row in enumerate(rows, 2):
        case = (row["case"] or "").strip()
        if not case:
            raise ValueError(f"Row {number} has no case.")
        if None in row:  # a comma as the decimal sign must not cut a score short
            raise ValueError(f"Row {number} has more cells than there are columns.")
        if long:
            yield number, case, (row["reader"] or "").strip(), row["score"]
        else:
            for reader in (name for name in columns if name != "case"):
                yield number, case, reader, row[reader]


def _score(path: Path, number: int, text: str | None, scale: Sequence[int]) -> float | None:
    """A score, or None where the cell is empty."""
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{path}, row {number}: {text!r} is no score.") from None
    if value not in scale:
        allowed = ", ".join(map(str, scale))
        raise ValueError(f"{path}, row {number}: Score {value:g} is not on the scale {allowed}.")
    return value


def _scale(text: str) -> tuple[int, ...]:
    try:
        scale = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--scale is {text!r}; expected whole numbers such as 1,2,3.") from None
    if len(scale) < 2 or list(scale) != sorted(set(scale)):
        raise ValueError(f"--scale is {text!r}; give two or more numbers in rising order.")
    return scale


def _table(numbers: Mapping[str, Any]) -> str:
    lines = [f"{numbers['cases']} cases, {numbers['cases_read_by_all']} read by all"]
    for reader, entry in numbers["readers"].items():
        sd = "" if entry["sd"] is None else f" (SD {entry['sd']:.3f})"
        lines.append(f"  {reader}: {entry['mean']:.3f}{sd}, {entry['n']} cases")
    lines.append(f"mean of readers {numbers['mean_of_readers']:.3f}")
    found = numbers["agreement"]
    if found is None:
        lines.append("agreement: needs two readers and two cases that both have read")
    else:
        bounds = found["mean_interval"]
        lines[-1] += f" (95 % interval {_bounds(bounds)})"
        lines += [f"  {name} {_shown(value)}" for name, value in found["icc"].items()]
        lines += [f"  ICC(A,1) 95 % interval {_bounds(found['icc_a1_interval'])}"]
        lines += [
            f"  weighted kappa {pair}: {_shown(value)}"
            for pair, value in found["weighted_kappa"].items()
        ]
        lines += [f"  Fleiss' kappa {_shown(found['fleiss_kappa'])}"]
        lines += [f"  Kendall's W {_shown(found['kendall_w'])}"]
    return "\n".join([*lines, f"paper: {numbers['paper']}"]) + "\n"


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"low": _number(interval.low), "high": _number(interval.high)}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _bounds(interval: Mapping[str, float | None]) -> str:
    if interval["low"] is None:
        return "not defined"
    return f"{_shown(interval['low'])} to {_shown(interval['high'])}"


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
