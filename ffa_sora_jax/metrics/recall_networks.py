"""Recall@K on the features of networks, those that other metrics compute."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import fid, fvd, fvd_phantom
from ffa_sora_jax.metrics.base import OfSets
from ffa_sora_jax.metrics.retrieval import RecallAtK


@dataclasses.dataclass(frozen=True)
class NetworkRecall(RecallAtK):
    """Paired Recall@K on the rows of another metric, which need not be computed twice.

    Attributes:
      source: the metric of sets whose features are compared; parameters are its own. Where a clip
        has several (frames, lengths), the mean of their directions counts.
    """

    host: ClassVar[bool] = False

    source: OfSets = dataclasses.field(default_factory=fvd.FVD)

    def features(self, clip: Clip, params: Any) -> Any:
        """(b, d) or (b, n, d) float32."""
        return self.source.features(clip, params)

    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """See `RecallAtK.value`; rows (n, d) or (n, k, d)."""
        return super().value(pooled(sample), pooled(reference))

    def per_sample(self, sample: np.ndarray, reference: np.ndarray) -> np.ndarray | None:
        """See `RecallAtK.per_sample`; rows (n, d) or (n, k, d)."""
        return super().per_sample(pooled(sample), pooled(reference))


def pooled(rows: np.ndarray) -> np.ndarray:
    """(n, d) unit vectors: the mean of a clip's (n, k, d) features, each scaled to length 1."""
    rows = np.asarray(rows, np.float64)
    if rows.ndim == 3:
        rows = _unit(rows).mean(axis=1)
    return _unit(rows)


def load_phantom(folder: Path | None) -> tuple[NetworkRecall, Any]:
    """On the network that ships; for the registry."""
    return _on(fvd_phantom.load_fvd_phantom(folder))


def load_i3d(folder: Path | None) -> tuple[NetworkRecall, Any]:
    """On the class scores of I3D, prepared as for FVD; for the registry."""
    return _on(fvd.load_fvd(folder))


def load_inception(folder: Path | None) -> tuple[NetworkRecall, Any]:
    """On the frames' features of Inception-v3; for the registry."""
    return _on(fid.load_fid(folder))


def _on(loaded: tuple[OfSets, Any]) -> tuple[NetworkRecall, Any]:
    metric, params = loaded
    return NetworkRecall(source=metric), params


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30)
