"""Metrics that anyone can compute by hand, one of each kind."""

import dataclasses

import numpy as np

from ffa_sora_jax.metrics.base import OfSets, OfTexts, PerClip
from ffa_sora_jax.metrics.registry import Entry

CALLS: list[str] = []


@dataclasses.dataclass(frozen=True)
class Shift(OfSets):
    """Distance of mean brightnesses."""

    name, higher_is_better, value_range = "shift", False, (0.0, 2.0)

    def features(self, clip, params):
        return clip.video.mean((1, 2, 3))

    def value(self, sample, reference):
        return {self.name: float(np.abs(sample.mean(0) - reference.mean(0)).sum())}


@dataclasses.dataclass(frozen=True)
class Spread(Shift):
    """Another value of the same features."""

    name = "spread"

    def value(self, sample, reference):
        return {self.name: float(np.abs(sample.std(0) - reference.std(0)).sum())}


@dataclasses.dataclass(frozen=True)
class Hits(Shift):
    """Share of samples within 0.1 of their reference; computed on the host."""

    name, higher_is_better, host, paired = "hits", True, True, True

    def features(self, clip, params):
        CALLS.append("hits")
        assert isinstance(clip.video, np.ndarray)
        return clip.video.mean((1, 2, 3))

    def value(self, sample, reference):
        return {self.name: float(self.per_sample(sample, reference).mean())}

    def per_sample(self, sample, reference):
        return (np.abs(sample - reference)[:, 0] < 0.1).astype(float)


@dataclasses.dataclass(frozen=True)
class Bad(PerClip):
    """Not a number for dark clips."""

    name, higher_is_better, value_range = "bad", True, (0.0, 1.0)

    def measure(self, sample, reference, params):
        return (sample.video.mean((1, 2, 3, 4)) + 0.5) ** 0.5

    def value(self, rows):
        return {self.name: float(rows.mean())}


@dataclasses.dataclass(frozen=True)
class Letters(OfTexts):
    """Difference in length, in units of what `setup` saw."""

    name, higher_is_better, value_range, against = "letters", False, (0.0, 1e9), "text"

    def setup(self, params, references):
        return float(len(references))

    def measure(self, texts, against, params):
        return np.array(
            [abs(len(a) - len(b)) / params for a, b in zip(texts, against, strict=True)]
        )

    def value(self, rows):
        return {self.name: float(rows.mean(dtype=np.float64))}


@dataclasses.dataclass(frozen=True)
class Prompted(OfTexts):
    """Length of the prompt times the brightness of the clip."""

    name, higher_is_better, value_range, against = "prompted", True, (-1e9, 1e9), "clip"

    def measure(self, texts, against, params):
        return np.array([len(texts[0]) * against.video.mean()])

    def value(self, rows):
        return {self.name: float(rows.mean(dtype=np.float64))}


def _loader(metric):
    """What the registry calls with the weights folder."""
    return lambda folder: (metric, None)


load_shift, load_spread, load_hits = _loader(Shift()), _loader(Spread()), _loader(Hits())
load_bad, load_letters, load_prompted = _loader(Bad()), _loader(Letters()), _loader(Prompted())

ENTRIES = [
    Entry(name, name, kind, f"{__name__}:load_{name}", rows=rows)
    for name, kind, rows in (
        ("shift", "sets", "means"),
        ("spread", "sets", "means"),
        ("hits", "sets", ""),
        ("bad", "pair", ""),
        ("letters", "text", ""),
        ("prompted", "clip_text", ""),
    )
]
