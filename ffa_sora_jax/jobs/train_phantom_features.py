"""Makes the shipped phantom features: `python -m ffa_sora_jax.jobs.train_phantom_features --out D`.

Trains `models.phantom_features` on generated clips to tell diseases, the eye, and whether frames
are in order, and writes weights and the accuracy on clips it has not seen. Single process, any CPU;
about 15 minutes of one core with the default numbers, half of it to draw the clips.
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from ffa_sora_jax.common import files, tree
from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.common.types import Array, Params
from ffa_sora_jax.convert import safetensors_io
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.phantom_features import ORDERS, PhantomFeatures, PhantomFeaturesConfig
from ffa_sora_jax.phantom import generate
from ffa_sora_jax.phantom.diseases import DISEASES

SEED = 77_310  # of the clips; data sets, tests and shipped models draw from other seeds
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_HELD_OUT = 1_000_000  # first index of the clips that measure accuracy


@dataclasses.dataclass(frozen=True)
class Clips:
    """Clips with what they show.

    Attributes:
      video: (n, t, h, w) uint8, frames in order.
      diseases: (n, k) float32, 1 where present.
      left: (n,) float32, 1 for left eyes.
    """

    video: np.ndarray
    diseases: np.ndarray
    left: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the job."""
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {WEIGHTS}, {CONFIG}")
    parser.add_argument("--clips", type=int, default=2_400, help="generated clips to train on")
    parser.add_argument("--held-out", type=int, default=240, help="clips that measure accuracy")
    parser.add_argument("--steps", type=int, default=900, help="of training")
    parser.add_argument("--batch-size", type=int, default=32, help="clips per step")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="highest")


def run(args: argparse.Namespace) -> int:
    """Trains and writes; the same arguments on the same machine give the same files."""
    cfg = PhantomFeaturesConfig(diseases=tuple(DISEASES))
    train_on = draw(cfg, args.clips, 0)
    bundle = Bundle.create(PhantomFeatures, cfg)
    params = train(bundle, train_on, args.steps, args.batch_size, args.learning_rate)
    accuracy = judge(bundle, params, draw(cfg, args.held_out, _HELD_OUT))
    args.out.mkdir(parents=True, exist_ok=True)
    save(args.out, cfg, params, accuracy)
    logging.info("wrote %s; on unseen clips %s", args.out, accuracy)
    return 0


def draw(cfg: PhantomFeaturesConfig, count: int, first: int) -> Clips:
    """Generated clips of the indices from `first` on."""
    progress = Progress("clips", count, every_s=10.0)
    video = np.zeros((count, cfg.frames, cfg.size, cfg.size), np.uint8)
    diseases, left = np.zeros((count, len(cfg.diseases)), np.float32), np.zeros(count, np.float32)
    for n in range(count):
        phantom = generate(SEED, first + n, size=cfg.size)
        video[n], left[n] = phantom.video, phantom.eye == "left"
        diseases[n, [cfg.diseases.index(name) for name in phantom.exam.diseases]] = 1.0
        progress.advance()
    return Clips(video, diseases, left)


def train(
    bundle: Bundle, clips: Clips, steps: int, batch_size: int, learning_rate: float
) -> Params:
    """Parameters after `steps` steps of AdamW."""
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(50, steps // 5 + 1), steps)
    optimizer = optax.adamw(rate, weight_decay=1e-3)
    params = bundle.init(jax.random.key(SEED))
    state = optimizer.init(params)

    @jax.jit
    def step(params: Params, state: Any, batch: tuple[Array, ...]) -> tuple[Params, Any, Array]:
        value, gradient = jax.value_and_grad(functools.partial(_loss, bundle))(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    progress = Progress("steps", steps, every_s=10.0)
    for number in range(steps):
        rng = np.random.default_rng(np.random.SeedSequence((SEED, number)))
        params, state, value = step(params, state, _batch(clips, batch_size, rng))
        progress.advance()
        if number % 50 == 0:
            logging.info("step %d: loss %.4f", number, float(value))
    return params


def judge(bundle: Bundle, params: Params, clips: Clips) -> dict[str, float]:
    """Accuracy of the three read-outs; of diseases the mean area under the ROC curve."""
    rng = np.random.default_rng(SEED)
    batch = _batch(clips, len(clips.video), rng, all_clips=True)
    logits = jax.jit(functools.partial(_logits, bundle))(params, batch[0])
    diseases, eye, order = (np.asarray(x) for x in logits)
    areas = [
        _area(diseases[:, k], clips.diseases[:, k])
        for k in range(clips.diseases.shape[1])
        if 0 < clips.diseases[:, k].sum() < len(clips.left)
    ]
    return {
        "diseases_auc": round(float(np.mean(areas)), 4),
        "eye_accuracy": round(float(np.mean((eye > 0) == (clips.left > 0))), 4),
        "order_accuracy": round(float(np.mean(order.argmax(1) == np.asarray(batch[3]))), 4),
        "clips": len(clips.left),
    }


def save(out: Path, cfg: PhantomFeaturesConfig, params: Params, accuracy: dict[str, float]) -> None:
    """Writes config.json and the weights in half precision, enough for features."""
    content = {**dataclasses.asdict(cfg), "accuracy": accuracy, "trained_on": "phantoms"}
    files.write_json(out / CONFIG, content)
    flat = {path: np.asarray(x, np.float16) for path, x in tree.flatten(params).items()}
    with files.replacing(out / WEIGHTS) as partial:
        safetensors_io.write_safetensors(partial, flat)


def _batch(
    clips: Clips, size: int, rng: np.random.Generator, *, all_clips: bool = False
) -> tuple[np.ndarray, ...]:
    """Clips in [-1, 1] with their labels; a third each in order, reversed and shuffled."""
    chosen = np.arange(size) if all_clips else rng.integers(len(clips.left), size=size)
    order = rng.integers(len(ORDERS), size=size).astype(np.int32)
    video = clips.video[chosen]
    frames = video.shape[1]
    for n in range(size):
        if order[n]:
            places = np.arange(frames)[::-1] if order[n] == 1 else rng.permutation(frames)
            video[n] = video[n, places]
    gain = rng.uniform(0.85, 1.15, (size, 1, 1, 1))
    video = np.clip(video * gain, 0, 255).astype(np.float32) / 127.5 - 1.0
    return video[..., None], clips.diseases[chosen], clips.left[chosen], order


def _logits(bundle: Bundle, params: Params, video: Array) -> tuple[Array, Array, Array]:
    return bundle.apply(params, bundle.apply(params, video), method="read_out")


def _loss(bundle: Bundle, params: Params, batch: tuple[Array, ...]) -> Array:
    video, diseases, left, order = batch
    to_diseases, to_eye, to_order = _logits(bundle, params, video)
    return (
        optax.sigmoid_binary_cross_entropy(to_diseases, diseases).sum(-1).mean()
        + optax.sigmoid_binary_cross_entropy(to_eye, left).mean()
        + optax.softmax_cross_entropy_with_integer_labels(to_order, jnp.asarray(order)).mean()
    )


def _area(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: the share of (ill, well) pairs in the right order."""
    ill, well = scores[labels > 0], scores[labels == 0]
    difference = ill[:, None] - well[None]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    PARSER = argparse.ArgumentParser(description=__doc__)
    add_arguments(PARSER)
    raise SystemExit(run(PARSER.parse_args()))
