"""Exams per second and core: from a hospital's files to a clip, as `ffa-sora prepare` does it.

    python -m benchmarks exams [--frames 30] [--source-px 768] [--size 512] [--repeats 3]

One phantom exam per format, read, cleaned, measured, standardised, fingerprinted and stored, each
format in a process of its own on one core. `prepare --workers N` runs N of these side by side.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import measure
from ffa_sora_jax import phantom

SEED = 11
RATE = 4  # frames per second of the video


def main(argv: list[str]) -> int:
    args = _arguments(argv)
    if args.measure:
        sys.stdout.write(json.dumps(_measure(args)) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-exams-") as scratch:
        sys.stderr.write(f"rendering {args.frames} frames of {args.source_px} px\n")
        clip = _clip(args.frames, args.source_px)
        rows = []
        for name, write in FORMATS.items():
            path = write(Path(scratch), clip)
            sys.stderr.write(f"{name}\n")
            rows.append({"format": name, "mib": _mib(path), **_in_own_process(path, args)})
    sys.stdout.write(table(rows, args.frames, args.source_px, args.size) + "\n")
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def table(rows: list[dict[str, Any]], frames: int, source_px: int, size: int) -> str:
    """The rows as text; processor seconds of the best repeat."""
    lines = [
        f"Exams of {frames} frames of {source_px} px to clips of 21 frames of {size} px, one core",
        f"{'':12} {'file MiB':>9} {'CPU s':>7} {'reading':>8} {'storing':>8} {'exams/s':>8}"
        f" {'peak MiB':>9}",
    ]
    for row in rows:
        lines.append(
            f"{row['format']:12} {row['mib']:9.1f} {row['cpu_s']:7.2f} {row['reading_s']:8.2f}"
            f" {row['storing_s']:8.2f} {1 / row['cpu_s']:8.2f} {row['peak_mib']:9.0f}"
        )
    return "\n".join(lines)


# --- One measurement ---


def _in_own_process(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "benchmarks", "exams", "--measure", str(path)),
        *("--size", str(args.size), "--repeats", str(args.repeats)),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().rsplit("\n", 1)[-1])


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds of the whole way, of reading alone and of storing alone."""
    measure.limit_cores(1)
    cv2.setNumThreads(1)
    from ffa_sora_jax.video import cleaning, reading
    from tfds_ffa.curation import ledger, process

    exam = process.ExamTask("0" * 16, args.measure)
    options = process.Options(cleaning=cleaning.CleaningConfig(size=args.size))
    outcome = process.process_exam(exam, options)
    if outcome.status != "kept":
        raise RuntimeError(f"The exam of the benchmark is {outcome.status}: {outcome.reason}.")

    def read() -> None:
        with reading.open_exam(args.measure) as reader:
            for _ in reader:
                pass

    with tempfile.TemporaryDirectory(prefix="bench-ledger-") as scratch:
        book = ledger.Ledger(Path(scratch))
        return {
            "cpu_s": _best(lambda: process.process_exam(exam, options), args.repeats)
            + (storing := _best(lambda: book.write(outcome, "0" * 16), args.repeats)),
            "reading_s": _best(read, args.repeats),
            "storing_s": storing,
            "peak_mib": measure.peak_mib(),
        }


def _best(call: Callable[[], Any], repeats: int) -> float:
    """Fewest processor seconds of a call, summed over threads."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


# --- Exams ---


def _clip(count: int, size: int) -> np.ndarray:
    """(count, size, size) frames of a clinic's exam, from the early venous phase on."""
    for index in itertools.count():
        times_s = phantom.generate(SEED, index, size=32, schedule="raw").times_s
        first = int(np.searchsorted(times_s, 3.0))
        if len(times_s) - first >= count:
            video = phantom.generate(SEED, index, size=size, schedule="raw").video
            return video[first : first + count]
    raise AssertionError("count() ended")


def _write_png(folder: Path, clip: np.ndarray) -> Path:
    path = folder / "png"
    path.mkdir()
    for number, frame in enumerate(clip):
        cv2.imwrite(str(path / f"{number:04d}.png"), frame)
    return path


def _write_mp4(folder: Path, clip: np.ndarray) -> Path:
    import av

    path = folder / "exam.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"crf": "16"})
        stream.height, stream.width = clip.shape[1:]
        stream.pix_fmt = "yuv420p"
        for picture in clip:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _write_dicom(folder: Path, clip: np.ndarray) -> Path:
    from pydicom import uid
    from pydicom.dataset import Dataset, FileMetaDataset

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.SOPClassUID = uid.OphthalmicPhotography8BitImageStorage
    ds.SOPInstanceUID = "2.25.1"
    ds.Modality, ds.PhotometricInterpretation, ds.SamplesPerPixel = "OP", "MONOCHROME2", 1
    ds.NumberOfFrames, ds.Rows, ds.Columns = clip.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.FrameTime, ds.FrameIncrementPointer = 1000 / RATE, 0x00181063
    ds.PixelData = clip.tobytes()
    ds["PixelData"].VR = "OB"
    path = folder / "exam.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


FORMATS = {"PNG folder": _write_png, "MP4 H.264": _write_mp4, "DICOM": _write_dicom}


def _mib(path: Path) -> float:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 2**20


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks exams", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--source-px", type=int, default=768)
    parser.add_argument("--size", type=int, default=512, help="of the finished clip")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--quick", action="store_true", help="tiny exams, to try this program")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.quick:
        args.frames, args.source_px, args.size, args.repeats = 8, 96, 64, 1
    return args
