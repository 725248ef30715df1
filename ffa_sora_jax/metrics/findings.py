"""Does a clip show what its prompt names? Findings of the report against those read from pixels.
Does a report that was read from a clip name what the clip's own report names?

The report is read by rules over words (`metrics.wording`), the clip by the phantom's oracle
(`phantom.oracle`); both speak of the same classes. A class that the report names and the clip shows
is a hit; one that it names alone is missed, one that the clip alone shows is made up. The oracle
errs too: the same comparison on clean phantoms is the ceiling, and it is given beside the value.
The oracle was tuned on phantoms: on other pictures it is a yardstick for change, not for truth.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import gray
from ffa_sora_jax.metrics.base import OfTexts
from ffa_sora_jax.metrics.wording import Named, named
from ffa_sora_jax.phantom import oracle, oracle_rules
from ffa_sora_jax.phantom.oracle import Reading
from ffa_sora_jax.phantom.oracle_rules import CLASSES

UNKNOWN = -1.0  # eye that the report does not name


@dataclasses.dataclass(frozen=True)
class FindingsRead(OfTexts):
    """F1 of named and read findings over all clips and classes."""

    name: ClassVar[str] = "findings_f1"
    higher_is_better: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    against: ClassVar[str] = "clip"
    host: ClassVar[bool] = True

    def measure(self, texts: Sequence[str], against: Any, params: Any = None) -> np.ndarray:
        """Rows (b, 2 k + 3) for k classes.

        A row is: each class named (0 or 1), each class read, eye named, eye read, width. Eyes are
        1 (right), 0 (left) or -1 (not named); the width is that of the frames in pixels.

        Raises:
          ValueError: no clip, another number of clips than texts, or frames that are not square.
        """
        if not isinstance(against, Clip):
            raise ValueError(f"{self.name} compares prompts with clips; none were given.")
        clips = gray.timed(against)
        if len(clips) != len(texts):
            raise ValueError(f"{len(texts)} prompts for {len(clips)} clips; expected one each.")
        return np.stack(
            [
                row(named(text), oracle.read_findings(video, times), video.shape[-1])
                for text, (video, times) in zip(texts, clips, strict=True)
            ]
        )

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """F1, precision and recall over all classes and by class, the eye, and the ceiling.

        Classes that are neither named nor read have no value. "laterality" is the share of clips
        that show the named eye; "ceiling" is the F1 of the oracle on clean phantoms of this width,
        which a perfect model would be given.
        """
        widths = rows[:, 2 * len(CLASSES) + 2]
        ceiling = float(np.mean([oracle_rules.unseen_f1(int(width)) for width in widths]))
        return _values(self.name, rows) | {"ceiling": ceiling}


@dataclasses.dataclass(frozen=True)
class FindingsSaid(OfTexts):
    """F1 of the findings that two reports name, over all reports and classes."""

    name: ClassVar[str] = "report_findings_f1"
    higher_is_better: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    against: ClassVar[str] = "text"
    host: ClassVar[bool] = True

    def measure(self, texts: Sequence[str], against: Any, params: Any = None) -> np.ndarray:
        """Rows (b, 2 k + 2) for k classes, of candidates and their references.

        A row is: each class that the reference names (0 or 1), each that the candidate names, and
        the eye of both: 1 (right), 0 (left) or -1 (not named).

        Raises:
          ValueError: another number of references than candidates.
        """
        if len(against) != len(texts):
            raise ValueError(f"{len(texts)} reports, {len(against)} references; expected one each.")
        return np.stack(
            [said_row(named(true), named(said)) for true, said in zip(against, texts, strict=True)]
        )

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """F1, precision and recall over all classes and by class, and the eye.

        "laterality" is the share of candidates that name the eye of their reference, among those
        whose reference names one. Classes that no report names have no value.
        """
        return _values(self.name, rows)


def row(said: Named, read: Reading, width: int) -> np.ndarray:
    """(2 k + 3,) float32: what a report names beside what its clip of this width shows."""
    return np.array(
        [
            *_flags(said.classes),
            *(float(read.findings[name]) for name in CLASSES),
            _eye(said.eye),
            float(read.eye == "right"),
            float(width),
        ],
        np.float32,
    )


def said_row(true: Named, said: Named) -> np.ndarray:
    """(2 k + 2,) float32: what a reference names beside what its candidate names."""
    classes = [*_flags(true.classes), *_flags(said.classes)]
    return np.array([*classes, _eye(true.eye), _eye(said.eye)], np.float32)


def load(folder: Any = None) -> tuple[FindingsRead, None]:
    """The metric for the registry; it needs no weights."""
    return FindingsRead(), None


def load_said(folder: Any = None) -> tuple[FindingsSaid, None]:
    """The metric of two reports for the registry; it needs no weights."""
    return FindingsSaid(), None


def _flags(classes: Collection[str]) -> list[float]:
    return [float(name in classes) for name in CLASSES]


def _eye(eye: str | None) -> float:
    return UNKNOWN if eye is None else float(eye == "right")


def _values(main: str, rows: np.ndarray) -> dict[str, float]:
    """Values of rows: classes that are there, those that are found, the eye of both."""
    k, rows = len(CLASSES), np.asarray(rows, np.float64)
    there, found = rows[:, :k] > 0.5, rows[:, k : 2 * k] > 0.5
    values = dict(zip((main, "precision", "recall"), _scores(there, found), strict=True))
    for j, name in enumerate(CLASSES):
        if there[:, j].any() or found[:, j].any():
            scores = _scores(there[:, j], found[:, j])
            for key, score in zip(("f1", "precision", "recall"), scores, strict=True):
                values[f"{key}.{name}"] = score
    eyes = rows[rows[:, 2 * k] != UNKNOWN][:, 2 * k : 2 * k + 2]
    if len(eyes):
        values["laterality"] = float((eyes[:, 0] == eyes[:, 1]).mean())
    return values


def _scores(said: np.ndarray, seen: np.ndarray) -> tuple[float, float, float]:
    """F1, precision and recall; 0 where nothing is hit."""
    hits = float((said & seen).sum())
    f1 = 2 * hits / max(float(said.sum() + seen.sum()), 1.0)
    return f1, hits / max(float(seen.sum()), 1.0), hits / max(float(said.sum()), 1.0)
