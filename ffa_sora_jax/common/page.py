"""Web pages of reports: one file each, pictures included, no scripts, nothing loaded from outside.

Functions return HTML. Those that take cells or content take HTML; everything that comes from
outside (names, reports, settings) goes through `text` first. The page forbids itself to load
anything.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

LISTED = 200  # rows of a listing; the rest is counted
BAR = "#3b6ea5"

_QUALITY = 78  # of WebP pictures
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #777; --bar: #3b6ea566; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
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
.bad { color: #b3261e; font-weight: 600 }
.mark { display: inline-block; padding: .1rem .6rem; border-radius: .3rem; background: #8b1e1e;
        color: #fff }
.mark.synthetic { background: #2c5c3f }
.total { display: flex; height: 1.4rem; border-radius: 3px; overflow: hidden; max-width: 50rem }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem }
.share { min-width: 9rem; background: linear-gradient(var(--bar), var(--bar)) no-repeat
         0 50% / var(--w) 70% }
figure { margin: 0 0 1rem }
figcaption { font-size: .85rem; color: var(--faint); white-space: pre-wrap }
figure img { max-width: 100%; background: #000 }
svg text { font: 12px system-ui, sans-serif; fill: currentColor }
details { margin: .2rem 0 } summary { cursor: pointer }
"""
_MARKS = {
    True: '<span class="mark synthetic">SYNTHETIC: shows no patient</span>',
    False: '<span class="mark">PATIENT DATA: clips and reports of real exams. Share this page '
    "only with those who may see the exams.</span>",
}


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page; empty parts are left out."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """Content under a heading."""
    return f"<section>\n<h2>{text(title)}</h2>\n{content}\n</section>"


def text(value: Any) -> str:
    """Any value as escaped text."""
    return html.escape(str(value), quote=True)


def nothing(words: str = "Nothing.") -> str:
    """What stands where there is nothing to show."""
    return f'<p class="faint">{text(words)}</p>'


def mark(*, synthetic: bool) -> str:
    """Whether the page shows made-up clips, or patient data to be kept from others."""
    return _MARKS[synthetic]


# --- Tables ---


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Cells are HTML already; columns of whole numbers are right-aligned; no head if all empty."""
    rows = list(rows)
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    kind = [' class="n"' if number else "" for number in numeric]
    heads = "".join(f"<th{k}>{text(h)}</th>" for h, k in zip(head, kind, strict=True))
    lines = [f"<tr>{heads}"] if any(head) else []
    lines += [
        "<tr>" + "".join(f"<td{k}>{cell}</td>" for cell, k in zip(row, kind, strict=True))
        for row in rows
    ]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def listing(things: Sequence[Mapping[str, Any]]) -> str:
    """Mappings, one per row, fields as columns."""
    if not things:
        return nothing()
    fields = list(dict.fromkeys(field for thing in things for field in thing))
    rows = [[text(thing.get(field, "")) for field in fields] for thing in things[:LISTED]]
    more = len(things) - LISTED
    tail = nothing(f"and {more} more in the JSON file") if more > 0 else ""
    return table([field.replace("_", " ") for field in fields], rows) + tail


def pairs(settings: Mapping[str, Any]) -> str:
    """A table of names and values."""
    rows = [[text(name), f"<code>{text(value)}</code>"] for name, value in settings.items()]
    return table(["", ""], rows) if rows else nothing()


# --- Pictures ---


def data_url(picture: np.ndarray, max_width_px: int | None = None) -> str:
    """A picture (h, w) or (h, w, 3) uint8 RGB as a WebP `data:` address, reduced to a width."""
    image = Image.fromarray(picture)
    if max_width_px is not None and image.width > max_width_px:
        image = image.resize((max_width_px, round(image.height * max_width_px / image.width)))
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def figure(address: str, caption: str, alt: str = "contact sheet of a clip") -> str:
    """A picture, given as a `data:` address, with its caption below."""
    return (
        f'<figure><img src="{address}" alt="{text(alt)}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def grid(items: Iterable[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="grid">{"".join(items)}</div>'


def bars(bins: Mapping[str, int], most: int = 14) -> str:
    """Horizontal bars of counts as SVG; rarer bins beyond `most` are summed up."""
    shown = list(bins.items())
    if len(shown) > most:
        rest = shown[most - 1 :]
        shown = [*shown[: most - 1], (f"{len(rest)} others", sum(n for _, n in rest))]
    top = max(1, *(n for _, n in shown))
    row_px, label_px, bar_px = 19, 110, 150
    lines = []
    for number, (name, count) in enumerate(shown):
        y, width = row_px * number, bar_px * count / top
        lines.append(
            f'<text x="{label_px - 6}" y="{y + 14}" text-anchor="end">{text(name)}</text>'
            f'<rect x="{label_px}" y="{y + 3}" width="{width:.1f}" height="13" fill="{BAR}"/>'
            f'<text x="{label_px + width + 5:.1f}" y="{y + 14}">{count}</text>'
        )
    width_px, height_px = label_px + bar_px + 50, row_px * len(shown)
    return (
        f'<svg width="{width_px}" height="{height_px}" viewBox="0 0 {width_px} {height_px}" '
        f'role="img">{"".join(lines)}</svg>'
    )


def histogram(values: Sequence[float] | np.ndarray, label: str, num_bins: int = 24) -> str:
    """Upright bars of how often values occur, as SVG; "" without values."""
    if not len(values):
        return ""
    counts, edges = np.histogram(values, bins=num_bins)
    bar_px, high_px = 9, 70
    drawn = "".join(
        f'<rect x="{k * bar_px}" y="{high_px - high:.1f}" width="{bar_px - 1}" '
        f'height="{high:.1f}" fill="{BAR}"><title>{edges[k]:.3g} to {edges[k + 1]:.3g}: {n}'
        "</title></rect>"
        for k, n in enumerate(counts.tolist())
        if (high := high_px * n / counts.max())
    )
    width = num_bins * bar_px
    return (
        f'<svg width="{width}" height="{high_px + 30}">{drawn}'
        f'<text x="0" y="{high_px + 12}">{edges[0]:.3g}</text>'
        f'<text x="{width}" y="{high_px + 12}" text-anchor="end">{edges[-1]:.3g}</text>'
        f'<text x="0" y="{high_px + 26}">{text(label)}</text></svg>'
    )
