"""Is it the same eye in every frame, and is it the eye of the reference?

A vessel map is the Weber contrast of bright lines at 128 px. Within one clip, the map of each
frame is correlated with the mean map of the other frames: eyes do not change, so a value below
that of real clips means vessels that flicker, move or melt. Between clips, the mean maps are
correlated at the best of small shifts: near 1 for the same eye, near the printed chance level for
another one (the reference upside down, which keeps side, texture and layout and loses the eye).
From a report alone a model cannot know the vessels of the patient, so text-to-video should lie at
chance there, and a video made from the patient's photograph should not. A still picture is
perfectly consistent: read this beside the dye curves.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import gray
from ffa_sora_jax.metrics.base import PerClip
from ffa_sora_jax.phantom import oracle_views
from ffa_sora_jax.phantom.oracle_views import SMALL, field_mask

RIM = 0.045  # of the width, left out along the border of the field
BRIGHTEST = 0.5  # contrast that counts as full: leaks must not outweigh vessels
SHIFTS_PX = range(-6, 7)  # 5 % of the width either way


@dataclasses.dataclass(frozen=True)
class VesselConsistency(PerClip):
    """Mean correlation of the frames' vessel maps with the map of their clip."""

    name: ClassVar[str] = "vessel_consistency"
    higher_is_better: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    host: ClassVar[bool] = True
    of_sample: ClassVar[bool] = True

    def measure(self, sample: Clip, reference: Clip | None, params: Any = None) -> np.ndarray:
        """Rows (b, 4): within the sample, within the reference, between them, chance.

        Raises:
          ValueError: a clip is missing, has one frame only, or its frames are not square.
        """
        rows = []
        for (a, _), (b, _) in gray.timed_pairs(sample, reference, self.name):
            maps = [vessel_maps(video) for video in (a, b)]
            mean_a, mean_b = (stack.mean(axis=0) for stack in maps)
            chance = between(mean_a, mean_b[::-1])
            rows.append([*map(within, maps), between(mean_a, mean_b), chance])
        return np.asarray(rows, np.float32)

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """Means over clips; "vessel_match_chance" is what another eye would score."""
        keys = (
            self.name, "vessel_consistency_reference", "vessel_match", "vessel_match_chance",
        )  # fmt: skip
        return gray.column_means(keys, rows)


def vessel_maps(video: np.ndarray) -> np.ndarray:
    """(t, h, w) grey 0..255, square -> (t, 128, 128) contrast of bright lines, 0..0.5."""
    frames = oracle_views.resized(video, SMALL)
    return np.clip(oracle_views.contrast(frames), 0, BRIGHTEST)


def within(maps: np.ndarray) -> float:
    """Mean correlation of each map (t, h, w) with the mean of the others.

    Raises:
      ValueError: fewer than two frames.
    """
    if len(maps) < 2:
        raise ValueError("Consistency needs at least two frames, got one.")
    inside = maps[:, field_mask(maps.shape[-1], RIM)]
    total = inside.sum(axis=0)
    return float(np.mean([gray.correlation(m, (total - m) / (len(maps) - 1)) for m in inside]))


def between(map_a: np.ndarray, map_b: np.ndarray) -> float:
    """Correlation of two maps (h, w) at the best shift of at most 6 pixels."""
    field = field_mask(map_a.shape[-1], RIM)
    a = map_a[field]
    return max(
        gray.correlation(a, np.roll(map_b, (dy, dx), axis=(0, 1))[field])
        for dy in SHIFTS_PX
        for dx in SHIFTS_PX
    )


def load(folder: Any = None) -> tuple[VesselConsistency, None]:
    """The metric for the registry; it needs no weights."""
    return VesselConsistency(), None
