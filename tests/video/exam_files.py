"""Exam files for the tests of reading: the same moving pattern in every format."""

import contextlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SECRET = "Zzyzx"  # stands in names and tags; must never come out of a reader
OPHTHALMIC_8, OPHTHALMIC_16 = (
    "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "1.2.840.10008.5.1.4.1.1.77.1.5.2",
)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"
TIMES_S = np.array([0, 0.9, 2.2, 4, 7.5, 12])


def clip(num_frames: int = 6, height: int = 48, width: int = 64, top: int = 255) -> np.ndarray:
    """Smooth moving blobs, (t, h, w), 0..top: uint8, or uint16 above 255."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + 0.5 * t) * np.cos(y / 11 - 0.3 * t) for t in range(num_frames)]
    video = np.rint((0.5 + 0.5 * np.stack(waves)) * top)
    video[:, 0, 0] = top  # so that all bits are used
    return video.astype(np.uint8 if top < 256 else np.uint16)


def coloured(video: np.ndarray) -> np.ndarray:
    """(t, h, w) -> (t, h, w, 3) RGB with three different channels."""
    top = np.iinfo(video.dtype).max
    return np.stack([video, top - video, video // 2], axis=-1)


def write_video(path: Path, video: np.ndarray, codec: str, fps: float = 4.0) -> Path:
    """A file of OpenCV's encoders, whatever its suffix says."""
    with _quiet():
        size = video.shape[2], video.shape[1]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
        assert writer.isOpened()
        for frame in video:
            code = cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR
            writer.write(cv2.cvtColor(frame, code))
        writer.release()
    return path


def write_frames(folder: Path, video: np.ndarray, suffix: str, **options) -> Path:
    """One file per frame; names need natural order."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(video, 8):
        Image.fromarray(frame).save(folder / f"{SECRET} frame{number}{suffix}", **options)
    return folder


def png_bytes(frame: np.ndarray) -> bytes:
    """A 16-bit PNG of 1 to 4 channels, which Pillow cannot write."""
    frame = frame[..., None] if frame.ndim == 2 else frame
    height, width, channels = frame.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in frame)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    photometric: str = "MONOCHROME2",
    syntax: str = EXPLICIT,
    stored: int | None = None,
    encoded: list[bytes] | None = None,
    **elements,
) -> Path:
    """One DICOM file with patient data.

    Args:
      path: where.
      pixels: (t, h, w) or (t, h, w, 3), uint8, uint16 or int16.
      photometric: photometric interpretation.
      syntax: uid of the transfer syntax; RLE is encoded here, others take `encoded`.
      stored: bits stored; default: all.
      encoded: compressed frames.
      **elements: further elements by keyword.
    """
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    allocated = 8 * pixels.dtype.itemsize
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = OPHTHALMIC_8 if allocated == 8 else OPHTHALMIC_16
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(None)
    meta.TransferSyntaxUID = EXPLICIT if syntax == pydicom.uid.RLELossless else syntax
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    data.PatientName, data.PatientID = f"{SECRET}^Anna", f"{SECRET}-7"
    data.PatientBirthDate, data.InstitutionName = "19500101", f"{SECRET} Clinic"
    data.AccessionNumber = ""
    data.add_new(0x00091010, "LO", f"{SECRET} private")
    data.Modality = "OP"
    data.NumberOfFrames, data.Rows, data.Columns = pixels.shape[:3]
    data.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    data.PhotometricInterpretation = photometric
    if pixels.ndim == 4:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored = allocated, stored or allocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    if encoded is not None:
        data.PixelData = pydicom.encaps.encapsulate(encoded)
        data["PixelData"].is_undefined_length = True
    else:
        data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OB" if allocated == 8 or encoded is not None else "OW"
    if syntax == pydicom.uid.RLELossless:
        data.compress(pydicom.uid.RLELossless)
    data.save_as(path, enforce_file_format=True)
    return path


@contextlib.contextmanager
def _quiet():
    """OpenCV remarks on every WebM it writes, past Python."""
    import os

    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
