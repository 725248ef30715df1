"""The one training loop. Read `train` first; the rest prepares it.

    fetch batch -> step (donates the state) -> log -> evaluate -> save -> stop?

A run starts from its own workdir if there is a checkpoint, else from the model folder that
`train.init_from` names, and else from scratch. Random numbers
and the order of examples depend only on (seed, step), so k + k steps equal 2k steps bit for bit.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ffa_sora_jax.common import mesh as mesh_lib
from ffa_sora_jax.common import names, seeds
from ffa_sora_jax.common.checkpoint import Checkpoints
from ffa_sora_jax.common.types import Clip, Params
from ffa_sora_jax.tasks.base import Task
from ffa_sora_jax.train import config as config_lib
from ffa_sora_jax.train import evaluate as evaluate_lib
from ffa_sora_jax.train import hooks as hooks_lib
from ffa_sora_jax.train import state as state_lib
from ffa_sora_jax.train.optimizer import make_optimizer
from ffa_sora_jax.train.state import TrainState
from ffa_sora_jax.train.step import StepFn, make_step, put_clip
from ffa_sora_jax.train.writer import MetricWriter, NullWriter

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"
AGREE_EVERY = 10  # steps between two rounds in which processes agree on stopping


class Source(Protocol):
    """Batches as a pure function of the step (`data.pipeline.make_source`)."""

    def batch(self, step: int) -> Clip:
        """The host batch of one step: this process's share, numpy arrays."""
        ...

    def iterate(self, start_step: int) -> Iterator[Clip]:
        """The batches from `start_step` on, prefetched."""
        ...


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run that do not change while it runs."""

    task: Task
    config: Mapping[str, Any]
    mesh: Mesh
    optimizers: Mapping[str, optax.GradientTransformation]
    schedules: Mapping[str, Callable[[int], Any]]
    ema_players: tuple[str, ...]
    abstract: TrainState
    shardings: TrainState


def train(
    task: Task,
    config: Mapping[str, Any],
    workdir: Path,
    source: Source,
    eval_source: Source | None = None,
    *,
    mesh: Mesh | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Trains until `config.train.total_steps`, or until `stop()` or the time limit says so.

    Args:
      task: what is trained.
      config: resolved config of the run.
      workdir: folder of this run; one that holds checkpoints is resumed.
      source: training batches.
      eval_source: validation batches; None trains without evaluation.
      mesh: devices; by default those of `config.mesh`.
      stop: asked after every step; True saves and returns.

    Returns:
      The last state.

    Raises:
      ValueError: config and workdir, mesh or checkpoint do not fit.
      FloatingPointError: a loss or gradient was not finite.
      OSError: a checkpoint could not be written.
    """
    run = prepare(task, config, mesh)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(run.mesh))
        checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=config["train"]["keep"])
        stack.callback(checkpoints.close)  # a save under way is finished whatever happens
        info = hooks_lib.StepInfo(config["train"]["total_steps"], hooks_lib.Window())
        state = _begin(run, workdir, checkpoints, source, info)
        frozen = jax.device_put(task.frozen(), mesh_lib.replicated(run.mesh))
        steps = {
            player: make_step(task, player, optimizer, config["ema"], run.shardings)
            for player, optimizer in run.optimizers.items()
        }
        root = seeds.stream(config["seed"], "train")
        writer = MetricWriter(workdir, start_step=info.step) if _is_first() else NullWriter()
        stack.callback(writer.close)
        hooks = _make_hooks(run, writer, checkpoints, eval_source, frozen, state, info)
        batches = source.iterate(info.step)
        began = time.monotonic()
        while info.step < info.total_steps and not info.stopping:
            waited = time.monotonic()
            clip = put_clip(next(batches), run.mesh)
            info.data_s += time.monotonic() - waited
            player = task.player(info.step)
            state, scalars = _call(steps[player], player, info, state, frozen, root, clip)
            info.step += 1
            info.window.add(info.step, player, scalars)
            info.stopping = _agreed(stop() or _out_of_time(config, began), info.step)
            hooks_lib.run_due(hooks, state, info)
            checkpoints.poll()
    return state


def prepare(task: Task, config: Mapping[str, Any], mesh: Mesh | None = None) -> Run:
    """Optimizers, abstract state and shardings of a run; allocates no parameter.

    Raises:
      ValueError: unknown player, or a mesh or rule that does not fit.
    """
    mesh = mesh_lib.make_mesh(config["mesh"]["axes"]) if mesh is None else mesh
    mesh_lib.check_batch_size(config["train"]["batch_size"], mesh, "train.batch_size")
    evaluate_lib.check(config["eval"], mesh, task.makes)
    optim, total = dict(config["optim"]), config["train"]["total_steps"]
    players = dict(optim.pop("players"))
    names.check_keys("player in config.optim.players", players, task.players)
    if config["train"]["init_from"] and config["train"]["calibration_batches"]:
        raise ValueError(
            "train.init_from and train.calibration_batches both set the first parameters; unset "
            "one: --config.train.calibration_batches=0 or --config.train.init_from="
        )
    pairs = {p: make_optimizer({**optim, **players.get(p, {})}, total) for p in task.players}
    ema_players = tuple(config["ema"]["players"]) or task.players[:1]
    names.check_keys("player in config.ema.players", ema_players, task.players)
    if config["ema"]["decay"] <= 0:
        ema_players = ()
    optimizers = {player: optimizer for player, (optimizer, _) in pairs.items()}
    abstract = state_lib.abstract_state(task, optimizers, ema_players)
    return Run(
        task=task,
        config=config,
        mesh=mesh,
        optimizers=optimizers,
        schedules={player: schedule for player, (_, schedule) in pairs.items()},
        ema_players=ema_players,
        abstract=abstract,
        shardings=state_lib.state_shardings(abstract, config["mesh"]["rules"], mesh),
    )


def _call(step: StepFn, player: str, info: hooks_lib.StepInfo, *args: Any) -> Any:
    """One step; the first one of a player compiles, which counts as time aside."""
    if player in info.compiled:
        return step(*args)
    with info.aside():
        start = time.monotonic()
        result = jax.block_until_ready(step(*args))
        logging.info("First step of %s, compiling: %.1f s", player, time.monotonic() - start)
    info.compiled.add(player)
    return result


def _begin(
    run: Run, workdir: Path, checkpoints: Checkpoints, source: Source, info: hooks_lib.StepInfo
) -> TrainState:
    """The state to go on from: the workdir's own checkpoint, or step 0. Sets `info`."""
    target = state_lib.with_shardings(run.abstract, run.shardings)
    restored = checkpoints.restore(hooks_lib.as_tree(target))
    if restored is not None:
        config_lib.check_resumable(run.config, restored.meta["config"], str(workdir))
        logging.info("Resumed from checkpoint %d in %s.", restored.step, checkpoints.directory)
        info.step = restored.step
        info.window.restore(restored.meta["window"])
        return TrainState(**restored.state)
    state = _first_state(run, source)
    if _is_first():
        config_lib.write(run.config, workdir / CONFIG_FILE)
    return state


def _first_state(run: Run, source: Source) -> TrainState:
    args = (run.optimizers, run.ema_players)
    folder = run.config["train"]["init_from"]
    num_batches = run.config["train"]["calibration_batches"]
    if folder:
        loaded = run.task.warm_start(Path(folder))
        params = state_lib.fill(
            loaded, folder, run.task, run.abstract.params, run.shardings.params, run.config["seed"]
        )
        return state_lib.replace_params(params, *args, run.shardings)
    if not num_batches:
        return state_lib.create_state(run.task, *args, run.shardings, run.config["seed"])
    params = jax.device_get(jax.jit(run.task.init)(seeds.stream(run.config["seed"], "init")))
    clips = itertools.islice(source.iterate(0), num_batches)
    return state_lib.replace_params(run.task.calibrate(params, clips), *args, run.shardings)


def _make_hooks(
    run: Run, writer: MetricWriter, checkpoints: Checkpoints, eval_source: Source | None,
    frozen: Params, state: TrainState, info: hooks_lib.StepInfo,
) -> list[hooks_lib.Hook]:  # fmt: skip
    train_config = run.config["train"]
    log = hooks_lib.LogHook(
        train_config["log_steps"], writer, run.schedules, train_config["batch_size"]
    )
    meta = {"config": config_lib.to_json(run.config), "data": {"seed": run.config["seed"]}}
    hooks: list[hooks_lib.Hook] = [log]
    if eval_source is not None:
        evaluator = evaluate_lib.Evaluator(run.task, run.config, eval_source, run.mesh, writer)
        hook = evaluate_lib.EvalHook(run.config["eval"]["steps"], evaluator, frozen)
        hooks.append(hook)
        if (
            info.step == 0 and hook.every > 0
        ):  # the start of the curve, and an early test that sampling fits
            hook(state, info)
            info.aside_s = 0.0
    hooks.append(hooks_lib.CheckpointHook(train_config["ckpt_steps"], checkpoints, meta))
    log.start(info.step)
    return hooks


def _is_first() -> bool:
    return jax.process_index() == 0


def _agreed(stopping: bool, step: int) -> bool:
    """Whether any process wants to stop; all must leave the loop after the same step."""
    if jax.process_count() == 1:
        return stopping
    if step % AGREE_EVERY:
        return False
    return bool(np.any(multihost_utils.process_allgather(np.asarray(stopping))))


def _out_of_time(config: Mapping[str, Any], began: float) -> bool:
    limit = config["train"]["max_seconds"]
    return 0 < limit < time.monotonic() - began
