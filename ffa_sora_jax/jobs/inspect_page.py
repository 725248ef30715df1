"""The web page of `ffa-sora inspect`: one file, pictures included, that loads nothing."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ffa_sora_jax.common import page
from ffa_sora_jax.data.prepared import ExampleInfo
from ffa_sora_jax.jobs.summary import Counts, SplitSummary

MAX_WIDTH_PX = 1120  # of a contact sheet on the page
_MOST = 15  # values of a table; the rest is summed up


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
    leaks, remarks = found
    lines = [f'<p class="bad">LEAK: {page.text(line)}</p>' for line in leaks]
    lines += [f"<p>{page.text(line)}</p>" for line in remarks]
    body = [
        f"<h1>{page.text(title)}</h1><p>{page.mark(synthetic=synthetic)}</p>",
        f"<p>{sum(s.num_clips for s in splits.values())} clips, {size_mib:.1f} MiB on disk.</p>",
        "<h2>Splits</h2>", _overview(splits),
        "<h2>Between the splits</h2>",
        "".join(lines) or "<p>No patient, exam or report is in two splits.</p>",
        *(_counts(what, splits) for what in ("eyes", "languages", "diseases", "findings")),
        "<h2>Distributions</h2>", page.grid(_charts(splits)),
        "<h2>Clips</h2>" if pictures else "", *map(_figure, pictures),
    ]  # fmt: skip
    return page.document(title, body)


def _overview(splits: Mapping[str, SplitSummary]) -> str:
    skipped = ("eyes", "languages", "diseases", "findings")
    rows = {name: split.rows() for name, split in splits.items()}
    what = [key for key in next(iter(rows.values())) if key not in skipped]
    head = "".join(f"<th>{page.text(name)}</th>" for name in splits)
    body = "".join(
        f"<tr><th>{key}</th>"
        + "".join(f"<td>{page.text(split.get(key, ''))}</td>" for split in rows.values())
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
        f"<tr><th>{page.text(value)}</th>"
        + "".join(
            _cell(counts.get(value, 0), splits[name].num_clips) for name, counts in found.items()
        )
        + "</tr>"
        for value in values[:_MOST]
    )
    head = "".join(f"<th>{page.text(name)}</th>" for name in splits)
    return f"<h2>{what.capitalize()}</h2><table><tr><th></th>{head}</tr>{rows}</table>{rest}"


def _cell(number: int, clips: int) -> str:
    share = min(100.0, 100 * number / clips)
    return f'<td class="share" style="--w:{share:.1f}%">{number} ({share:.0f} %)</td>'


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
            chart := page.histogram(
                [v for split in splits.values() for v in getattr(split, attribute).values], label
            )
        )
    ]


def _figure(picture: Picture) -> str:
    info = picture.info
    facts = f"{picture.split} {info.exam_id}, {info.eye} eye, {info.disease or 'disease unknown'}"
    text = "\n".join([facts, *info.reports.values()])
    return page.figure(page.data_url(picture.sheet, MAX_WIDTH_PX), text)
