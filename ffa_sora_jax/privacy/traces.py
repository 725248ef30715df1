"""What the audit keeps of a clip: small maps by which eyes and copies are known again."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffa_sora_jax.common import files
from ffa_sora_jax.metrics import retrieval
from ffa_sora_jax.video import fingerprint, vessel_map
from ffa_sora_jax.video.standardize import standardize

VERSION = 1  # raise when a trace changes: stored ones are then made again
NUM_FRAMES = 21
MAP_PX, FRAME_PX = 128, 32
MIN_VESSELS = 0.01  # mean response of the vessel map below which an eye cannot be known


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """One clip.

    Attributes:
      vessels: (128, 128) float16 vessel map.
      contrast: (128, 128) float16 mean contrast.
      field: (128, 128) float16 share of each pixel that lies in the field.
      frames: (21, 32, 32) float16 contrast of every frame.
      print: (8,) uint64 perceptual fingerprint.
      features: (d,) float32 features for retrieval.
    """

    vessels: np.ndarray
    contrast: np.ndarray
    field: np.ndarray
    frames: np.ndarray
    print: np.ndarray
    features: np.ndarray

    @property
    def has_vessels(self) -> bool:
        """Whether there is enough of a vessel tree to tell eyes apart."""
        inside = float(self.field.sum(dtype=np.float64))
        return inside > 0 and float(self.vessels.sum(dtype=np.float64)) / inside >= MIN_VESSELS


FIELDS = tuple(field.name for field in dataclasses.fields(Trace))


def trace(video: np.ndarray) -> Trace:
    """The trace of a clip (t, h, w) uint8 of any length and size.

    Raises:
      ValueError: another shape or dtype, or no frame.
    """
    frames, is_original = video, np.ones(len(video), bool)
    if len(video) != NUM_FRAMES:
        frames, is_original = standardize(video, NUM_FRAMES)
    contrasts, inside = vessel_map.frame_contrasts(frames)
    mean = contrasts.mean(axis=0)
    lines = vessel_map.vessel_map(mean, inside)
    small = np.stack([vessel_map.shrink(frame, FRAME_PX) for frame in contrasts])
    return Trace(
        vessels=vessel_map.shrink(lines, MAP_PX).astype(np.float16),
        contrast=vessel_map.shrink(mean, MAP_PX).astype(np.float16),
        field=vessel_map.shrink(inside.astype(np.float32), MAP_PX).astype(np.float16),
        frames=small.astype(np.float16),
        print=fingerprint.clip_fingerprint(frames, is_original),
        features=retrieval.describe_maps(frames, lines),
    )


def save(path: Path, one: Trace) -> None:
    """Writes a trace; the file appears whole or not at all."""
    with files.replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **{name: getattr(one, name) for name in FIELDS})


def load(path: Path) -> Trace:
    """Reads a trace."""
    with np.load(path) as stored:
        return Trace(**{name: stored[name] for name in FIELDS})


def stack(traces: Sequence[Trace], name: str) -> np.ndarray:
    """One field of many traces as an array (n, ...)."""
    return np.stack([getattr(one, name) for one in traces])
