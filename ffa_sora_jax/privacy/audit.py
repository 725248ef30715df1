"""The audit: every generated clip judged beside controls that say what the judgement is worth.

Each generated clip is compared with all training clips by every detector. The same is done with
hold-out clips, which cannot be copies: their scores set the thresholds. And with disturbed training
clips, which are copies: the share that is found says whether copies would be seen at all.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from ffa_sora_jax.common.places import evenly
from ffa_sora_jax.privacy import detect, disturb, traces
from ffa_sora_jax.privacy.calibration import Threshold, calibrate
from ffa_sora_jax.privacy.detect import DETECTORS, Detectors, Scores, chance_of, matches
from ffa_sora_jax.privacy.traces import Trace

RATE = 0.01
CONTROLS = 60
CERTAIN = 0.01  # chance, over all generated clips together, below which a match is no accident


@dataclasses.dataclass(frozen=True)
class Subject:
    """One clip of the audit.

    Attributes:
      name: unique in its set; names of generated clips are printed, others never.
      digest: changes with the clip.
      read: gives (t, h, w) uint8; ValueError if it cannot be read.
      report: text that it was made from or that belongs to it, or None.
      patient: id by which clips of one patient are known, or None.
      eye: "right", "left", or "" where unknown.
    """

    name: str
    digest: str
    read: Callable[[], np.ndarray]
    report: str | None = None
    patient: str | None = None
    eye: str = ""

    @property
    def group(self) -> str:
        """The patient, or the clip itself where none is known."""
        return self.patient if self.patient is not None else f"clip {self.name}"


Traced: TypeAlias = tuple[tuple[Subject, Trace], ...]  # clips that could be read


class Memory(Protocol):
    """Where results are kept between runs; `make` is called for what is not there."""

    def trace(self, key: str, make: Callable[[], Trace]) -> Trace:
        """The trace of a clip."""
        ...

    def scores(self, key: str, make: Callable[[], Scores]) -> Scores:
        """The scores of a clip."""
        ...


class NoMemory:
    """Makes everything anew."""

    def trace(self, key: str, make: Callable[[], Trace]) -> Trace:
        """The trace of a clip."""
        del key
        return make()

    def scores(self, key: str, make: Callable[[], Scores]) -> Scores:
        """The scores of a clip."""
        del key
        return make()


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of an audit.

    Attributes:
      rate: share of clean clips that all detectors together may call a match.
      controls: training clips that are disturbed for the positive control.
      seed: of the disturbances.
    """

    rate: float = RATE
    controls: int = CONTROLS
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Control:
    """A clip that should be found.

    Attributes:
      family: what was done to it.
      found: whether the right training clip was named.
      trace: of the clip.
      place: of the training clip that it was made of.
    """

    family: str
    found: bool
    trace: Trace
    place: int


@dataclasses.dataclass(frozen=True)
class Judged:
    """A generated clip and what was found.

    Attributes:
      name: of the clip.
      verdict: "clean", "match", "undecided" (no eye to be seen) or "unreadable".
      scores: best match by detector.
      fired: detectors above their threshold.
      chance: bound of the probability that a clean clip matches as well.
      reason: why it is undecided or unreadable, or "".
    """

    name: str
    verdict: str
    scores: Scores
    fired: tuple[str, ...]
    chance: float
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything measured on clips; `privacy.verdict` draws the conclusions.

    Attributes:
      judged: the generated clips, in order.
      thresholds: by detector.
      controls: disturbed training clips.
      visits: other visits of training eyes, or () if the data know of none.
      holdout_scores: of the hold-out clips that count.
      generated, train, holdout: subjects and traces of clips that could be read.
      train_places: (len(train),) place of each training clip among all that were given.
      shared_patients: hold-out clips left out because they or their patient are in the training
        data.
      num_unreadable: training and hold-out clips that could not be read.
    """

    judged: tuple[Judged, ...]
    thresholds: dict[str, Threshold]
    controls: tuple[Control, ...]
    visits: tuple[Control, ...]
    holdout_scores: tuple[Scores, ...]
    generated: Traced
    train: Traced
    holdout: Traced
    train_places: tuple[int, ...]
    shared_patients: int
    num_unreadable: int


def gather(
    generated: Sequence[Subject],
    train: Sequence[Subject],
    holdout: Sequence[Subject],
    options: Options = Options(),
    memory: Memory | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Evidence:
    """Judges all clips.

    Args:
      generated: clips that are to be shared.
      train: clips the model was trained on.
      holdout: clips of other patients from the same source.
      options: rates and controls.
      memory: keeps traces and scores; None makes all anew.
      advance: called once per finished clip, for progress; `num_steps` times.

    Raises:
      ValueError: a set is empty, or too few hold-out clips to calibrate on.
    """
    memory = memory or NoMemory()
    for what, subjects in (("generated", generated), ("train", train), ("holdout", holdout)):
        if not subjects:
            raise ValueError(f"There is no {what} clip to audit.")
    known, bad = _traced(train, memory, advance)
    if not known:
        raise ValueError(f"No training clip can be read: {next(iter(bad.values()))}")
    others = _strangers(holdout, known)
    unseen, bad_holdout = _traced(others, memory, advance)
    made, refused = _traced(generated, memory, advance)
    judge = _Judge(known, memory, advance)
    null = [judge(subject.digest, trace) for subject, trace in unseen]
    rate = options.rate / len(DETECTORS)
    thresholds = {
        name: calibrate([scores[name].value for scores in null if name in scores], rate)
        for name in DETECTORS
    }
    controls = tuple(_controls(judge, thresholds, options))
    visits = tuple(_visits(judge, thresholds, options))
    judged = {name: Judged(name, "unreadable", {}, (), 1.0, why) for name, why in refused.items()}
    for subject, trace in made:
        judged[subject.name] = _judged(subject.name, judge(subject.digest, trace), thresholds)
    return Evidence(
        judged=tuple(judged[subject.name] for subject in generated),
        thresholds=thresholds,
        controls=controls,
        visits=visits,
        holdout_scores=tuple(null),
        generated=made,
        train=known,
        holdout=unseen,
        train_places=tuple(i for i, subject in enumerate(train) if subject.name not in bad),
        shared_patients=len(holdout) - len(others),
        num_unreadable=len(bad) + len(bad_holdout),
    )


def num_steps(
    generated: Sequence[Subject],
    train: Sequence[Subject],
    holdout: Sequence[Subject],
    options: Options,
) -> int:
    """About how often `gather` calls `advance`."""
    controls = min(options.controls, len(train))
    return 2 * len(generated) + len(train) + 2 * len(holdout) + controls


class _Judge:
    """Scores of clips against the training data, from memory where they are known.

    Attributes:
      known: the training clips.
      memory: keeps traces and scores.
    """

    def __init__(self, known: Traced, memory: Memory, advance: Callable[[], None]):
        self.known, self.memory, self._advance = known, memory, advance
        self._detectors = Detectors([trace for _, trace in known])
        self._gallery = _digest(subject.digest for subject, _ in known)

    def __call__(self, digest: str, trace: Trace, exclude: Sequence[int] = ()) -> Scores:
        version = f"versions {traces.VERSION} {detect.VERSION}"
        key = _digest([self._gallery, digest, str(sorted(exclude)), version])
        scores = self.memory.scores(key, lambda: self._detectors.scores(trace, exclude))
        self._advance()
        return scores


def _judged(name: str, scores: Scores, thresholds: dict[str, Threshold]) -> Judged:
    if not scores:
        return Judged(name, "undecided", scores, (), 1.0, "no field of view can be seen")
    fired = matches(scores, thresholds)
    chance = chance_of(scores, thresholds)
    if fired:
        return Judged(name, "match", scores, fired, chance)
    if "vessels" not in scores:
        return Judged(name, "undecided", scores, (), chance, "no vessel tree can be seen")
    return Judged(name, "clean", scores, (), chance)


def _traced(
    subjects: Iterable[Subject], memory: Memory, advance: Callable[[], None]
) -> tuple[Traced, dict[str, str]]:
    """Subjects that can be read, with their traces, and by name why the others cannot."""
    traced: list[tuple[Subject, Trace]] = []
    bad: dict[str, str] = {}
    for subject in subjects:
        try:
            trace = memory.trace(_key(subject), functools.partial(_trace, subject))
            traced.append((subject, trace))
        except ValueError as error:
            bad[subject.name] = str(error)
        advance()
    return tuple(traced), bad


def _strangers(holdout: Sequence[Subject], known: Traced) -> list[Subject]:
    """The hold-out clips that are not in the training data, nor their patients.

    Raises:
      ValueError: there are none.
    """
    patients = {subject.patient for subject, _ in known} - {None}
    digests = {subject.digest for subject, _ in known}
    others = [s for s in holdout if s.patient not in patients and s.digest not in digests]
    if not others:
        raise ValueError(
            f"All {len(holdout)} hold-out clips, or their patients, are in the training data; give "
            "clips of other patients."
        )
    return others


def _controls(
    judge: _Judge, thresholds: dict[str, Threshold], options: Options
) -> Iterator[Control]:
    """Training clips spread evenly over the set, each disturbed in one of the ways, in turn."""
    families = list(disturb.DISTURBANCES)
    count = min(options.controls, len(judge.known))
    for number, place in enumerate(evenly(len(judge.known), count).tolist()):
        subject, family = judge.known[place][0], families[number % len(families)]
        digest = _digest([subject.digest, family, f"seed {options.seed} {number}"])
        rng = np.random.default_rng(np.random.SeedSequence((options.seed, number)))
        trace = judge.memory.trace(
            f"{digest}-{traces.VERSION}", functools.partial(_disturbed_trace, subject, family, rng)
        )
        scores = judge(digest, trace)
        found = any(scores[name].index == place for name in matches(scores, thresholds))
        yield Control(family, found, trace, place)


def _visits(judge: _Judge, thresholds: dict[str, Threshold], options: Options) -> Iterator[Control]:
    """Training clips of eyes with several exams: is another exam of the eye found by vessels?"""
    eyes: dict[tuple[str, str], list[int]] = {}
    for place, (subject, _) in enumerate(judge.known):
        if subject.patient is not None and subject.eye in ("right", "left"):
            eyes.setdefault((subject.patient, subject.eye), []).append(place)
    several = [(places[0], places[1:]) for places in eyes.values() if len(places) > 1]
    for query, others in several[: options.controls]:
        subject, trace = judge.known[query]
        scores = judge(subject.digest, trace, exclude=(query,))
        fired = "vessels" in matches(scores, thresholds)
        yield Control("another visit", fired and scores["vessels"].index in others, trace, query)


def _disturbed_trace(subject: Subject, family: str, rng: np.random.Generator) -> Trace:
    return traces.trace(disturb.DISTURBANCES[family](subject.read(), rng))


def _trace(subject: Subject) -> Trace:
    return traces.trace(subject.read())


def _key(subject: Subject) -> str:
    return f"{_digest([subject.digest])}-{traces.VERSION}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
