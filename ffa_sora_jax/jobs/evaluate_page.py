"""What `ffa-sora evaluate` writes for readers: a Markdown table, and a page with contact sheets."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ffa_sora_jax.common import page
from ffa_sora_jax.jobs.evaluate_results import Outcome

MAX_WIDTH_PX = 1120  # of a contact sheet on the page

Sheet = Callable[[str], tuple[np.ndarray, str]]  # name of a clip -> picture and caption


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that is written.

    Attributes:
      about: generated, reference, settings, pairing; see `evaluate.py`.
      outcomes: the metrics in the order asked for.
      remarks: what a reader must know before the numbers.
      failed: clip and reason.
      synthetic: whether no clip shows a patient.
    """

    about: Mapping[str, Any]
    outcomes: Sequence[Outcome]
    remarks: Sequence[str]
    failed: Sequence[tuple[str, str]]
    synthetic: bool


def as_json(report: Report) -> dict[str, Any]:
    """The content of results.json."""
    return {
        **report.about,
        "remarks": list(report.remarks),
        "failed": [{"clip": name, "reason": reason} for name, reason in report.failed],
        "metrics": {o.loaded.entry.name: {**o.record, "cases": o.chosen} for o in report.outcomes},
    }


def as_markdown(report: Report) -> str:
    """The numbers as a table, each with what it needs to be read."""
    lines = ["# Evaluation", ""]
    lines += [f"- {name}: {_flat(value)}" for name, value in report.about.items()]
    lines += [f"- note: {remark}" for remark in report.remarks]
    lines += [
        "",
        "| metric | value (95 % interval) | real beside real | N | network, weights | paper |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for outcome in report.outcomes:
        lines.append("| " + " | ".join(_cell(c) for c in _row(outcome)) + " |")
    lines += ["", "Definitions:", ""]
    lines += [f"- {o.record['title']}: {o.record['definition']}" for o in report.outcomes]
    floors = [(o.record["title"], o.record["floor"]["what"]) for o in report.outcomes
              if o.record["floor"]]  # fmt: skip
    if floors:
        lines += ["", "Real beside real:", "", *(f"- {title}: {what}" for title, what in floors)]
    if report.failed:
        lines += ["", "Not measured:", ""]
        lines += [f"- {name}: {reason}" for name, reason in report.failed]
    return "\n".join(lines) + "\n"


def as_html(report: Report, sheet: Sheet) -> str:
    """The page; pictures are made only for the clips that it shows."""
    notes = "".join(f'<p class="bad">{page.text(remark)}</p>' for remark in report.remarks)
    rows = [[page.text(cell) for cell in _row(outcome)] for outcome in report.outcomes]
    about = {name: _flat(value) for name, value in report.about.items()}
    parts = [
        f"<h1>Evaluation</h1><p>{page.mark(synthetic=report.synthetic)}</p>{notes}",
        page.section("Numbers", page.table(list(_HEAD), rows) + page.nothing(_HOW_TO_READ)),
        *(_section(outcome, sheet) for outcome in report.outcomes),
        page.section("What was compared", page.pairs(about)),
    ]
    if report.failed:
        listed = [{"clip": name, "reason": reason} for name, reason in report.failed]
        parts.append(page.section("Not measured", page.listing(listed)))
    return page.document("Evaluation", parts)


def summary(report: Report) -> list[str]:
    """One line per metric, for the terminal."""
    rows = [_row(outcome) for outcome in report.outcomes]
    width = max((len(row[0]) for row in rows), default=0)
    return [
        f"{row[0]:<{width}}  {row[1]}  N {row[3]}"
        + (
            f"  {'' if row[2].startswith(_CHANCE) else 'real beside real '}{row[2]}"
            if row[2]
            else ""
        )
        for row in rows
    ]


_CHANCE = "chance: "
_HEAD = ("metric", "value (95 % interval)", "real beside real", "N", "network, weights", "paper")
_HOW_TO_READ = (
    "Real beside real is what the same metric says of real clips alone: of distances of sets, the "
    "floor that their size allows; of pairs, what each section says. Chance is what clips of other "
    "patients score. N is samples / references. A "
    "paper's figure was measured on other data, often with other weights: it is no target."
)


def _section(outcome: Outcome, sheet: Sheet) -> str:
    record = outcome.record
    shown = {
        "definition": record["definition"], "settings": _flat(record["settings"]),
        "values": _flat(record["values"]), "interval": _flat(record["interval"]),
        "floor": _flat(record["floor"]), "weights": _flat(record["weights"]),
        "frames, size": f"{record['frames']}, {_flat(record['size'])}",
        "paper": _flat(record["paper"]),
    }  # fmt: skip
    content = page.pairs({name: value for name, value in shown.items() if value})
    numbers = [v for v in outcome.per_clip.values() if np.isfinite(v)]
    content += page.histogram(numbers, f"{record['title']} of single clips")
    for word, name in outcome.chosen.items():
        picture, caption = sheet(name)
        words = f"{word}: {name}, {record['title']} {_short(outcome.per_clip[name])}\n{caption}"
        content += page.figure(page.data_url(picture, MAX_WIDTH_PX), words)
    return page.section(record["title"], content)


def _row(outcome: Outcome) -> list[str]:
    record = outcome.record
    weights = ", ".join(f"{name} {digest[:12]}" for name, digest in record["weights"].items())
    paper = record["paper"]
    count = f"{record['n']} / {record['n_reference']}".replace(" ", "\u00a0")  # in one line
    return [
        record["title"], _value(record), _floor(record), count,
        "; ".join(part for part in (record["network"], weights) if part) or "none",
        f"{paper['value']} ({paper['caveat']})" if paper else "",
    ]  # fmt: skip


def _value(record: Mapping[str, Any]) -> str:
    unit = f" {record['unit']}" if record["unit"] else ""
    interval = record["interval"]
    bounds = ""
    if interval and interval["low"] is not None:
        bounds = f" ({_short(interval['low'])} to {_short(interval['high'])})"
    return f"{_short(record['value'])}{unit}{bounds}"


def _floor(record: Mapping[str, Any]) -> str:
    floor = record["floor"]
    if not floor:
        return ""
    chance = _CHANCE if floor["what"].endswith("the level of chance") else ""
    text = f"{chance}{_short(floor['value'])} at N = {floor['n']}"
    if "generated_at_this_n" in floor:
        text += f" (generated there: {_short(floor['generated_at_this_n'])})"
    return text


def _short(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def _flat(value: Any) -> str:
    """Mappings and lists in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(_flat(v) for v in value)
    if isinstance(value, float):
        return _short(value)
    return "" if value is None else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
