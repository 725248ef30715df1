"""Writers for every format a hospital may hand over, each planting identifiers where it can."""

import datetime
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

# Written into tags, metadata and names of files; none of it may come out of a build.
NAME = "Nightingale^Planta"
PATIENT_NUMBER = "MRN5550199"
HOSPITAL = "Sankt Plantarius Klinik"
BIRTHDAY = "19470612"
EXAM_DAY = "20190823"
ACCESSION = "ACC77003311"
DEVICE = "SERIAL-88-PLANT"
UID_ROOT = "2.25.77003311555019988"
SECRETS = (
    *("Nightingale", "^Planta", "MRN5550199", "Plantarius", BIRTHDAY, EXAM_DAY, "2019-08-23"),
    *(ACCESSION, DEVICE, UID_ROOT),
)

RATE = 5  # frames per second of videos


# --- Folders of frames ---


def frames(
    folder: Path, video: np.ndarray, suffix: str, pattern: str = "{:03d}", **kw: Any
) -> None:
    """One file per frame; `pattern` names them."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(video):
        image(folder / f"{pattern.format(number + 1)}{suffix}", frame, **kw)


def image(path: Path, frame: np.ndarray, **options: Any) -> None:
    """(h, w), (h, w, 3) or (h, w, 4), uint8 or uint16, with a name planted in the metadata."""
    suffix = path.suffix.lower()
    picture = Image.fromarray(frame)
    if suffix == ".png":
        text = PngInfo()
        text.add_text("Patient", f"{NAME} {PATIENT_NUMBER}")
        options["pnginfo"] = text
    elif suffix in (".jpg", ".jpeg"):
        exif = Image.Exif()
        exif[0x010E] = f"{NAME} {EXAM_DAY}"  # ImageDescription
        options = {"quality": 92, "exif": exif, **options}
    elif suffix in (".tif", ".tiff"):
        options["description"] = f"{NAME} {PATIENT_NUMBER}"
    picture.save(path, **options)


def pages(path: Path, video: np.ndarray, **options: Any) -> None:
    """All frames in one file: GIF, WebP, APNG or multi-page TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.fromarray(frame) for frame in video]
    first.save(path, save_all=True, append_images=rest, **options)


# --- Videos ---


def video(path: Path, frames: np.ndarray, codec: str, **options: Any) -> None:
    """Any container and codec of PyAV; colour where the frames have three channels.

    Options: pix_fmt, times_s (uneven times), and what the codec takes.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    pix_fmt = options.pop("pix_fmt", "yuv420p")
    times_s = options.pop("times_s", None)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = f"{NAME} {PATIENT_NUMBER} {EXAM_DAY}"
        stream: Any = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times_s is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(frames):
            kind = "gray" if picture.ndim == 2 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)
            if times_s is not None:
                frame.pts, frame.time_base = round(1000 * times_s[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def video_cv2(path: Path, frames: np.ndarray, fourcc: str) -> None:
    """What OpenCV writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*fourcc)
    writer = cv2.VideoWriter(str(path), code, RATE, frames.shape[2:0:-1])
    assert writer.isOpened(), fourcc
    for frame in frames:
        writer.write(np.repeat(frame[..., None], 3, axis=-1))
    writer.release()


# --- DICOM ---


def dicom(path: Path, frames: np.ndarray, uid: int, **options: Any) -> Any:
    """One DICOM file: multi-frame for (t, h, w[, 3]) with t > 1, single frame for t = 1.

    Options: sop ("op8", "op16", "sc", "sc_gray", "sc_colour"), used_bits, monochrome1, planar,
    syntax ("explicit", "implicit", "big", "deflated", "rle", "jpeg"), frame_time_ms, times_s
    (Frame Time Vector), eye ("R", "L"), instance, acquired_s (seconds after noon), burned_in,
    preamble.
    """
    from pydicom.dataset import Dataset, FileMetaDataset

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    _identify(ds, uid, options.get("instance", 1))
    ds.SOPClassUID = _sop_class(options.get("sop", "op8"))
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Modality = "OP"
    _describe_pixels(ds, frames, options)
    _describe_times(ds, len(frames), options)
    if "eye" in options:
        ds.ImageLaterality = options["eye"]
    if options.get("burned_in"):
        ds.BurnedInAnnotation = "YES"
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(ds, path, frames, options)
    return ds


def series(folder: Path, frames: np.ndarray, uid: int, times_s: Sequence[float], **kw: Any) -> None:
    """One file per frame; the names sort against the order of the instances."""
    for number, frame in enumerate(frames):
        name = f"IM{(7 * number + 3) % len(frames):04d}_{number}"
        dicom(
            folder / name, frame[None], uid, instance=number + 1,
            acquired_s=float(times_s[number]), **kw,
        )  # fmt: skip


def _identify(ds: Any, uid: int, instance: int) -> None:
    """Everything a hospital writes into a file, and must not come out."""
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = NAME, PATIENT_NUMBER, BIRTHDAY
    ds.PatientSex, ds.PatientAge, ds.PatientAddress = "F", "072Y", f"{HOSPITAL} street 7"
    ds.InstitutionName, ds.AccessionNumber = HOSPITAL, ACCESSION
    ds.ReferringPhysicianName = ds.OperatorsName = "Plantarius^Doctor"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = EXAM_DAY
    ds.StudyTime, ds.ContentTime = "115900", "120000"
    ds.StudyDescription = f"FFA of {NAME}"
    ds.DeviceSerialNumber, ds.StationName = DEVICE, HOSPITAL[:16]
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{UID_ROOT}.{uid}", f"{UID_ROOT}.{uid}.1"
    ds.SOPInstanceUID = f"{UID_ROOT}.{uid}.1.{instance}"
    ds.InstanceNumber, ds.SeriesNumber = instance, 1
    ds.private_block(0x0099, "PLANTARIUS", create=True).add_new(0x01, "LO", f"{NAME} private")


def _sop_class(kind: str) -> str:
    from pydicom import uid

    return {
        "op8": uid.OphthalmicPhotography8BitImageStorage,
        "op16": uid.OphthalmicPhotography16BitImageStorage,
        "sc": uid.SecondaryCaptureImageStorage,
        "sc_gray": uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        "sc_colour": uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }[kind]


def _describe_pixels(ds: Any, frames: np.ndarray, options: dict[str, Any]) -> None:
    bits = 8 * frames.dtype.itemsize
    ds.Rows, ds.Columns = frames.shape[1:3]
    ds.BitsAllocated, ds.BitsStored = bits, options.get("used_bits", bits)
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    if frames.ndim == 4:
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, "RGB"
        ds.PlanarConfiguration = int(options.get("planar", False))
    else:
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = (
            "MONOCHROME1" if options.get("monochrome1") else "MONOCHROME2"
        )
    if len(frames) > 1:
        ds.NumberOfFrames = len(frames)


def _describe_times(ds: Any, count: int, options: dict[str, Any]) -> None:
    if "frame_time_ms" in options:
        ds.FrameTime, ds.FrameIncrementPointer = options["frame_time_ms"], 0x00181063
    elif "times_s" in options:
        steps = np.diff(options["times_s"], prepend=options["times_s"][0])
        ds.FrameTimeVector = [f"{1000 * step:.1f}" for step in steps]
        ds.FrameIncrementPointer = 0x00181065
        assert len(steps) == count
    if "acquired_s" in options:
        noon = datetime.datetime(2019, 8, 23, 12)
        then = noon + datetime.timedelta(seconds=options["acquired_s"])
        ds.AcquisitionTime = then.strftime("%H%M%S.%f")
        ds.AcquisitionDateTime = then.strftime("%Y%m%d%H%M%S.%f")


def _save(ds: Any, path: Path, frames: np.ndarray, options: dict[str, Any]) -> None:
    from pydicom import uid
    from pydicom.encaps import encapsulate

    syntax = options.get("syntax", "explicit")
    if options.get("monochrome1"):
        frames = (2 ** options.get("used_bits", 8 * frames.dtype.itemsize) - 1) - frames
    if frames.ndim == 4 and options.get("planar"):
        frames = np.moveaxis(frames, -1, 1)
    order = ">" if syntax == "big" else "<"
    raw = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OW" if frames.dtype.itemsize == 2 or syntax == "implicit" else "OB"
    ds.file_meta.TransferSyntaxUID = {
        "implicit": uid.ImplicitVRLittleEndian,
        "big": uid.ExplicitVRBigEndian,
        "deflated": uid.DeflatedExplicitVRLittleEndian,
        "jpeg": uid.JPEGBaseline8Bit,
    }.get(syntax, uid.ExplicitVRLittleEndian)
    if syntax == "jpeg":
        ds.PixelData = encapsulate([_jpeg(frame) for frame in frames])
        if frames.ndim == 4:
            ds.PhotometricInterpretation = "YBR_FULL_422"
    elif syntax == "rle":
        ds.compress(uid.RLELossless)
    ds.save_as(path, enforce_file_format=options.get("preamble", True))


def _jpeg(frame: np.ndarray) -> bytes:
    picture = frame if frame.ndim == 2 else frame[..., ::-1]
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    return data.tobytes()
