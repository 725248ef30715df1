"""One table of reasons: every code that is raised is in it, and the docs show the same table."""

import ast
from pathlib import Path

import pytest

from tfds_ffa.curation import columns
from tfds_ffa.curation.reasons import REASONS, STATUSES, Problem, as_markdown, reason

ROOT = Path(__file__).parents[3]
RAISERS = {"ReadError", "ExcludedError", "at", "_defect", "refused", "left_out", "Defect"}


def raised_codes():
    """(file, code) of every call that names a reason code by a literal."""
    for folder in ("ffa_sora_jax/video", "tfds_ffa"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    if name in RAISERS:
                        for argument in node.args[:2]:
                            if isinstance(argument, ast.Constant) and "_" in str(argument.value):
                                yield path.name, argument.value


def test_every_raised_code_is_in_the_table():
    codes = [(file, code) for file, code in raised_codes() if " " not in code]
    assert len({code for _, code in codes}) > 15  # the search itself works
    assert not [(file, code) for file, code in codes if code not in REASONS]


def test_entries_are_complete():
    for code, entry in REASONS.items():
        assert entry.code == code == code.lower() and entry.status in STATUSES
        assert entry.meaning.endswith(".") and entry.what_to_do.endswith(".")


def test_unknown_codes_have_near_matches():
    with pytest.raises(ValueError, match="Did you mean 'truncated'"):
        reason("truncatd")


def test_a_problem_takes_its_advice_from_the_table():
    problem = Problem.at("empty_report", "line 3", "Detail.")
    assert problem.status == "dropped"
    assert problem.what_to_do == f"Detail. {REASONS['empty_report'].what_to_do}"


def test_the_docs_show_this_table_and_this_schema():
    text = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8")
    assert as_markdown() in text, "docs/curation.md: paste reasons.as_markdown() there"
    assert columns.as_markdown() in text, "docs/curation.md: paste columns.as_markdown() there"
