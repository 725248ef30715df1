"""Alternating evaluation: validation loss, samples for validation reports (or, of tasks that write,
reports of validation clips), metrics, pictures.

Everything here is repeatable: the same validation batches and the same random numbers at every
call, so that two points of a curve differ by the parameters alone.
"""

import importlib
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ffa_sora_jax.common import mesh as mesh_lib
from ffa_sora_jax.common import names, seeds
from ffa_sora_jax.common.types import Array, Clip, Params
from ffa_sora_jax.metrics import registry
from ffa_sora_jax.metrics.registry import Loaded
from ffa_sora_jax.tasks.base import Task
from ffa_sora_jax.train.hooks import StepInfo
from ffa_sora_jax.train.readouts import READOUTS
from ffa_sora_jax.train.state import TrainState
from ffa_sora_jax.train.step import put_clip, to_model_range
from ffa_sora_jax.train.writer import MetricWriter

# Of videos, and of reports; `ffa-sora evaluate` reads reports from videos and knows all.
METRICS = tuple(name for name, entry in registry.METRICS.items() if entry.kind != "text")
TEXT_METRICS = tuple(name for name, entry in registry.METRICS.items() if entry.kind == "text")


def check(settings: Mapping[str, Any], mesh: Mesh, makes: str = "video") -> None:
    """Raises ValueError for an unknown metric, or a batch that the mesh cannot split.

    Args:
      settings: `config.eval`.
      mesh: of the run.
      makes: what the task makes, see `Task.makes`.
    """
    mesh_lib.check_batch_size(settings["batch_size"], mesh, "eval.batch_size")
    known = TEXT_METRICS if makes == "report" else (*METRICS, *READOUTS)
    for name in settings["metrics"]:
        if name not in known:
            raise ValueError(names.unknown_name(f"metric of a {makes}", name, known))


class Evaluator:
    """Evaluates parameters on the validation split; made once per run, so it compiles once."""

    def __init__(
        self, task: Task, config: Mapping[str, Any], source: Any, mesh: Mesh, writer: MetricWriter
    ):
        """Opens metrics and read-outs.

        Raises:
          ValueError: unknown metric, or a batch size that does not fit the mesh.
          FileNotFoundError: a metric needs files that `eval.weights` does not hold.
        """
        self._config, self._source, self._mesh, self._writer = config["eval"], source, mesh, writer
        self._task = task
        check(self._config, mesh, task.makes)
        weights = Path(self._config["weights"]) if self._config["weights"] else None
        self._readouts = [n for n in self._config["metrics"] if n in READOUTS]
        self._metrics = [
            registry.load(n, weights) for n in self._config["metrics"] if n not in READOUTS
        ]
        self._root = seeds.stream(config["seed"], "eval")
        player = task.players[0]

        def loss(
            params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip, step: Array
        ) -> Any:
            return task.loss(player, params, frozen, rng, to_model_range(clip), step)

        def sample(params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip) -> Any:
            made = task.sample(params, frozen, rng, to_model_range(clip))
            if task.makes == "video":
                return made.video
            assert made.text is not None
            return made.text.ids

        self._loss, self._sample = jax.jit(loss), jax.jit(sample)

    def __call__(self, state: TrainState, frozen: Params, step: int) -> dict[str, float]:
        """Evaluates, writes scalars and pictures, and returns the scalars."""
        start = time.monotonic()
        params = state.averaged() if self._config["use_ema"] else state.params
        scalars = self._losses(params, frozen, state.step)
        if self._config["num_samples"] and self._task.makes == "report":
            written, true = self._reports(params, frozen)
            for loaded in self._metrics:
                scalars |= _score_texts(loaded, written, true)
            self._show_reports(step, written, true)
        elif self._config["num_samples"]:
            samples, references = self._samples(params, frozen)
            scalars |= self._scores(samples, references)
            self._show(step, samples, references)
        scalars = {f"eval/{name}": value for name, value in scalars.items()}
        self._writer.write_scalars(step, {**scalars, "time/eval_s": time.monotonic() - start})
        self._writer.flush()
        # Values of single classes, "f1.leak", would fill the screen.
        main = {name[5:]: value for name, value in scalars.items() if "." not in name}
        shown = ", ".join(f"{name} {value:.4f}" for name, value in main.items())
        logging.info("step %d evaluated: %s", step, shown)
        return scalars

    def _losses(self, params: dict[str, Params], frozen: Params, step: Array) -> dict[str, float]:
        totals: dict[str, list[float]] = {}
        for index in range(self._config["num_batches"]):
            rng = seeds.at_step(self._root, index)
            loss, scalars = self._loss(params, frozen, rng, self._batch(index)[1], step)
            for name, value in {**scalars, "loss": loss}.items():
                totals.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def _samples(self, params: dict[str, Params], frozen: Params) -> tuple[np.ndarray, np.ndarray]:
        """Samples and real clips, each (n, t, h, w, c) uint8."""
        made = self._made(params, frozen)
        samples, references = zip(*((_to_uint8(x), _gather(y.video)) for x, y in made), strict=True)
        count = self._config["num_samples"]
        return np.concatenate(samples)[:count], np.concatenate(references)[:count]

    def _reports(self, params: dict[str, Params], frozen: Params) -> tuple[list[str], list[str]]:
        """Reports that are written for validation clips, and their own, cut as in training."""
        written: list[str] = []
        true: list[str] = []
        for ids, host in self._made(params, frozen):
            written += self._task.texts(ids)
            true += self._task.texts(_gather(host.text.ids))
        count = self._config["num_samples"]
        return written[:count], true[:count]

    def _made(self, params: dict[str, Params], frozen: Params) -> Iterator[tuple[np.ndarray, Any]]:
        """What the task makes of at least `num_samples` clips, and the batches, on every host."""
        for index in range(math.ceil(self._config["num_samples"] / self._config["batch_size"])):
            host, clip = self._batch(index)
            # Numbers of its own: the losses above use 0, 1, 2, ...
            rng = seeds.at_step(self._root, 2**20 + index)
            yield _gather(self._sample(params, frozen, rng, clip)), host

    def _scores(self, samples: np.ndarray, references: np.ndarray) -> dict[str, float]:
        scalars: dict[str, float] = {}
        infos = self._infos(len(samples))
        for loaded in self._metrics:
            scalars |= _score(loaded, samples, references, infos)
        for name in self._readouts:
            scalars |= READOUTS[name](samples, references, infos)
        return scalars

    def _infos(self, count: int) -> list[Any] | None:
        """What is known of the first clips: validation batches are in the order of the split."""
        examples = getattr(self._source, "examples", None)
        return None if examples is None else [examples[i % len(examples)] for i in range(count)]

    def _show(self, step: int, samples: np.ndarray, references: np.ndarray) -> None:
        """Real clip and sample, one above the other as sheets, side by side as a video."""
        sheet = importlib.import_module("ffa_sora_jax.video.sheet")
        count = min(self._config["num_sheets"], len(samples))
        infos = self._infos(count)
        for index in range(count):
            real, made = references[index], samples[index]
            info = None if infos is None else infos[index]
            is_patient = info is not None and not info.synthetic
            marks = sheet.REAL_MARK if is_patient else "REFERENCE", sheet.MARK
            # Times of real exams start with the first frame or the injection, not with the dye.
            pair = [
                sheet.contact_sheet(clip, _times(info), mark=mark, phases=not is_patient)
                for clip, mark in zip((real, made), marks, strict=True)
            ]
            self._writer.write_images(step, {f"sheet/{index}": np.concatenate(pair)})
            self._writer.write_videos(step, {f"video/{index}": np.concatenate([real, made], 2)})

    def _show_reports(self, step: int, written: list[str], true: list[str]) -> None:
        """In TensorBoard alone: reports of patients belong into no log."""
        pairs = list(zip(written, true, strict=True))[: self._config["num_sheets"]]
        texts = {
            f"report/{i}": f"**Reference:** {own}\n\n**Written:** {said}"
            for i, (said, own) in enumerate(pairs)
        }
        self._writer.write_texts(step, texts)

    def _batch(self, index: int) -> tuple[Clip, Clip]:
        """One validation batch on the host, and on the devices."""
        host = self._source.batch(index)
        return host, put_clip(host, self._mesh)


class EvalHook:
    """Evaluates every `eval.steps` steps and at the end."""

    when_stopping = "never"

    def __init__(self, every: int, evaluator: Evaluator, frozen: Params):
        self.every = every
        self._evaluator, self._frozen = evaluator, frozen

    def __call__(self, state: TrainState, info: StepInfo) -> None:
        """Evaluates the averaged parameters."""
        with info.aside():
            info.window.check_finite()
            self._evaluator(state, self._frozen, info.step)


def _score(
    loaded: Loaded, samples: np.ndarray, references: np.ndarray, infos: list[Any] | None
) -> dict[str, float]:
    """The values of one metric over clips (n, t, h, w, c) uint8, one pair at a time.

    Raises:
      ValueError: it compares clips with their reports, and the data have none.
    """
    metric, kind = loaded.metric, loaded.entry.kind
    if kind == "clip_text" and infos is None:
        raise ValueError(f"eval.metrics has {loaded.entry.name!r}, which needs data with reports.")
    state = metric.init()
    for index, (made, real) in enumerate(zip(samples, references, strict=True)):
        info = None if infos is None else infos[index]
        sample, reference = (_to_clip(index, video, info) for video in (made, real))
        if kind == "clip_text" and info is not None:
            text = {str(index): info.report}
            state = metric.update(state, text, sample, loaded.params)
        else:
            state = metric.update(state, sample, reference, loaded.params)
    return metric.compute(state)


def _score_texts(loaded: Loaded, written: list[str], true: list[str]) -> dict[str, float]:
    """The values of one metric of reports beside their references."""
    metric = loaded.metric
    params = metric.setup(loaded.params, true)
    sides = ({str(i): text for i, text in enumerate(texts)} for texts in (written, true))
    return metric.compute(metric.update(metric.init(), *sides, params))


def _gather(x: Any) -> np.ndarray:
    """The whole batch on every host."""
    if jax.process_count() > 1:
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def _to_uint8(video: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((video + 1) * 127.5), 0, 255).astype(np.uint8)


def _times(info: Any) -> np.ndarray | None:
    """(t,) seconds of a clip where they are known."""
    return info.times_s if info is not None and info.times_known else None


def _to_clip(number: int, video: np.ndarray, info: Any) -> Clip:
    """A batch of one clip (t, h, w, c) uint8 in [-1, 1], with its times where they are known."""
    times = _times(info)
    return Clip(
        video=video[None].astype(np.float32) / 127.5 - 1,
        exam=np.array([number]),
        times_s=None if times is None else times[None],
    )
