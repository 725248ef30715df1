"""Skiparse: attention within n interleaved sub-sequences instead of over all tokens.

Tokens s = 0 .. l - 1 are padded with zeros to a multiple of n^2 and dealt out to n sub-sequences
(here n = 4, letters are sub-sequences):

    single   a b c d a b c d a b c d a b c d ...    sub-sequence = s mod n
    group    a a a a b b b b c c c c d d d d ...    sub-sequence = (s div n) mod n

Alternating layers of the two kinds let every token reach every other in two layers. The
sub-sequences lie beside the batch: (b, l, ...) becomes (n b, p / n, ...), sub-sequence major.
"""

import jax.numpy as jnp
from einops import rearrange
from jax import Array

from ffa_sora_jax.common import names

KINDS = ("single", "group")
_PATTERNS = {
    "single": "b (g k) ... -> (k b) g ...",
    "group": "b (g m k) ... -> (m b) (g k) ...",
}


def split(x: Array, n: int, kind: str, fill: float = 0.0) -> Array:
    """Deals the tokens out: (b, l, ...) -> (n b, p / n, ...), padded with `fill`."""
    x = _padded(x, n, fill)
    return rearrange(x, _pattern(kind), **_sizes(kind, n))


def join(x: Array, n: int, kind: str, length: int) -> Array:
    """Undoes `split`: (n b, p / n, ...) -> (b, length, ...), padding dropped."""
    source, target = _pattern(kind).split(" -> ")
    return rearrange(x, f"{target} -> {source}", **_sizes(kind, n))[:, :length]


def _padded(x: Array, n: int, fill: float) -> Array:
    missing = -x.shape[1] % n**2
    if not missing:
        return x
    widths = [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)
    return jnp.pad(x, widths, constant_values=fill)


def _pattern(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(names.unknown_name("skiparse kind", kind, KINDS))
    return _PATTERNS[kind]


def _sizes(kind: str, n: int) -> dict[str, int]:
    return {"k": n} if kind == "single" else {"m": n, "k": n}
