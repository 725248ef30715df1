"""One exam's frames, as they come, to one clean clip of a fixed number of frames.

    frames --> thumbnail --> field, kind, vessel-area ratio --> facts of every frame
       |                          |
       |                      votes for the field
       +--> the last usable frames (never more than the clip holds)
                                  |
       window, mask --> cut, clear, resize --> [register] --> standardise --> clip

Frames are seen once and in order; memory does not grow with the length of the exam, apart from a
few numbers per frame.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ffa_sora_jax.video import frames as kinds
from ffa_sora_jax.video import registration
from ffa_sora_jax.video.field import FieldVotes, Window, resize
from ffa_sora_jax.video.overlay import OverlayDetector
from ffa_sora_jax.video.standardize import standardize, standardize_times

VESSEL_FILTERS = ("exclude_video", "drop_frames", "off")
MAX_KEPT_PX = 2048  # longer side up to which a frame waits at full size
MIN_SIDE_PX = 32  # shorter side below which no vessel can be seen


@dataclass(frozen=True)
class CleaningConfig:
    """How exams become clips.

    Attributes:
      size: pixels per side of the clip, at least 32.
      num_frames: frames of the clip, 4 k + 1 as the video autoencoder needs them.
      vessel_filter: "exclude_video": an exam is left out if the vessel-area ratio of any usable
        angiogram frame is below `min_vessel_ratio`, as in the paper; "drop_frames": such frames
        are dropped where they lead the exam (before the dye) and the exam stays; "off".
      min_vessel_ratio: share of the field, 0..1.
      register: shift and turn the frames onto the one with the most vessels.
      unusable: kinds of frames that never enter the clip; "ffa" is not allowed here.
      min_frames: usable frames that an exam must have.
      max_frames: frames above which an exam is refused; None: any number.
      max_side_px: longer side above which a frame is refused; None: any size.
    """

    size: int = 512
    num_frames: int = 21
    vessel_filter: str = "exclude_video"
    min_vessel_ratio: float = 0.005
    register: bool = False
    unusable: tuple[str, ...] = kinds.KINDS[1:]
    min_frames: int = 2
    max_frames: int | None = None
    max_side_px: int | None = None

    def __post_init__(self) -> None:
        """Refuses settings that cannot work, in words."""
        if self.vessel_filter not in VESSEL_FILTERS:
            raise ValueError(
                f"vessel_filter is {self.vessel_filter!r}; allowed: {', '.join(VESSEL_FILTERS)}."
            )
        for kind in self.unusable:
            if kind not in kinds.KINDS[1:]:
                raise ValueError(
                    f"unusable holds {kind!r}; allowed kinds: {', '.join(kinds.KINDS[1:])}."
                )
        if self.size < 32:
            raise ValueError(f"size is {self.size}; clips have at least 32 pixels per side.")
        if self.num_frames < 1 or self.num_frames % 4 != 1:
            raise ValueError(
                f"num_frames is {self.num_frames}; allowed are 4 k + 1: 1, 5, 9, ..., 21, ..."
            )
        if not 0 <= self.min_vessel_ratio <= 1:
            raise ValueError(f"min_vessel_ratio is {self.min_vessel_ratio}; allowed is 0..1.")
        if self.min_frames < 1:
            raise ValueError(f"min_frames is {self.min_frames}; it must be at least 1.")


@dataclass(frozen=True)
class FrameFacts:
    """What is kept about one frame of an exam; plain numbers that fit JSON.

    Attributes:
      index: position in the exam, from 0.
      kind: one of `frames.KINDS`.
      vessel_ratio: share of the field covered by bright vessels, measured at 256 px.
      used: whether the frame stands in the clip.
      mean: grey levels over the field.
      saturated: share of the field at 250 or above.
      polarity: share of bright ones among all lines.
      sharpness: see `frames.sharpness`.
      move: (x, y, degrees) of the registration, in shares of the width; None without one.
    """

    index: int
    kind: str
    vessel_ratio: float
    used: bool = False
    mean: float = 0.0
    saturated: float = 0.0
    polarity: float = 0.0
    sharpness: float = 0.0
    move: tuple[float, float, float] | None = None


@dataclass
class CleanExam:
    """One exam as a clip.

    Attributes:
      video: (t, s, s) uint8, 0 outside the field of view.
      times_s: (t,) float32 seconds, or positions in the exam where times are unknown.
      times_known: whether `times_s` are seconds.
      is_original: (t,) bool, False on interpolated frames.
      vessel_ratio: (t,) float32, nan on interpolated frames.
      frames: facts of every frame of the exam, in order.
      burned_in_text: whether text seems to stand inside the field of view.
      notes: reason codes that do not exclude, such as "mixed_sizes".
    """

    video: np.ndarray
    times_s: np.ndarray
    times_known: bool
    is_original: np.ndarray
    vessel_ratio: np.ndarray
    frames: list[FrameFacts]
    burned_in_text: bool
    notes: tuple[str, ...] = ()


class ExcludedError(ValueError):
    """The exam cannot become a clip.

    Attributes:
      reason: code, as in the table of the build report.
      frames: facts of the frames seen.
    """

    def __init__(self, reason: str, message: str, frames: Sequence[FrameFacts] = ()):
        """`message` names no file, patient or text of the exam."""
        super().__init__(message)
        self.reason = reason
        self.frames = list(frames)

    def __reduce__(self) -> tuple[type, tuple[str, str, list[FrameFacts]]]:
        """Lets the error cross from one process to another."""
        return type(self), (self.reason, str(self), self.frames)


def clean_exam(
    frames: Iterable[np.ndarray],
    times_s: Sequence[float] | np.ndarray | None,
    cfg: CleaningConfig = CleaningConfig(),
) -> CleanExam:
    """Reads an exam once and makes its clip.

    Args:
      frames: (h, w) or (h, w, 3) uint8 RGB in order, any size, any number.
      times_s: seconds of every frame, or None.
      cfg: what to do.

    Raises:
      ExcludedError: with reason "too_few_frames", "too_many_frames", "too_small", "too_large",
        "no_field_of_view", "no_ffa_frames" or "low_vessel_area".
      ValueError: a frame that is no picture, or other than one time per frame.
    """
    exam = _Pass(cfg)
    for frame in frames:
        exam.take(frame)
    return exam.finish(times_s)


@dataclass
class _Kept:
    index: int
    grey: np.ndarray  # (h, w) uint8


@dataclass
class _Pass:
    """The state of one walk through an exam."""

    cfg: CleaningConfig
    facts: list[FrameFacts] = field(default_factory=list)
    kept: deque[_Kept] = field(default_factory=deque)
    judge: kinds.FrameJudge = field(default_factory=kinds.FrameJudge)
    votes: FieldVotes = field(default_factory=FieldVotes)
    overlay: OverlayDetector = field(default_factory=OverlayDetector)
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    any_field: bool = False
    usable: int = 0

    def take(self, frame: np.ndarray) -> None:
        """Judges one frame and keeps it if it may be among the last usable ones."""
        self._check(frame)
        look = self.judge.judge(frame)
        self.any_field |= look.field is not None
        facts = FrameFacts(
            index=len(self.facts),
            kind=look.kind,
            vessel_ratio=round(float(look.bars.bright), 6),
            mean=round(float(look.mean), 2),
            saturated=round(float(look.saturated), 5),
            polarity=round(float(look.bars.polarity), 4),
            sharpness=round(float(look.sharpness), 3),
        )
        self.facts.append(facts)
        if facts.kind in self.cfg.unusable or self._leads(facts):
            return
        self.usable += 1
        self.shapes.add(frame.shape[:2])
        grey = kinds.to_grey(frame)
        self.overlay.add(grey)
        if look.field is not None:
            self.votes.add(look.field)
        self.kept.append(_Kept(facts.index, _bounded(grey)))
        if len(self.kept) > self.cfg.num_frames:
            self.kept.popleft()

    def finish(self, times_s: Sequence[float] | np.ndarray | None) -> CleanExam:
        """Makes the clip from what was kept."""
        times, known = self._times(times_s)
        self._check_whole()
        field_of_view = self.votes.field()
        if field_of_view is None:
            raise self._excluded("no_field_of_view", "No frame shows a field of view.")
        window = Window.around(field_of_view)
        mask = window.cut_mask(field_of_view, self.cfg.size)
        clip = np.stack([window.cut(kept.grey, self.cfg.size) * mask for kept in self.kept])
        if self.cfg.register:
            clip = self._registered(clip)
        indices = [kept.index for kept in self.kept]
        for index in indices:
            self.facts[index] = replace(self.facts[index], used=True)
        video, is_original = standardize(clip, self.cfg.num_frames)
        ratio = np.full(self.cfg.num_frames, np.nan, np.float32)
        ratio[is_original] = [self.facts[index].vessel_ratio for index in indices]
        return CleanExam(
            video=video,
            times_s=standardize_times(times[indices], self.cfg.num_frames),
            times_known=known,
            is_original=is_original,
            vessel_ratio=ratio,
            frames=self.facts,
            burned_in_text=self.overlay.found(field_of_view, self._samples()),
            notes=("mixed_sizes",) if len(self.shapes) > 1 else (),
        )

    def _check(self, frame: np.ndarray) -> None:
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or frame.shape[2:] not in ((), (3,)):
            raise ValueError(
                f"A frame has shape {frame.shape} and dtype {frame.dtype}; allowed are (h, w) and "
                "(h, w, 3) uint8."
            )
        if min(frame.shape[:2]) < MIN_SIDE_PX:
            raise self._excluded(
                "too_small",
                f"Frames have {frame.shape[0]} x {frame.shape[1]} pixels; at least {MIN_SIDE_PX} "
                "per side are needed.",
            )
        limit = self.cfg.max_side_px
        if limit is not None and max(frame.shape[:2]) > limit:
            raise self._excluded(
                "too_large",
                f"Frames have {frame.shape[0]} x {frame.shape[1]} pixels; the limit is {limit}.",
            )
        if self.cfg.max_frames is not None and len(self.facts) >= self.cfg.max_frames:
            raise self._excluded(
                "too_many_frames", f"The exam has more than {self.cfg.max_frames} frames."
            )

    def _leads(self, facts: FrameFacts) -> bool:
        """Whether the filter drops the frame because no frame before it showed enough dye."""
        dark = facts.vessel_ratio < self.cfg.min_vessel_ratio
        return self.cfg.vessel_filter == "drop_frames" and dark and not self.usable

    def _check_whole(self) -> None:
        if not self.facts:
            raise self._excluded("too_few_frames", "The exam has no frame.")
        if not self.any_field:
            raise self._excluded("no_field_of_view", "No frame shows a field of view.")
        angiogram = [f for f in self.facts if f.kind not in self.cfg.unusable]
        if not angiogram:
            raise self._excluded("no_ffa_frames", "No frame is a usable angiogram frame.")
        least = self.cfg.min_vessel_ratio
        dark = sum(f.vessel_ratio < least for f in angiogram)
        filtered = self.cfg.vessel_filter == "exclude_video" and dark
        if filtered or not self.usable:
            raise self._excluded(
                "low_vessel_area",
                f"{dark} of {len(angiogram)} angiogram frames have a vessel-area ratio below "
                f"{least}.",
            )
        if self.usable < self.cfg.min_frames:
            raise self._excluded(
                "too_few_frames",
                f"Usable frames: {self.usable}; at least {self.cfg.min_frames} are needed.",
            )

    def _times(self, times_s: Sequence[float] | np.ndarray | None) -> tuple[np.ndarray, bool]:
        """(n,) seconds and True, or positions and False where a time is unknown."""
        count = len(self.facts)
        if times_s is None:
            return np.arange(count, dtype=np.float64), False
        times = np.asarray(times_s, np.float64)
        if times.shape != (count,):
            raise ValueError(f"times_s has shape {times.shape}; the exam has {count} frames.")
        if not np.isfinite(times).all():
            return np.arange(count, dtype=np.float64), False
        return times, True

    def _registered(self, clip: np.ndarray) -> np.ndarray:
        ratios = [self.facts[kept.index].vessel_ratio for kept in self.kept]
        moved, moves = registration.register(clip, int(np.argmax(ratios)))
        for kept, move in zip(self.kept, moves, strict=True):
            numbers = (round(move.x, 5), round(move.y, 5), round(move.turn_deg, 3))
            if move.applied:
                self.facts[kept.index] = replace(self.facts[kept.index], move=numbers)
        return moved

    def _samples(self) -> list[np.ndarray]:
        """Some of the kept frames, from the first to the last."""
        last = len(self.kept) - 1
        return [self.kept[i].grey for i in sorted({0, last // 4, last // 2, 3 * last // 4, last})]

    def _excluded(self, reason: str, message: str) -> ExcludedError:
        return ExcludedError(reason, message, self.facts)


def _bounded(grey: np.ndarray) -> np.ndarray:
    """The frame, shrunk if it is so large that waiting would cost too much memory."""
    longer = max(grey.shape)
    if longer <= MAX_KEPT_PX:
        return grey.copy()
    scale = MAX_KEPT_PX / longer
    return resize(grey, max(round(grey.shape[1] * scale), 1), max(round(grey.shape[0] * scale), 1))
