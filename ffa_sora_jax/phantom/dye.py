"""The bolus of fluorescein over time: first pass, recirculation, washout.

Times are seconds since dye first shows in the central retinal artery at the disc.
Source of the curve and its ranges: `docs/phantom.md`, section "Dye".
"""

import dataclasses
import functools

import numpy as np

TABLE_STEP = 0.02  # s
TABLE_START = -2.0  # s; the curve is 0 before 0
TABLE_END = 1100.0  # s


def gamma_variate(t: np.ndarray, peak_s: float, shape: float) -> np.ndarray:
    """g(t) = (t/tp)^a exp(a (1 - t/tp)) for t > 0, else 0; its peak is 1 at `peak_s`."""
    u = np.maximum(np.asarray(t, np.float64), 0.0) / peak_s
    return u**shape * np.exp(shape * (1 - u))


@dataclasses.dataclass(frozen=True)
class Dye:
    """The dye curve C(t) of one injection, peak 1.

    Attributes:
      peak_s: time of the first-pass peak of the gamma variate.
      shape: its steepness.
      washout_s: time constant of the late fall.
    """

    peak_s: float = 9.0
    shape: float = 2.2
    washout_s: float = 420.0

    @functools.cached_property
    def _table(self) -> np.ndarray:
        t = np.arange(TABLE_START, TABLE_END, TABLE_STEP)
        stretch = self.peak_s / 9.0
        first = 0.75 * gamma_variate(t, self.peak_s, self.shape)
        again = 0.21 * gamma_variate(t - 14 * stretch, 14 * stretch, 2.0)
        mixed = 1 - np.exp(-np.maximum(t - 8 * stretch, 0) / 8)
        curve = first + again + 0.38 * mixed * np.exp(-np.maximum(t, 0) / self.washout_s)
        return (curve / curve.max()).astype(np.float32)

    @functools.cached_property
    def _exposure_table(self) -> np.ndarray:
        total = np.cumsum(self._table.astype(np.float64)) * TABLE_STEP
        return (1 - np.exp(-total / 10.0)).astype(np.float32)

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """C(t), 0..1, float32, any shape."""
        return self._table[_index(t)]

    def exposure(self, t: np.ndarray) -> np.ndarray:
        """1 - exp(-(integral of C)/10 s): how far the tissue has taken up dye, 0..1."""
        return self._exposure_table[_index(t)]


def _index(t: np.ndarray) -> np.ndarray:
    last = round((TABLE_END - TABLE_START) / TABLE_STEP) - 1
    scaled = (np.asarray(t, np.float32) - np.float32(TABLE_START)) * np.float32(1 / TABLE_STEP)
    return np.clip(scaled, 0, last).astype(np.int32)


def sample_dye(rng: np.random.Generator) -> Dye:
    """A random injection."""
    return Dye(
        peak_s=float(rng.uniform(7.0, 11.0)),
        shape=float(rng.uniform(1.8, 2.8)),
        washout_s=float(rng.uniform(300.0, 600.0)),
    )
