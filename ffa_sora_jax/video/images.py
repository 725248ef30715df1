"""Files by their content, and still pictures: PNG, JPEG, TIFF and BMP in 8 and 16 bits."""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from PIL import Image

from ffa_sora_jax.video.exam import Limits, ReadError

SUFFIXES = {
    "png": (".png", ".apng"),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "webp": (".webp",),
    "mp4": (".mp4", ".m4v", ".mov", ".qt"),
    "avi": (".avi",),
    "matroska": (".mkv", ".webm"),
    "dicom": (".dcm", ".dicom", ".ima"),
}
PICTURES = ("png", "jpeg", "tiff", "bmp", "gif", "webp")
VIDEOS = ("mp4", "avi", "matroska")
HEAD_BYTES = 512
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x1aE\xdf\xa3", "matroska"),
)
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_ENVELOPED = bytes.fromhex("2a864886f70d010703")  # object id of CMS enveloped data (secure DICOM)
_ORIENTATION = 0x0112  # EXIF
_TURNS: dict[int, tuple[int | str, ...]] = {
    2: ("flip",), 3: (2,), 4: (2, "flip"), 5: (3, "flip"), 6: (3,), 7: (1, "flip"), 8: (1,),
}  # fmt: skip


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file that has bytes.

    Raises:
      ReadError: "empty_file", or "unreadable" for a device, a pipe or a folder.
      OSError: the system refuses; `exam.guarded` turns it into a ReadError.
    """
    status = path.stat()  # before opening: opening a pipe would wait for ever
    if not stat.S_ISREG(status.st_mode):
        raise ReadError("unreadable", "A frame or exam is neither a file nor a folder.")
    if status.st_size == 0:
        raise ReadError("empty_file", "A file of the exam has no bytes. Export it again.")
    return path.open("rb")


def sniff(path: Path) -> str | None:
    """The format that the first bytes show, a key of `SUFFIXES`; None for anything else.

    Raises:
      ReadError: as `open_file`, and "encrypted" for an encrypted container.
    """
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    if _is_encrypted(head):
        raise ReadError("encrypted", "The file is encrypted. Export it without a password.")
    if _is_dicom(head):  # first: its preamble may hold the start of a TIFF
        return "dicom"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "avi"}.get(head[8:12])
    if head[:2] == b"BM" and len(head) > 26 and head[14:18] in (b"(\0\0\0", b"l\0\0\0", b"|\0\0\0"):
        return "bmp"
    if head[4:8] in _MP4_BOXES and head[8:12] not in _STILL_BRANDS:
        return "mp4"
    return None


def has_wrong_suffix(path: Path, name: str) -> bool:
    """Whether the suffix belongs to another format; strange suffixes and none are no claim."""
    claims = [key for key, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes]
    return bool(claims) and name not in claims


@dataclass(frozen=True)
class Header:
    """What a still picture says before it is decoded.

    Attributes:
      width, height: pixels.
      pages: 1, or the pages of a TIFF.
      is_deep: 16 bits per sample.
      inverted: 16-bit TIFF in which 0 is white; 8-bit ones arrive already inverted.
    """

    width: int
    height: int
    pages: int
    is_deep: bool
    inverted: bool


def read_header(path: Path, name: str, limits: Limits) -> Header:
    """Size, pages and depth of a picture of format `name`; raises ReadError beyond the limits."""
    if name == "tiff":
        _check_tiff(path)
    with open_file(path) as file, Image.open(file, formats=[name.upper()]) as image:
        limits.check_frame(*image.size)
        is_deep = image.mode.startswith("I;16") or _is_deep_colour(image, file)
        pages = getattr(image, "n_frames", 1) if name == "tiff" else 1
        tags = getattr(image, "tag_v2", {})
        return Header(*image.size, pages, is_deep, is_deep and tags.get(262) == 0)


def read_picture(path: Path, name: str, limits: Limits, page: int = 0) -> np.ndarray:
    """Decodes one picture or one page of a TIFF, upright.

    Transparency is laid on black. Pillow decodes 8 bits and 16-bit grey; it would cut 16-bit
    colour to its upper 8 bits, so OpenCV decodes that.

    Args:
      path: file of format `name`.
      name: one of `PICTURES`.
      limits: checked before decoding.
      page: which page of a TIFF.

    Returns:
      (h, w) or (h, w, 3) RGB, uint8 or uint16.

    Raises:
      ReadError: beyond the limits, or pixels that are neither 8 nor 16 bits deep.
    """
    with open_file(path) as file, Image.open(file, formats=[name.upper()]) as image:
        if page:
            image.seek(page)
        limits.check_frame(*image.size)
        if _is_deep_colour(image, file):
            return _read_deep_colour(file, getattr(image, "n_frames", 1))
        turns = () if name == "tiff" else _TURNS.get(image.getexif().get(_ORIENTATION, 1), ())
        return _turned(to_array(image), turns)


def to_array(image: Image.Image) -> np.ndarray:
    """A Pillow image as (h, w) or (h, w, 3), uint8 or uint16; transparency laid on black."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("F", "I"):
        raise ReadError(
            "unknown_format",
            "Pixels are 32-bit numbers; 8 and 16 bits are read. Export the frames with 16 bits.",
        )
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode == "LA":
        return _on_black(np.asarray(image))[..., 0]
    if image.mode == "RGBA" or "transparency" in image.info:
        return _on_black(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def _is_encrypted(head: bytes) -> bool:
    is_zip = head[:4] == b"PK\x03\x04" and bool(head[6] & 1)
    is_cms = head[:1] == b"\x30" and _ENVELOPED in head[:64]
    return is_zip or is_cms or head.startswith((b"Salted__", b"-----BEGIN PGP MESSAGE"))


def _is_dicom(head: bytes) -> bool:
    """With the preamble, or without it: an element of group 2 or 8 whose length is plausible."""
    if head[128:132] == b"DICM":
        return True
    if head[:2] not in (b"\x02\0", b"\x08\0") or len(head) < HEAD_BYTES or head[3] != 0:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") < HEAD_BYTES


def _check_tiff(path: Path) -> None:
    """Follows the chain of pages; Pillow calls a file that ends before its pages damaged."""
    with open_file(path) as file:
        end = file.seek(0, 2)
        file.seek(0)
        head = file.read(8)
        order: Literal["big", "little"] = "big" if head[:2] == b"MM" else "little"
        place, seen = int.from_bytes(head[4:], order), set()
        while place and place not in seen and head[2:4] in (b"*\0", b"\0*"):  # no BigTIFF
            seen.add(place)
            file.seek(place)
            count = int.from_bytes(file.read(2), order)
            if place + 6 + 12 * count > end:
                raise ReadError("truncated", "A TIFF ends before its pages do. Export it again.")
            file.seek(place + 2 + 12 * count)
            place = int.from_bytes(file.read(4), order)


def _is_deep_colour(image: Image.Image, file: BinaryIO) -> bool:
    """16 bits in more than one channel, which Pillow only shows as 8-bit modes."""
    if image.format == "PNG":
        place = file.tell()  # Pillow goes on reading from here
        file.seek(24)  # bit depth and colour type of the header chunk
        depth, colour = file.read(2)
        file.seek(place)
        return depth == 16 and colour != 0
    bits: Any = getattr(image, "tag_v2", {}).get(258, ())
    return len(bits) > 1 and max(bits) > 8


def _read_deep_colour(file: BinaryIO, pages: int) -> np.ndarray:
    if pages > 1:
        raise ReadError(
            "unknown_format", "TIFF pages in 16-bit colour; export one file per frame, or 8 bits."
        )
    file.seek(0)
    frame = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if frame is None or frame.dtype != np.uint16:
        raise ReadError("unreadable", "A 16-bit colour frame is damaged. Export it again.")
    if frame.ndim == 2:
        return frame
    if frame.shape[-1] == 4:
        return _on_black(np.ascontiguousarray(frame[..., [2, 1, 0, 3]]))
    return np.ascontiguousarray(frame[..., ::-1])


def _on_black(frame: np.ndarray) -> np.ndarray:
    """(h, w, c + 1) with alpha last -> (h, w, c)."""
    colour, alpha = frame[..., :-1], frame[..., -1:]
    top = np.iinfo(frame.dtype).max
    if (alpha == top).all():
        return np.ascontiguousarray(colour)
    return ((colour.astype(np.uint64) * alpha + top // 2) // top).astype(frame.dtype)


def _turned(frame: np.ndarray, turns: tuple[int | str, ...]) -> np.ndarray:
    for turn in turns:
        frame = frame[:, ::-1] if turn == "flip" else np.rot90(frame, int(turn))
    return np.ascontiguousarray(frame)
