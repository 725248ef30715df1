"""LPIPS between a generated clip and its reference (arXiv 1801.03924), frame by frame.

Two choices change the number: the trunk (AlexNet or VGG-16) and whether the maps of the five
stages are enlarged to the frame before they are averaged ("spatial", what evaluations of videos
do; the difference is in the third digit). Frames are not resized.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from einops import rearrange

from ffa_sora_jax.common.types import Array, Clip
from ffa_sora_jax.convert.lpips import FILES, load_lpips
from ffa_sora_jax.metrics import weights
from ffa_sora_jax.metrics.base import PerClip
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.lpips import LPIPS, LPIPSConfig


@dataclasses.dataclass(frozen=True)
class LPIPSDistance(PerClip):
    """Mean distance over all frames of all pairs; a row is the distance of every frame (t,).

    Attributes:
      trunk: the network whose parameters `measure` is given.
      spatial: average the enlarged, summed maps instead of each stage's own.
    """

    trunk: LPIPSConfig = dataclasses.field(default_factory=LPIPSConfig.alexnet)
    spatial: bool = True
    name = "lpips"
    higher_is_better = False
    value_range = (0.0, float("inf"))

    def measure(self, sample: Clip, reference: Clip | None, params: Any) -> Array:
        """Distances (b, t) of clips (b, t, h, w, c) in [-1, 1], c 1 or 3.

        One frame of all clips at a time: VGG-16 takes 64 MiB per layer and frame of 512 px.
        """
        if reference is None or sample.video is None or reference.video is None:
            raise ValueError("LPIPS compares two videos: sample and reference.")
        network = _bundle(self.trunk)

        def one(pair: tuple[Array, Array]) -> Array:
            frame, other = (rearrange(x, "b h w c -> b 1 h w c") for x in pair)
            return network.apply(params, frame, other, spatial=self.spatial)[:, 0]

        frames = (rearrange(clip.video, "b t h w c -> t b h w c") for clip in (sample, reference))
        return rearrange(jax.lax.map(one, tuple(frames)), "t b -> b t")

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """{"lpips": mean, "lpips_sd": population deviation over frames}."""
        rows = rows.astype(np.float64)
        return {self.name: float(rows.mean()), f"{self.name}_sd": float(rows.std())}


def load_lpips_alex(folder: Path | None) -> tuple[LPIPSDistance, Any]:
    """LPIPS on AlexNet, the usual metric."""
    return LPIPSDistance(), _load(folder, "alex")


def load_lpips_vgg(folder: Path | None) -> tuple[LPIPSDistance, Any]:
    """LPIPS on VGG-16, the usual loss."""
    return LPIPSDistance(LPIPSConfig.vgg16()), _load(folder, "vgg")


def _load(folder: Path | None, net: str) -> Any:
    path = weights.require((FILES[net],), folder, "LPIPS")[FILES[net]]
    return load_lpips(path.parent, net)[1]


@functools.cache
def _bundle(trunk: LPIPSConfig) -> Bundle:
    return Bundle.create(LPIPS, trunk)
