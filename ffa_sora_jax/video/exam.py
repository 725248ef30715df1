"""What all readers of exams share: the error, the limits, and the reader that callers see.

Decoders speak freely: their messages and warnings repeat file names, tag values and text chunks.
So they only ever run inside `guarded`, which silences them and turns every failure into a
`ReadError` that carries a reason code and no word of theirs, not even as its cause.
"""

import contextlib
import errno
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_CHATTY = ("PIL", "pydicom", "libav")
_REFUSALS = {errno.ELOOP: "symlink_loop", errno.ENAMETOOLONG: "name_too_long"}
_CUT = ("truncated", "unexpected end", "end of file", "premature", "not enough", "incomplete")
_WORDS = {
    "truncated": "ends before its content does",
    "unreadable": "is damaged or cannot be opened",
    "symlink_loop": "is a link that leads back to itself",
    "name_too_long": "has a name longer than the file system allows",
    "too_large": "needs more memory than there is",
}


class ReadError(ValueError):
    """An exam cannot be read. The message names no file, no identifier and no tag value.

    Attributes:
      reason: a code such as "truncated" (the codes stand in docs/curation.md).
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):  # errors cross process borders
        return type(self), (self.reason, str(self))


@dataclass(frozen=True)
class Limits:
    """What is read at most and at least; beyond it lies damage or a decompression bomb.

    Attributes:
      min_side_px: smallest height or width of a frame.
      max_pixels: pixels of one frame; ultra-widefield cameras give about 4000 x 4000.
      max_frames: frames of one exam.
      max_exam_pixels: pixels of all frames of one exam together.
    """

    min_side_px: int = 32
    max_pixels: int = 25_000_000
    max_frames: int = 20_000
    max_exam_pixels: int = 50_000_000_000

    def check_frame(self, width: int, height: int) -> None:
        """Raises ReadError for a frame outside the limits; called before it is decoded."""
        if width * height > self.max_pixels:
            raise ReadError(
                "too_large",
                f"Frames have {width} x {height} pixels; at most {self.max_pixels} are read. "
                "Export the exam at a smaller size, or raise the limit max_pixels.",
            )
        if min(width, height) < self.min_side_px:
            raise ReadError(
                "too_small",
                f"Frames have {width} x {height} pixels; the shorter side needs at least "
                f"{self.min_side_px}. Export the exam at full size.",
            )

    def check_count(self, num_frames: int) -> None:
        """Raises ReadError for more frames than are read."""
        if num_frames > self.max_frames:
            raise ReadError(
                "too_many_frames",
                f"The exam has {num_frames} frames or more; at most {self.max_frames} are read. "
                "Split the exam, or raise the limit max_frames.",
            )


@dataclass(frozen=True)
class Source:
    """One exam as its format knows it, before limits and grey scale.

    Attributes:
      kind: see `ExamReader`.
      frames: opens the exam anew and yields native frames (h, w) or (h, w, 3): uint8, or uint16 or
        int16, which `ExamReader` brings to 8 bits.
      num_frames: None where only decoding would tell.
      times_s: (num_frames,) float64 or None.
      times_from: "injection" or "first_frame" where times are known.
      bits: used bits; None for deep frames whose used bits must be measured.
      inverted: high values are dark (MONOCHROME1).
      fps: the rate a video declares.
      notes: reason codes of what is odd but was read.
      eye, removed, burned_in: see `ExamReader`.
    """

    kind: str
    frames: Callable[[], Iterator[np.ndarray]]
    num_frames: int | None = None
    times_s: np.ndarray | None = None
    times_from: str | None = None
    bits: int | None = 8
    inverted: bool = False
    fps: float | None = None
    notes: tuple[str, ...] = ()
    eye: str | None = None
    removed: tuple[str, ...] = ()
    burned_in: bool | None = None


@dataclass
class ExamReader:
    """One exam, frame by frame; a context manager that may be iterated more than once.

    Only the frame at hand is in memory. 16-bit frames are scaled by one factor for the whole exam,
    255 / (2**bits - 1), and MONOCHROME1 is inverted; windows and look-up tables for display are
    not applied.

    Attributes:
      source: what the format told.
      limits: checked on every frame.
      kind: "frames", "video", "animation", "dicom" or "dicom_series".
      num_frames: None where only reading to the end would tell.
      times_s: (n,) seconds, or None where unknown.
      times_from: what times count from, "injection" or "first_frame"; None where unknown.
      eye: "right" or "left" from DICOM, else None.
      bits: used bits of the source, at least 8.
      removed: keywords of identifying DICOM elements that were dropped.
      burned_in: DICOM Burned In Annotation; None where not stated.
      notes: reason codes of what is odd but was read: "wrong_extension", "extra_files",
        "mixed_sizes" (complete once all frames were read).
    """

    source: Source
    limits: Limits = Limits()
    bits: int = 8
    _low: int = 0
    _open: list[Iterator[np.ndarray]] = field(default_factory=list, repr=False)

    def __post_init__(self):
        source = self.source
        self.kind, self.num_frames = source.kind, source.num_frames
        self.times_s, self.times_from = source.times_s, source.times_from
        self.eye, self.removed, self.burned_in = source.eye, source.removed, source.burned_in
        self.notes = source.notes
        if self.num_frames is not None:
            self.limits.check_count(self.num_frames)
            _check_enough(self.num_frames)
        if source.bits is None:
            self._low, self.bits = self._measure()
        else:
            self.bits = source.bits

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields (h, w) or (h, w, 3) RGB uint8 frames in their own size; raises ReadError."""
        table = self._table()
        for frame in self._native():
            if frame.dtype == np.uint8:
                yield 255 - frame if self.source.inverted else frame
            else:
                yield table[frame.view(np.uint16)]

    def __enter__(self) -> "ExamReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes every file that an unfinished iteration still holds open."""
        while self._open:
            close = getattr(self._open.pop(), "close", None)
            if close is not None:
                guarded(close)

    def _native(self) -> Iterator[np.ndarray]:
        """Frames as stored, checked one by one and counted at the end."""
        frames = self.source.frames()
        self._open.append(frames)
        count, pixels, size = 0, 0, None
        while (frame := guarded(lambda: next(frames, None), f"Frame {count + 1}")) is not None:
            height, width = frame.shape[:2]
            self.limits.check_frame(width, height)
            count, pixels = count + 1, pixels + height * width
            self.limits.check_count(count)
            if pixels > self.limits.max_exam_pixels:
                raise ReadError("too_large", "The frames together exceed max_exam_pixels.")
            if size not in (None, (height, width)) and "mixed_sizes" not in self.notes:
                self.notes = (*self.notes, "mixed_sizes")
            size = (height, width)
            yield frame
        self._open = [other for other in self._open if other is not frames]
        if self.num_frames is not None and count < self.num_frames:
            raise ReadError(
                "truncated",
                f"{self.num_frames} frames were announced and {count} could be read. "
                "Export the exam again.",
            )
        _check_enough(count)

    def _measure(self) -> tuple[int, int]:
        """Lowest value (0 or negative) and used bits over all deep frames: one pass."""
        low, high = 0, 0
        for frame in self._native():
            if frame.dtype != np.uint8:
                low, high = min(low, int(frame.min())), max(high, int(frame.max()))
        return low, max(8, (high - low).bit_length())

    def _table(self) -> np.ndarray:
        """The grey value of each 16-bit pattern, (65536,) uint8."""
        patterns = np.arange(1 << 16, dtype=np.uint16)
        values = (patterns.view(np.int16) if self._low < 0 else patterns).astype(np.float64)
        grey = np.clip(np.rint((values - self._low) * (255 / (2**self.bits - 1))), 0, 255)
        grey = grey.astype(np.uint8)
        return 255 - grey if self.source.inverted else grey


def guarded(work: Callable[[], T], what: str = "The exam") -> T:
    """Runs a decoder in silence; whatever it raises becomes a ReadError without its words.

    Args:
      work: called once.
      what: first words of the message, such as "Frame 12".

    Raises:
      ReadError: "truncated", "unreadable", "symlink_loop", "name_too_long" or "too_large".
    """
    with _silence():
        try:
            return work()
        except ReadError:
            raise
        except Exception as error:  # on damaged bytes decoders raise nearly everything
            reason = _reason(error)
    # Raised outside of the handler: a chained traceback would repeat the decoder's message.
    raise ReadError(reason, f"{what} {_WORDS[reason]}. Export it again.")


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return _REFUSALS[error.errno]
    if isinstance(error, MemoryError) or "bomb" in type(error).__name__.lower():
        return "too_large"
    if isinstance(error, EOFError) or any(word in text for word in _CUT):
        return "truncated"
    return "unreadable"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_enough(num_frames: int) -> None:
    if num_frames < 2:
        raise ReadError(
            "too_few_frames",
            f"The exam has {num_frames} frame(s); a video needs at least 2. "
            "Check that the whole exam was exported.",
        )
