"""Files of many frames: videos (PyAV, else OpenCV) and animations (Pillow).

Containers are walked before anything is decoded: that finds files that were cut off, which
decoders often play without a word, and the times of all frames at the price of their headers.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image

from ffa_sora_jax.video import images
from ffa_sora_jax.video.exam import Limits, ReadError, Source

_DEMUXERS = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "avi": "avi", "matroska": "matroska,webm"}
_MAX_MOOV_BYTES = 64 << 20
_CUT_OFF = "The file ends before its content does. Export it again."
_NO_VIDEO = "The file holds no moving pictures."


def open_video(path: Path, name: str, limits: Limits) -> Source:
    """A video of format `name`, one of `images.VIDEOS`; times are those the file gives.

    Raises:
      ReadError: cut off, encrypted, damaged, without pictures, or beyond the limits.
    """
    with images.open_file(path) as file:
        {"mp4": _check_mp4, "avi": _check_avi, "matroska": _check_matroska}[name](file)
    if importlib.util.find_spec("av") is None:
        return _open_cv2(path, limits)
    return _open_av(path, name, limits)


# --- PyAV. It gets an open file, never a name: what it does not know it cannot repeat. ---


def _open_av(path: Path, name: str, limits: Limits) -> Source:
    with images.open_file(path) as file, _container(file, name) as container:
        stream = _stream(container)
        limits.check_frame(stream.codec_context.width, stream.codec_context.height)
        depth = stream.codec_context.format
        bits = max((part.bits for part in depth.components), default=8) if depth else 8
        rate = float(stream.average_rate or 0) or None
        stamps = []
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                stamps.append(packet.pts)
                limits.check_count(len(stamps))
        unit = stream.time_base
    times = None
    if stamps and unit is not None and None not in stamps:
        seconds = np.sort(np.array(stamps, np.float64)) * float(unit)
        times = seconds - seconds[0] if len(set(stamps)) == len(stamps) else None

    def frames() -> Iterator[np.ndarray]:
        from av.video.reformatter import VideoReformatter

        reformatter = VideoReformatter()  # kept: setting one up costs more than a small frame
        with images.open_file(path) as file, _container(file, name) as container:
            for frame in container.decode(_stream(container)):
                if frame.is_corrupt:
                    raise ReadError("unreadable", "A frame of the video is damaged.")
                yield _from_av(frame, reformatter)

    return Source(
        "video",
        frames,
        num_frames=None if times is None else len(times),
        times_s=times,
        times_from=None if times is None else "first_frame",
        bits=None if bits == 16 else max(8, bits),
        fps=rate,
    )


def _container(file: BinaryIO, name: str) -> Any:
    import av

    # Tags may be in any encoding, and nobody reads them here. PyAV 19 takes them as they are.
    lenient: Any = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
    # The demuxer is fixed by content: others, such as playlists, would open further files.
    return av.open(file, "r", format=_DEMUXERS[name], **lenient)


def _stream(container: Any) -> Any:
    streams = container.streams.video
    if not streams:
        raise ReadError("unknown_format", _NO_VIDEO)
    stream = container.streams.best("video") or streams[0]
    stream.codec_context.thread_count = 1  # exams are read side by side, one process each
    return stream


def _from_av(frame: Any, reformatter: Any) -> np.ndarray:
    layout = frame.format.name
    if layout.startswith("gray16"):
        target = "gray16le"
    elif layout.startswith(("rgb48", "bgr48", "gbrp16")):
        target = "rgb48le"
    else:  # libswscale brings 10 and 12 bits to 8 with a fixed factor
        target = "gray" if layout.startswith("gray") else "rgb24"
    pixels = reformatter.reformat(frame, format=target, threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


# --- OpenCV, where PyAV is missing ---


def _open_cv2(path: Path, limits: Limits) -> Source:
    times = []
    with _Capture(path, limits) as capture:
        rate = capture.get(cv2.CAP_PROP_FPS) or None
        while capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            limits.check_count(len(times))

    def frames() -> Iterator[np.ndarray]:
        with _Capture(path, limits) as capture:
            while True:
                good, frame = capture.read()
                if not good:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    seconds = np.array(times)
    known = len(times) > 1 and bool((np.diff(seconds) > 0).all())
    return Source(
        "video",
        frames,
        num_frames=len(times),
        times_s=seconds - seconds[0] if known else None,
        times_from="first_frame" if known else None,
        fps=rate,
    )


class _Capture:
    """cv2.VideoCapture that closes, is silent and checks the size."""

    def __init__(self, path: Path, limits: Limits):
        self._level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self._limits = limits

    def __enter__(self) -> Any:
        capture = self._capture
        try:
            if not capture.isOpened():
                raise ReadError("unreadable", "OpenCV cannot open the video; PyAV may.")
            size = [capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
            self._limits.check_frame(int(size[0]), int(size[1]))
        except ReadError:
            self.__exit__()
            raise
        return capture

    def __exit__(self, *_: object) -> None:
        self._capture.release()
        cv2.utils.logging.setLogLevel(self._level)


# --- Video containers: where do they say that they end? ---


def _check_mp4(file: BinaryIO) -> None:
    """Walks the top-level boxes of mp4 and mov."""
    end, place, has_index = _size(file), 0, False
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:
            size = end - place
        if size < 8:
            break  # padding behind the last box
        if place + size > end:
            raise ReadError("truncated", _CUT_OFF)
        if kind == b"moov":
            has_index = True
            file.seek(place)
            if b"encv" in file.read(min(size, _MAX_MOOV_BYTES)):
                raise ReadError("encrypted", "The video is encrypted. Export it unprotected.")
        place += size
    if not has_index:
        raise ReadError("truncated", "The video lacks its index: the recording was cut off.")


def _check_avi(file: BinaryIO) -> None:
    """Walks the RIFF chunks: one, or several in files above 1 GiB."""
    end, place = _size(file), 0
    while place + 12 <= end:
        file.seek(place)
        head = file.read(8)
        if head[:4] != b"RIFF":
            break
        place += 8 + int.from_bytes(head[4:], "little")
        if place > end:
            raise ReadError("truncated", _CUT_OFF)


def _check_matroska(file: BinaryIO) -> None:
    """Reads the length of the segment; live recordings state none."""
    end, place = _size(file), 0
    while place + 12 <= end:
        file.seek(place)
        head = file.read(16)
        id_bytes = 9 - head[0].bit_length()
        if id_bytes > 4 or not head[id_bytes]:
            break
        size_bytes = 9 - head[id_bytes].bit_length()
        unknown = (1 << 7 * size_bytes) - 1
        raw = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big")
        size = raw & unknown
        if size == unknown:
            break
        stop = place + id_bytes + size_bytes + size
        if stop > end:
            raise ReadError("truncated", _CUT_OFF)
        place = stop


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)


# --- Animations ---


def open_animation(path: Path, name: str, limits: Limits) -> Source:
    """An animated GIF, WebP or PNG with the durations it gives to its frames.

    Raises:
      ReadError: cut off, damaged, or beyond the limits.
    """
    durations = np.array(read_durations(path, name), np.float64)
    limits.check_count(len(durations))
    known = bool(len(durations)) and bool((durations > 0).all())
    starts = np.concatenate([[0.0], np.cumsum(durations)[:-1]]) / 1000 if known else None

    def frames() -> Iterator[np.ndarray]:
        with images.open_file(path) as file, Image.open(file, formats=[name.upper()]) as image:
            first = int(getattr(image, "default_image", False))  # a PNG cover that is no frame
            for number in range(len(durations)):
                image.seek(first + number)
                limits.check_frame(*image.size)
                yield images.to_array(image)

    return Source(
        "animation",
        frames,
        num_frames=len(durations),
        times_s=starts,
        times_from="first_frame" if known else None,
        fps=1000 / durations.min() if known else None,
    )


def read_durations(path: Path, name: str) -> list[float]:
    """Milliseconds of each frame of a GIF, WebP or PNG; 0 where the file gives none."""
    walk = {"gif": _gif_durations, "webp": _webp_durations, "png": _apng_durations}[name]
    with images.open_file(path) as file:
        return list(walk(file))


def is_animated(path: Path, name: str) -> bool:
    """Whether a GIF, WebP or PNG holds more than one frame."""
    return len(read_durations(path, name)) > 1


def _gif_durations(file: BinaryIO) -> Iterator[float]:
    """Milliseconds of each frame; walks the blocks without decoding them."""
    file.seek(6)
    flags = _exactly(file, 7)[4]
    _skip_colours(file, flags)
    duration = 0
    while (mark := _exactly(file, 1)) != b";":
        if mark == b"!":
            label, block = _exactly(file, 1), _skip_blocks(file)
            if label == b"\xf9":  # graphic control: flags, duration, transparent colour
                duration = 10 * int.from_bytes(block[1:3], "little")
        elif mark == b",":
            _skip_colours(file, _exactly(file, 9)[8])
            _exactly(file, 1)
            _skip_blocks(file)
            yield duration
            duration = 0
        else:
            raise ReadError("unreadable", "The animation is damaged. Export it again.")


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        _exactly(file, 3 << ((flags & 7) + 1))


def _skip_blocks(file: BinaryIO) -> bytes:
    """Passes a chain of blocks; returns the first."""
    first = b""
    while size := _exactly(file, 1)[0]:
        block = _exactly(file, size)
        first = first or block
    return first


def _webp_durations(file: BinaryIO) -> Iterator[float]:
    end = _size(file)
    file.seek(4)
    if 8 + int.from_bytes(_exactly(file, 4), "little") > end:
        raise ReadError("truncated", _CUT_OFF)
    place = 12
    while place + 8 <= end:
        file.seek(place)
        head = _exactly(file, 8)
        if head[:4] == b"ANMF":
            yield int.from_bytes(_exactly(file, 16)[12:15], "little")
        elif head[:4] in (b"VP8 ", b"VP8L"):  # a still picture
            yield 0
        size = int.from_bytes(head[4:], "little")
        place += 8 + size + size % 2


def _apng_durations(file: BinaryIO) -> Iterator[float]:
    place, kind = 8, b""
    while kind != b"IEND":
        file.seek(place)
        head = _exactly(file, 8)
        kind = head[4:]
        if kind == b"fcTL":
            body = _exactly(file, 26)
            delay, unit = (int.from_bytes(body[i : i + 2], "big") for i in (20, 22))
            yield 1000 * delay / (unit or 100)
        place += 12 + int.from_bytes(head[:4], "big")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ReadError("truncated", _CUT_OFF)
    return data
