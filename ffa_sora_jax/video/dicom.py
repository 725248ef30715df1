"""Multi-frame DICOM files and series of them, through pydicom (extra `dicom`).

What is taken from a file: the elements that describe its pixels (group 0028), number of frames,
frame times, laterality, Burned In Annotation and the instance number for the order. Dates and
times are used for the seconds between frames and forgotten. All else is dropped; the keywords of
elements that held something are listed in `removed`, their values nowhere.

    transfer syntax                               decoder
    uncompressed, deflated, RLE                   pydicom
    JPEG baseline, JPEG extended 8 bit, JPEG 2000 Pillow
    JPEG lossless, JPEG-LS                        python-gdcm (extra `dicom`)
    JPEG extended 12 bit, HTJ2K, MPEG             none: export uncompressed, or as MP4
"""

import datetime
import importlib.util
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ffa_sora_jax.video import images
from ffa_sora_jax.video.exam import Limits, ReadError, Source, guarded

# Not listed as removed: they describe pixels, order, side and timing, and identify nobody.
HARMLESS = frozenset(
    "SpecificCharacterSet SOPClassUID Modality ImageType ConversionType InstanceNumber "
    "NumberOfFrames FrameTime FrameTimeVector CineRate RecommendedDisplayFrameRate StartTrim "
    "StopTrim FrameDelay PreferredPlaybackSequencing ImageLaterality Laterality "
    "PatientOrientation LossyImageCompression PresentationLUTShape "
    "FileMetaInformationGroupLength FileMetaInformationVersion MediaStorageSOPClassUID "
    "TransferSyntaxUID ImplementationClassUID ImplementationVersionName "
    "ExtendedOffsetTable ExtendedOffsetTableLengths PixelData".split()
)
_EYES = {"R": "right", "L": "left"}
_MAX_INFLATED_BYTES = 1 << 30
_LONG_VALUE_BYTES = 1 << 20  # longer values, such as private raw data, are passed over
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PILLOW = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.9")
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_DEFLATED, _BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_JP2 = b"\0\0\0\x0cjP  "
_DAMAGED = "The pixels of a DICOM file are damaged. Export it again."
_BEFORE_S, _AFTER_S = -600.0, 7200.0  # frames further from the injection belong to another one


@dataclass(frozen=True)
class _File:
    """What is kept of one file; `patient` and `clock_s` serve comparisons and go no further."""

    path: Path
    syntax: str
    num_frames: int
    photometric: str
    bits: int | None
    number: int | None
    eye: str | None
    burned_in: bool | None
    removed: frozenset[str]
    patient: int
    clock_s: float | None
    offsets_s: np.ndarray | None
    injected_s: float | None


def open_dicom(
    paths: Sequence[Path], limits: Limits, *, is_ordered: bool = False, eye: str | None = None
) -> Source:
    """One exam from one file or from the files of a series.

    Args:
      paths: files that `images.sniff` calls "dicom", in natural order.
      limits: checked before pixels are decoded.
      is_ordered: keep the order of `paths`; otherwise by acquisition time, else instance number.
      eye: take only the files of this eye.

    Raises:
      ReadError: damaged, no picture inside, no decoder, several patients or both eyes.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise ReadError("needs_decoder", "DICOM needs pydicom: pip install 'ffa-sora-jax[dicom]'.")
    _silence_gdcm()
    read = [
        guarded(lambda: _read_file(path, limits), f"DICOM file {number}")  # noqa: B023
        for number, path in enumerate(paths, 1)
    ]
    files = [file for file in read if file is not None]
    if not files:
        raise ReadError("unknown_format", "The DICOM files hold no picture, such as a report.")
    extra = len(files) < len(read)
    if eye is not None and len({file.eye for file in files}) > 1:
        # Files that name no eye may show either: they are left out too, which is worth a note.
        extra |= any(file.eye is None for file in files)
        files = [file for file in files if file.eye == eye]
    _check_one_exam(files)
    if not is_ordered:
        files = _sorted(files)
    times, times_from = _times(files)
    burned = {file.burned_in for file in files}
    depths = [file.bits for file in files]
    return Source(
        "dicom" if len(paths) == 1 else "dicom_series",
        lambda: _frames(files),
        num_frames=sum(file.num_frames for file in files),
        times_s=times,
        times_from=times_from,
        bits=None if None in depths else max(bits for bits in depths if bits is not None),
        inverted=files[0].photometric == "MONOCHROME1",
        notes=("extra_files",) if extra else (),
        eye=files[0].eye,
        removed=tuple(sorted(frozenset().union(*(file.removed for file in files)))),
        burned_in=True if True in burned else False if burned == {False} else None,
    )


def _silence_gdcm() -> None:
    """GDCM writes past Python's logging, straight to the standard error stream."""
    if importlib.util.find_spec("gdcm") is not None:
        import gdcm

        for switch in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
            switch()


# --- Headers ---


def _read_file(path: Path, limits: Limits) -> _File | None:
    """The header of one file; None for a DICOM file that is no picture."""
    import pydicom

    with images.open_file(path) as file:
        _check_inflated(file)
        file.seek(0)
        header = pydicom.dcmread(
            file, stop_before_pixels=True, force=True, defer_size=_LONG_VALUE_BYTES
        )
        syntax = _syntax(header)
        if "Rows" not in header:
            _check_no_picture(header)
            return None
        _check_size(header, limits)
        _check_decoder(header, syntax)
        if syntax != _DEFLATED:
            _check_whole(file, header, syntax)
    offsets = _frame_offsets(header)
    clock = _clock(header)
    return _File(
        path,
        syntax,
        int(header.get("NumberOfFrames") or 1),
        str(header.PhotometricInterpretation),
        _bits(header),
        _number(header.get("InstanceNumber")),
        _eye(header),
        {"YES": True, "NO": False}.get(str(header.get("BurnedInAnnotation", "")).upper()),
        _removed(header),
        hash((str(header.get("PatientID", "")), str(header.get("PatientName", "")))),
        clock,
        offsets,
        _injection(header, clock),
    )


def _syntax(header: Any) -> str:
    """The transfer syntax; files without the DICOM preamble only show it by how they read."""
    stated = header.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    is_implicit, is_little = header.original_encoding
    return _IMPLICIT if is_implicit else _EXPLICIT if is_little else _BIG_ENDIAN


def _check_no_picture(header: Any) -> None:
    """A directory or a report is no picture; a picture without rows was cut off."""
    meta = header.file_meta
    kind = meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
    if kind is None or "Image Storage" in getattr(kind, "name", ""):
        raise ReadError("truncated", "A DICOM file ends inside its header. Export it again.")


def _check_inflated(file: BinaryIO) -> None:
    """Deflated files are inflated in memory as a whole: refuse those that blow up."""
    head = file.read(images.HEAD_BYTES)
    if _DEFLATED.encode() not in head:
        return
    import pydicom

    file.seek(0)
    pydicom.filereader.read_preamble(file, force=False)
    pydicom.filereader._read_file_meta_info(file)
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflater.eof and (chunk := file.read(1 << 16)):
        while chunk and not inflater.eof:  # at the end what is left stays in the tail for ever
            size += len(inflater.decompress(chunk, 1 << 20))
            if size > _MAX_INFLATED_BYTES:
                raise ReadError(
                    "too_large",
                    "A deflated DICOM file grows beyond 1 GiB; export it with another compression.",
                )
            chunk = inflater.unconsumed_tail
    if not inflater.eof:
        raise ReadError("truncated", "A DICOM file ends before its content does. Export it again.")


def _check_size(header: Any, limits: Limits) -> None:
    limits.check_frame(int(header.Columns), int(header.Rows))
    count = int(header.get("NumberOfFrames") or 1)
    limits.check_count(count)
    if count < 1:
        raise ReadError("unreadable", "A DICOM file announces less than one frame.")


def _check_decoder(header: Any, syntax: str) -> None:
    from pydicom.pixels import get_decoder

    photometric, allocated = str(header.get("PhotometricInterpretation")), header.BitsAllocated
    is_known = photometric in (*_MONOCHROME, *_COLOUR, "PALETTE COLOR")
    if not is_known or allocated not in (8, 16):
        raise ReadError(
            "unknown_format",
            "A DICOM file holds neither grey, RGB, YBR nor palette pixels of 8 or 16 bits. Export "
            "it in one of these.",
        )
    try:
        available = get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        available = False
    if not available or (syntax.endswith(".4.51") and header.BitsStored > 8):
        raise ReadError(
            "needs_decoder",
            "No decoder for the compression of a DICOM file. JPEG lossless and JPEG-LS need "
            "pip install 'ffa-sora-jax[dicom]'; export others uncompressed, or videos as MP4.",
        )


def _check_whole(file: BinaryIO, header: Any, syntax: str) -> None:
    """Compares the length of the pixels with the length of the file; reads no pixel."""
    place = file.tell()
    end = file.seek(0, 2)
    file.seek(place)
    head = file.read(12)
    length = head[4:8] if syntax == _IMPLICIT else head[8:12]
    start = place + (8 if syntax == _IMPLICIT else 12)
    size = int.from_bytes(length, "big" if syntax == _BIG_ENDIAN else "little")
    if len(head) < 12:
        complete = False
    elif size == 0xFFFFFFFF:
        complete = _has_delimiter(file, start, end)
    else:
        complete = start + size <= end and size >= _native_bytes(header)
    if not complete:
        raise ReadError("truncated", "A DICOM file ends before its pixels do. Export it again.")


def _native_bytes(header: Any) -> int:
    samples = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel)
    if str(header.PhotometricInterpretation) == "YBR_FULL_422":
        samples = samples * 2 // 3
    return samples * int(header.get("NumberOfFrames") or 1) * (int(header.BitsAllocated) // 8)


def _has_delimiter(file: BinaryIO, place: int, end: int) -> bool:
    """Walks the fragments of compressed pixels to the mark behind the last."""
    while place + 8 <= end:
        file.seek(place)
        head = file.read(8)
        if head[:4] == b"\xfe\xff\xdd\xe0":
            return True
        if head[:4] != b"\xfe\xff\x00\xe0":
            raise ReadError("unreadable", _DAMAGED)
        place += 8
        stop = place + int.from_bytes(head[4:], "little")
        if file.read(len(_JP2)) == _JP2:
            _check_jp2(file, place, stop)
        place = stop
    return False


def _check_jp2(file: BinaryIO, place: int, stop: int) -> None:
    """Finds the code stream of a JPEG 2000 file: pydicom would search for ever without it."""
    while place + 8 <= stop:
        file.seek(place)
        head = file.read(8)
        if head[4:] == b"jp2c":
            return
        size = int.from_bytes(head[:4], "big")
        if size < 8:
            break
        place += size
    raise ReadError("unreadable", _DAMAGED)


def _bits(header: Any) -> int | None:
    """Stored bits are believed unless they are all there are, or signed."""
    if str(header.PhotometricInterpretation) == "PALETTE COLOR":
        return 16 if header.RedPaletteColorLookupTableDescriptor[2] > 8 else 8
    if header.BitsAllocated == 8 and not header.PixelRepresentation:
        return 8
    if header.PixelRepresentation or header.BitsStored == 16:
        return None
    return max(8, int(header.BitsStored))


def _removed(header: Any) -> frozenset[str]:
    """Keywords of elements that hold something and are not carried along."""
    found = set()
    for dataset in (header.file_meta, header):
        for tag in list(dataset.keys()):
            element = dataset.get_item(tag)  # as it stands in the file, not parsed
            is_empty = getattr(element, "length", None) == 0 or (
                not hasattr(element, "length") and element.is_empty
            )
            if is_empty or tag.group == 0x0028:
                continue
            found.add("PrivateElements" if tag.is_private else _keyword(tag))
    return frozenset(found - HARMLESS)


def _keyword(tag: Any) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or "UnknownElements"


def _number(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)


def _items(header: Any, *keywords: str) -> Iterator[Any]:
    """The items of nested sequences, whichever of them exist."""
    if not keywords:
        yield header
        return
    for item in header.get(keywords[0]) or ():
        yield from _items(item, *keywords[1:])


def _eye(header: Any) -> str | None:
    groups = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
    letters = {str(header.get(key, "")).upper() for key in ("ImageLaterality", "Laterality")}
    for group in groups:
        for item in _items(header, group, "FrameAnatomySequence"):
            letters.add(str(item.get("FrameLaterality", "")).upper())
    if "B" in letters:
        return None
    eyes = {_EYES[letter] for letter in letters if letter in _EYES}
    if len(eyes) > 1:
        raise ReadError("eye_conflict", "A DICOM file names both eyes. Part them, or correct it.")
    return eyes.pop() if eyes else None


# --- Times ---


def _frame_offsets(header: Any) -> np.ndarray | None:
    """Seconds of each frame of a file after its first, (n,), or None."""
    count = int(header.get("NumberOfFrames") or 1)
    if count == 1:
        return np.zeros(1)
    stamps = [
        _date_time(item.get("FrameAcquisitionDateTime") or item.get("FrameReferenceDateTime"))
        for item in _items(header, "PerFrameFunctionalGroupsSequence", "FrameContentSequence")
    ]
    if len(stamps) == count and None not in stamps:
        return np.array(stamps, np.float64) - float(stamps[0] or 0.0)
    vector = header.get("FrameTimeVector")
    if vector is not None and len(np.atleast_1d(vector)) == count:  # ms since the frame before
        steps = np.array(vector, np.float64)
        return (np.cumsum(steps) - steps[0]) / 1000
    if header.get("FrameTime"):
        return np.arange(count) * float(header.FrameTime) / 1000
    if header.get("CineRate"):
        return np.arange(count) / float(header.CineRate)
    return None


def _clock(header: Any) -> float | None:
    """Seconds of the acquisition on some clock, from the most exact elements that are there."""
    stamp = _date_time(header.get("AcquisitionDateTime"))
    for prefix in ("Acquisition", "Content"):
        if stamp is None:
            date, time = header.get(f"{prefix}Date"), header.get(f"{prefix}Time")
            stamp = _date_time(f"{date}{time}") if date and time else None
    return stamp


def _injection(header: Any, clock: float | None) -> float | None:
    """Seconds of the injection on the clock of the acquisition, or None."""
    profile = ("ContrastBolusAgentSequence", "ContrastAdministrationProfileSequence")
    starts = [header.get("ContrastBolusStartTime")]
    starts += [item.get("ContrastBolusStartTime") for item in _items(header, *profile)]
    start = next((start for start in starts if start), None)
    seconds = _date_time(f"19700101{start}") if start else None
    if clock is None or seconds is None:
        return None
    injected = clock - clock % 86400 + seconds
    return injected - 86400 if injected - clock > 43200 else injected  # over midnight


def _date_time(value: Any) -> float | None:
    """Seconds since 1970 of YYYYMMDDHHMMSS.FFFFFF, without its zone; None if less exact."""
    match = re.match(r"(\d{14})(\.\d{1,6})?", str(value or "").strip())
    if match is None:
        return None
    whole = datetime.datetime.strptime(match[1], "%Y%m%d%H%M%S")
    return (whole - datetime.datetime(1970, 1, 1)).total_seconds() + float(match[2] or 0)


def _times(files: Sequence[_File]) -> tuple[np.ndarray | None, str | None]:
    """Times of all frames and what they count from."""
    first, parts = files[0], []
    for file in files:
        clock = 0.0 if len(files) == 1 else file.clock_s
        if file.offsets_s is None or clock is None:
            return None, None
        parts.append(clock + file.offsets_s)
    seconds = np.concatenate(parts)
    seconds -= seconds[0]
    if (np.diff(seconds) < 0).any() or not seconds.any():
        return None, None
    if first.clock_s is not None and first.injected_s is not None:
        delay = first.clock_s - first.injected_s
        if _BEFORE_S <= delay <= _AFTER_S:
            return seconds + delay, "injection"
    return seconds, "first_frame"


# --- Series ---


def _check_one_exam(files: Sequence[_File]) -> None:
    if not files:
        raise ReadError("too_few_frames", "The folder holds no frame of the eye asked for.")
    if len({file.patient for file in files}) > 1:
        raise ReadError(
            "patient_conflict", "The folder holds DICOM files of several patients. Part them."
        )
    if len({file.eye for file in files}) > 1:
        raise ReadError(
            "eye_conflict",
            "The folder holds DICOM files of both eyes, or does not name the eye of all. Part "
            "them, or say which eye the exam shows.",
        )
    if len({file.photometric == "MONOCHROME1" for file in files}) > 1:
        raise ReadError("unknown_format", "Some of the DICOM files are inverted and some are not.")


def _sorted(files: list[_File]) -> list[_File]:
    """By acquisition time where all files have their own, else by number, else as they came."""
    clocks = [file.clock_s for file in files]
    if None not in clocks and len(set(clocks)) == len(clocks):
        return sorted(files, key=lambda file: float(file.clock_s or 0.0))
    if all(file.number is not None for file in files):
        return sorted(files, key=lambda file: int(file.number or 0))
    return files


# --- Pixels ---


def _frames(files: Sequence[_File]) -> Iterator[np.ndarray]:
    for file in files:
        with images.open_file(file.path) as stream:
            yield from _pixels(stream, file)


def _pixels(stream: BinaryIO, file: _File) -> Iterator[np.ndarray]:
    import pydicom
    from pydicom.pixels import apply_color_lut, iter_pixels

    source: Any = stream
    palette = pydicom.Dataset()
    options: dict[str, Any] = {"ds_out": palette, "transfer_syntax_uid": file.syntax}
    if file.syntax == _DEFLATED:
        source = palette = pydicom.dcmread(stream)
        options = {}
    # One decoder per compression, so that pixels do not depend on what else is installed.
    plugin = "pillow" if file.syntax.startswith(_PILLOW) else ""
    for frame in iter_pixels(source, decoding_plugin=plugin, **options):
        is_palette = file.photometric == "PALETTE COLOR"
        yield _as_readable(apply_color_lut(frame, palette) if is_palette else frame)


def _as_readable(frame: np.ndarray) -> np.ndarray:
    """uint8, uint16 or int16, without a channel axis of 1."""
    if frame.ndim == 3 and frame.shape[-1] == 1:
        frame = frame[..., 0]
    frame = frame.astype(np.int16 if frame.dtype == np.int8 else frame.dtype.newbyteorder("="))
    if frame.dtype not in (np.uint8, np.uint16, np.int16) or frame.ndim not in (2, 3):
        raise ReadError("unknown_format", "DICOM pixels are neither 8 nor 16 bits deep.")
    return frame
