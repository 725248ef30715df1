"""Compiler options that differ from a platform's defaults."""

import jax


def options() -> dict[str, bool | int | float | str]:
    """For `jax.jit(..., compiler_options=...)` of programs with large intermediate arrays.

    XLA:CPU by default starts independent operations as early as it can, which keeps many arrays
    alive at once; ordered for memory, the autoencoder needs half of it in the same time. Only
    outermost programs may carry options: JAX refuses them inside another `jit`.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
