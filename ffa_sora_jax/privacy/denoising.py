"""The denoising loss of a text-to-video pipeline, as membership inference asks for it."""

import functools
import hashlib
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.types import Array, Params
from ffa_sora_jax.diffusion.objective import Objective
from ffa_sora_jax.pipelines.text_to_video import TextToVideo

DRAWS = 4  # noises per clip and level; their mean loss is less random

Exam: TypeAlias = tuple[np.ndarray, str]  # (t, h, w, c) uint8, report


def denoising_loss(pipeline: TextToVideo, draws: int = DRAWS) -> Callable[[Exam, float], float]:
    """`loss((video, report), level)`: mean squared error of the clean latent the model predicts.

    The noise depends on the clip and the level only, so the loss of a clip does not change with
    what else is judged.

    Args:
      pipeline: the model under audit; a training checkpoint becomes one by `ffa-sora export`.
      draws: noises per clip and level.
    """
    sampling = pipeline.sampling
    objective = Objective(schedule=sampling.schedule, prediction=sampling.prediction)
    params = {name: part.params for name, part in pipeline.parts.items()}
    step = jax.jit(functools.partial(_losses, pipeline, objective))

    def loss(exam: Exam, level: float) -> float:
        video, report = exam
        ids, mask = pipeline.tokenizer.encode([_cut(pipeline, report)], sampling.text_length)
        seed = hashlib.sha256(np.ascontiguousarray(video).tobytes()).digest()[:4]
        key = jax.random.fold_in(jax.random.key(0), int.from_bytes(seed, "little"))
        keys = jax.random.split(jax.random.fold_in(key, round(1000 * level)), draws)
        return float(step(params, _scaled(pipeline, video), ids, mask, keys, jnp.float32(level)))

    return loss


def _losses(
    pipeline: TextToVideo,
    objective: Objective,
    params: dict[str, Params],
    video: Array,
    ids: Array,
    mask: Array,
    keys: Array,
    level: Array,
) -> Array:
    apply = {name: part.bundle.apply for name, part in pipeline.parts.items()}
    mean, _ = apply["vae"](params["vae"], video, method="encode")  # (1, t', h', w', c')
    x0 = apply["vae"](params["vae"], mean, method="normalize").astype(jnp.float32)
    text = apply["text_encoder"](params["text_encoder"], ids, mask)  # (1, l, d)
    t = objective.path.time(level[None])

    def one(key: Array) -> Array:
        noise = objective.draw_noise(key, x0)
        x_t = objective.noised(x0, noise, t)
        pred = apply["transformer"](params["transformer"], x_t, t, text, mask)
        error = objective.to_x0(pred.astype(jnp.float32), x_t, t) - x0
        return (error**2).mean()

    return jax.lax.map(one, keys).mean()


def _scaled(pipeline: TextToVideo, video: np.ndarray) -> Array:
    """(1, t, h, w, c) float32 in [-1, 1] of a clip as the model was trained on it.

    Raises:
      ValueError: the clip has another length or size than the model's.
    """
    sampling = pipeline.sampling
    wanted = (sampling.num_frames, sampling.size, sampling.size)
    if video.ndim != 4 or video.shape[:3] != wanted:
        raise ValueError(
            f"A clip is {video.shape}, the model takes (t, h, w) = {wanted}; give the dataset that "
            "it was trained on."
        )
    grey = video.astype(np.float32).mean(axis=-1, keepdims=True)
    return jnp.asarray(np.repeat(grey, sampling.channels, axis=-1)[None] / 127.5 - 1.0)


def _cut(pipeline: TextToVideo, report: str) -> str:
    """The report; over-long ones lose their last words, as in training they lose last tokens."""
    words = report.split() or ["."]
    while len(words) > 1 and (
        int(pipeline.tokenizer.lengths([" ".join(words)])[0]) > pipeline.sampling.text_length
    ):
        words = words[: max(1, int(0.95 * len(words)))]
    return " ".join(words)
