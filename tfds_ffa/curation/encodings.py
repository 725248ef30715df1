"""Text of a table in whatever encoding it was saved.

A byte order mark decides; else UTF-8 if the bytes are valid, for other encodings are practically
never valid UTF-8 by chance, or if most of them are: rows pasted in from elsewhere then hold U+FFFD,
which costs these rows. What remains is told apart by frequency: each of the two Chinese encodings
keeps its common characters in one block of codes, so the encoding that puts most characters there
is the right one; text with few such pairs is Western.
"""

import codecs

_MARKS = (  # the mark of UTF-32 starts with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXAMPLES = "utf-8, utf-16, utf-32, gb18030, big5, cp1252, euc-kr, shift-jis, cp1251"
_ASCII = bytes(range(128))
_SAMPLE_BYTES = 1 << 20
_MIN_COMMON = 0.8  # share of common characters in genuine text; the wrong encoding gets about half


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """The text and the encoding's name, without a byte order mark.

    Where the encoding was guessed from most of the text, other bytes become U+FFFD.

    Args:
      data: a whole file.
      encoding: any that Python knows, such as euc-kr or cp1251, where guessing is not wanted.

    Raises:
      ValueError: unknown encoding, or bytes that are not text in it.
    """
    name = _guess(data) if encoding is None else _named(encoding)
    is_forgiven = encoding is None and name in ("utf-8", "gb18030", "big5")
    if name == "utf-8":
        name = "utf-8-sig"
    try:
        text = data.decode(name, "replace" if is_forgiven else "strict")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"The table is not {name.removesuffix('-sig')} text: line {line} holds bytes that "
            f"have no meaning. Save it as UTF-8, or name its encoding, such as {_EXAMPLES}."
        ) from None
    if "\0" in text:
        raise ValueError("The table holds zero bytes, so it is no text. Save it as UTF-8.")
    return text.removeprefix("\ufeff"), name.removesuffix("-sig")


def _named(encoding: str) -> str:
    try:
        b"a".decode(encoding)  # refuses codecs from bytes to bytes, such as zip, too
        return codecs.lookup(encoding).name
    except (LookupError, UnicodeError):
        raise ValueError(
            f"Python knows no text encoding {encoding!r}; examples are {_EXAMPLES}."
        ) from None


def _guess(data: bytes) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    head = data[:4096]
    if b"\0" in head:  # UTF-16 without a mark: ASCII has its zero bytes on one side
        return "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
    if _is_mostly_utf8(data):
        return "utf-8"
    sample = data[:_SAMPLE_BYTES]
    shares = {"gb18030": _common_gb(sample), "big5": _common_big5(sample)}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= _MIN_COMMON else "cp1252"


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether most of the bytes that tell encodings apart stand in lines that are UTF-8."""
    good = bad = 0
    for line in data.splitlines():
        telling = len(line.translate(None, _ASCII))
        try:
            line.decode("utf-8")
            good += telling
        except UnicodeDecodeError:
            bad += telling
    return good > bad or not bad


def _common_gb(data: bytes) -> float:
    # Symbols A1-A3 and the 3755 most used characters B0-D7; both bytes above A0.
    return _common(data, lambda a, b: (a <= 0xA3 or 0xB0 <= a <= 0xD7) and b >= 0xA1)


def _common_big5(data: bytes) -> float:
    # Symbols A1-A3 and the 5401 most used characters A4-C6; second byte 40-7E or A1-FE.
    return _common(data, lambda a, b: a <= 0xC6 and (0x40 <= b <= 0x7E or b >= 0xA1))


def _common(data: bytes, is_common) -> float:  # type: ignore[no-untyped-def]
    """Share of common characters among the double bytes."""
    common = total = 0
    at = 0
    while at < len(data) - 1:
        lead = data[at]
        if lead < 0x80:
            at += 1
            continue
        total += 1
        common += lead >= 0xA1 and is_common(lead, data[at + 1])
        at += 2
    return common / total if total else 0.0
