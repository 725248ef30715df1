"""Where numbers and pictures of a run go: TensorBoard event files and `metrics.jsonl`.

The method names are those of clu's metric writers, which cannot be used here because they import
TensorFlow. Without TensorBoard installed the JSON lines are still written.
"""

import importlib
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from ffa_sora_jax.common import files

METRICS_FILE = "metrics.jsonl"
GIF_FRAME_MS = 250


class MetricWriter:
    """Writes one run; only process 0 makes one.

    Pictures also go to `<workdir>/pictures/<step>/`, and their paths to the JSON lines.

    A resumed run drops the lines behind the step from which it goes on, so that the file reads
    like that of an uninterrupted run.
    """

    def __init__(self, workdir: Path, *, start_step: int = 0):
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir = workdir
        path = workdir / METRICS_FILE
        _drop_after(path, start_step)
        self._lines = path.open("a", encoding="utf-8")
        self._events = _EventFile(workdir / "tensorboard", start_step) if _has_events() else None

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends one line with the step, the time and all scalars."""
        values = {name: float(value) for name, value in scalars.items()}
        self._write_line(step, values)
        if self._events:
            self._events.add(step, [dict(tag=k, simple_value=v) for k, v in values.items()])

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Stores (h, w, c) uint8 pictures, c = 1 or 3."""
        self._write_pictures(step, "png", {name: _png(image) for name, image in images.items()})

    def write_videos(self, step: int, videos: Mapping[str, np.ndarray]) -> None:
        """Stores (t, h, w, c) uint8 clips as GIFs, c = 1 or 3."""
        self._write_pictures(step, "gif", {name: _gif(video) for name, video in videos.items()})

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Stores texts, shown as Markdown."""
        if self._events:
            self._events.add_texts(step, texts)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Stores the resolved config as a table."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in hparams.items())
        self.write_texts(0, {"config": "| key | value |\n|---|---|\n" + rows})

    def flush(self) -> None:
        """Brings everything written so far to disk."""
        self._lines.flush()
        if self._events:
            self._events.flush()

    def close(self) -> None:
        """Flushes and closes all files."""
        self._lines.close()
        if self._events:
            self._events.close()

    def _write_line(self, step: int, values: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        self._lines.flush()

    def _write_pictures(
        self, step: int, suffix: str, encoded: Mapping[str, tuple[bytes, Any]]
    ) -> None:
        folder = self._workdir / "pictures" / f"{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / f"{name.replace('/', '_')}.{suffix}" for name in encoded}
        for name, (data, _) in encoded.items():
            paths[name].write_bytes(data)
        shown = {name: str(path.relative_to(self._workdir)) for name, path in paths.items()}
        self._write_line(step, {"pictures": shown})
        if self._events:
            self._events.add_pictures(step, encoded)


class NullWriter(MetricWriter):
    """The writer of all processes but the first: writes nothing."""

    def __init__(self) -> None:
        self._events = None

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Does nothing."""

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Does nothing."""

    def write_videos(self, step: int, videos: Mapping[str, np.ndarray]) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class _EventFile:
    """TensorBoard's own event file writer, which needs no TensorFlow."""

    def __init__(self, logdir: Path, start_step: int):
        files = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._proto = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._event = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._tensor = importlib.import_module("tensorboard.compat.proto.tensor_pb2")
        self._writer = files.EventFileWriter(str(logdir))
        if start_step:  # tells TensorBoard to forget what an interrupted run wrote behind it
            session = self._event.SessionLog(status=self._event.SessionLog.START)
            self._writer.add_event(
                self._event.Event(wall_time=time.time(), step=start_step + 1, session_log=session)
            )

    def add(self, step: int, values: list[dict[str, Any]]) -> None:
        summary = self._proto.Summary(value=[self._proto.Summary.Value(**v) for v in values])
        self._writer.add_event(self._event.Event(wall_time=time.time(), step=step, summary=summary))

    def add_texts(self, step: int, texts: Mapping[str, str]) -> None:
        plugin = self._proto.SummaryMetadata.PluginData(plugin_name="text")
        metadata = self._proto.SummaryMetadata(plugin_data=plugin)
        dtype = importlib.import_module("tensorboard.compat.proto.types_pb2").DT_STRING
        values = [
            dict(
                tag=f"{tag}/text_summary",
                metadata=metadata,
                tensor=self._tensor.TensorProto(dtype=dtype, string_val=[text.encode("utf-8")]),
            )
            for tag, text in texts.items()
        ]
        self.add(step, values)

    def add_pictures(self, step: int, encoded: Mapping[str, tuple[bytes, Any]]) -> None:
        values = []
        for tag, (data, (height, width, channels)) in encoded.items():
            image = self._proto.Summary.Image(
                height=height, width=width, colorspace=channels, encoded_image_string=data
            )
            values.append(dict(tag=tag, image=image))
        self.add(step, values)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """All lines of `metrics.jsonl`; a half-written last line is left out.

    Raises:
      FileNotFoundError: no metrics there.
    """
    path = workdir / METRICS_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"No {METRICS_FILE} in {workdir}: no training run has logged there."
        )
    return _read_lines(path)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for line in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue  # a killed run may leave half a line
    return lines


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [line for line in _read_lines(path) if line["step"] <= step]
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _has_events() -> bool:
    try:
        importlib.import_module("tensorboard.summary.writer.event_file_writer")
    except ImportError:
        logging.warning("tensorboard is not installed: only %s is written.", METRICS_FILE)
        return False
    return True


def _picture(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)


def _png(image: np.ndarray) -> tuple[bytes, Any]:
    buffer = io.BytesIO()
    _picture(image).save(buffer, format="PNG")
    return buffer.getvalue(), image.shape


def _gif(video: np.ndarray) -> tuple[bytes, Any]:
    buffer = io.BytesIO()
    first, *rest = [_picture(frame) for frame in video]
    first.save(
        buffer, format="GIF", save_all=True, append_images=rest, duration=GIF_FRAME_MS, loop=0
    )
    return buffer.getvalue(), video.shape[1:]
