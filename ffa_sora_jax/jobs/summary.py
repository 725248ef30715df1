"""What a prepared dataset holds, counted split by split; the figures of `ffa-sora inspect`."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ffa_sora_jax.data import prepared
from ffa_sora_jax.data.prepared import ExampleInfo
from ffa_sora_jax.data.tokenizer import Tokenizer

Counts = dict[str, int]


@dataclasses.dataclass(frozen=True)
class Span:
    """Numbers of all clips of a split: `values`, one per clip where it is known."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        """ "3 to 9, median 5"."""
        if not self.values:
            return "unknown"
        low, middle, high = np.quantile(self.values, (0, 0.5, 1))
        return f"{low:.3g} to {high:.3g}, median {middle:.3g}"


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """One split.

    Attributes:
      name: of the split.
      shape: (t, h, w, c) of every clip.
      patients, exams, reports: different ones, to be compared between splits.
      num_clips: clips in the split.
      eyes, diseases, findings, languages: how often each occurs; a clip may have several diseases
        and findings. A clip with two reports counts as "en + zh".
      tokens: length of the longest report of every clip.
      first_s, last_s: times of the first and the last frame, of clips whose times are known.
      times_known: clips whose frame times are known.
      interpolated_share: share of frames that are interpolated or padded.
      interpolated_clips: clips that have any.
      vessel_ratio: smallest vessel-area ratio of every clip in which it was measured.
    """

    name: str
    shape: tuple[int, ...]
    patients: frozenset[str]
    exams: frozenset[str]
    reports: frozenset[str]
    num_clips: int
    eyes: Counts
    diseases: Counts
    findings: Counts
    languages: Counts
    tokens: Span
    first_s: Span
    last_s: Span
    times_known: int
    interpolated_share: float
    interpolated_clips: int
    vessel_ratio: Span

    def rows(self) -> dict[str, str]:
        """The figures in words, by what they are of."""
        known = "" if self.times_known == self.num_clips else f" (of {self.times_known} clips)"
        rows = {
            "clips": f"{self.num_clips} of {' x '.join(str(n) for n in self.shape)}",
            "patients": f"{len(self.patients)}",
            "reports": f"{len(self.reports)} different",
            "report length": f"{self.tokens} tokens",
            "languages": in_words(self.languages),
            "eyes": in_words(self.eyes),
            "diseases": in_words(self.diseases),
            "findings": in_words(self.findings),
            "first frame": f"{self.first_s} s{known}" if self.times_known else "times unknown",
            "last frame": f"{self.last_s} s{known}" if self.times_known else "times unknown",
            "interpolated": f"{100 * self.interpolated_share:.1f} % of the frames, in "
            f"{self.interpolated_clips} clips",
            "vessel area": f"lowest of a clip {self.vessel_ratio}",
        }
        if not self.findings:
            del rows["findings"]
        if not self.vessel_ratio.values:
            del rows["vessel area"]
        return rows


def summarise(folder: Path, tokenizer: Tokenizer) -> dict[str, SplitSummary]:
    """Every split of a prepared folder that holds clips."""
    return {
        split: summarise_split(
            split, list(prepared.Examples(folder, split)),
            prepared.read_split(folder, split, skip_video=True).video_shape, tokenizer,
        )
        for split in prepared.split_sizes(folder)
    }  # fmt: skip


def summarise_split(
    name: str, infos: Sequence[ExampleInfo], shape: tuple[int, ...], tokenizer: Tokenizer
) -> SplitSummary:
    """Counts the clips of one split."""
    timed = [info.times_s for info in infos if info.times_known]
    original = np.stack([info.is_original for info in infos])
    lowest = [np.nanmin(r) for r in (i.vessel_ratio for i in infos) if not np.isnan(r).all()]
    texts = [list(info.reports.values()) for info in infos]
    return SplitSummary(
        name=name,
        shape=shape,
        patients=frozenset(info.patient_id for info in infos),
        exams=frozenset(info.exam_id for info in infos),
        reports=frozenset(text for both in texts for text in both),
        num_clips=len(infos),
        eyes=count(info.eye for info in infos),
        diseases=count(d for info in infos for d in (info.disease or "unknown").split("; ")),
        findings=count(str(f.get("kind", "?")) for info in infos for f in info.findings),
        languages=count(" + ".join(info.reports) for info in infos),
        tokens=Span(tuple(float(tokenizer.lengths(both).max()) for both in texts)),
        first_s=Span(tuple(float(times[0]) for times in timed)),
        last_s=Span(tuple(float(times[-1]) for times in timed)),
        times_known=len(timed),
        interpolated_share=float(1 - original.mean()),
        interpolated_clips=int((~original).any(axis=1).sum()),
        vessel_ratio=Span(tuple(float(value) for value in lowest)),
    )


def overlaps(summaries: Mapping[str, SplitSummary]) -> tuple[list[str], list[str]]:
    """Sentences about what two splits share.

    Returns:
      Leaks (patients or exams), and remarks (reports with the same words, which two healthy eyes
      may have).
    """
    leaks, remarks, splits = [], [], list(summaries.values())
    for place, first in enumerate(splits):
        for second in splits[place + 1 :]:
            pair = f"in {first.name} and in {second.name}"
            for what in ("patients", "exams"):
                if both := getattr(first, what) & getattr(second, what):
                    leaks.append(f"{len(both)} {what} are {pair}.")
            if both := first.reports & second.reports:
                remarks.append(f"{len(both)} reports are word for word {pair}.")
    return leaks, remarks


def count(values: Iterable[str]) -> Counts:
    """How often each value occurs, most frequent first, then by name."""
    found = collections.Counter(values)
    return {value: found[value] for value in sorted(found, key=lambda v: (-found[v], v))}


def in_words(counts: Counts) -> str:
    """ "right 5, left 4"."""
    return ", ".join(f"{value} {number}" for value, number in counts.items()) or "none"
