"""A model as data: its configuration, its structure, and pure functions of its parameters.

Layers are written with Flax NNX; everything else sees a plain nested dict of arrays. `Bundle`
is the only bridge between the two.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from ffa_sora_jax.common.types import Params


@dataclasses.dataclass(frozen=True)
class Bundle:
    """One architecture without weights.

    Attributes:
      cfg: frozen config dataclass of the module.
      graphdef: static structure made by `nnx.split`.
      abstract: nested dict of `jax.ShapeDtypeStruct`, one per parameter.
    """

    cfg: Any
    graphdef: Any
    abstract: Params
    module: Callable[..., nnx.Module]

    @classmethod
    def create(cls, module: Callable[..., nnx.Module], cfg: Any) -> "Bundle":
        """Traces `module(cfg, rngs=...)` without allocating parameters."""
        model = nnx.eval_shape(lambda: module(cfg, rngs=nnx.Rngs(0)))
        graphdef, state = nnx.split(model)
        return cls(cfg=cfg, graphdef=graphdef, abstract=nnx.to_pure_dict(state), module=module)

    def init(self, rng: jax.Array) -> Params:
        """Fresh parameters from one PRNG key; jit-compatible."""
        model = self.module(self.cfg, rngs=nnx.Rngs(rng))
        return nnx.to_pure_dict(nnx.split(model)[1])

    def apply(self, params: Params, *args: Any, method: str = "__call__", **kwargs: Any) -> Any:
        """Calls `method` of the module with `params`; pure and jit-compatible."""
        model = nnx.merge(self.graphdef, params)
        return getattr(model, method)(*args, **kwargs)
