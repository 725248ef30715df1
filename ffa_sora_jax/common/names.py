"""Names and patterns from users, with errors that say what was given and what is allowed."""

import difflib
import re
from collections.abc import Iterable


def unknown_name(what: str, given: str, allowed: Iterable[str]) -> str:
    """The text of an error about an unknown name, with near matches first."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(given, allowed, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"Unknown {what} {given!r}.{hint} Allowed: {', '.join(allowed)}."


def check_keys(what: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raises ValueError for the first given key that is not allowed."""
    allowed = list(allowed)
    for key in given:
        if key not in allowed:
            raise ValueError(unknown_name(what, key, allowed))


def compile_pattern(what: str, pattern: str) -> re.Pattern[str]:
    """A compiled regular expression; ValueError names one that is malformed."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what}: {pattern!r} is no regular expression ({error}).") from error
