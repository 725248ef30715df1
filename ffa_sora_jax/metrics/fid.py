"""FID (arXiv 1706.08500): Frechet distance of single frames on features of Inception-v3.

Frames of one clip resemble each other, so the number of clips, not of frames, decides how far the
value can be trusted; with fewer than ten thousand frames read KID beside it. The resize rule
changes the value: "pytorch" samples bilinearly at pixel centres, without smoothing, as pytorch-fid
does; "tensorflow" at corners, as the first implementation did.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Array, Clip
from ffa_sora_jax.convert.inception import load_inception
from ffa_sora_jax.metrics import frechet, kernel, weights
from ffa_sora_jax.metrics.base import OfSets
from ffa_sora_jax.metrics.features import prepare
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.inception import SIZE, InceptionConfig, InceptionV3

RESIZES = {"pytorch": "cdfvd", "tensorflow": "tfhub"}  # names of `features.prepare`


@dataclasses.dataclass(frozen=True)
class FID(OfSets):
    """Distance of all frames of all samples to those of the references.

    A row is the features of every counted frame of a clip, (frames, 2048).

    Attributes:
      frame_stride: every so many frames count.
      resize: "pytorch" or "tensorflow".
      network: sizes of the network whose parameters `features` is given.
    """

    frame_stride: int = 1
    resize: str = "pytorch"
    network: InceptionConfig = dataclasses.field(default_factory=InceptionConfig)
    name = "fid"
    higher_is_better = False
    value_range = (0.0, float("inf"))

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(unknown_name("resize rule", self.resize, RESIZES))
        if self.frame_stride < 1:
            raise ValueError(f"frame_stride is {self.frame_stride}; expected 1 or more.")

    def features(self, clip: Clip, params: Any) -> Array:
        """Features (b, frames, 2048) of clips (b, t, h, w, c) in [-1, 1]."""
        if clip.video is None:
            raise ValueError("FID needs the clips' video.")
        video = clip.video[:, :: self.frame_stride]
        frames = rearrange(prepare(video, RESIZES[self.resize], SIZE), "b t h w c -> (b t) h w c")
        found = _bundle(self.network).apply(params, frames)
        return rearrange(found, "(b t) d -> b t d", b=video.shape[0])

    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """{"fid": distance of all frames (n, frames, d) and (m, frames, d)}."""
        return {self.name: frechet.distance_of_sets(_frames(sample), _frames(reference))}


@dataclasses.dataclass(frozen=True)
class KID(FID):
    """Kernel distance of the same features (arXiv 1801.01401), over all pairs of frames."""

    name = "kid"
    value_range = (float("-inf"), float("inf"))

    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """{"kid": distance of all frames (n, frames, d) and (m, frames, d)}."""
        return {self.name: kernel.kernel_distance(_frames(sample), _frames(reference))}


def load_fid(folder: Path | None) -> tuple[FID, Any]:
    """FID of every frame."""
    return FID(), _load(folder)


def load_kid(folder: Path | None) -> tuple[KID, Any]:
    """KID of every frame."""
    return KID(), _load(folder)


def _load(folder: Path | None) -> Any:
    path = weights.require(("inception",), folder, "FID")["inception"]
    return load_inception(path)[1]


def _frames(rows: np.ndarray) -> np.ndarray:
    return rearrange(rows, "n t d -> (n t) d")


@functools.cache
def _bundle(network: InceptionConfig) -> Bundle:
    return Bundle.create(InceptionV3, network)
