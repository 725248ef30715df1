"""The audit: every generated clip judged beside controls that say what the judgement is worth.

Each generated clip is compared with all training clips by every detector. The same is done with
hold-out clips, which cannot be copies: their scores set the thresholds. And with disturbed training
clips, which are copies: the share that is found says whether copies would be seen at all.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

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
    """A clip that should be found: what was done to it, and whether the right clip was named."""

    family: str
    found: bool
    trace: Trace


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
    generated: tuple[tuple[Subject, Trace], ...]
    train: tuple[tuple[Subject, Trace], ...]
    holdout: tuple[tuple[Subject, Trace], ...]
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
    bad: dict[str, str] = {}
    bad_holdout: dict[str, str] = {}
    known = tuple(_traced(train, memory, bad, advance))
    if not known:
        raise ValueError(f"No training clip can be read: {next(iter(bad.values()))}")
    patients = {subject.patient for subject, _ in known} - {None}
    digests = {subject.digest for subject, _ in known}
    others = [s for s in holdout if s.patient not in patients and s.digest not in digests]
    if not others:
        raise ValueError(
            f"All {len(holdout)} hold-out clips, or their patients, are in the training data; give "
            "clips of other patients."
        )
    unseen = tuple(_traced(others, memory, bad_holdout, advance))
    refused: dict[str, str] = {}
    made = tuple(_traced(generated, memory, refused, advance))
    judge = _Judge(Detectors([trace for _, trace in known]), known, memory)

    null = []
    for subject, trace in unseen:
        null.append(judge(subject.digest, trace))
        advance()
    rate = options.rate / len(DETECTORS)
    thresholds = {
        name: calibrate([scores[name].value for scores in null if name in scores], rate)
        for name in DETECTORS
    }
    controls = tuple(_controls(known, judge, thresholds, options, memory, advance))
    visits = tuple(_visits(known, judge, thresholds, options, advance))
    judged = {name: Judged(name, "unreadable", {}, (), 1.0, why) for name, why in refused.items()}
    for subject, trace in made:
        judged[subject.name] = _judged(subject.name, judge(subject.digest, trace), thresholds)
        advance()
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
    """Scores of clips against the training data, from memory where they are known."""

    def __init__(
        self, detectors: Detectors, known: Sequence[tuple[Subject, Trace]], memory: Memory
    ):
        self._detectors, self._memory = detectors, memory
        self._gallery = _digest(subject.digest for subject, _ in known)

    def __call__(self, digest: str, trace: Trace, exclude: Sequence[int] = ()) -> Scores:
        version = f"versions {traces.VERSION} {detect.VERSION}"
        key = _digest([self._gallery, digest, str(sorted(exclude)), version])
        return self._memory.scores(key, lambda: self._detectors.scores(trace, exclude))


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
    subjects: Iterable[Subject], memory: Memory, bad: dict[str, str], advance: Callable[[], None]
) -> Iterable[tuple[Subject, Trace]]:
    """Subjects that can be read, with their traces; reasons for the others go into `bad`."""
    for subject in subjects:
        try:
            yield subject, memory.trace(_key(subject), functools.partial(_trace, subject))
        except ValueError as error:
            bad[subject.name] = str(error)
        advance()


def _controls(
    known: Sequence[tuple[Subject, Trace]],
    judge: _Judge,
    thresholds: dict[str, Threshold],
    options: Options,
    memory: Memory,
    advance: Callable[[], None],
) -> Iterable[Control]:
    """Training clips spread evenly over the set, each disturbed in one of the ways, in turn."""
    families = list(disturb.DISTURBANCES)
    count = min(options.controls, len(known))
    for number, place in enumerate(np.linspace(0, len(known) - 1, count).round().astype(int)):
        subject, family = known[place][0], families[number % len(families)]
        digest = _digest([subject.digest, family, f"seed {options.seed} {number}"])

        def make(subject: Subject = subject, family: str = family, number: int = number) -> Trace:
            rng = np.random.default_rng(np.random.SeedSequence((options.seed, number)))
            return traces.trace(disturb.DISTURBANCES[family](subject.read(), rng))

        trace = memory.trace(f"{digest}-{traces.VERSION}", make)
        scores = judge(digest, trace)
        found = any(scores[name].index == place for name in matches(scores, thresholds))
        yield Control(family, found, trace)
        advance()


def _visits(
    known: Sequence[tuple[Subject, Trace]],
    judge: _Judge,
    thresholds: dict[str, Threshold],
    options: Options,
    advance: Callable[[], None],
) -> Iterable[Control]:
    """Training clips of eyes with several exams: is another exam of the eye found by vessels?"""
    eyes: dict[tuple[str, str], list[int]] = {}
    for place, (subject, _) in enumerate(known):
        if subject.patient is not None and subject.eye in ("right", "left"):
            eyes.setdefault((subject.patient, subject.eye), []).append(place)
    several = [(places[0], places[1:]) for places in eyes.values() if len(places) > 1]
    for query, others in several[: options.controls]:
        subject, trace = known[query]
        scores = judge(subject.digest, trace, exclude=(query,))
        fired = "vessels" in matches(scores, thresholds)
        yield Control("another visit", fired and scores["vessels"].index in others, trace)
        advance()


def _trace(subject: Subject) -> Trace:
    return traces.trace(subject.read())


def _key(subject: Subject) -> str:
    return f"{_digest([subject.digest])}-{traces.VERSION}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
