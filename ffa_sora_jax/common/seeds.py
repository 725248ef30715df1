"""Random streams. Every key is a pure function of (seed, stream, step); none is carried along.

Folding the step into a root key, instead of splitting a carried key, is what makes a resumed run
bit-equal to an uninterrupted one.
"""

import zlib

import jax

from ffa_sora_jax.common.types import Array


def stream(seed: int, name: str) -> jax.Array:
    """The root key of one use of randomness, such as "init", "train" or "eval"."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def at_step(root: jax.Array, step: int | Array) -> jax.Array:
    """The key of one step of a stream; jit-compatible."""
    return jax.random.fold_in(root, step)
