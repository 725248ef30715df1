"""What in a report may identify a patient, and how it is removed where that is asked for.

Patterns find what is written in a usual way and nothing else; they are a net, not a proof. Times
after injection ("0:25"), sizes ("1/2 DD") and the report's own numbers must survive.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from ffa_sora_jax.common.names import check_keys

KINDS = ("identifiers", "dates", "numbering")

# Word borders that hold beside Chinese characters too, which count as letters elsewhere.
_FROM, _TO = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_COLON = r"[ \t]*[:：#][ \t]*"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_YEAR = r"(?:19|20)\d\d"
_CLOCK = r"(?:[\sT]+\d{1,2}:\d\d(?::\d\d)?)?"
_NAME = r"(?:[A-Z][\w'’-]+|[A-Z]\.?)(?:,?[ \t]+(?:[A-Z][\w'’-]+|[A-Z]\.)){0,3}"
# Two or three characters, four with a double surname, but not the eye that may follow.
_CHINESE_NAME = (
    r"(?:[一-鿿]+(?:·[一-鿿]+)+"
    r"|(?:欧阳|司马|上官|诸葛|东方|皇甫|尉迟|公孙|令狐|慕容|司徒|夏侯)(?:(?![右左双两])[一-鿿]){1,2}"
    r"|[一-鿿](?:(?![右左双两])[一-鿿]){1,2})"
)
_NO_EYE = "(?![右左双两]眼)"
_PEOPLE = (
    "姓名|患者姓名|病人姓名|医师|医生|报告医师|报告医生|审核医师|审核医生|审核|检查医师"
    "|检查者|报告者|技师|主任|报告人|审核人|审阅人|审阅者|记录人|记录者|操作者|签名|签字"
    "|主治医师|主任医师|住院医师|申请医师|申请医生"
)
_NUMBERS = (
    "病历号|病案号|住院号|门诊号|登记号|检查号|检查编号|影像号|身份证号?码?|医保号|卡号|床号"
    "|患者编号|病人ID|患者ID"
)

_IDENTIFIERS: tuple[tuple[str, str], ...] = (
    ("email", r"(?<![A-Za-z0-9_.+-])[A-Za-z0-9_.+-]+@[\w-]+\.[A-Za-z]{2,}"),
    ("address", rf"(?:(?i:{_FROM}address)|家庭住址|住址|地址){_COLON}[^\n.;。；]{{2,80}}"),
    ("name", rf"(?:{_PEOPLE})[ \t]*[:：为][ \t]*{_NO_EYE}{_CHINESE_NAME}"),
    ("name", rf"姓名[ \t]*{_NO_EYE}{_CHINESE_NAME}(?=[\s，,、。；;]|$)"),
    (
        "name",
        rf"{_FROM}(?i:name|doctor|physician|reported by|signed by|operator){_COLON}"
        rf"{_NO_EYE}{_CHINESE_NAME}",
    ),
    (
        "name",
        rf"{_FROM}(?i:(?:patient(?:'s)?[ \t]+)?name|patient|physician|doctor|reported by|read by"
        rf"|signed(?: by)?|referring physician|operator|technician){_COLON}"
        rf"(?:{_NAME}|[a-z]+(?:[ \t]+[a-z]+)?)",
    ),
    ("name", rf"{_FROM}(?:Mr|Mrs|Ms|Dr|Prof)\.?[ \t]+{_NAME}"),
    (
        "record number",
        rf"{_FROM}(?i:mrn|medical record(?: number| no\.?)?|patient id|hospital (?:no|number)|case"
        r" (?:no|number)|accession(?: (?:no|number))?|exam(?:ination)? (?:no|number|id)|ssn|id)"
        r"\.?\s*[:：#]?\s*(?=[A-Za-z-]*\d)[A-Za-z0-9][\w-]{2,}",
    ),
    ("record number", rf"(?:{_NUMBERS})\s*[:：#]?\s*[A-Za-z0-9][A-Za-z0-9-]+"),
    ("telephone", r"(?<![\d.])(?:\+?86[ -]?)?1[3-9]\d(?:[ -]?\d{4}){2}(?![\d.])"),
    (
        "telephone",
        rf"(?:{_FROM}(?i:tel|phone|telephone|mobile){_TO}|电话|手机)(?:号码)?\.?\s*[:：]?\s*"
        r"[\d+(][\d\s()-]{5,}\d",
    ),
    (
        "telephone",
        r"(?<![\d.])(?:\+\d{1,3}[ -]?)?(?:\(\d{2,4}\)|\d{3,4})[ -]\d{3,4}[ -]\d{4}(?![\d.])",
    ),
    ("age over 89", r"(?<![\d.])(?:9\d|1[01]\d)(?=[ -]?(?:years?[ -]old|y/?o\b|岁))"),
    ("long number", r"(?<![\d.])\d{6,}(?:[Xx](?![A-Za-z]))?(?![\d.]*\d)"),
)
_DATES: tuple[str, ...] = (
    rf"(?<!\d){_YEAR}\s*年\s*\d{{1,2}}\s*月(?:\s*\d{{1,2}}\s*[日号])?{_CLOCK}",
    r"(?<!\d)\d{1,2}\s*月\s*\d{1,2}\s*[日号]",
    rf"(?<![\d.]){_YEAR}([-/.])\d{{1,2}}\1\d{{1,2}}{_CLOCK}(?!\d)",
    rf"(?<![\d.])\d{{1,2}}([-/.])\d{{1,2}}\1{_YEAR}{_CLOCK}(?!\d)",
    r"(?<![\d/])\d{1,2}/\d{1,2}/\d\d(?![\d/])",
    r"(?<![\d.])(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.\d\d(?![\d.]*\d)",
    rf"(?i:(?<!\d)\d{{1,2}}(?:st|nd|rd|th)?[ -]{_MONTH}[ ,-]+{_YEAR}{_TO})",
    rf"(?i:{_FROM}{_MONTH}[ ]+\d{{1,2}}(?:st|nd|rd|th)?[ ,]+{_YEAR}{_TO})",
    rf"(?i:{_FROM}{_MONTH}[ ,]+{_YEAR}{_TO})",
    r"(?<!\d)(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)",
)
_PATTERNS = [("dates", "date", re.compile(pattern)) for pattern in _DATES] + [
    ("identifiers", kind, re.compile(pattern)) for kind, pattern in _IDENTIFIERS
]
# A number that starts an item: "1. ", "2、", "(3)", after a sentence or at the beginning of a line.
_ITEM = re.compile(r"(?:^|(?<=[\n.;:。；：]))([ \t]*)[(（]?(\d{1,2})(?:[.)）．](?!\d)|、)[ \t]*")
_CIRCLED = re.compile(r"[①-⑳][ \t]*")


@dataclass(frozen=True)
class Cleaned:
    """A report and the number of places per kind that were removed from it."""

    text: str
    removed: Counter[str]


def scan(text: str) -> Counter[str]:
    """Kind -> number of places that may identify somebody; never what stands there."""
    return _remove(text, ("dates", "identifiers")).removed


def clean(text: str, kinds: Collection[str]) -> Cleaned:
    """Removes what is asked for and leaves the rest as it is.

    Args:
      text: a report, English or Chinese.
      kinds: any of "identifiers" (names after a label or title, record, telephone and other long
        numbers, addresses, ages over 89), "dates", "numbering" (of the report's items).

    Raises:
      ValueError: unknown kind.
    """
    check_keys("kind of text cleaning", kinds, KINDS)
    cleaned = _remove(text, kinds)
    if "numbering" in kinds:
        without, count = _without_numbering(cleaned.text)
        cleaned.removed.update({"numbering": count} if count else {})
        cleaned = Cleaned(without, cleaned.removed)
    if not cleaned.removed:
        return Cleaned(text, cleaned.removed)
    return Cleaned(_tidy(cleaned.text), cleaned.removed)


def _remove(text: str, kinds: Collection[str]) -> Cleaned:
    removed: Counter[str] = Counter()
    for group, kind, pattern in _PATTERNS:
        if group in kinds:
            text, count = pattern.subn(" ", text)
            if count:
                removed[kind] += count
    return Cleaned(text, removed)


def _without_numbering(text: str) -> tuple[str, int]:
    """Removes item numbers that count up from 1, so that a number in a sentence survives."""
    expected, count = 1, 0

    def drop(match: re.Match[str]) -> str:
        nonlocal expected, count
        number = int(match.group(2))
        if number not in (1, expected):
            return match.group()
        expected, count = number + 1, count + 1
        return " " if match.start() and text[match.start() - 1] != "\n" else ""

    text = _ITEM.sub(drop, text)
    text, circled = _CIRCLED.subn(" ", text)
    return text, count + circled


def _tidy(text: str) -> str:
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r"[ \t]+(?=[,.;:，。；：、)）]|$)", "", text)
    text = re.sub(r"(?<=[一-鿿，。；：、]) (?=[一-鿿])", "", text)
    text = re.sub(r"([,;，；])(?:\s*[,;，；])+", r"\1", text)
    return text.strip(" \t,;，；")
