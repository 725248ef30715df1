"""The HTML page of a build report: one file, no scripts, nothing loaded from elsewhere.

Everything that comes from outside (dataset name, settings, where a row stands) is escaped.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ffa_sora_jax.common.page import (
    bars,
    document,
    figure,
    grid,
    listing,
    mark,
    nothing,
    pairs,
    section,
    table,
    text,
)  # fmt: skip

NAMED = 20  # exams named per reason; the JSON file names all
_KEY_LETTERS = 12
_COLOURS = {"kept": "#2f7d4f", "dropped": "#b4552d", "quarantined": "#8a6d1a"}


def render(report: Mapping[str, Any], sheets: Sequence[Mapping[str, str]]) -> str:
    """The page.

    Args:
      report: what `build_report.write_report` writes as JSON.
      sheets: kept exams to show: key, caption and image (a data URL).
    """
    parts = [
        _head(report),
        section("What became of every exam", _reason_table(report["reasons"])),
        section("Noted, but kept", _reason_table(report["remarks"], status=False)),
        section("Remarks on the table", listing(report["problems"])),
        section("Splits", _split_table(report["splits"])),
        section("Leakage: near duplicates across patients or splits", _leakage(report["leakage"])),
        section("What is in it", _histograms(report["histograms"])),
        section("De-identification", _deidentification(report["deidentification"])),
        section("Kept exams", _sheets(sheets)),
        section("Settings", pairs(report["settings"])),
    ]
    return document(f"Build report {report['dataset']}", parts)


def _head(report: Mapping[str, Any]) -> str:
    total = max(1, report["inputs"])
    bar = "".join(
        f'<span style="width:{100 * n / total:.2f}%;background:{_COLOURS[name]}"></span>'
        for name, n in report["counts"].items()
    )
    words = " &middot; ".join(
        f"{_dot(name)}{n} {name} ({100 * n / total:.1f} %)" for name, n in report["counts"].items()
    )
    return (
        f"<h1>{text(report['dataset'] or 'Dataset')}</h1>\n{mark(synthetic=False)}\n"
        f"<p>{report['inputs']} inputs = {words}</p>\n"
        f'<div class="total" role="img" aria-label="shares">{bar}</div>'
    )


# --- Tables ---


def _reason_table(reasons: Sequence[Mapping[str, Any]], status: bool = True) -> str:
    if not reasons:
        return nothing()
    head = ["", "reason", "exams", "meaning", "what to do", "which"]
    rows = []
    for entry in reasons:
        dot = _dot(entry["status"]) if status else ""
        code = f"<code>{text(entry['code'])}</code>" if entry["code"] else "kept"
        which = _which(entry) if entry["code"] else ""
        words = [text(entry["meaning"]), text(entry["what_to_do"]), which]
        rows.append([dot, code, entry["count"], *words])
    return table(head, rows)


def _which(entry: Mapping[str, Any]) -> str:
    """Where the exams stand in the table, else their keys, and advice of their own; folded away."""
    exams, names = entry["exams"], []
    for exam in exams[:NAMED]:
        name = f'<span class="w">{text(exam["where"] or exam["key"][:_KEY_LETTERS])}</span>'
        own = exam.get("what_to_do", "").removesuffix(entry["what_to_do"]).strip()
        names.append(f"{name}: {text(own)}" if own else name)
    if len(exams) > NAMED:
        names.append(f"and {len(exams) - NAMED} more in the JSON file")
    if len(names) <= 2:
        return "<br>".join(names)
    return f"<details><summary>{names[0]}, ...</summary>{'<br>'.join(names[1:])}</details>"


def _leakage(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return '<p class="faint">None found.</p>'
    short = [
        {k: _short(v) if k == "exams" else v for k, v in finding.items()} for finding in findings
    ]
    return listing(short)


def _short(keys: Sequence[str]) -> str:
    return ", ".join(str(key)[:_KEY_LETTERS] for key in keys)


def _split_table(splits: Mapping[str, Mapping[str, int]]) -> str:
    if not splits:
        return nothing()
    fields = list(next(iter(splits.values())))
    rows = [[text(name), *(counts[f] for f in fields)] for name, counts in splits.items()]
    return table(["split", *fields], rows)


def _deidentification(removed: Mapping[str, Mapping[str, int]]) -> str:
    parts = []
    for title, counts in removed.items():
        items = "".join(f"<li>{text(name)}: {n}</li>" for name, n in counts.items())
        body = f'<ul class="c">{items}</ul>' if items else nothing()
        parts.append(f"<h3>{text(title)} (in how many exams)</h3>{body}")
    lead = (
        "<p>Exam and patient ids are salted hashes; file names, paths and DICOM values are not "
        "carried. Counted below is what was found and left out, never its content.</p>"
    )
    return lead + "".join(parts)


# --- Pictures ---


def _histograms(histograms: Mapping[str, Mapping[str, int]]) -> str:
    drawn = [
        f"<figure><h3>{text(title)}</h3>{bars(bins)}</figure>"
        for title, bins in histograms.items()
        if any(bins.values())
    ]
    return grid(drawn) if drawn else nothing()


def _sheets(sheets: Sequence[Mapping[str, str]]) -> str:
    if not sheets:
        return nothing()
    figures = [
        figure(sheet["image"], sheet["caption"], alt="contact sheet of one exam")
        for sheet in sheets
    ]
    lead = (
        '<p class="faint">A sample spread over all kept exams. A gray bar below a frame: '
        "interpolated, not recorded.</p>"
    )
    return lead + grid(figures)


def _dot(status: str) -> str:
    return f'<span class="dot" style="background:{_COLOURS[status]}" title="{status}"></span>'
