"""Writing and reading clips: mp4, GIF, WebP and folders of PNG, with a notice in every file.

The notice says that the clip is synthetic, unless the caller copies a real one.

    suffix    codec           exact                 needs
    .mp4      h264 (default)  no, about 45 dB       PyAV: pip install 'ffa-sora-jax[video]'
    .mp4      mp4v (asked)    no, about 35 dB       nothing more
    .webp     webp            yes                   nothing more
    .gif      gif             gray yes, colour no   nothing more
    none      png             yes                   nothing more

The note kept in each file is JSON: a notice, the number of frames, the rate and a free text.
"""

import html
import importlib.util
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from ffa_sora_jax.video import containers, images
from ffa_sora_jax.video.exam import Limits, ReadError, guarded

NOTICE = "SYNTHETIC: made by a computer, shows no patient. Not for diagnosis."
REAL = "PATIENT DATA: a real exam. Only for those who may see it."
CODECS = {".mp4": ("h264", "mp4v"), ".webp": ("webp",), ".gif": ("gif",), "": ("png",)}
_ANY_SIZE = Limits(min_side_px=1)
_NOTE_BOX = bytes.fromhex("6666612d736f72612d6a61782d6e6f74")  # type of our mp4 "uuid" box
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description>{}</dc:description>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def save_video(
    path: str | Path,
    video: np.ndarray,
    fps: float = 4.0,
    text: str = "",
    codec: str | None = None,
    synthetic: bool = True,
) -> str:
    """Writes one clip; the file appears whole or not at all.

    Args:
      path: ends in .mp4, .webp or .gif, or has no suffix: a folder of PNG frames.
      video: (t, h, w), (t, h, w, 1) or (t, h, w, 3) uint8; colour in the order RGB.
      fps: frames shown per second.
      text: kept in the file beside the notice, such as the report.
      codec: one of `CODECS[suffix]`; default: the first.
      synthetic: False only for a copy of a real clip, whose notice says so.

    Returns:
      The codec used.

    Raises:
      ValueError: unknown suffix or codec, wrong shape or dtype, odd size for mp4, or PyAV missing.
    """
    path = Path(path)
    video = _check_video(video)
    if path.suffix.lower() not in CODECS:
        allowed = ", ".join(s or "no suffix (PNG folder)" for s in CODECS)
        raise ValueError(f"Cannot write {path.name!r}: the suffix must be one of {allowed}.")
    allowed_codecs = CODECS[path.suffix.lower()]
    codec = codec or allowed_codecs[0]
    if codec not in allowed_codecs:
        raise ValueError(f"Codec {codec!r} of {path.name}; allowed: {', '.join(allowed_codecs)}.")
    if not fps > 0:
        raise ValueError(f"fps is {fps}; it must be positive.")
    note = _note(video, fps, text, NOTICE if synthetic else REAL)
    if codec == "png":
        _write_png(path, video, fps, note)
        return codec
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        _WRITERS[codec](partial, video, fps, note)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return codec


def load_video(path: str | Path, *, gray: bool = True) -> tuple[np.ndarray, float]:
    """Reads a clip that `save_video` or another program wrote.

    Args:
      path: video file, or a folder of PNG frames in the order of their names.
      gray: return luma (t, h, w); otherwise RGB (t, h, w, 3).

    Returns:
      The frames, uint8, and the frames per second.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a video that can be read, without frames, or of frames that differ in size.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No video {path}.")
    try:
        if path.is_dir():
            frames, fps = _read_png(path)
        else:
            frames, fps = guarded(lambda: _read_file(path), "The file")
    except (OSError, EOFError, ReadError) as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error
    if not frames:
        raise ValueError(f"{path} holds no frame that can be read.")
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        shown = " and ".join(f"{w} x {h}" for h, w in sizes[:2])
        raise ValueError(f"{path} has frames of {shown} px; those of a clip have one size.")
    video = np.stack(frames)  # (t, h, w, 3)
    if not gray:
        return video, fps
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]), fps


def write_image(path: str | Path, image: np.ndarray, text: str = "") -> None:
    """Writes one picture as PNG with the notice in it; the file appears whole or not at all.

    Args:
      path: ends in .png.
      image: (h, w), (h, w, 1) or (h, w, 3) uint8 RGB.
      text: kept in the file beside the notice.

    Raises:
      ValueError: another suffix, wrong shape or dtype.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"Cannot write {path.name!r}: pictures are written as .png.")
    frame = _check_video(np.asarray(image)[None])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.png")
    try:
        _write_frame(partial, _pillow_frames(frame)[0], _note(frame, 1.0, text))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_note(path: str | Path) -> dict[str, Any] | None:
    """The note kept in a file: notice, frames, fps, text; None where there is none of ours."""
    path = Path(path)
    if path.is_dir():
        first = min(path.glob("*.png"), default=None)
        stored = Image.open(first).info.get("Description") if first else None
    elif path.suffix.lower() == ".png":
        stored = Image.open(path).info.get("Description")
    elif path.suffix.lower() == ".gif":
        stored = Image.open(path).info.get("comment")
    elif path.suffix.lower() == ".webp":
        packet = Image.open(path).info.get("xmp", b"").decode()
        match = re.search(r"<dc:description>(.*?)</dc:description>", packet, re.DOTALL)
        stored = html.unescape(match.group(1)) if match else None
    else:
        stored = _read_mp4_note(path)
    try:
        note = json.loads(stored or "null")
    except ValueError:
        return None
    return note if isinstance(note, dict) and "notice" in note else None


def _check_video(video: np.ndarray) -> np.ndarray:
    """Any accepted clip as (t, h, w, 3)."""
    shape = tuple(video.shape)
    if video.dtype != np.uint8:
        raise ValueError(f"video has dtype {video.dtype}; expected uint8 in 0..255.")
    if video.ndim == 3:
        video = video[..., None]
    if video.ndim != 4 or video.shape[-1] not in (1, 3) or 0 in shape:
        raise ValueError(f"video has shape {shape}; expected (t, h, w), (t, h, w, 1) or (..., 3).")
    return np.repeat(video, 3, axis=-1) if video.shape[-1] == 1 else video


def _note(video: np.ndarray, fps: float, text: str, notice: str = NOTICE) -> str:
    note = {"notice": notice, "frames": len(video), "fps": fps, "text": text}
    return json.dumps(note, ensure_ascii=False)


def _pillow_frames(video: np.ndarray) -> list[Image.Image]:
    gray = bool((video == video[..., :1]).all())
    return [Image.fromarray(np.ascontiguousarray(f[..., 0] if gray else f)) for f in video]


# --- Writers: (path, (t, h, w, 3) video, fps, note) ---


def _write_h264(path: Path, video: np.ndarray, fps: float, note: str) -> None:
    if importlib.util.find_spec("av") is None:
        raise ValueError(
            "H.264 needs PyAV: pip install 'ffa-sora-jax[video]'. Or write .webp or .gif, or ask "
            "for codec 'mp4v', which OpenCV writes at lower quality."
        )
    import fractions

    import av

    _check_even(video)
    with av.open(str(path), "w", format="mp4") as container:
        container.metadata["comment"] = note
        container.metadata["title"] = json.loads(note)["notice"]
        stream: Any = container.add_stream("libx264", rate=fractions.Fraction(fps))
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "14"}
        for frame in video:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def _write_mp4v(path: Path, video: np.ndarray, fps: float, note: str) -> None:
    _check_even(video)
    height, width = video.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():  # OpenCV would go on and write nothing
        raise ValueError("This OpenCV cannot write mp4v. Write .webp or .gif instead.")
    for frame in video:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    payload = note.encode()
    with path.open("ab") as file:  # OpenCV cannot write metadata; players skip unknown boxes
        file.write(struct.pack(">I4s", 24 + len(payload), b"uuid") + _NOTE_BOX + payload)


def _write_webp(path: Path, video: np.ndarray, fps: float, note: str) -> None:
    first, *rest = [image.convert("RGB") for image in _pillow_frames(video)]
    packet = _XMP.format(html.escape(note)).encode()
    first.save(
        path, "WEBP", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0,
        lossless=True, xmp=packet,
    )  # fmt: skip


def _write_gif(path: Path, video: np.ndarray, fps: float, note: str) -> None:
    first, *rest = _pillow_frames(video)
    first.save(
        path, "GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0,
        comment=note.encode(),
    )  # fmt: skip


def _write_png(folder: Path, video: np.ndarray, fps: float, note: str) -> None:
    del fps  # stands in the note
    folder.mkdir(parents=True, exist_ok=True)
    strangers = [p.name for p in folder.iterdir() if not re.fullmatch(r"frame_\d+\.png", p.name)]
    if strangers:
        raise ValueError(f"{folder} holds {strangers[0]!r}; PNG frames need a folder of their own.")
    for old in folder.iterdir():
        old.unlink()
    for number, image in enumerate(_pillow_frames(video)):
        _write_frame(folder / f"frame_{number:03d}.png", image, note)


def _write_frame(path: Path, image: Image.Image, note: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Description", note)
    image.save(path, "PNG", pnginfo=info)


def _check_even(video: np.ndarray) -> None:
    height, width = video.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"mp4 needs even sizes; got {height} x {width}. Write .webp or .gif.")


_WRITERS: dict[str, Callable[[Path, np.ndarray, float, str], None]] = {
    "h264": _write_h264,
    "mp4v": _write_mp4v,
    "webp": _write_webp,
    "gif": _write_gif,
}


# --- Readers: RGB frames and fps ---


def _read_file(path: Path) -> tuple[list[np.ndarray], float]:
    name = images.sniff(path)
    if name in images.VIDEOS:
        source = containers.open_video(path, name, _ANY_SIZE)
        return [_as_rgb(frame) for frame in source.frames()], source.fps or 1.0
    if name in ("gif", "webp"):
        return _read_animation(path, name)
    raise ReadError("unknown_format", "The file is neither a video nor a GIF or WebP.")


def _read_animation(path: Path, name: str) -> tuple[list[np.ndarray], float]:
    """GIF and WebP writers merge equal neighbours into one longer frame: take them apart again."""
    note = read_note(path)
    durations = [ms or 100 for ms in containers.read_durations(path, name)]
    frames = containers.open_animation(path, name, _ANY_SIZE).frames()
    fps = note["fps"] if note else 1000 / min(durations)
    counts = [max(1, round(duration * fps / 1000)) for duration in durations]
    pairs = zip(frames, counts, strict=True)
    return [_as_rgb(frame) for frame, count in pairs for _ in range(count)], fps


def _as_rgb(frame: np.ndarray) -> np.ndarray:
    if frame.dtype == np.uint16:
        frame = (frame >> 8).astype(np.uint8)
    return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=-1)


def _read_png(folder: Path) -> tuple[list[np.ndarray], float]:
    frames = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    note = read_note(folder)
    return frames, note["fps"] if note else 1.0


def _read_mp4_note(path: Path) -> str | None:
    """Our own box of an mp4v file, or the comment that PyAV wrote."""
    data, at = path.read_bytes(), 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"uuid" and data[at + 8 : at + 24] == _NOTE_BOX:
            return data[at + 24 : at + size].decode()
        if size < 8:
            break
        at += size
    if importlib.util.find_spec("av") is None:
        return None
    import av

    with av.open(str(path)) as container:
        return container.metadata.get("comment")
