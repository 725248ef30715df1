"""One exam from its files to a clip: the function that `prepare` and Beam run per exam.

    process_exam: reading.open_exam -> cleaning.clean_exam -> Outcome

It is a pure function of the exam's files, the options and the code, and knows no other exam: what
needs the table or the other exams (sides, splits, near duplicates) comes after it. It never raises
for a bad exam, and what it returns identifies nobody.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax import video
from ffa_sora_jax.video.cleaning import (
    CleanExam,
    CleaningConfig,
    ExcludedError,
    FrameFacts,
    clean_exam,
)
from ffa_sora_jax.video.fingerprint import clip_fingerprint
from ffa_sora_jax.video.reading import Limits, ReadError, open_exam
from tfds_ffa import workers
from tfds_ffa.curation import reasons
from tfds_ffa.curation.ledger import KEPT, Outcome

# Their releases may change decoded or resized pixels.
_PACKAGES = ("numpy", "opencv-python-headless", "opencv-python", "pillow", "av", "pydicom")


@dataclasses.dataclass(frozen=True)
class ExamTask:
    """One exam to process.

    Attributes:
      key: salted hash of the exam id; all that is stored of its name.
      path: file or folder of the exam.
      order: names of the frame files in order, where the table gives them.
      eye: "right" or "left" where the table says so: which part of a DICOM folder with both.
    """

    key: str
    path: Path
    order: Sequence[str] | None = None
    eye: str | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides the bytes of an exam, besides its files.

    Attributes:
      cleaning: size, number of frames, filter and so on.
      limits: smallest and largest frames, most frames.
      allow_burned_in_text: keep exams with text in the picture instead of setting them aside.
    """

    cleaning: CleaningConfig = dataclasses.field(default_factory=CleaningConfig)
    limits: Limits = dataclasses.field(default_factory=Limits)
    allow_burned_in_text: bool = False


def process_exam(exam: ExamTask, options: Options) -> Outcome:
    """Reads and cleans one exam.

    Returns:
      Status "kept" with the arrays of `ledger.Outcome` and the facts of `build_report.Outcome`,
      the `fingerprint` (ints) and the `dicom_eye`; or the reason for leaving it out,
      with the facts known by then.
    """
    facts: dict[str, Any] = {}
    try:
        clip = _clean(exam, options, facts)
    except ReadError as error:
        return left_out(exam.key, error.reason, facts)
    except ExcludedError as error:
        return left_out(exam.key, error.reason, facts | {"frames": _frames(error.frames)})
    except MemoryError:  # says more about the machine than about the exam: tried again
        return left_out(exam.key, "worker_died", facts)
    except Exception as error:
        return left_out(exam.key, "internal_error", facts | {"error": workers.where(error)})
    if (facts["burned_in_text"] or facts["burned_in"]) and not options.allow_burned_in_text:
        return left_out(exam.key, "burned_in_text", facts)
    facts["fingerprint"] = [int(word) for word in clip_fingerprint(clip.video, clip.is_original)]
    arrays = {
        "video": clip.video,
        "times_s": np.asarray(clip.times_s, np.float32),
        "is_original": np.asarray(clip.is_original, bool),
        "vessel_ratio": np.asarray(clip.vessel_ratio, np.float32),
    }
    return Outcome(exam.key, KEPT, facts=facts, arrays=arrays)


def left_out(key: str, reason: str, facts: dict[str, Any] | None = None) -> Outcome:
    """The outcome of an exam that is not kept; its status comes from the table of reasons."""
    status = reasons.reason(reason).status
    return Outcome(key, "dropped" if status == "noted" else status, reason, facts or {})


def _clean(exam: ExamTask, options: Options, facts: dict[str, Any]) -> CleanExam:
    """The cleaned clip; fills `facts` as they become known."""
    opened = open_exam(exam.path, order=exam.order, eye=exam.eye, limits=options.limits)
    with opened as reader:
        facts |= {
            "kind": reader.kind,
            "bits": reader.bits,
            "dicom_eye": reader.eye,
            "removed": sorted(reader.removed),
            "burned_in": bool(reader.burned_in),
            "remarks": sorted(reader.notes),
        }
        if reader.num_frames is not None:
            facts["source_frames"] = reader.num_frames
        clip = clean_exam(_measured(reader, facts), reader.times_s, options.cleaning)
        # Complete only when all frames were read.
        facts["remarks"] = sorted({*reader.notes, *clip.notes})
    facts |= {
        "frames": _frames(clip.frames),
        "source_frames": len(clip.frames),
        "times_known": bool(clip.times_known),
        "burned_in_text": bool(clip.burned_in_text),
    }
    return clip


def _frames(frames: Sequence[FrameFacts]) -> list[dict[str, Any]]:
    return [
        {"kind": frame.kind, "used": frame.used, "vessel_ratio": frame.vessel_ratio}
        for frame in frames
    ]


def _measured(frames: Any, facts: dict[str, Any]) -> Iterator[np.ndarray]:
    """Passes frames on; notes the size of the first."""
    for frame in frames:
        facts.setdefault("height", int(frame.shape[0]))
        facts.setdefault("width", int(frame.shape[1]))
        yield frame


# --- What an outcome depends on ---


def digest(exam: ExamTask, options: Options) -> str:
    """Short hash of the exam's files (names, sizes, times of change), the options and the code."""
    parts = {
        "files": _files(exam.path),
        "order": list(exam.order) if exam.order else None,
        "eye": exam.eye,
        "options": dataclasses.asdict(options),
        "code": code_version(),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


@functools.cache
def code_version() -> str:
    """Short hash of the sources and libraries that decide the pixels.

    Taken once per process, so that editing a source during a long run changes nothing in it.
    """
    found = hashlib.sha256()
    sources = [*sorted(Path(video.__file__).parent.glob("*.py")), Path(__file__)]
    for path in sources:
        found.update(path.name.encode() + path.read_bytes())
    for name in _PACKAGES:
        try:
            found.update(f"{name}=={importlib.metadata.version(name)}".encode())
        except importlib.metadata.PackageNotFoundError:
            continue
    return found.hexdigest()[:12]


def _files(path: Path) -> list[tuple[str, int, int]]:
    """(relative name, bytes, time of change in ns) of every file of an exam, in order.

    Also behind links to folders, which are read as well; each folder once, so that loops end.
    """
    if not path.is_dir():
        return [("", *_stat(path))]
    found, seen = [], set()
    for folder, subfolders, names in os.walk(path, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = sorted(
            name for name in subfolders if os.path.realpath(Path(folder) / name) not in seen
        )
        for name in sorted(names):
            file = Path(folder) / name
            found.append((str(file.relative_to(path)), *_stat(file)))
    return found


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # vanished, or a link to nowhere: reading it will say so
        return (-1, -1)
    return (stat.st_size, stat.st_mtime_ns)
