"""One sound exam for every format: all of these must be kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus import formats, pictures
from tests.corpus.case import Case, Write

Change = Callable[[np.ndarray], np.ndarray]


def cases() -> list[Case]:
    """At least 60 exams."""
    return [*_folders(), *_videos(), *_animations(), *_dicom()]


# --- Folders of frames ---


def folder(suffix: str, change: Change = lambda v: v, count: int = pictures.FRAMES, **kw: Any):
    def write(path: Path, phantom: int) -> None:
        formats.frames(path, change(pictures.frames(phantom, count)), suffix, **kw)

    return write


def deep(bits: int) -> Change:
    return lambda video: pictures.deep(video, bits)


def sized(width: int, height: int) -> Change:
    return lambda video: pictures.resized(video, width, height)


def with_alpha(video: np.ndarray) -> np.ndarray:
    return np.concatenate([pictures.rgb(video), np.full((*video.shape, 1), 255, np.uint8)], -1)


def tabulated(path: Path, phantom: int) -> None:
    """Names whose order says nothing; the table gives the order."""
    path.mkdir(parents=True)
    for name, frame in zip(ORDER, pictures.clip(phantom), strict=True):
        formats.image(path / name, frame)


ORDER = tuple(f"{name}.png" for name in "kiwi fig apple plum date cherry lemon banana".split())


def with_junk(path: Path, phantom: int) -> None:
    """What computers leave in folders."""
    folder(".png")(path, phantom)
    (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
    (path / ".DS_Store").write_bytes(bytes(100))
    (path / "._001.png").write_bytes(bytes(100))


def _folders() -> list[Case]:
    order = ({"frame_order": "; ".join(ORDER)},)
    return [
        Case("PNG, gray", folder(".png")),
        Case("PNG, colour channels", folder(".png", pictures.rgb)),
        Case("PNG, 16 bit", folder(".png", deep(16))),
        Case("PNG, 12 of 16 bit", folder(".png", deep(12))),
        Case("PNG with alpha", folder(".png", with_alpha)),
        Case("PNG, upper-case suffix", folder(".PNG")),
        Case("JPEG, gray", folder(".jpg")),
        Case("JPEG, colour channels", folder(".jpeg", pictures.rgb)),
        Case("TIFF, gray", folder(".tif")),
        Case("TIFF, 16 bit", folder(".tiff", deep(16))),
        Case("TIFF, 12 of 16 bit, compressed", folder(".tif", deep(12), compression="tiff_lzw")),
        Case("BMP, gray", folder(".bmp")),
        Case("BMP, colour", folder(".bmp", pictures.rgb)),
        Case("natural order", folder(".png", count=12, pattern="img{}")),
        Case("tabulated order", tabulated, rows=order),
        Case("odd size", folder(".png", sized(97, 101))),
        Case("wide", folder(".png", sized(128, 96))),
        Case("system files beside the frames", with_junk),
        Case("21 frames", folder(".png", count=21)),
        Case("more than 21 frames", folder(".png", count=26)),
        Case("2 frames", folder(".png", count=2)),
    ]


# --- Videos ---


def video(suffix: str, codec: str, count: int = pictures.FRAMES, **options: Any) -> Write:
    def write(path: Path, phantom: int) -> None:
        clip = pictures.frames(phantom, count)
        size = options.get("size")
        clip = clip if size is None else pictures.resized(clip, *size)
        more = {k: v for k, v in options.items() if k not in ("size", "uneven")}
        if options.get("uneven"):
            times_s = pictures.times_s(phantom)
            more["times_s"] = times_s - times_s[0]
        formats.video(path.with_name(path.name + suffix), clip, codec, **more)

    return write


def video_cv2(suffix: str, fourcc: str) -> Write:
    def write(path: Path, phantom: int) -> None:
        formats.video_cv2(path.with_name(path.name + suffix), pictures.clip(phantom), fourcc)

    return write


def _videos() -> list[Case]:
    fast = {"deadline": "realtime", "cpu-used": "8"}
    quiet = {"x265-params": "log-level=none"}
    return [
        Case("MP4, H.264", video(".mp4", "libx264")),
        Case("MP4, H.265", video(".mp4", "libx265", **quiet)),
        Case("MP4, MPEG-4", video_cv2(".mp4", "mp4v")),
        Case("MP4, uneven times", video(".mp4", "libx264", uneven=True)),
        Case("MP4, 21 frames", video(".mp4", "libx264", count=21)),
        Case("MOV, H.264", video(".mov", "libx264")),
        Case("MOV, MJPEG, odd size", video(".mov", "mjpeg", pix_fmt="yuvj444p", size=(97, 101))),
        Case("AVI, MJPEG", video(".avi", "mjpeg", pix_fmt="yuvj420p")),
        Case("AVI, XVID", video_cv2(".avi", "XVID")),
        Case("AVI, FFV1, gray", video(".avi", "ffv1", pix_fmt="gray")),
        Case("MKV, FFV1, odd size", video(".mkv", "ffv1", pix_fmt="gray", size=(101, 97))),
        Case("MKV, H.264, uneven times", video(".mkv", "libx264", uneven=True)),
        Case("WebM, VP9", video(".webm", "libvpx-vp9", **fast)),
        Case("WebM, VP8", video(".webm", "libvpx", **fast)),
    ]


# --- Animations ---


def pages(suffix: str, change: Change = lambda v: v, **options: Any) -> Write:
    def write(path: Path, phantom: int) -> None:
        clip = change(pictures.clip(phantom))
        formats.pages(path.with_name(path.name + suffix), clip, **options)

    return write


def _animations() -> list[Case]:
    return [
        Case("GIF", pages(".gif", duration=200, loop=0)),
        Case("WebP, lossless", pages(".webp", duration=200, lossless=True)),
        Case("WebP, lossy", pages(".webp", pictures.rgb, duration=200, quality=90)),
        Case("TIFF, many pages", pages(".tif")),
        Case("TIFF, many pages, 16 bit", pages(".tiff", deep(16))),
    ]


# --- DICOM ---


def dicom(change: Change = lambda v: v, suffix: str = ".dcm", **options: Any) -> Write:
    def write(path: Path, phantom: int) -> None:
        more = dict(options)
        if more.pop("vector", False):
            more["times_s"] = pictures.times_s(phantom)
        if more.pop("with_eye", False):
            more["eye"] = pictures.exam(phantom).eye[0].upper()
        target = path.with_name(path.name + suffix)
        formats.dicom(target, change(pictures.clip(phantom)), phantom, **more)

    return write


def series(change: Change = lambda v: v, **options: Any) -> Write:
    def write(path: Path, phantom: int) -> None:
        clip, times_s = pictures.clip(phantom), pictures.times_s(phantom)
        formats.series(path, change(clip), phantom, times_s=list(times_s), **options)

    return write


def one_file_in_folder(path: Path, phantom: int) -> None:
    dicom()(path / "IMG00001", phantom)


def _dicom() -> list[Case]:
    colour = {"sop": "sc_colour"}
    return [
        Case("DICOM OP 8 bit, Frame Time", dicom(frame_time_ms=200, with_eye=True)),
        Case("DICOM OP 8 bit, Frame Time Vector", dicom(vector=True)),
        Case("DICOM, no times", dicom()),
        Case("DICOM, implicit VR", dicom(syntax="implicit")),
        Case("DICOM, big endian", dicom(syntax="big")),
        Case("DICOM, deflated", dicom(syntax="deflated")),
        Case("DICOM, RLE", dicom(syntax="rle")),
        Case("DICOM, JPEG", dicom(syntax="jpeg")),
        Case("DICOM, MONOCHROME1", dicom(monochrome1=True)),
        Case("DICOM OP 16 bit, 12 used", dicom(deep(12), sop="op16", used_bits=12)),
        Case("DICOM OP 16 bit", dicom(deep(16), sop="op16")),
        Case("DICOM OP 16 bit, RLE", dicom(deep(12), sop="op16", used_bits=12, syntax="rle")),
        Case(
            "DICOM OP 16 bit, MONOCHROME1",
            dicom(deep(12), sop="op16", used_bits=12, monochrome1=True),
        ),
        Case("DICOM SC, gray", dicom(sop="sc_gray", vector=True)),
        Case("DICOM SC, RGB", dicom(pictures.rgb, **colour)),
        Case("DICOM SC, RGB by planes", dicom(pictures.rgb, planar=True, **colour)),
        Case("DICOM SC, RGB, RLE", dicom(pictures.rgb, syntax="rle", **colour)),
        Case("DICOM SC, JPEG colour", dicom(pictures.rgb, syntax="jpeg", **colour)),
        Case("DICOM without suffix", dicom(suffix="")),
        Case("DICOM without preamble", dicom(preamble=False)),
        Case("DICOM series, OP 8 bit", series()),
        Case("DICOM series, OP 16 bit", series(deep(12), sop="op16", used_bits=12)),
        Case("DICOM series, SC", series(sop="sc")),
        Case("DICOM file in a folder", one_file_in_folder),
    ]
