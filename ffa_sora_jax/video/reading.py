"""One way to read an exam: a folder of frames, a video, an animation or DICOM, by content.

    open_exam(path)
      file    -> images.sniff -> containers.open_video | open_animation | TIFF pages | dicom
      folder  -> frames in order | DICOM series | the one file or folder it holds
    -> exam.ExamReader: limits, one grey scale for the exam, frame after frame

Frames are decoded when they are asked for and kept by nobody, so an exam may be larger than
memory. Names, tags, comments and EXIF never leave this folder of the package; errors and notes
are codes (`ReadError.reason`, `ExamReader.notes`).
"""

import dataclasses
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ffa_sora_jax.video import containers, dicom, images
from ffa_sora_jax.video.exam import ExamReader, Limits, ReadError, Source, guarded

__all__ = ["ExamReader", "Limits", "ReadError", "natural_key", "open_exam"]

DEFAULT_LIMITS = Limits()
_CLUTTER = ("thumbs.db", "desktop.ini")  # and every name that begins with a dot
_MAX_DEPTH = 8
_MAY_MOVE = ("gif", "webp", "png")
_WHAT_IS_READ = (
    "PNG, JPEG, TIFF, BMP, MP4, MOV, AVI, MKV, WebM, GIF, WebP and DICOM are read, and folders of "
    "frames or DICOM files."
)


def open_exam(
    path: str | Path,
    *,
    order: Sequence[str] | None = None,
    eye: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> ExamReader:
    """Opens one exam; its frames are read when the reader is iterated.

    Args:
      path: a file, or a folder that holds frames, DICOM files, or nothing but one exam.
      order: file names of a folder in the order of the frames; others are left out. Default: DICOM
        by acquisition time or instance number, all else in natural order (2 before 10).
      eye: "right" or "left": of a DICOM folder with both eyes, the files of this one.
      limits: smallest and largest frames, most frames.

    Returns:
      An `ExamReader`; use it as a context manager, or iterate it to the end.

    Raises:
      ReadError: the exam cannot be read; `reason` says why. Frames that are damaged further
        inside raise it during the iteration.
    """
    path = Path(path)

    def build() -> ExamReader:
        if path.is_symlink() and not path.exists():
            path.stat()  # says why: a loop, or a link that leads nowhere
        if stat.S_ISDIR(path.stat().st_mode):
            source = _open_folder(path, order, eye, limits, _MAX_DEPTH)
        elif order is not None:
            raise ReadError("bad_row", "A frame order needs a folder of frames; this is one file.")
        else:
            source = _open_file(path, limits)
        return ExamReader(source, limits)

    return guarded(build)


def natural_key(name: str) -> tuple:
    """Sort key under which frame2 comes before frame10, whatever the case of the letters."""
    folded = unicodedata.normalize("NFC", name).casefold()
    parts = re.split(r"(\d+)", folded)
    return tuple((0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p), name


# --- One file ---


def _open_file(path: Path, limits: Limits) -> Source:
    name = images.sniff(path)
    if name is None:
        raise ReadError("unknown_format", f"The file is of no format that is read. {_WHAT_IS_READ}")
    notes = ("wrong_extension",) if images.has_wrong_suffix(path, name) else ()
    if name == "dicom":
        source = dicom.open_dicom([path], limits)
    elif name in images.VIDEOS:
        source = containers.open_video(path, name, limits)
    elif name in _MAY_MOVE and containers.is_animated(path, name):
        source = containers.open_animation(path, name, limits)
    else:
        source = _open_frames([(path, name)], limits)
    return _with_notes(source, notes)


def _with_notes(source: Source, notes: Sequence[str]) -> Source:
    return dataclasses.replace(source, notes=tuple(dict.fromkeys((*source.notes, *notes))))


# --- Folders ---


def _open_folder(
    folder: Path, order: Sequence[str] | None, eye: str | None, limits: Limits, depth: int
) -> Source:
    files, folders = _entries(folder)
    limits.check_count(len(files))
    if order is not None:
        files = _in_order(files, order)
        folders = []
    kinds = {path: images.sniff(path) for path in files}
    known = {path: kind for path, kind in kinds.items() if kind is not None}
    # A strange file is clutter, unless its name says that it is a frame.
    for path, kind in kinds.items():
        if kind is None and (order is not None or _claims_frame(path)):
            raise ReadError("unreadable", "A frame is damaged. Export it again.")
    if not known:
        if files and not folders:
            raise ReadError("unknown_format", f"The folder holds no frame. {_WHAT_IS_READ}")
        return _open_only_folder(folders, eye, limits, depth)
    notes = ["extra_files"] * bool(folders or len(known) < len(kinds))
    notes += ["wrong_extension"] * any(images.has_wrong_suffix(*item) for item in known.items())
    return _with_notes(_open_known(known, order is not None, eye, limits), notes)


def _open_known(
    known: dict[Path, str], is_ordered: bool, eye: str | None, limits: Limits
) -> Source:
    counts = Counter("picture" if kind in images.PICTURES else kind for kind in known.values())
    several = len(known) > 1 and any(
        kind in images.VIDEOS or (kind in _MAY_MOVE and containers.is_animated(path, kind))
        for path, kind in known.items()
    )
    if several or len(counts) > 1:
        raise ReadError(
            "ambiguous_exam",
            "The folder holds several videos or animations, or one beside frames, or frames beside "
            "DICOM files: which of them is the exam? Keep one.",
        )
    if "dicom" in counts:
        return dicom.open_dicom(list(known), limits, is_ordered=is_ordered, eye=eye)
    if len(known) == 1:
        return _open_file(next(iter(known)), limits)
    return _open_frames(list(known.items()), limits)


def _open_only_folder(folders: list[Path], eye: str | None, limits: Limits, depth: int) -> Source:
    """A folder that holds nothing but one folder stands for it."""
    if len(folders) == 1 and depth:
        return _open_folder(folders[0], None, eye, limits, depth - 1)
    if folders:
        raise ReadError(
            "ambiguous_exam",
            "The folder holds folders and no frames: which of them is the exam? Name it.",
        )
    raise ReadError("too_few_frames", f"The folder holds no frame. {_WHAT_IS_READ}")


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders inside, in natural order; links are followed, loops refused."""
    files, folders = [], []
    home = folder.resolve()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
                continue
            path = folder / entry.name
            if not stat.S_ISDIR(entry.stat().st_mode):
                files.append(path)
            elif entry.is_symlink() and home.is_relative_to(path.resolve()):
                raise ReadError("symlink_loop", "The folder holds a link to itself. Remove it.")
            else:
                folders.append(path)
    files.sort(key=lambda path: natural_key(path.name))
    folders.sort(key=lambda path: natural_key(path.name))
    return files, folders


def _in_order(files: list[Path], order: Sequence[str]) -> list[Path]:
    by_name = {unicodedata.normalize("NFC", path.name): path for path in files}
    names = [unicodedata.normalize("NFC", name) for name in order]
    if any("/" in name or "\\" in name for name in names):
        raise ReadError("outside_root", "The frame order names files outside of the exam's folder.")
    missing = sum(name not in by_name for name in names)
    if missing or len(set(names)) < len(names):
        raise ReadError(
            "bad_row",
            f"Of {len(names)} files in the frame order, {missing} are not in the folder and "
            f"{len(names) - len(set(names))} are named twice. Correct the frame order.",
        )
    return [by_name[name] for name in names]


def _claims_frame(path: Path) -> bool:
    return any(path.suffix.lower() in images.SUFFIXES[kind] for kind in (*images.PICTURES, "dicom"))


# --- Frames ---


def _open_frames(files: list[tuple[Path, str]], limits: Limits) -> Source:
    """Still pictures and TIFF pages, one after the other; headers are read now, pixels later."""
    headers = [
        guarded(lambda: images.read_header(path, name, limits), f"Frame {number}")  # noqa: B023
        for number, (path, name) in enumerate(files, 1)
    ]
    num_frames = sum(header.pages for header in headers)
    limits.check_count(num_frames)
    deep = [header for header in headers if header.is_deep]
    if len({header.inverted for header in deep}) > 1:
        raise ReadError("unknown_format", "0 is white in some TIFF frames and black in others.")
    sizes = {(header.width, header.height) for header in headers}

    def frames() -> Iterator[np.ndarray]:
        for (path, name), header in zip(files, headers, strict=True):
            for page in range(header.pages):
                yield images.read_picture(path, name, limits, page)

    return Source(
        "frames",
        frames,
        num_frames=num_frames,
        bits=None if deep else 8,
        inverted=all(header.inverted for header in headers),
        notes=("mixed_sizes",) if len(sizes) > 1 else (),
    )
