"""Does the dye run through a clip as it runs through the reference?

Brightness over time in each part of the eye (disc, fovea, ring round it, and vessels and tissue of
the four quadrants), each clip on its own anatomy: the disc is found in either, so that the curves
compare kinetics and not places. Gain is taken out: a curve is divided by the mean of the field in
its frame. Curves are brought to common times, evenly spaced in the logarithm of the seconds that
both clips cover, and compared by correlation and by mean absolute difference. Beside them stands
the order of the phases: half-rise times of the vessels that fill first and last.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics import gray
from ffa_sora_jax.metrics.base import PerClip
from ffa_sora_jax.phantom import oracle, oracle_views
from ffa_sora_jax.phantom.oracle_views import SIZE, View
from ffa_sora_jax.phantom.record import QUADRANTS

REGIONS = (
    "disc", "fovea", "ring", *(f"{part} {q}" for q in QUADRANTS for part in ("vessels", "tissue")),
)  # fmt: skip
POINTS = 24  # common times
FIRST_S = 0.5  # earlier frames count as this time on the logarithmic axis
VESSEL_SHARE = 0.12  # of a quadrant: the brightest lines are its vessels
STEADY = 0.02  # sd of a log curve below which it has no shape to correlate


@dataclasses.dataclass(frozen=True)
class DyeCurves(PerClip):
    """Mean correlation of regional dye curves between sample and reference."""

    name: ClassVar[str] = "dye_correlation"
    higher_is_better: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    host: ClassVar[bool] = True

    def measure(self, sample: Clip, reference: Clip | None, params: Any = None) -> np.ndarray:
        """Rows (b, 4): correlation, difference, lag of the phases, same order (0 or 1).

        Raises:
          ValueError: a clip is missing, or its frames are not square.
        """
        pairs = gray.timed_pairs(sample, reference, self.name)
        return np.stack([compare(*a, *b) for a, b in pairs])

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """Means: correlation, difference (natural logarithms), lag, share of the same order."""
        keys = (self.name, "dye_difference", "phase_lag", "phase_order")
        return gray.column_means(keys, rows)


def curves(video: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """(t, 11) logarithm of the brightness of `REGIONS` relative to the field's mean.

    Args:
      video: (t, h, w) grey clip 0..255, square.
      times_s: (t,) ascending seconds.
    """
    view = oracle_views.look(video, times_s, oracle.laterality(video))
    field = oracle_views.field_mask(SIZE, 0.03)
    mean = view.frames[:, field].mean(axis=1)
    parts = _parts(view)
    levels = np.stack([view.frames[:, parts[name]].mean(axis=1) for name in REGIONS], axis=1)
    return np.log((levels + 2.0) / (mean[:, None] + 2.0))


def compare(
    video_a: np.ndarray, times_a: np.ndarray, video_b: np.ndarray, times_b: np.ndarray
) -> np.ndarray:
    """(4,) float32 for two clips: correlation, difference, lag of the phases, same order.

    Correlation is the mean over the regions whose reference curve (b) changes at all; the lag is
    the mean absolute difference of the logarithms of arterial and venous half-rise times.
    """
    axis = _common_axis(times_a, times_b)
    a, b = (
        np.stack([np.interp(axis, _log(times), curve) for curve in curves(video, times).T])
        for video, times in ((video_a, times_a), (video_b, times_b))
    )
    moving = b.std(axis=1) > STEADY
    phases = [oracle.phase_order(v, t) for v, t in ((video_a, times_a), (video_b, times_b))]
    rise = np.log(np.maximum([[p.arterial_s, p.venous_s] for p in phases], FIRST_S))
    same = phases[0].arteries_first == phases[1].arteries_first and (
        phases[0].fades == phases[1].fades
    )
    correlations = [gray.correlation(x, y) for x, y in zip(a[moving], b[moving], strict=True)]
    return np.array(
        [
            np.mean(correlations) if correlations else 0.0,
            np.abs(a - b).mean(),
            np.abs(rise[0] - rise[1]).mean(),
            float(same),
        ],
        np.float32,
    )


def load(folder: Any = None) -> tuple[DyeCurves, None]:
    """The metric for the registry; it needs no weights."""
    return DyeCurves(), None


def _parts(view: View) -> dict[str, np.ndarray]:
    lines = view.filling - oracle_views.blur(view.filling, 6.0)
    parts = {name: view.regions[name] for name in ("disc", "fovea", "ring")}
    for quadrant in QUADRANTS:
        inside = view.regions[quadrant]
        limit = np.quantile(lines[inside], 1 - VESSEL_SHARE)
        parts[f"vessels {quadrant}"] = inside & (lines >= limit)
        parts[f"tissue {quadrant}"] = inside & (lines <= np.quantile(lines[inside], 0.5))
    return parts


def _log(times_s: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(times_s, np.float64), FIRST_S))


def _common_axis(times_a: np.ndarray, times_b: np.ndarray) -> np.ndarray:
    """Logarithms of seconds that both clips cover."""
    a, b = _log(times_a), _log(times_b)
    first, last = max(a[0], b[0]), min(a[-1], b[-1])
    if last <= first:
        raise ValueError(
            f"The clips share no time: {times_a[0]:g} to {times_a[-1]:g} s and "
            f"{times_b[0]:g} to {times_b[-1]:g} s."
        )
    return np.linspace(first, last, POINTS)
