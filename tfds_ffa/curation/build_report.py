"""What a build did with every exam: `build_report.json` and `build_report.html`.

The report says for every input what became of it and why, and shows what was kept. It holds no
identifier: exams appear under their salted key and the line of the table they came from. The same
outcomes give the same bytes, in whichever order they arrive.
"""

import collections
import dataclasses
import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ffa_sora_jax.common import files, page
from tfds_ffa.curation import reasons, report_page

JSON_NAME = "build_report.json"
HTML_NAME = "build_report.html"
STATUSES = ("kept", "dropped", "quarantined")
SHEETS = 12  # kept exams shown as contact sheets

# What a report carries of an exam. Patient and report are salted hashes (the report's stands in
# for the patient's where `has_patient_id` is false), `where` is a line of the table, `what_to_do`
# advice for it, `removed` are keywords of DICOM elements, `cleared` kinds of text, `remarks` codes
# of what was noted but did not stop the exam. `frames` (one mapping per source frame: kind, used,
# vessel_ratio) is summed up; the filter looks at the ratios of angiogram frames only.
FACTS = (
    *("where", "what_to_do", "kind", "source_frames", "width", "height", "bits", "times_known"),
    *("eye", "language", "disease", "patient_id", "has_patient_id", "report_hash"),
    *("removed", "cleared", "remarks", "error"),
)
LoadClip = Callable[[str], tuple[np.ndarray, np.ndarray]]

_TILE_PX, _COLUMNS = 72, 7


class Outcome(Protocol):
    """What became of one input: the part of `ledger.Outcome` that the report reads."""

    @property
    def key(self) -> str:
        """Salted hash of the exam, never an identifier."""

    @property
    def status(self) -> str:
        """ "kept", "dropped" or "quarantined"."""

    @property
    def reason(self) -> str:
        """A code of `reasons`; "" for a kept exam."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON-able: `FACTS` and `frames`, all optional; anything else is left out."""


def write_report(
    folder: Path,
    outcomes: Iterable[Outcome],
    *,
    inputs: int | None = None,
    problems: Iterable[Any] = (),
    splits: Mapping[str, str] | None = None,
    leakage: Iterable[Any] = (),
    settings: Mapping[str, Any] | None = None,
    dataset: str = "",
    load_clip: LoadClip | None = None,
) -> dict[str, Any]:
    """Writes `build_report.json` and `build_report.html` into `folder`.

    Args:
      folder: an existing folder.
      outcomes: one per input: rows without exam and exams without row included.
      inputs: number of inputs; the outcomes must add up to it.
      problems: remarks on the table beyond the outcomes: `table.Problem`s.
      splits: key of a kept exam -> its split.
      leakage: findings of `leakage`: dataclasses or mappings, without identifiers.
      settings: what the build was asked for; shown as it is.
      dataset: name of the dataset, such as "hospital_exams/512".
      load_clip: key of a kept exam -> its finished (t, h, w) or (t, h, w, 1) uint8 clip and
        (t,) bool which frames are original. None: the page has no pictures.

    Returns:
      The content of the JSON file.

    Raises:
      ValueError: outcomes do not add up to `inputs`, a key comes twice, or a status is unknown.
    """
    splits = splits or {}
    exams = sorted((_line(outcome, splits) for outcome in outcomes), key=lambda line: line["key"])
    _check(exams, inputs)
    report = {
        "dataset": dataset,
        "settings": dict(settings or {}),
        "inputs": len(exams),
        "counts": {s: sum(line["status"] == s for line in exams) for s in STATUSES},
        "reasons": _reasons(exams),
        "remarks": _remarks(exams),
        "problems": [_plain(problem) for problem in problems],
        "splits": _split_table(exams),
        "leakage": [_plain(finding) for finding in leakage],
        "histograms": _histograms(exams),
        "deidentification": _deidentification(exams),
        "exams": exams,
    }
    shown = _sheets(exams, load_clip) if load_clip else []
    files.write_text(folder / JSON_NAME, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    files.write_text(folder / HTML_NAME, report_page.render(report, shown))
    return report


def contact_sheet(video: np.ndarray, is_original: np.ndarray | None = None) -> np.ndarray:
    """(H, W) uint8 picture of all frames, small; interpolated frames have a gray bar below.

    Args:
      video: (t, h, w) or (t, h, w, 1) uint8.
      is_original: (t,) bool, False for interpolated frames.
    """
    frames = video[..., 0] if video.ndim == 4 else video
    rows = -(-len(frames) // _COLUMNS)
    sheet = np.zeros((rows * (_TILE_PX + 4), _COLUMNS * (_TILE_PX + 4)), np.uint8)
    for number, frame in enumerate(frames):
        y, x = (_TILE_PX + 4) * (number // _COLUMNS), (_TILE_PX + 4) * (number % _COLUMNS)
        tile = cv2.resize(frame, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
        sheet[y : y + _TILE_PX, x : x + _TILE_PX] = tile
        if is_original is not None and not is_original[number]:
            sheet[y + _TILE_PX + 1 : y + _TILE_PX + 3, x : x + _TILE_PX] = 160
    return sheet


# --- What is counted ---


def _line(outcome: Outcome, splits: Mapping[str, str]) -> dict[str, Any]:
    """The line of one exam in the JSON file."""
    if outcome.status not in STATUSES:
        raise ValueError(f"status is {outcome.status!r}; it must be one of {', '.join(STATUSES)}.")
    frames = outcome.facts.get("frames", ())
    ratios = [f["vessel_ratio"] for f in frames if f.get("kind") == "ffa"]
    kinds = collections.Counter(f.get("kind", "unknown") for f in frames)
    line = {
        "key": outcome.key,
        "status": outcome.status,
        "reason": outcome.reason or "",
        "split": splits.get(outcome.key, "") if outcome.status == "kept" else "",
        **{name: outcome.facts[name] for name in FACTS if name in outcome.facts},
    }
    if kinds:
        line["frame_kinds"] = dict(sorted(kinds.items()))
    if ratios:
        line["vessel_ratio"] = {
            "min": round(min(ratios), 5),
            "median": round(statistics.median(ratios), 5),
            "max": round(max(ratios), 5),
        }
    return line


def _check(exams: Sequence[Mapping[str, Any]], inputs: int | None) -> None:
    twice = [key for key, n in collections.Counter(e["key"] for e in exams).items() if n > 1]
    if twice:
        raise ValueError(f"{len(twice)} keys come twice, such as {twice[0]}; give one per input.")
    if inputs is not None and inputs != len(exams):
        raise ValueError(f"{inputs} inputs but {len(exams)} outcomes; every input needs one.")


def _reasons(exams: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = collections.defaultdict(list)
    for line in exams:
        groups[line["status"], line["reason"]].append(line)
    found = []
    for status, code in sorted(groups, key=lambda g: (STATUSES.index(g[0]), g[1])):
        lines = groups[status, code]
        found.append(
            {
                "status": status,
                "code": code,
                "count": len(lines),
                **_explained(code),
                "exams": _named(lines),
            }
        )
    return found


def _remarks(exams: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was noted without stopping an exam, by code."""
    groups: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for line in exams:
        for code in line.get("remarks", ()):
            groups[code].append(line)
    return [
        {"code": code, "count": len(lines), **_explained(code), "exams": _named(lines)}
        for code, lines in sorted(groups.items())
    ]


def _named(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """In the order of the table, with advice of their own where they have any."""
    named = [
        {name: line[name] for name in ("key", "what_to_do") if name in line}
        | {"where": line.get("where", "")}
        for line in lines
    ]
    return sorted(named, key=lambda exam: (_number(exam["where"]), exam["key"]))


def _number(where: str) -> tuple[str, int]:
    """Sorts "line 9" before "line 10"."""
    word, _, number = where.partition(" ")
    return (word, int(number)) if number.isdecimal() else (where, 0)


def _explained(code: str) -> dict[str, str]:
    """Meaning and remedy of a reason code."""
    if not code:
        return {"meaning": "Nothing to say against it.", "what_to_do": ""}
    entry = reasons.reason(code)
    return {"meaning": entry.meaning, "what_to_do": entry.what_to_do}


def _split_table(exams: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    order = ("train", "validation", "test")
    kept = [line for line in exams if line["status"] == "kept"]
    names = {line["split"] for line in kept}
    for name in sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n)):
        lines = [line for line in kept if line["split"] == name]
        eyes = collections.Counter(line.get("eye") or "unknown" for line in lines)
        table[name] = {
            "exams": len(lines),
            "patients": len({line["patient_id"] for line in lines if line.get("patient_id")}),
            "without patient id": sum(not line.get("has_patient_id", True) for line in lines),
            "reports": len({line["report_hash"] for line in lines if line.get("report_hash")}),
            **{eye: eyes.get(eye, 0) for eye in ("right", "left", "unknown")},
        }
    return table


def _histograms(exams: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Each an ordered mapping of bin -> number of exams (frames for "frame kinds")."""
    kinds: collections.Counter[str] = collections.Counter()
    for line in exams:
        kinds.update(line.get("frame_kinds", {}))
    counts = [line["source_frames"] for line in exams if line.get("source_frames") is not None]
    lowest = [line["vessel_ratio"]["min"] for line in exams if "vessel_ratio" in line]
    kept = [line for line in exams if line["status"] == "kept"]
    return {
        "frames per exam": _binned(counts, (2, 6, 11, 21, 22, 31, 61, 121, 1001)),
        "lowest vessel ratio of an exam": _binned(
            lowest, (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
        ),
        "size of the source (px)": _counted(
            f"{line['width']} x {line['height']}" for line in exams if line.get("width")
        ),
        "eye": _counted(line.get("eye") or "unknown" for line in kept),
        "format": _counted(line["kind"] for line in exams if line.get("kind")),
        "bits": _counted(str(line["bits"]) for line in exams if line.get("bits")),
        "language": _counted(line["language"] for line in exams if line.get("language")),
        "frame kinds": dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
    }


def _binned(values: Sequence[float], edges: Sequence[float]) -> dict[str, int]:
    """Counts between the edges, named "< 2", "2-5" (whole numbers) or "0.01-0.02"."""
    if not values:
        return {}
    found = np.bincount(np.digitize(values, edges), minlength=len(edges) + 1)
    whole = all(isinstance(edge, int) for edge in edges)
    names = [f"< {edges[0]}"]
    for low, high in itertools.pairwise(edges):
        top = high - 1 if whole else high
        names.append(f"{low}" if whole and top == low else f"{low}-{top}")
    names.append(f">= {edges[-1]}")
    return dict(zip(names, (int(n) for n in found), strict=True))


def _counted(values: Iterable[str]) -> dict[str, int]:
    """Commonest first, then by name."""
    found = collections.Counter(values)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _deidentification(exams: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """In how many exams each DICOM element was dropped and each other thing removed."""
    return {
        "DICOM elements dropped": _counted(k for line in exams for k in line.get("removed", ())),
        "Removed from reports": _counted(k for line in exams for k in line.get("cleared", ())),
    }


# --- Files ---


def _sheets(exams: Sequence[Mapping[str, Any]], load_clip: LoadClip) -> list[dict[str, str]]:
    """Contact sheets of kept exams spread evenly over all of them, as data URLs."""
    kept = [line for line in exams if line["status"] == "kept"]
    picks = np.unique(np.linspace(0, len(kept) - 1, min(SHEETS, len(kept))).astype(int))
    shown = []
    for pick in picks:
        line = kept[pick]
        video, is_original = load_clip(line["key"])
        facts = [line["key"][:12], line["split"], line.get("eye"), line.get("kind")]
        facts += [f"{line['source_frames']} frames" if "source_frames" in line else ""]
        caption = ", ".join(fact for fact in facts if fact)
        picture = page.data_url(contact_sheet(video, is_original))
        shown.append({"key": line["key"], "caption": caption, "image": picture})
    return shown


def _plain(thing: Any) -> dict[str, Any]:
    """A dataclass or mapping as a mapping."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return dataclasses.asdict(thing)
    return dict(thing)
