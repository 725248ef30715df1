"""One update of one player, as a jitted function of (state, frozen, key, batch)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ffa_sora_jax.common import mesh as mesh_lib
from ffa_sora_jax.common import seeds
from ffa_sora_jax.common.types import Array, Clip, Params
from ffa_sora_jax.tasks.base import Task
from ffa_sora_jax.train.state import TrainState

StepFn: TypeAlias = Callable[
    [TrainState, Params, jax.Array, Clip], tuple[TrainState, dict[str, Array]]
]


def make_step(
    task: Task,
    player: str,
    optimizer: optax.GradientTransformation,
    ema: Mapping[str, Any],
    shardings: TrainState | None = None,
) -> StepFn:
    """The update of `player`: gradient, optimizer, average.

    Args:
      task: what is trained.
      player: whose parameters move; all others pass through unchanged.
      optimizer: transformation of this player's gradients.
      ema: section `ema` of the config.
      shardings: of the state. Output equals input, so that every donated buffer is reused.

    Returns:
      A jitted function (state, frozen, root key, clip) -> (state, scalars). It donates the
      state: the one passed in must not be used again.
    """

    def step(
        state: TrainState, frozen: Params, root: jax.Array, clip: Clip
    ) -> tuple[TrainState, dict[str, Array]]:
        rng = seeds.at_step(root, state.step)
        clip = to_model_range(clip)

        def loss_of(own: Params) -> tuple[Array, dict[str, Array]]:
            return task.loss(player, {**state.params, player: own}, frozen, rng, clip, state.step)

        (loss, scalars), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params[player])
        updates, opt_state = optimizer.update(grads, state.opt_state[player], state.params[player])
        own = optax.apply_updates(state.params[player], updates)
        new = TrainState(
            step=state.step + 1,
            params={**state.params, player: own},
            opt_state={**state.opt_state, player: opt_state},
            ema=_average(state, player, own, ema),
        )
        return new, {**scalars, "loss": loss, "grad_norm": optax.global_norm(grads)}

    out = None if shardings is None else (shardings, None)
    return jax.jit(step, donate_argnums=0, out_shardings=out)


def ema_decay(step: Array, decay: float, warmup: bool = True) -> Array:
    """Share of the old average kept by the update that follows `step` finished ones.

    With warm-up: 0 at the first update (a copy of the weights), then
    min(decay, (1 + step) / (10 + step)), the rule of diffusers and Open-Sora Plan.
    """
    if not warmup:
        return jnp.asarray(decay, jnp.float32)
    step = jnp.asarray(step, jnp.float32)
    return jnp.where(step == 0, 0.0, jnp.minimum(decay, (1 + step) / (10 + step)))


def put_clip(clip: Clip, mesh: Mesh) -> Clip:
    """A host batch on the devices, without the exam ids, which only the host needs."""
    return mesh_lib.put_batch(dataclasses.replace(clip, exam=None), mesh)


def to_model_range(clip: Clip) -> Clip:
    """uint8 video of the host as float32 in [-1, 1]; other fields, and floats, stay."""
    if clip.video is None or clip.video.dtype != jnp.uint8:
        return clip
    video = jnp.asarray(clip.video, jnp.float32) / 127.5 - 1.0
    return dataclasses.replace(clip, video=video)


def _average(
    state: TrainState, player: str, own: Params, ema: Mapping[str, Any]
) -> dict[str, Params]:
    if player not in state.ema:
        return state.ema
    keep = ema_decay(state.step, float(ema["decay"]), bool(ema["warmup"]))
    averaged = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, state.ema[player], own)
    return {**state.ema, player: averaged}
