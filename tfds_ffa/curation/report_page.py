"""The HTML page of a build report: one file, no scripts, nothing loaded from elsewhere.

Everything that comes from outside (dataset name, settings, where a row stands) is escaped, and the
page forbids itself to load anything.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAMED = 20  # exams named per reason; the JSON file names all
_LISTED = 200  # remarks and leakage findings listed; the JSON file holds all
_KEY_LETTERS = 12
_COLOURS = {"kept": "#2f7d4f", "dropped": "#b4552d", "quarantined": "#8a6d1a"}

# The page may show its own styles and embedded pictures and nothing else.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #777; --bar: #3b6ea5; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 0 0 .3rem }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; vertical-align: top;
         border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
code { font-size: .9em }
.w { white-space: nowrap }
ul.c { columns: 3 16rem; list-style: none; padding: 0; margin: .3rem 0 }
.faint { color: var(--faint) }
.total { display: flex; height: 1.4rem; border-radius: 3px; overflow: hidden; max-width: 50rem }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem }
figure { margin: 0 } figcaption { font-size: .85rem; color: var(--faint) }
figure img { max-width: 100%; background: #000 }
svg text { font: 12px system-ui, sans-serif; fill: currentColor }
details { margin: .2rem 0 } summary { cursor: pointer }
"""


def render(report: Mapping[str, Any], sheets: Sequence[Mapping[str, str]]) -> str:
    """The page.

    Args:
      report: what `build_report.write_report` writes as JSON.
      sheets: kept exams to show: key, caption and image (a data URL).
    """
    parts = [
        _head(report),
        _section("What became of every exam", _reason_table(report["reasons"])),
        _section("Noted, but kept", _reason_table(report["remarks"], status=False)),
        _section("Remarks on the table", _listing(report["problems"])),
        _section("Splits", _split_table(report["splits"])),
        _section("Leakage: near duplicates across patients or splits", _leakage(report["leakage"])),
        _section("What is in it", _histograms(report["histograms"])),
        _section("De-identification", _deidentification(report["deidentification"])),
        _section("Kept exams", _sheets(sheets)),
        _section("Settings", _pairs(report["settings"])),
    ]
    title = f"Build report {_text(report['dataset'])}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


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
        f"<h1>{_text(report['dataset'] or 'Dataset')}</h1>\n"
        f"<p>{report['inputs']} inputs = {words}</p>\n"
        f'<div class="total" role="img" aria-label="shares">{bar}</div>'
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}\n</section>"


# --- Tables ---


def _reason_table(reasons: Sequence[Mapping[str, Any]], status: bool = True) -> str:
    if not reasons:
        return _nothing()
    head = ["", "reason", "exams", "meaning", "what to do", "which"]
    rows = []
    for entry in reasons:
        dot = _dot(entry["status"]) if status else ""
        code = f"<code>{_text(entry['code'])}</code>" if entry["code"] else "kept"
        which = _which(entry["exams"]) if entry["code"] else ""
        words = [_text(entry["meaning"]), _text(entry["what_to_do"]), which]
        rows.append([dot, code, entry["count"], *words])
    return _table(head, rows)


def _which(exams: Sequence[Mapping[str, str]]) -> str:
    """Where the exams stand in the table, else their keys; folded away."""
    names = [_text(exam["where"] or exam["key"][:_KEY_LETTERS]) for exam in exams[:NAMED]]
    names = [f'<span class="w">{name}</span>' for name in names]
    if len(exams) > NAMED:
        names.append(f"and {len(exams) - NAMED} more in the JSON file")
    if len(names) <= 2:
        return "<br>".join(names)
    return f"<details><summary>{names[0]}, ...</summary>{'<br>'.join(names[1:])}</details>"


def _listing(things: Sequence[Mapping[str, Any]]) -> str:
    """Mappings with the same fields, one per row."""
    if not things:
        return _nothing()
    fields = list(dict.fromkeys(field for thing in things for field in thing))
    rows = [[_text(thing.get(field, "")) for field in fields] for thing in things[:_LISTED]]
    more = len(things) - _LISTED
    tail = f'<p class="faint">and {more} more in the JSON file</p>' if more > 0 else ""
    return _table([field.replace("_", " ") for field in fields], rows) + tail


def _leakage(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return '<p class="faint">None found.</p>'
    short = [
        {k: _short(v) if k == "exams" else v for k, v in finding.items()} for finding in findings
    ]
    return _listing(short)


def _short(keys: Sequence[str]) -> str:
    return ", ".join(str(key)[:_KEY_LETTERS] for key in keys)


def _split_table(splits: Mapping[str, Mapping[str, int]]) -> str:
    if not splits:
        return _nothing()
    fields = list(next(iter(splits.values())))
    rows = [[_text(name), *(counts[f] for f in fields)] for name, counts in splits.items()]
    return _table(["split", *fields], rows)


def _deidentification(removed: Mapping[str, Mapping[str, int]]) -> str:
    parts = []
    for title, counts in removed.items():
        items = "".join(f"<li>{_text(name)}: {n}</li>" for name, n in counts.items())
        body = f'<ul class="c">{items}</ul>' if items else _nothing()
        parts.append(f"<h3>{_text(title)} (in how many exams)</h3>{body}")
    lead = (
        "<p>Exam and patient ids are salted hashes; file names, paths and DICOM values are not "
        "carried. Counted below is what was found and left out, never its content.</p>"
    )
    return lead + "".join(parts)


def _pairs(settings: Mapping[str, Any]) -> str:
    rows = [[_text(name), f"<code>{_text(value)}</code>"] for name, value in settings.items()]
    return _table(["", ""], rows) if rows else _nothing()


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Cells are HTML already; whole numbers are right-aligned."""
    rows = list(rows)
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    kind = [' class="n"' if number else "" for number in numeric]
    heads = "".join(f"<th{k}>{_text(h)}</th>" for h, k in zip(head, kind, strict=True))
    lines = [f"<tr>{heads}"] if any(head) else []
    lines += [
        "<tr>" + "".join(f"<td{k}>{cell}</td>" for cell, k in zip(row, kind, strict=True))
        for row in rows
    ]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


# --- Pictures ---


def _histograms(histograms: Mapping[str, Mapping[str, int]]) -> str:
    drawn = [
        f"<figure><h3>{_text(title)}</h3>{_bars(bins)}</figure>"
        for title, bins in histograms.items()
        if any(bins.values())
    ]
    return f'<div class="grid">{"".join(drawn)}</div>' if drawn else _nothing()


def _bars(bins: Mapping[str, int], most: int = 14) -> str:
    """Horizontal bars as SVG; rarer bins beyond `most` are summed up."""
    shown = list(bins.items())
    if len(shown) > most:
        rest = shown[most - 1 :]
        shown = [*shown[: most - 1], (f"{len(rest)} others", sum(n for _, n in rest))]
    top = max(n for _, n in shown)
    row_px, label_px, bar_px = 19, 110, 150
    lines = []
    for number, (name, count) in enumerate(shown):
        y, width = row_px * number, bar_px * count / top
        lines.append(
            f'<text x="{label_px - 6}" y="{y + 14}" text-anchor="end">{_text(name)}</text>'
            f'<rect x="{label_px}" y="{y + 3}" width="{width:.1f}" height="13" fill="#3b6ea5"/>'
            f'<text x="{label_px + width + 5:.1f}" y="{y + 14}">{count}</text>'
        )
    width_px, height_px = label_px + bar_px + 50, row_px * len(shown)
    return (
        f'<svg width="{width_px}" height="{height_px}" viewBox="0 0 {width_px} {height_px}" '
        f'role="img">{"".join(lines)}</svg>'
    )


def _sheets(sheets: Sequence[Mapping[str, str]]) -> str:
    if not sheets:
        return _nothing()
    figures = [
        f'<figure><img src="{sheet["image"]}" alt="contact sheet of one exam">'
        f"<figcaption>{_text(sheet['caption'])}</figcaption></figure>"
        for sheet in sheets
    ]
    lead = (
        '<p class="faint">A sample spread over all kept exams. A gray bar below a frame: '
        "interpolated, not recorded.</p>"
    )
    return f'{lead}<div class="grid">{"".join(figures)}</div>'


def _dot(status: str) -> str:
    return f'<span class="dot" style="background:{_COLOURS[status]}" title="{status}"></span>'


def _nothing() -> str:
    return '<p class="faint">Nothing.</p>'


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
