"""FVD-phantom: Frechet and kernel distance on features of a network trained on phantoms.

For use without the weights that FVD needs. It is another metric, in other units: no figure of it
may be printed as FVD, or compared with one. The network ships with the package; it knows phantom
angiograms only, and what it makes of real ones has not been checked.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import files, tree
from ffa_sora_jax.common.places import evenly
from ffa_sora_jax.common.types import AnyArray, Array, Clip, Params
from ffa_sora_jax.convert import safetensors_io
from ffa_sora_jax.metrics import frechet, kernel
from ffa_sora_jax.metrics.base import OfSets
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.phantom_features import PhantomFeatures, PhantomFeaturesConfig

SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "phantom_features"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclasses.dataclass(frozen=True)
class PhantomFVD(OfSets):
    """Distances of all samples to all references; a row is a clip's feature (128,).

    Attributes:
      network: sizes of the network whose parameters `features` is given.
    """

    network: PhantomFeaturesConfig = dataclasses.field(default_factory=PhantomFeaturesConfig)
    name = "fvd_phantom"
    higher_is_better = False
    value_range = (0.0, float("inf"))

    def features(self, clip: Clip, params: Any) -> Array:
        """Features (b, 128) of clips (b, t, h, w, c) in [-1, 1], of any length and size."""
        if clip.video is None:
            raise ValueError("FVD-phantom needs the clips' video.")
        return _bundle(self.network).apply(params, prepare_phantom(clip.video, self.network))

    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """{"fvd_phantom": Frechet distance, "kvd_phantom": kernel distance} of (n, d), (m, d)."""
        values = {self.name: frechet.distance_of_sets(sample, reference)}
        if min(len(sample), len(reference)) > 1:
            values["kvd_phantom"] = kernel.kernel_distance(sample, reference)
        return values


def prepare_phantom(video: AnyArray, cfg: PhantomFeaturesConfig) -> Array:
    """Grey clips (b, 21, 64, 64, 1): frames nearest to even times, resized with smoothing."""
    video = jnp.asarray(video, jnp.float32)[:, evenly(video.shape[1], cfg.frames)]
    grey = jnp.mean(video, axis=-1, keepdims=True)
    shape = (*grey.shape[:2], cfg.size, cfg.size, 1)
    return jax.image.resize(grey, shape, "bilinear", antialias=True)


def load_fvd_phantom(folder: Path | None) -> tuple[PhantomFVD, Any]:
    """The metric on the network that ships; `folder` is not read."""
    del folder
    return load_from(SHIPPED)


def load_from(folder: Path) -> tuple[PhantomFVD, Any]:
    """The metric on a network that `save_to` wrote into `folder`."""
    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    sizes: dict[str, Any] = {
        field.name: tuple(content[field.name])
        if isinstance(content[field.name], list)
        else content[field.name]
        for field in dataclasses.fields(PhantomFeaturesConfig)
    }
    network = PhantomFeaturesConfig(**sizes)
    stored = safetensors_io.open_weights(folder / WEIGHTS)
    flat = {path: jnp.asarray(stored[path], jnp.float32) for path in stored}
    return PhantomFVD(network), tree.unflatten_like(flat, _bundle(network).abstract)


def save_to(
    folder: Path, network: PhantomFeaturesConfig, params: Params, *, dtype: str = "float32",
    about: Mapping[str, Any],
) -> None:  # fmt: skip
    """Writes a network for `load_from`.

    Args:
      folder: made where it is missing.
      network: sizes.
      params: as `models.phantom_features` takes them.
      dtype: to store the weights in; half precision is enough for features.
      about: what else config.json says, such as how well the read-outs do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flat = {
        path: np.asarray(x).astype(jnp.dtype(dtype)) for path, x in tree.flatten(params).items()
    }
    with files.replacing(folder / WEIGHTS) as partial:
        safetensors_io.write_safetensors(partial, flat)
    files.write_json(folder / CONFIG, {**dataclasses.asdict(network), **about})


@functools.cache
def _bundle(network: PhantomFeaturesConfig) -> Bundle:
    return Bundle.create(PhantomFeatures, network)
