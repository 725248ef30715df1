"""The detectors of the audit, and how well each clip matches the training data by them.

vessels  the vessel tree lies over that of a training clip: the same eye, even from another day
copy     the frames, in order, are those of a training clip after alignment in space and time
print    the perceptual fingerprint is that of a training clip: the same recording
"""

import dataclasses
from collections.abc import Mapping, Sequence

from ffa_sora_jax.privacy import copies, matching
from ffa_sora_jax.privacy.calibration import Threshold
from ffa_sora_jax.privacy.traces import Trace, stack

DETECTORS = ("vessels", "copy", "print")
VERSION = 1  # raise when a score changes: stored ones are then made again


@dataclasses.dataclass(frozen=True)
class Score:
    """The best match of a clip by one detector: how good, and which training clip."""

    value: float
    index: int


Scores = Mapping[str, Score]  # by detector; one that cannot judge the clip is missing


class Detectors:
    """All detectors over one training set."""

    def __init__(self, train: Sequence[Trace]):
        self._train = train
        self._galleries = {c: matching.Gallery(train, c) for c in ("vessels", "contrast")}
        self._prints = stack(train, "print")

    def scores(self, query: Trace, exclude: Sequence[int] = ()) -> dict[str, Score]:
        """The best match by each detector.

        Args:
          query: the clip judged; without a field of view nothing can be said: {}.
          exclude: training clips that do not count, such as the query itself.
        """
        if not query.field.any():
            return {}
        pairs = self._galleries["contrast"].best(query, exclude)
        found: dict[str, Score] = {}
        if query.has_vessels:
            trees = self._galleries["vessels"].best(query, exclude)
            found["vessels"] = Score(trees[0].score, trees[0].index)
            pairs = pairs + trees
        value, index = max(
            (copies.copy_score(query, self._train[m.index], m.alignment), m.index) for m in pairs
        )
        found["copy"] = Score(value, index)
        place, agreement = copies.print_score(query.print, self._prints, exclude)
        found["print"] = Score(agreement, place)
        return found


def matches(scores: Scores, thresholds: Mapping[str, Threshold]) -> tuple[str, ...]:
    """The detectors whose threshold a clip exceeds."""
    return tuple(
        name for name in DETECTORS if name in scores and scores[name].value > thresholds[name].value
    )


def chance_of(scores: Scores, thresholds: Mapping[str, Threshold]) -> float:
    """At most this is the probability that a clean clip matches as well, by the best detector."""
    chances = [thresholds[name].chance_of(score.value) for name, score in scores.items()]
    return min(1.0, len(chances) * min(chances)) if chances else 1.0
