"""The network of FVD-phantom: which diseases, which eye, and whether frames are in order.

    clip.video --frames kept, reversed or shuffled; lighter or darker--> features --> read-outs
    sum of the cross-entropies of clip.labels.diseases, clip.labels.left, and what the frames were

The read-outs are there to shape the features; `metrics.fvd_phantom` uses the features alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ffa_sora_jax.common import names, sections
from ffa_sora_jax.common.types import AnyArray, Array, Clip, Labels, Params
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.phantom_features import ORDERS, PhantomFeatures, PhantomFeaturesConfig
from ffa_sora_jax.tasks.augment import vary
from ffa_sora_jax.tasks.base import Task

_FROM_DATA = ("diseases", "size", "frames")  # fields of the model that `config.data` decides


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureTask(Task):
    """Trains the feature network as one player, "model".

    Attributes:
      bundle: architecture.
      gain: light of clips is multiplied by a factor between 1 / (1 + gain) and 1 + gain.
    """

    bundle: Bundle
    gain: float = 0.0
    players = ("model",)

    def init(self, rng: jax.Array) -> dict[str, Params]:
        """Fresh parameters."""
        return {"model": self.bundle.init(rng)}

    def loss(
        self, player: str, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip,
        step: Array,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        """Sum of the three cross-entropies; logs how well each is told.

        "diseases_auc" is the area under the ROC curve, averaged over the diseases of the batch:
        read it on large batches.
        """
        del frozen, step
        video, labels = _fields_of(clip)
        order_key, light_key = jax.random.split(rng)
        video, order = reorder(video, order_key)
        video = vary(video, light_key, gain=self.gain)
        features = self.bundle.apply(params[player], video)
        diseases, left, orders = self.bundle.apply(params[player], features, method="read_out")
        terms = (
            optax.sigmoid_binary_cross_entropy(diseases, labels.diseases).sum(-1),
            optax.sigmoid_binary_cross_entropy(left, labels.left),
            optax.softmax_cross_entropy_with_integer_labels(orders, order),
        )
        scalars = {
            "diseases_auc": mean_area(diseases, labels.diseases),
            "eye_accuracy": jnp.mean((left > 0) == (labels.left > 0)),
            "order_accuracy": jnp.mean(orders.argmax(-1) == order),
        }
        return sum((term.mean() for term in terms), jnp.zeros(())), scalars


def reorder(video: Array, rng: jax.Array) -> tuple[Array, Array]:
    """Clips (b, t, ...) with their frames kept, reversed or shuffled, a third of the chance each.

    Returns:
      The clips, and (b,) int32 numbers in `models.phantom_features.ORDERS`.
    """
    kind_key, place_key = jax.random.split(rng)
    b, t = video.shape[:2]
    order = jax.random.randint(kind_key, (b,), 0, len(ORDERS), jnp.int32)
    kept = jnp.arange(t)
    shuffled = jnp.argsort(jax.random.uniform(place_key, (b, t)), axis=1)
    kinds = (kept[None], kept[None, ::-1], shuffled)
    places = jnp.select([order[:, None] == n for n in range(len(kinds))], kinds)  # (b, t)
    return jax.vmap(lambda clip, place: clip[place])(video, places), order


def mean_area(scores: AnyArray, labels: AnyArray) -> Array:
    """Area under the ROC curve, mean over the columns of (b, k) that have both labels.

    An area is the share of (present, absent) pairs that are scored in the right order, ties half;
    where no column has both it is that of guessing, 0.5.
    """
    present = jnp.asarray(labels, jnp.float32)
    pairs = present[:, None] * (1.0 - present[None])  # (b, b, k)
    right = 0.5 + 0.5 * jnp.sign(scores[:, None] - scores[None])
    count = pairs.sum((0, 1))
    areas = (pairs * right).sum((0, 1)) / jnp.maximum(count, 1.0)
    both = count > 0
    mean = jnp.where(both, areas, 0.0).sum() / jnp.maximum(both.sum(), 1)
    return jnp.where(both.any(), mean, 0.5)


def create(config: Mapping[str, Any]) -> FeatureTask:
    """The task of a config; reads `model` and `data`, which tells diseases, size and frames.

    `config.model` holds `gain` and the other fields of `PhantomFeaturesConfig`.

    Raises:
      ValueError: unknown key, sections that are not used, or clips that the network cannot take.
    """
    for section in ("vae", "text_encoder", "diffusion", "sample"):
        names.check_keys(f"key of config.{section} (this task has none)", config[section], ())
    if config["eval"]["num_samples"]:
        raise ValueError(
            "This task generates no clips; set config.eval.num_samples to 0, not "
            f"{config['eval']['num_samples']}."
        )
    model, data = dict(config["model"]), DataConfig.read(config["data"])
    gain = model.pop("gain", 0.0)
    if not 0.0 <= gain < 1.0:
        raise ValueError(f"config.model.gain is {gain}; it must be at least 0 and below 1.")
    fields = [f.name for f in dataclasses.fields(PhantomFeaturesConfig)]
    names.check_keys(
        "key of config.model", model, [name for name in fields if name not in _FROM_DATA]
    )
    if not data.diseases or data.channels != 1 or data.res % 16:
        raise ValueError(
            "This task needs the names of the diseases in config.data.diseases, data.channels 1 "
            f"and a data.res that is a multiple of 16; they are {data.diseases}, "
            f"{data.channels} and {data.res}."
        )
    model |= {"diseases": data.diseases, "size": data.res, "frames": data.num_frames}
    cfg = sections.read(PhantomFeaturesConfig, model, "model")
    return FeatureTask(Bundle.create(PhantomFeatures, cfg), float(gain))


def _fields_of(clip: Clip) -> tuple[Array, Labels]:
    if clip.labels is None or clip.video is None:
        raise ValueError("A clip to learn diseases and eye from needs video and labels.")
    return jnp.asarray(clip.video), clip.labels
