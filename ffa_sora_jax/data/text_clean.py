"""Caption cleaning as the reference does it to training captions (never to sampling prompts).

The rules are those of web captions (addresses, shop words, file names), kept for parity; on
reports they lower the case, drop brackets and slashes and put a space after commas. Their order
matters. Broken Unicode is repaired only on request, because that needs `ftfy` (extra `text`).
Source: Open-Sora Plan v1.3, `text_preprocessing`.
"""

import html
import html.parser
import re
import urllib.parse
from collections.abc import Callable

_SITES = "com|co|ru|net|org|edu|gov|it"
_WEB = (
    rf"\b((?:https?:(?:\/{{1,3}}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:{_SITES})[\w/-]*\b\/?(?!@)))",
    rf"\b((?:www:(?:\/{{1,3}}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:{_SITES})[\w/-]*\b\/?(?!@)))",
)
_CJK = (
    "㇀-㇯",
    "ㇰ-ㇿ",
    "㈀-㋿",
    "㌀-㏿",
    "㐀-䶿",
    "䷀-䷿",
)  # strokes ... hexagrams, in code order
_CJK_MAIN = "一-鿿"
_DASHES = (
    "[\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0"
    "\ufe31\ufe32\ufe58\ufe63\uff0d]+"
)
_BAD = (
    r"["
    "#®•©™&@·º½¾¿¡§~"
    r"\)\(\]\[\}\{\|\\\/\*]{1,}"
)
_FORMATS = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"

_Rule = tuple[str, str]
_FIRST: tuple[_Rule, ...] = (
    (_DASHES, "-"),
    ("[`´«»“”¨]", '"'),
    ("[‘’]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # addresses of machines
    (r"\d:\d\d\s+$", ""),  # a time at the end
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"[\S]+\.(?:{_FORMATS})", ""),
    (r"[\"\']{2,}", '"'),
    (r"[\.]{2,}", " "),
    (_BAD, " "),
    (r"\s+\.\s+", " "),
)
_LAST: tuple[_Rule, ...] = (
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # article numbers: jc6640
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),  # jc6640vc
    (r"\b\d+[a-zA-Z]+\d+\b", ""),  # 6640vc231
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{_FORMATS})(\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # 1080x1920
    (r"\b\s+\:\s+", r": "),
    (r"(\D[,\./])\b", r"\1 "),
    (r"\s+", " "),
)
_EDGES: tuple[_Rule, ...] = (
    (r"^[\"\']([\w\W]+)[\"\']$", r"\1"),
    (r"^[\'\_,\-\:;]", r""),
    (r"[\'\_,\-\:\-\+]$", r""),
    (r"^\.\S+$", ""),
)


class _Text(html.parser.HTMLParser):
    """Keeps the text between tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        """Collects one run of text."""
        self.parts.append(data)


def text_preprocessing(
    text: str, keep_chinese: bool = True, as_list: bool = False, repair_unicode: bool = False
) -> str:
    """A caption as the reference's training sees it.

    Args:
      text: the raw caption.
      keep_chinese: keep Chinese characters, as the reference does for mT5.
      as_list: reproduce the reference's data set, which passes a one-element list that is turned
        into its Python repr: apostrophes gain a space and "" becomes a double quote.
      repair_unicode: repair wrongly decoded text with `ftfy`, as the reference always does.

    Raises:
      ModuleNotFoundError: `repair_unicode` without ftfy installed.
    """
    out = urllib.parse.unquote_plus(str([text]) if as_list else text).strip().lower()
    out = re.sub("<person>", "person", out)
    for pattern in _WEB:
        out = re.sub(pattern, "", out)
    out = re.sub(r"@[\w\d]+\b", "", _strip_tags(out))
    for block in (*_CJK, *(() if keep_chinese else (_CJK_MAIN,))):
        out = re.sub(f"[{block}]+", "", out)
    out = _apply(_FIRST, out)
    if len(re.findall(r"(?:\-|\_)", out)) > 3:  # this-is-a-file-name
        out = re.sub(r"(?:\-|\_)", " ", out)
    if repair_unicode:
        out = _ftfy()(out)
    out = html.unescape(html.unescape(out)).strip()
    return _apply(_EDGES, _apply(_LAST, out).strip()).strip()


def _apply(rules: tuple[_Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


def _strip_tags(text: str) -> str:
    parser = _Text()
    parser.feed(text)
    parser.close()
    return "".join(parser.parts)


def _ftfy() -> Callable[[str], str]:
    try:
        import ftfy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Repairing Unicode needs ftfy: pip install 'ffa-sora-jax[text]',"
            " or leave repair_unicode off."
        ) from error
    return ftfy.fix_text
