"""Content-debiased FVD (arXiv 2404.12391): Frechet distance on features of VideoMAE v2.

I3D was trained to tell actions by what single frames show, and FVD hardly sees spoilt motion.
VideoMAE's features weigh motion more. The network takes 16 frames: of longer clips those nearest to
16 evenly spaced times are taken, first and last included (of 21 frames five are left out).
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common.places import evenly
from ffa_sora_jax.common.types import Array, Clip
from ffa_sora_jax.convert.videomae import load_videomae
from ffa_sora_jax.metrics import frechet, weights
from ffa_sora_jax.metrics.base import OfSets
from ffa_sora_jax.metrics.features import prepare
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.videomae import VideoMAE, VideoMAEConfig


@dataclasses.dataclass(frozen=True)
class ContentDebiasedFVD(OfSets):
    """Frechet distance of all samples to all references; a row is a clip's feature (1408,).

    Attributes:
      network: sizes of the network whose parameters `features` is given.
      ddof: the covariance is divided by n - ddof; the published implementation divides by n.
    """

    network: VideoMAEConfig = dataclasses.field(default_factory=VideoMAEConfig)
    ddof: int = 0
    name = "fvd_videomae"
    higher_is_better = False
    value_range = (0.0, float("inf"))

    def features(self, clip: Clip, params: Any) -> Array:
        """Features (b, 1408) of clips (b, t, h, w, c) in [-1, 1]."""
        if clip.video is None:
            raise ValueError("FVD needs the clips' video.")
        video = clip.video[:, evenly(clip.video.shape[1], self.network.frames)]
        unit = 0.5 * (prepare(video, "cdfvd", self.network.size) + 1.0)
        return _bundle(self.network).apply(params, unit)

    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """{"fvd_videomae": distance of features (n, d) and (m, d)}."""
        return {self.name: frechet.estimate(sample, reference, ddof=self.ddof)}


def load_fvd_videomae(folder: Path | None) -> tuple[ContentDebiasedFVD, Any]:
    """The metric as published, but with 16 of all frames."""
    path = weights.require(("videomae",), folder, "Content-debiased FVD")["videomae"]
    return ContentDebiasedFVD(), load_videomae(path)[1]


@functools.cache
def _bundle(network: VideoMAEConfig) -> Bundle:
    return Bundle.create(VideoMAE, network)
