"""Simple read-outs: what a clip shows, read back from its pixels alone.

They judge phantoms (where the truth is known) and generated clips (where it is not) alike, at
any picture size, so every clip is first brought to 128 x 128 and freed of gain. Constants were
set on phantoms of other seeds than those that the tests use.
Source of the rules: `docs/phantom.md`, section "Reading back".
"""

import dataclasses

import cv2
import numpy as np

from ffa_sora_jax.phantom.anatomy import FIELD_MM, FIELD_RADIUS

SIZE = 128
PX_PER_MM = SIZE / FIELD_MM
FLOOR = 12.0  # grey levels that keep the contrast of dark frames finite
CONVERGENCE_MM = (0.6, 4.0)  # vessels between these distances of a spot vote for it
CONVERGENCE_WEIGHT = 0.1  # of the convergence (about 3) against the mass (about 0.1)
VESSEL_SHARE = 0.12  # of the field, taken as vessels by `phase_order`
FILLED_S = (8.0, 50.0)  # all vessels are lit, hardly anything leaks
MAX_PEAK_S = 60.0
MIN_LAG_S = 0.8  # veins later than arteries by at least this
MAX_LATE_CONTRAST = 0.75  # late vessel contrast relative to its peak


@dataclasses.dataclass(frozen=True)
class PhaseOrder:
    """How the dye runs through a clip.

    Attributes:
      arterial_s: half-rise time of the vessels that fill first (a tenth of them), seconds.
      venous_s: half-rise time of those that fill last (a tenth), seconds.
      peak_s: time of the greatest vessel contrast.
      late_contrast: vessel contrast at the end relative to its peak.
    """

    arterial_s: float
    venous_s: float
    peak_s: float
    late_contrast: float

    @property
    def arteries_first(self) -> bool:
        """Some vessels clearly fill before the others."""
        return self.venous_s - self.arterial_s >= MIN_LAG_S

    @property
    def fades(self) -> bool:
        """The vessels are at their best early and fainter at the end."""
        return self.peak_s <= MAX_PEAK_S and self.late_contrast <= MAX_LATE_CONTRAST


def prepare(video: np.ndarray) -> np.ndarray:
    """(t, h, w) uint8 or float 0..255 -> (t, 128, 128) float32, area-averaged or enlarged.

    Raises:
      ValueError: not a (t, h, w) array or not square.
    """
    if video.ndim != 3 or video.shape[1] != video.shape[2]:
        raise ValueError(f"Expected a square grey clip (t, h, w), got shape {video.shape}.")
    how = cv2.INTER_AREA if video.shape[1] >= SIZE else cv2.INTER_CUBIC
    frames = [cv2.resize(frame, (SIZE, SIZE), interpolation=how) for frame in video]
    return np.clip(np.asarray(frames, np.float32), 0, 255)


def _field() -> np.ndarray:
    """(h, w) bool: inside the round field, off its rim."""
    c = np.arange(SIZE) + 0.5 - SIZE / 2
    return np.hypot(c[:, None], c[None]) < (FIELD_RADIUS - 0.045) * SIZE


def _millimetres() -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y up, (h, w), in mm from the middle of the picture."""
    c = (np.arange(SIZE) + 0.5 - SIZE / 2) / PX_PER_MM
    x, y = np.meshgrid(c, -c)
    return x.astype(np.float32), y.astype(np.float32)


def _local_mean(frames: np.ndarray, sigma_px: float) -> np.ndarray:
    """(t, h, w) Gaussian mean over the field only."""
    field = _field().astype(np.float32)
    weight = np.maximum(cv2.GaussianBlur(field, (0, 0), sigma_px), 1e-3)
    return np.stack([cv2.GaussianBlur(f * field, (0, 0), sigma_px) / weight for f in frames])


def contrast(frames: np.ndarray, sigma_px: float = 3.0) -> np.ndarray:
    """(t, h, w) Weber contrast against the surroundings; 0 outside the field."""
    mean = _local_mean(frames, sigma_px)
    return (frames - mean) / (mean + FLOOR) * _field()


def side_score(video: np.ndarray) -> float:
    """Above 0: the disc lies on the right of the picture (right eye); below 0: on the left.

    The sum of two votes from the filling phase, before any leak can mislead: vessel mass beside
    the middle (more on the nasal side, since no vessel crosses the temporal raphe) and the point
    at which the vessels converge.

    Args:
      video: (t, h, w) grey clip, 0..255, upright as an ophthalmologist sees it.
    """
    third = max(len(video) // 3, 1)
    filling = prepare(video[min(1, len(video) - 1) : third + 1])
    lines = np.clip(contrast(filling.mean(axis=0, keepdims=True))[0], 0, 0.5)
    return _mass_vote(lines) + CONVERGENCE_WEIGHT * _convergence_vote(lines)


def _mass_vote(lines: np.ndarray) -> float:
    """(right - left) / (right + left) of the vessel mass beside the middle of the picture."""
    x, y = _millimetres()
    band = (np.abs(y) < 1.75) & _field()
    right = float(lines[band & (x > 3.0)].sum())
    left = float(lines[band & (x < -3.0)].sum())
    return (right - left) / max(right + left, 1e-6)


def _convergence_vote(lines: np.ndarray) -> float:
    """How much better vessels point at a spot right of the middle than at one left of it, in sd.

    A vessel of direction theta seen from a spot in direction phi points at it as far as
    cos(2 (theta - phi)) is near 1; written out this is a sum of two convolutions.
    """
    soft = cv2.GaussianBlur(lines.astype(np.float32), (0, 0), 0.8)
    gx, gy = (cv2.Sobel(soft, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (cv2.GaussianBlur(g, (0, 0), 1.2) for g in (gx * gx, gy * gy, gx * gy))
    power = np.hypot(xx - yy, 2 * xy) + 1e-6
    weight = lines * power / (xx + yy + 1e-4)  # strength times coherence
    cosine, sine = -(xx - yy) / power * weight, -2 * xy / power * weight  # along, not across
    reach = int(CONVERGENCE_MM[1] * PX_PER_MM) + 1
    dx, dy = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    r = np.hypot(dx, dy) / PX_PER_MM
    ring = ((r > CONVERGENCE_MM[0]) & (r < CONVERGENCE_MM[1])) / np.maximum(r, 0.3)
    twice = 2 * np.arctan2(dy, dx)
    score = cv2.filter2D(cosine.astype(np.float32), -1, (ring * np.cos(twice)).astype(np.float32))
    score += cv2.filter2D(sine.astype(np.float32), -1, (ring * np.sin(twice)).astype(np.float32))
    x, y = _millimetres()
    band = (np.abs(y) < 1.5) & _field() & (np.abs(x) < 4.5)
    best = [float(score[band & (side * x > 1.5)].max()) for side in (1, -1)]
    return (best[0] - best[1]) / float(score[_field()].std() + 1e-6)


def laterality(video: np.ndarray) -> str:
    """The eye that a clip shows: "right" (disc on the right of the picture) or "left"."""
    return "right" if side_score(video) > 0 else "left"


def phase_order(video: np.ndarray, times_s: np.ndarray) -> PhaseOrder:
    """When the vessels of a clip fill and how they fade.

    Args:
      video: (t, h, w) grey clip, 0..255.
      times_s: (t,) ascending frame times, seconds.

    Raises:
      ValueError: the numbers of frames and times differ.
    """
    times = np.asarray(times_s, np.float64)
    if len(times) != len(video):
        raise ValueError(f"{len(video)} frames but {len(times)} frame times.")
    lines = contrast(prepare(video))
    filled = (times >= FILLED_S[0]) & (times <= FILLED_S[1])
    if not filled.any():
        filled[len(times) // 3 : 2 * len(times) // 3 + 1] = True
    best = lines[filled].mean(axis=0)
    limit = np.quantile(best[_field()], 1 - VESSEL_SHARE)
    vessels = (best >= limit) & _field()
    curves = _along_vessels(lines, vessels)[:, vessels]  # (t, n)
    mean = curves.mean(axis=1)
    rise = half_rise(curves, times)
    return PhaseOrder(
        arterial_s=float(np.quantile(rise, 0.1)),
        venous_s=float(np.quantile(rise, 0.9)),
        peak_s=float(times[int(mean.argmax())]),
        late_contrast=float(mean[-max(len(mean) // 7, 1) :].mean() / max(mean.max(), 1e-6)),
    )


def _along_vessels(lines: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """(t, h, w) contrast averaged with neighbouring vessel pixels, against noise."""
    mask = vessels.astype(np.float32)
    weight = np.maximum(cv2.GaussianBlur(mask, (0, 0), 1.5), 1e-3)
    return np.stack([cv2.GaussianBlur(f * mask, (0, 0), 1.5) / weight for f in lines])


def half_rise(curves: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """(n,) time at which each of (t, n) curves first reaches half its maximum, interpolated."""
    level = 0.5 * np.maximum(curves.max(axis=0), 1e-6)
    above = curves >= level
    first = above.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    column = np.arange(curves.shape[1])
    low, high = curves[before, column], curves[first, column]
    share = np.where(first > before, (level - low) / np.maximum(high - low, 1e-6), 0.0)
    return times_s[before] + np.clip(share, 0, 1) * (times_s[first] - times_s[before])
