"""Everything a run has to remember between two steps, and how it is born on the mesh."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh

from ffa_sora_jax.common import mesh as mesh_lib
from ffa_sora_jax.common import seeds, tree
from ffa_sora_jax.common.types import Array, Params
from ffa_sora_jax.tasks.base import Task


@flax.struct.dataclass
class TrainState:
    """State of a run after `step` finished steps.

    Attributes:
      step: () int32, number of finished steps.
      params: trainable parameters by player.
      opt_state: optimizer states by player.
      ema: averaged parameters, by those players that are averaged.
    """

    step: Array
    params: dict[str, Params]
    opt_state: dict[str, Any]
    ema: dict[str, Params]

    def averaged(self) -> dict[str, Params]:
        """The parameters to evaluate: averages where kept, the last ones elsewhere."""
        return {**self.params, **self.ema}


def new_state(
    params: dict[str, Params],
    optimizers: Mapping[str, optax.GradientTransformation],
    ema_players: Sequence[str],
) -> TrainState:
    """The state before the first step; jit-compatible."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={player: optimizers[player].init(params[player]) for player in params},
        # Own buffers: the step donates its input, and one buffer cannot be donated twice.
        ema={player: jax.tree.map(jnp.copy, params[player]) for player in ema_players},
    )


def abstract_state(
    task: Task,
    optimizers: Mapping[str, optax.GradientTransformation],
    ema_players: Sequence[str],
) -> TrainState:
    """Shapes and dtypes of the state; allocates nothing."""
    return jax.eval_shape(
        lambda rng: new_state(task.init(rng), optimizers, ema_players), jax.random.key(0)
    )


def state_shardings(abstract: TrainState, rules: mesh_lib.Rules, mesh: Mesh) -> TrainState:
    """Shardings of the whole state: optimizer moments and averages follow their parameters."""
    params = mesh_lib.infer_shardings(abstract.params, rules, mesh)
    whole: Any = mesh_lib.replicated(mesh)
    return TrainState(
        step=whole,
        params=params,
        opt_state={
            player: mesh_lib.like_params(state, params[player], whole)
            for player, state in abstract.opt_state.items()
        },
        ema={player: params[player] for player in abstract.ema},
    )


def with_shardings(abstract: TrainState, shardings: TrainState) -> TrainState:
    """The abstract state with shardings attached: the target of a restore."""
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, shardings
    )


def create_state(
    task: Task,
    optimizers: Mapping[str, optax.GradientTransformation],
    ema_players: Sequence[str],
    shardings: TrainState,
    seed: int,
) -> TrainState:
    """Random parameters that are born sharded: no device ever holds a whole large model."""
    return jax.jit(
        lambda rng: new_state(task.init(rng), optimizers, ema_players), out_shardings=shardings
    )(seeds.stream(seed, "init"))


def fill(
    loaded: dict[str, Params],
    folder: str,
    task: Task,
    abstract: dict[str, Params],
    shardings: dict[str, Params],
    seed: int,
) -> dict[str, Params]:
    """Loaded parameters, and fresh ones for every part that was not loaded.

    Args:
      loaded: host arrays by player; a part of the structure of `abstract`.
      folder: where they are from, for messages.
      task: gives the fresh parameters.
      abstract: shapes of all parameters by player.
      shardings: shardings of all parameters by player.
      seed: seed of the run.

    Raises:
      ValueError: parameters that the task does not have, or of other shapes.
    """
    found, wanted = tree.flatten(loaded), tree.flatten(abstract)
    wrong = [
        f"  {path}: {leaf.shape} there, {wanted[path].shape if path in wanted else 'none'} here"
        for path, leaf in found.items()
        if path not in wanted or leaf.shape != wanted[path].shape
    ]
    if wrong:
        raise ValueError(
            f"{len(wrong)} parameters of {folder} do not fit this run's model:\n"
            + "\n".join(wrong[:10]) + "\nChoose another train.init_from, or the config of that "
            "model."
        )  # fmt: skip
    logging.info("Starting from %s: %d of %d parameters.", folder, len(found), len(wanted))
    fresh: dict[str, Any] = {}
    if missing := sorted(wanted.keys() - found.keys()):
        parts = sorted({"/".join(path.split("/")[:2]) for path in missing})
        logging.info("Starting fresh, for it is not there: %s", ", ".join(parts))
        init = jax.jit(task.init, out_shardings=shardings)(seeds.stream(seed, "init"))
        fresh = tree.flatten(init)
    return tree.unflatten_like({**fresh, **found}, abstract)


def replace_params(
    params: dict[str, Params],
    optimizers: Mapping[str, optax.GradientTransformation],
    ema_players: Sequence[str],
    shardings: TrainState,
) -> TrainState:
    """The state before the first step of given host parameters (calibrated or converted)."""
    placed = jax.device_put(params, shardings.params)
    return jax.jit(lambda p: new_state(p, optimizers, ema_players), out_shardings=shardings)(placed)
