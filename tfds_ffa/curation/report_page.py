"""The HTML page of a build report: one file, no scripts, nothing loaded from elsewhere."""

import html
from collections.abc import Mapping, Sequence
from typing import Any


def render(report: Mapping[str, Any], sheets: Sequence[Mapping[str, str]]) -> str:
    """The page.

    Args:
      report: what `build_report.write_report` writes as JSON.
      sheets: kept exams to show: key and image (a data URL).
    """
    counts = ", ".join(f"{name} {n}" for name, n in report["counts"].items())
    rows = "".join(
        f"<tr><td>{_text(r['status'])}</td><td>{_text(r['code'])}</td><td>{r['count']}</td></tr>"
        for r in report["reasons"]
    )
    images = "".join(f'<img src="{s["image"]}" alt="{_text(s["key"])}">' for s in sheets)
    return (
        f"<!doctype html><meta charset=utf-8><title>Build report</title>"
        f"<h1>{_text(report['dataset'])}</h1><p>{report['inputs']} inputs: {_text(counts)}</p>"
        f"<table>{rows}</table>{images}\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
