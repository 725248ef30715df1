"""Compiler options: accepted, and doing what they are for."""

import jax
import jax.numpy as jnp

from ffa_sora_jax.common import compiler


def branches(x):
    """Eight independent chains, each from a large array to one number."""
    return sum(jnp.sort(jnp.sin(x * i), axis=0)[0].sum() for i in range(1, 9))


def test_programs_need_less_memory_with_the_options():
    x = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    lowered = jax.jit(branches).lower(x)
    plain = lowered.compile().memory_analysis().temp_size_in_bytes
    ordered = lowered.compile(compiler.options()).memory_analysis().temp_size_in_bytes
    assert ordered < 0.5 * plain


def test_other_platforms_keep_their_defaults(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler.options() == {}
