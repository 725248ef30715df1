"""Which eye an exam shows: table, DICOM file and report must agree."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

UNKNOWN = "unknown"
_RIGHT, _LEFT = "right", "left"
# Word borders that hold beside Chinese characters too, which count as letters elsewhere.
_FROM, _TO = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_NO_LAYER = r"(?<!IS/)(?<!IS-)"  # IS/OS is a layer of the retina


def _eye(word: str, short: str, others: str, chinese: str) -> str:
    spelt = rf"(?i:{word}[\s-]+eyes?)|(?:{short})[.\s]\s*(?i:eyes?)|{others}"
    return f"{_FROM}(?:{spelt}){_TO}|{chinese}"


# OD, OS and OU only in capitals: "os" is a word elsewhere. Not "right" alone: "right of the disc".
_WORDS = {
    _RIGHT: _eye("right", "R|[Rr]t|RT", r"R/E|O\.?D", "右眼"),
    _LEFT: _eye("left", "L|[Ll]t|LT", rf"L/E|{_NO_LAYER}O\.?S", "左眼"),
    "both": rf"{_FROM}(?:(?i:both[\s-]+eyes|bilateral(?:ly)?|right\s+and\s+left\s+eyes?"
    rf"|left\s+and\s+right\s+eyes?)|O\.?U){_TO}|[双雙两兩]眼|左右眼",
}
_PATTERNS = {side: re.compile(pattern) for side, pattern in _WORDS.items()}
_EXAM = r"(?i:FFA|FA\b|fluorescein|angiogra)"
# "Right eye FFA: ...", "FFA of the right eye", "右眼荧光血管造影": the eye that was examined, while
# the rest of the report may speak of the other one.
_HEADS = {
    side: re.compile(
        rf"(?:{word})(?:\s*(?:{_EXAM}|眼底|荧光|造影))"
        rf"|(?:{_EXAM}\w*\s*(?:angiogra\w*)?\s*(?:\(|of|in)?\s*(?:the|of the)?\s*)(?:{word})"
        rf"|(?:^|[\n.;。；])\s*(?:{word})\s*[:：]"
    )
    for side, word in _WORDS.items()
}


@dataclass(frozen=True)
class Eye:
    """The eye of an exam.

    Attributes:
      value: "right", "left" or "unknown"; unknown too where both eyes are meant.
      sources: what each source says, without those that say nothing.
      is_conflict: whether two sources name different eyes.
    """

    value: str
    sources: Mapping[str, str]
    is_conflict: bool


def side_of_text(report: str) -> str | None:
    """The eye a report is about: "right", "left", "both" or None where it names none.

    A heading such as "Right eye FFA" decides; else every eye that is named counts.

    >>> side_of_text("Right eye FFA: leakage. The left eye is normal.")
    'right'
    """
    for patterns in (_HEADS, _PATTERNS):
        sides = {side for side, pattern in patterns.items() if pattern.search(report)}
        if len(sides) == 1:
            return sides.pop()
        if sides:
            return "both"
    return None


def resolve(table: str | None, dicom: str | None, *reports: str) -> Eye:
    """One eye from all sources; "both" agrees with either.

    Args:
      table: "right", "left", "both" or None.
      dicom: "right", "left" or None.
      *reports: texts of the exam, in any language.
    """
    sources = {"table": table, "dicom": dicom}
    for number, report in enumerate(reports):
        sources["report" if not number else f"report {number + 1}"] = side_of_text(report)
    said = {name: side for name, side in sources.items() if side and side != UNKNOWN}
    sides = set(said.values()) - {"both"}
    is_conflict = len(sides) > 1
    value = sides.pop() if len(sides) == 1 else UNKNOWN
    return Eye(value, said, is_conflict)
