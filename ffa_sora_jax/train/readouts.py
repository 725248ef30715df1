"""Read-outs of samples that only phantoms allow: is the disc on the side that the report names, do
arteries fill before veins, does the dye fade. The same is asked of the real clips, as a control:
what the read-out misses there is its own error. A clip whose eye (or frame times) nobody recorded
is left out, and a share of no clip is not given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def laterality(
    samples: np.ndarray, references: np.ndarray, infos: Sequence[Any] | None
) -> dict[str, float]:
    """Share of clips that show the eye of the report.

    Args:
      samples: (n, t, h, w, c) uint8.
      references: the real clips of the same reports; they tell the eye where `infos` is None.
      infos: what is known of the real clips: `.eye`, `.times_s`.

    Returns:
      "laterality" of the samples and "laterality_real" of the real clips.
    """
    from ffa_sora_jax.phantom import oracle  # needs cv2, which a bare GPU image may lack

    made, real = ([oracle.laterality(_gray(x)) for x in clips] for clips in (samples, references))
    wanted = real if infos is None else [info.eye for info in infos]
    pairs = {"laterality": made, "laterality_real": real}
    return _shares({
        name: [a == b for a, b in zip(eyes, wanted, strict=True) if b in ("right", "left")]
        for name, eyes in pairs.items()
    })  # fmt: skip


def phases(
    samples: np.ndarray, references: np.ndarray, infos: Sequence[Any] | None
) -> dict[str, float]:
    """Shares of clips in which arteries fill before veins, and in which vessels fade at the end.

    Returns:
      "arteries_first" and "fades" of the samples, and both with "_real" of the real clips.

    Raises:
      ValueError: the data carry no frame times.
    """
    from ffa_sora_jax.phantom import oracle

    if infos is None:
        raise ValueError("eval.metrics has 'phases', which needs data with frame times.")
    hits: dict[str, list[bool]] = {}
    for suffix, clips in (("", samples), ("_real", references)):
        orders = [
            oracle.phase_order(_gray(clip), info.times_s)
            for clip, info in zip(clips, infos, strict=True)
            if info.times_known
        ]
        hits["arteries_first" + suffix] = [order.arteries_first for order in orders]
        hits["fades" + suffix] = [order.fades for order in orders]
    return _shares(hits)


READOUTS: dict[str, Callable[..., dict[str, float]]] = {"laterality": laterality, "phases": phases}


def _shares(hits: Mapping[str, list[bool]]) -> dict[str, float]:
    return {name: float(np.mean(found)) for name, found in hits.items() if found}


def _gray(clip: np.ndarray) -> np.ndarray:
    return clip[..., 0]  # (t, h, w); angiograms have equal channels
