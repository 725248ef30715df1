"""Read-outs of samples that only phantoms allow: is the disc on the right side, in what order do
vessels fill. Each one compares what is seen in a sample with what the exam says.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def laterality(
    samples: np.ndarray, references: np.ndarray, infos: Sequence[Any] | None
) -> dict[str, float]:
    """Share of samples that show the eye of the report.

    Args:
      samples: (n, t, h, w, c) uint8.
      references: the real clips of the same reports; they tell the eye where `infos` is None.
      infos: what is known of the real clips: `.eye`, `.times_s`.
    """
    from ffa_sora_jax.phantom import oracle  # needs cv2, which a bare GPU image may lack

    wanted = (
        [oracle.laterality(_gray(clip)) for clip in references]
        if infos is None
        else [info.eye for info in infos]
    )
    seen = [oracle.laterality(_gray(clip)) for clip in samples]
    return {"laterality": float(np.mean([a == b for a, b in zip(seen, wanted, strict=True)]))}


READOUTS: dict[str, Callable[..., dict[str, float]]] = {"laterality": laterality}


def _gray(clip: np.ndarray) -> np.ndarray:
    return clip[..., 0]  # (t, h, w); angiograms have equal channels
