"""Phantom eyes as subjects of an audit: small, rendered once per process."""

import functools

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.privacy.audit import Subject

SIZE = 64


@functools.cache
def clip(seed, index, visit=0):
    """(21, 64, 64) uint8."""
    return generate(seed, index, size=SIZE, visit=visit).video


def subject(seed, index, visit=0, **about):
    """A subject that shows visit `visit` of an eye."""
    name = f"{seed}-{index}-{visit}"
    return Subject(
        name, name, functools.partial(clip, seed, index, visit),
        **{"patient": f"p{seed}-{index}", "eye": "right", **about},
    )  # fmt: skip


def subjects(seed, count):
    return [subject(seed, index) for index in range(count)]


def changed(seed, index, change, rng, name):
    """A generated clip that is a disturbed copy of an eye."""
    return Subject(name, name, lambda: change(clip(seed, index), rng))
