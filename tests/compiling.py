"""Compiling in tests."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def quick_compile() -> Iterator[None]:
    """Compiles fast instead of well, for tests that run each program once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
