"""Classifier-free guidance (Ho & Salimans, arXiv 2207.12598), its rescale and its interval."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ffa_sora_jax.common.types import Array


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How the conditional and the unconditional prediction are combined.

    Attributes:
      scale: 1 is the conditional prediction alone.
      rescale: share of the guided prediction that gets the conditional one's standard deviation
        back (arXiv 2305.08891).
      interval: noise fractions (low, high) within which guidance acts (arXiv 2404.07724);
        outside, one pass of the network is enough and only one is run.
    """

    scale: float = 1.0
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        low, high = self.interval
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"interval is {self.interval}; expected 0 <= low <= high <= 1.")
        if not 0.0 <= self.scale < math.inf:
            raise ValueError(
                f"guidance scale is {self.scale}; it must be a number and must not be negative, "
                "1 is none."
            )
        if not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"rescale is {self.rescale}; expected 0 to 1.")


NO_GUIDANCE = Guidance()


def combine(cond: Array, uncond: Array, guidance: Guidance) -> Array:
    """uncond + scale (cond - uncond), then the rescale; per example over all other axes."""
    guided = uncond + guidance.scale * (cond - uncond)
    if guidance.rescale == 0.0:
        return guided
    axes = tuple(range(1, guided.ndim))
    ratio = cond.std(axes, keepdims=True) / guided.std(axes, keepdims=True)
    return guided * (guidance.rescale * ratio + 1.0 - guidance.rescale)


def guided(
    denoise: Callable[[Array, Array, Any], Array],
    cond: Any,
    uncond: Any,
    guidance: Guidance,
    num_train_steps: int = 1000,
) -> Callable[[Array, Array], Array]:
    """A denoiser of (x_t, t) with both conditions bound.

    Args:
      denoise: network, called as `denoise(x_t, t, cond)`.
      cond: pytree of arrays with leading batch axis.
      uncond: the same structure for the empty condition; None (or scale 1) runs no second pass.
      guidance: how to combine.
      num_train_steps: times run to this value; all examples share one time.
    """
    if uncond is None and guidance.scale != 1.0:
        raise ValueError(f"Guidance scale {guidance.scale} needs an unconditional condition.")
    if uncond is None or guidance.scale == 1.0:
        return lambda x, t: denoise(x, t, cond)
    pair = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cond, uncond)

    def both(x: Array, t: Array) -> Array:
        out = denoise(jnp.concatenate([x, x]), jnp.concatenate([t, t]), pair)
        with_text, without = jnp.split(out.astype(jnp.float32), 2)
        return combine(with_text, without, guidance)

    if guidance.interval == (0.0, 1.0):
        return both

    def within(x: Array, t: Array) -> Array:
        fraction = t[0] / num_train_steps
        low, high = guidance.interval
        inside = (fraction >= low) & (fraction <= high)
        only = lambda x, t: denoise(x, t, cond).astype(jnp.float32)  # noqa: E731
        return jax.lax.cond(inside, both, only, x, t)

    return within
