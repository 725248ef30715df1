"""What happens beside the updates: logging, evaluation, checkpoints.

A hook is called after every `every`-th step and after the last one, in the order of the list. It
sees the state and must not change or keep it: the next step reuses its memory. When a run is asked
to stop early it has little time left: then it saves, and evaluates nothing.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging

from ffa_sora_jax.common.checkpoint import Checkpoints
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.train.state import TrainState
from ffa_sora_jax.train.writer import MetricWriter

IN_FLIGHT = 2  # steps queued on the device before the host waits


class Window:
    """Scalars of the steps since the last log line, still on the device.

    Reading a scalar waits for its step, so nothing is read before it is logged or saved. The host
    may run `IN_FLIGHT` steps ahead and no further, because every queued step holds a batch.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, str, Mapping[str, Array]]] = []
        self._checked = 0

    def add(self, step: int, player: str, scalars: Mapping[str, Array]) -> None:
        """Remembers the scalars of the `step`-th update (counted from 1)."""
        self._steps.append((step, player, scalars))
        if len(self._steps) > IN_FLIGHT:
            jax.block_until_ready(self._steps[-1 - IN_FLIGHT][2])

    def check_finite(self) -> None:
        """Waits for all steps so far.

        Raises:
          FloatingPointError: a loss or gradient is not finite; names the first such step.
        """
        self._steps[self._checked :] = jax.device_get(self._steps[self._checked :])
        for step, player, scalars in self._steps[self._checked :]:
            bad = {name: float(x) for name, x in scalars.items() if not np.isfinite(x)}
            if bad:
                raise FloatingPointError(
                    f"Step {step} ({player}) gave {bad}. Nothing was saved since the last good "
                    "checkpoint. Lower optim.lr, set optim.clip_norm, or look at the data of "
                    "this step; the same command resumes from that checkpoint."
                )
        self._checked = len(self._steps)

    def to_json(self) -> list[Any]:
        """The window as JSON, for a run that stops in the middle of one; `check_finite` first."""
        return [
            [step, player, {name: float(x) for name, x in scalars.items()}]
            for step, player, scalars in self._steps[: self._checked]
        ]

    def restore(self, steps: Sequence[Any]) -> None:
        """Goes on with what `to_json` gave."""
        self._steps = [(step, player, scalars) for step, player, scalars in steps]
        self._checked = len(self._steps)

    def drain(self) -> dict[str, float]:
        """Means over the window, checked; names are "scalar", or "player/scalar" if several."""
        self.check_finite()
        players = {player for _, player, _ in self._steps}
        values: dict[str, list[float]] = {}
        for _, player, scalars in self._steps:
            for name, value in scalars.items():
                key = name if len(players) == 1 else f"{player}/{name}"
                values.setdefault(key, []).append(float(value))
        self._steps, self._checked = [], 0
        return {name: float(np.mean(v)) for name, v in values.items()}


@dataclasses.dataclass
class StepInfo:
    """What hooks know beside the state.

    Attributes:
      step: number of finished steps.
      total_steps: where the run ends.
      stopping: the run ends early, after this step.
      window: scalars since the last log line.
      data_s: seconds spent waiting for batches since the last log line.
      aside_s: seconds spent compiling, evaluating and saving since the last log line.
      compiled: players whose step has run once.
    """

    total_steps: int
    window: Window
    step: int = 0
    stopping: bool = False
    data_s: float = 0.0
    aside_s: float = 0.0
    compiled: set[str] = dataclasses.field(default_factory=set)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Counts the enclosed seconds as not training, so that rates stay honest."""
        start = time.monotonic()
        yield
        self.aside_s += time.monotonic() - start


class Hook(Protocol):
    """Something periodic.

    Attributes:
      every: steps between two calls; 0: only after the last step.
      when_stopping: is it called when the run stops early: "always", "if due" or "never".
    """

    every: int
    when_stopping: str

    def __call__(self, state: TrainState, info: StepInfo) -> None:
        """Runs after step `info.step`."""
        ...


def run_due(hooks: Sequence[Hook], state: TrainState, info: StepInfo) -> None:
    """Calls the hooks whose turn it is; after the last step, all."""
    last = info.step == info.total_steps
    for hook in hooks:
        due = last or (hook.every > 0 and info.step % hook.every == 0)
        if info.stopping and not last:
            due = hook.when_stopping == "always" or (due and hook.when_stopping == "if due")
        if due:
            hook(state, info)


class LogHook:
    """Writes means, rates and the learning rate, and prints one line with the time left."""

    when_stopping = "if due"

    def __init__(
        self, every: int, writer: MetricWriter, schedules: Mapping[str, Callable[[int], Any]],
        batch_size: int,
    ):  # fmt: skip
        self.every = every
        self._writer, self._schedules, self._batch_size = writer, schedules, batch_size
        self._last_step: int | None = None
        self._last_time = time.monotonic()

    def start(self, step: int) -> None:
        """Starts the clock at `step`."""
        self._last_step, self._last_time = step, time.monotonic()

    def __call__(self, state: TrainState, info: StepInfo) -> None:
        """Logs the window."""
        done = info.step - (self._last_step or 0)
        if not done:
            return
        scalars = {f"train/{name}": value for name, value in info.window.drain().items()}
        seconds = max(time.monotonic() - self._last_time - info.aside_s, 1e-9)
        rate = done / seconds
        for player, schedule in self._schedules.items():
            name = "train/lr" if len(self._schedules) == 1 else f"train/{player}/lr"
            scalars[name] = float(schedule(_num_updates(state, player, info.step) - 1))
        scalars["time/steps_per_s"] = rate
        scalars["time/examples_per_s"] = rate * self._batch_size
        scalars["time/data_share"] = info.data_s / seconds
        self._writer.write_scalars(info.step, scalars)
        left = (info.total_steps - info.step) / rate
        loss = ", ".join(f"{k[6:]} {v:.4f}" for k, v in scalars.items() if k.endswith("loss"))
        logging.info(
            "step %d/%d, %s, %.2f steps/s, %s left",
            info.step, info.total_steps, loss, rate, in_words(left),
        )  # fmt: skip
        info.data_s = info.aside_s = 0.0
        self.start(info.step)


class CheckpointHook:
    """Saves the state, after a check that it is worth saving."""

    when_stopping = "always"

    def __init__(self, every: int, checkpoints: Checkpoints, meta: Mapping[str, Any]):
        self.every = every
        self._checkpoints, self._meta = checkpoints, meta

    def __call__(self, state: TrainState, info: StepInfo) -> None:
        """Saves `info.step`."""
        with info.aside():
            info.window.check_finite()
            # The order of examples depends on (seed, step) alone: the step is the data position.
            data = {**self._meta["data"], "next_step": info.step}
            meta = {**self._meta, "data": data, "window": info.window.to_json()}
            self._checkpoints.save(info.step, as_tree(state), meta)


def as_tree(state: TrainState) -> dict[str, Any]:
    """The state as the dict that checkpoints hold."""
    return {
        "step": state.step, "params": state.params, "opt_state": state.opt_state, "ema": state.ema,
    }  # fmt: skip


def in_words(seconds: float) -> str:
    """A duration such as "2 h 05 min", "3 min 20 s" or "12 s"."""
    total = round(seconds)
    if total >= 3600:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    if total >= 60:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total} s"


def _num_updates(state: TrainState, player: str, step: int) -> int:
    """How often a player was updated: the counter that its schedule reads."""
    counts = [
        leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state.opt_state[player])[0]
        if jax.tree_util.keystr(path[-1:]).strip(".") == "count"
    ]  # fmt: skip
    return int(counts[0]) if counts else step
