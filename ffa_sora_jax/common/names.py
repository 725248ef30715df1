"""Error messages for names that are not known: what was given, what is allowed, the nearest."""

import difflib
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
