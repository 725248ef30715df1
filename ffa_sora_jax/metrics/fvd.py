"""Distances between sets of clips on features of I3D: FVD (arXiv 1812.01717) and KVD.

A figure is comparable only if network, epsilon of its batch norms, resize rule, covariance, number
and length of clips are the same. The first four are a protocol:

    protocol    frames become 224 px by     epsilon   covariance over
    styleganv   short side, centre crop     1e-3      n - 1
    videogpt    the same, of eight bits     1e-5      n - 1
    cdfvd       squashing, of eight bits    1e-5      n
    tfhub       squashing from corners      1e-3      n - 1

The features are the 400 class scores before the softmax, mean over time.
"""

import abc
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Array, Clip
from ffa_sora_jax.convert.i3d import load_i3d
from ffa_sora_jax.metrics import frechet, kernel, weights
from ffa_sora_jax.metrics.base import OfSets
from ffa_sora_jax.metrics.features import prepare
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.i3d import I3D, SIZE, I3DConfig


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What an evaluation does besides the network's weights.

    Attributes:
      preparation: name of `features.prepare`.
      epsilon: of the batch norms.
      ddof: the covariance is divided by n - ddof.
    """

    preparation: str
    epsilon: float
    ddof: int = 1


PROTOCOLS = {
    "styleganv": Protocol("styleganv", 1e-3),
    "videogpt": Protocol("videogpt", 1e-5),
    "cdfvd": Protocol("cdfvd", 1e-5, ddof=0),
    "tfhub": Protocol("tfhub", 1e-3),
}


@dataclasses.dataclass(frozen=True)
class _OnI3D(OfSets):
    """Features of I3D; a row is the class scores of a clip, one line for each of `lengths`.

    Attributes:
      protocol: key of `PROTOCOLS`.
      lengths: the clip is cut after so many frames, and the value is the mean over lengths; ()
        takes whole clips. Some evaluations take every length from 10 on.
      widths: of the network; its epsilon is the protocol's.
    """

    protocol: str = "styleganv"
    lengths: tuple[int, ...] = ()
    widths: I3DConfig = dataclasses.field(default_factory=I3DConfig)
    higher_is_better = False

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(unknown_name("FVD protocol", self.protocol, PROTOCOLS))

    @property
    def network(self) -> I3DConfig:
        """The network of this protocol."""
        return dataclasses.replace(self.widths, epsilon=PROTOCOLS[self.protocol].epsilon)

    def features(self, clip: Clip, params: Any) -> Array:
        """Class scores (b, lengths, 400) of clips (b, t, h, w, c) in [-1, 1], t at least 9."""
        if clip.video is None:
            raise ValueError("FVD needs the clips' video.")
        video = prepare(clip.video, PROTOCOLS[self.protocol].preparation, SIZE)
        network = _bundle(self.network)
        lengths = self.lengths or (video.shape[1],)
        if max(lengths) > video.shape[1]:
            raise ValueError(f"lengths are {lengths}, but the clips have {video.shape[1]} frames.")
        return jnp.stack([network.apply(params, video[:, :t]) for t in lengths], axis=1)

    @abc.abstractmethod
    def _distance(self, sample: np.ndarray, reference: np.ndarray) -> float:
        """Distance of features (n, d) and (m, d)."""

    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """The distance of features (n, lengths, d) and (m, lengths, d), mean over lengths."""
        lines = zip(np.moveaxis(sample, 1, 0), np.moveaxis(reference, 1, 0), strict=True)
        return {self.name: float(np.mean([self._distance(a, b) for a, b in lines]))}


@dataclasses.dataclass(frozen=True)
class FVD(_OnI3D):
    """Frechet distance of all samples to all references."""

    name = "fvd"
    value_range = (0.0, float("inf"))

    def _distance(self, sample: np.ndarray, reference: np.ndarray) -> float:
        return frechet.estimate(sample, reference, ddof=PROTOCOLS[self.protocol].ddof)


@dataclasses.dataclass(frozen=True)
class PairedMeanFVD(_OnI3D):
    """Mean over pairs of the squared distance of their features: the formula on one clip at a time.

    No distance of distributions: a perfect generator does not reach 0. One published system
    reports it under the name of FVD.
    """

    name = "fvd_paired_mean"
    value_range = (0.0, float("inf"))
    paired = True

    def _distance(self, sample: np.ndarray, reference: np.ndarray) -> float:
        return frechet.estimate(sample, reference, "paired_mean")

    def per_sample(self, sample: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """(n,) squared distance of each pair."""
        shift = np.asarray(sample, np.float64) - np.asarray(reference, np.float64)
        return np.square(shift).sum(-1).mean(-1)


@dataclasses.dataclass(frozen=True)
class BatchedFVD(_OnI3D):
    """Mean of the Frechet distances of small batches of pairs, as Open-Sora Plan evaluates.

    Attributes:
      batch_size: pairs per batch.
    """

    batch_size: int = 2
    name = "fvd_batched"
    value_range = (0.0, float("inf"))
    paired = True

    def _distance(self, sample: np.ndarray, reference: np.ndarray) -> float:
        return frechet.estimate(
            sample, reference, "batched",
            batch_size=self.batch_size, ddof=PROTOCOLS[self.protocol].ddof,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class KVD(_OnI3D):
    """Kernel distance of all samples to all references; unbiased, so it may be below 0."""

    name = "kvd"
    value_range = (float("-inf"), float("inf"))

    def _distance(self, sample: np.ndarray, reference: np.ndarray) -> float:
        return kernel.kernel_distance(sample, reference)


def load_fvd(folder: Path | None) -> tuple[FVD, Any]:
    """FVD by the protocol of StyleGAN-V."""
    return _load(FVD(), folder)


def load_fvd_videogpt(folder: Path | None) -> tuple[FVD, Any]:
    """FVD by the protocol of VideoGPT."""
    return _load(FVD("videogpt"), folder)


def load_fvd_tfhub(folder: Path | None) -> tuple[FVD, Any]:
    """FVD by the protocol of its first publication."""
    return _load(FVD("tfhub"), folder)


def load_fvd_paired_mean(folder: Path | None) -> tuple[PairedMeanFVD, Any]:
    """Mean squared distance of pairs."""
    return _load(PairedMeanFVD(), folder)


def load_fvd_batched(folder: Path | None) -> tuple[BatchedFVD, Any]:
    """Mean over batches of two pairs."""
    return _load(BatchedFVD(), folder)


def load_kvd(folder: Path | None) -> tuple[KVD, Any]:
    """Kernel distance, prepared as for FVD."""
    return _load(KVD(), folder)


def _load(metric: Any, folder: Path | None) -> tuple[Any, Any]:
    path = weights.require(("i3d",), folder, "FVD")["i3d"]
    return metric, load_i3d(path, metric.network)[1]


@functools.cache
def _bundle(network: I3DConfig) -> Bundle:
    return Bundle.create(I3D, network)
