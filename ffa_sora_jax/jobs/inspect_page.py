"""The web page of `ffa-sora inspect`: one file, pictures included, that loads nothing."""

import base64
import dataclasses
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ffa_sora_jax.data.prepared import ExampleInfo
from ffa_sora_jax.jobs.summary import Counts, SplitSummary

MAX_WIDTH_PX = 1120  # of a contact sheet on the page
_WEBP_QUALITY = 80
_MOST = 15  # values of a table; the rest is summed up
_BINS, _BAR_PX, _HIGH_PX = 24, 9, 70

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;
color:#1d2230;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ccd}
table{border-collapse:collapse;margin:.5rem 0}th,td{text-align:left;padding:.2rem .8rem .2rem 0;
vertical-align:top}th{color:#556;font-weight:600}td.bar{min-width:9rem;background:linear-gradient(
#9fb8de,#9fb8de) no-repeat 0 50%/var(--w) 70%}
.mark{display:inline-block;padding:.1rem .6rem;border-radius:.3rem;background:#8b1e1e;color:#fff}
.mark.synthetic{background:#2c5c3f}.bad{color:#8b1e1e;font-weight:600}
figure{margin:1.2rem 0}figcaption{white-space:pre-wrap}img{max-width:100%}
.charts{display:flex;flex-wrap:wrap;gap:1.5rem}svg text{font-size:10px;fill:#556}
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One clip on the page."""

    split: str
    info: ExampleInfo
    sheet: np.ndarray  # (H, W, 3) uint8


def render(
    title: str,
    splits: Mapping[str, SplitSummary],
    found: tuple[Sequence[str], Sequence[str]],
    pictures: Sequence[Picture],
    *,
    synthetic: bool,
    size_mib: float,
) -> str:
    """The page as text.

    Args:
      title: dataset and version.
      splits: what every split holds.
      found: leaks between splits, and remarks.
      pictures: clips to show.
      synthetic: whether the clips are made up; otherwise the page says to treat it as patient data.
      size_mib: size of the dataset on disk.
    """
    mark = (
        '<span class="mark synthetic">SYNTHETIC: shows no patient</span>'
        if synthetic
        else '<span class="mark">PATIENT DATA: clips and reports of real exams. Share this page '
        "only with those who may see the exams.</span>"
    )
    leaks, remarks = found
    lines = [f'<p class="bad">LEAK: {html.escape(line)}</p>' for line in leaks]
    lines += [f"<p>{html.escape(line)}</p>" for line in remarks]
    body = [
        f"<h1>{html.escape(title)}</h1><p>{mark}</p>",
        f"<p>{sum(s.num_clips for s in splits.values())} clips, {size_mib:.1f} MiB on disk.</p>",
        "<h2>Splits</h2>", _overview(splits),
        "<h2>Between the splits</h2>",
        "".join(lines) or "<p>No patient, exam or report is in two splits.</p>",
        *(_counts(what, splits) for what in ("eyes", "languages", "diseases", "findings")),
        "<h2>Distributions</h2>", '<div class="charts">', *_charts(splits), "</div>",
        "<h2>Clips</h2>" if pictures else "", *map(_figure, pictures),
    ]  # fmt: skip
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _overview(splits: Mapping[str, SplitSummary]) -> str:
    skipped = ("eyes", "languages", "diseases", "findings")
    rows = {name: split.rows() for name, split in splits.items()}
    what = [key for key in next(iter(rows.values())) if key not in skipped]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in splits)
    body = "".join(
        f"<tr><th>{key}</th>"
        + "".join(f"<td>{html.escape(split.get(key, ''))}</td>" for split in rows.values())
        + "</tr>"
        for key in what
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def _counts(what: str, splits: Mapping[str, SplitSummary]) -> str:
    """A table of how often each value occurs, with a bar for its share of the clips."""
    found: dict[str, Counts] = {name: getattr(split, what) for name, split in splits.items()}
    total: Counts = {}
    for counts in found.values():
        for value, number in counts.items():
            total[value] = total.get(value, 0) + number
    if not total:
        return ""
    values = sorted(total, key=lambda value: -total[value])
    rest = f"<p>... and {len(values) - _MOST} more.</p>" if len(values) > _MOST else ""
    rows = "".join(
        f"<tr><th>{html.escape(value)}</th>"
        + "".join(
            _cell(counts.get(value, 0), splits[name].num_clips) for name, counts in found.items()
        )
        + "</tr>"
        for value in values[:_MOST]
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in splits)
    return f"<h2>{what.capitalize()}</h2><table><tr><th></th>{head}</tr>{rows}</table>{rest}"


def _cell(number: int, clips: int) -> str:
    share = min(100.0, 100 * number / clips)
    return f'<td class="bar" style="--w:{share:.1f}%">{number} ({share:.0f} %)</td>'


def _charts(splits: Mapping[str, SplitSummary]) -> list[str]:
    chosen = (
        ("tokens", "tokens of the report"),
        ("last_s", "time of the last frame, s"),
        ("vessel_ratio", "lowest vessel-area ratio"),
    )
    return [
        chart
        for attribute, label in chosen
        if (
            chart := _histogram(
                [v for split in splits.values() for v in getattr(split, attribute).values], label
            )
        )
    ]


def _histogram(values: Sequence[float], label: str) -> str:
    """An SVG histogram over all splits, or "" without values."""
    if not values:
        return ""
    counts, edges = np.histogram(values, bins=_BINS)
    bars = "".join(
        f'<rect x="{k * _BAR_PX}" y="{_HIGH_PX - high:.1f}" width="{_BAR_PX - 1}" '
        f'height="{high:.1f}" fill="#6c8fc7"><title>{edges[k]:.3g} to {edges[k + 1]:.3g}: {n}'
        "</title></rect>"
        for k, n in enumerate(counts.tolist())
        if (high := _HIGH_PX * n / counts.max())
    )
    width = _BINS * _BAR_PX
    return (
        f'<svg width="{width}" height="{_HIGH_PX + 30}">{bars}'
        f'<text x="0" y="{_HIGH_PX + 12}">{edges[0]:.3g}</text>'
        f'<text x="{width}" y="{_HIGH_PX + 12}" text-anchor="end">{edges[-1]:.3g}</text>'
        f'<text x="0" y="{_HIGH_PX + 26}">{html.escape(label)}</text></svg>'
    )


def _figure(picture: Picture) -> str:
    info = picture.info
    facts = f"{picture.split} {info.exam_id}, {info.eye} eye, {info.disease or 'disease unknown'}"
    text = "\n".join([facts, *info.reports.values()])
    return (
        f'<figure><img src="{_data_url(picture.sheet)}" alt="contact sheet of the clip">'
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
    )


def _data_url(sheet: np.ndarray) -> str:
    image = Image.fromarray(sheet)
    if image.width > MAX_WIDTH_PX:
        image = image.resize((MAX_WIDTH_PX, round(image.height * MAX_WIDTH_PX / image.width)))
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=_WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
