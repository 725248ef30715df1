"""What a clip shows, read back from its pixels alone: side, dye phases, findings.

The read-outs judge phantoms (where the truth is known) and generated clips (where it is not)
alike, at any picture size, free of gain. Constants and score cards were set on phantoms of other
seeds than those that the tests and the published figures use.
Source of the rules: `docs/phantom.md`, section "Reading back".
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ffa_sora_jax.phantom import oracle_features, oracle_rules
from ffa_sora_jax.phantom import oracle_views as views
from ffa_sora_jax.phantom.oracle_features import along, half_rise
from ffa_sora_jax.phantom.oracle_views import RIM, SMALL, contrast, field_mask, millimetres
from ffa_sora_jax.phantom.record import QUADRANTS

CONVERGENCE_WEIGHT = 0.1  # of the convergence (about 3) against the mass (about 0.1)
VESSEL_SHARE = 0.12  # of the field, taken as vessels by `phase_order`
FILLED_S = (8.0, 50.0)  # all vessels are lit, hardly anything leaks
MAX_PEAK_S = 60.0
MIN_LAG_S = 0.8  # veins later than arteries by at least this
MAX_LATE_CONTRAST = 0.75  # late vessel contrast relative to its peak
BRANCH_GAP = 0.25  # one quadrant later than the next one by this (logarithm of seconds)


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


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the oracle reads from a clip.

    Attributes:
      eye: "right" or "left".
      findings: whether each class of `oracle_rules.CLASSES` is seen.
      scores: 0..1 by class, above 0.5 where it is seen.
      delayed: quadrants whose veins fill late, () where no delay is seen.
      phases: how the dye runs.
    """

    eye: str
    findings: Mapping[str, bool]
    scores: Mapping[str, float]
    delayed: tuple[str, ...]
    phases: PhaseOrder


def read_findings(video: np.ndarray, times_s: np.ndarray) -> Reading:
    """Reads a clip. One without an eye, such as a black one, is read too: the answer means nothing.

    Args:
      video: (t, h, w) grey clip, 0..255, square, upright as an ophthalmologist sees it.
      times_s: (t,) ascending frame times, seconds since dye first shows at the disc.

    Raises:
      ValueError: shapes do not fit, no frame, or times that do not ascend.
    """
    if len(video) == 0:
        raise ValueError("The clip has no frame.")
    eye = laterality(video)
    view = views.look(video, times_s, eye)
    cards = oracle_rules.cards_for(video.shape[-1])
    features = oracle_features.all_features(view)
    scores = {
        name: oracle_rules.probability(oracle_rules.points(cards[name], features))
        for name in oracle_rules.CLASSES
    }
    found = {name: score > 0.5 for name, score in scores.items()}
    late = delayed_quadrants(view) if found["delay"] else ()
    return Reading(eye, found, scores, late, phase_order(video, times_s))


def delayed_quadrants(view: views.View) -> tuple[str, ...]:
    """The quadrant whose veins fill last, or all four where it does not stand out."""
    rank = list(oracle_features.DELAY_RANKS).index("p75")  # veins, but not single slow pixels
    late = np.log(np.maximum(oracle_features.quadrant_delays(view)[:, rank], 0.3))
    order = np.argsort(late)
    if late[order[-1]] - late[order[-2]] >= BRANCH_GAP:
        return (QUADRANTS[int(order[-1])],)
    return QUADRANTS


def prepare(video: np.ndarray) -> np.ndarray:
    """(t, h, w) uint8 or float 0..255 -> (t, 128, 128) float32, area-averaged or enlarged.

    Raises:
      ValueError: not a (t, h, w) array or not square.
    """
    return views.resized(video, SMALL)


def side_score(video: np.ndarray) -> float:
    """Above 0: the disc lies on the right of the picture (right eye); below 0: on the left.

    The sum of two votes from the filling phase, before any leak can mislead: vessel mass beside
    the middle (more on the nasal side, since no vessel crosses the temporal raphe) and the point
    at which the vessels converge.

    Args:
      video: (t, h, w) grey clip, 0..255, upright as an ophthalmologist sees it.
    """
    lines = views.filling_lines(video)
    return _mass_vote(lines) + CONVERGENCE_WEIGHT * _convergence_vote(lines)


def _mass_vote(lines: np.ndarray) -> float:
    """(right - left) / (right + left) of the vessel mass beside the middle of the picture."""
    x, y = millimetres(SMALL)
    band = (np.abs(y) < 1.75) & field_mask(SMALL, RIM)
    right = float(lines[band & (x > 3.0)].sum())
    left = float(lines[band & (x < -3.0)].sum())
    return (right - left) / max(right + left, 1e-6)


def _convergence_vote(lines: np.ndarray) -> float:
    """How much better vessels point at a spot right of the middle than at one left of it, in sd."""
    score = views.convergence(lines)
    field = field_mask(SMALL, RIM)
    x, y = millimetres(SMALL)
    band = (np.abs(y) < 1.5) & field & (np.abs(x) < 4.5)
    best = [float(score[band & (side * x > 1.5)].max()) for side in (1, -1)]
    return (best[0] - best[1]) / float(score[field].std() + 1e-6)


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
    field = field_mask(SMALL, RIM)
    limit = np.quantile(best[field], 1 - VESSEL_SHARE)
    vessels = (best >= limit) & field
    curves = along(lines, vessels)[:, vessels]  # (t, n)
    mean = curves.mean(axis=1)
    rise = half_rise(curves, times)
    return PhaseOrder(
        arterial_s=float(np.quantile(rise, 0.1)),
        venous_s=float(np.quantile(rise, 0.9)),
        peak_s=float(times[int(mean.argmax())]),
        late_contrast=float(mean[-max(len(mean) // 7, 1) :].mean() / max(mean.max(), 1e-6)),
    )
