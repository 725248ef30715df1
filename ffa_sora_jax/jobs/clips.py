"""Clips that a job compares: outputs of `ffa-sora sample`, folders of videos, prepared datasets.

    folder with manifest.jsonl, or the manifest itself   the finished videos of `ffa-sora sample`
    folder of videos, or of folders of PNG frames        by name; ID.json beside ID.mp4, if there,
                                                         may say report, patient and times_s
    dataset such as phantom/64, or its folder            one split of it

Videos that `ffa-sora sample` enlarged for viewing are brought back to the pixels of the model.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ffa_sora_jax.common import files
from ffa_sora_jax.data import prepared
from ffa_sora_jax.jobs import inspect
from ffa_sora_jax.jobs.manifest import is_whole, read_records
from ffa_sora_jax.video import images, io
from ffa_sora_jax.video.standardize import standardize, standardize_times

ANIMATIONS = ("gif", "webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".webp")


@dataclasses.dataclass(frozen=True)
class ClipItem:
    """One clip, decoded when asked for.

    Attributes:
      name: unique in its set.
      digest: hash that changes with the clip.
      read: gives (t, h, w, 1) uint8, the luma of colour clips.
      report: text that belongs to it, or None.
      patient: salted id, or None where unknown.
      times_s: (t,) seconds, or None.
      facts: what the file beside it says, such as seed and settings.
    """

    name: str
    digest: str
    read: Callable[[], np.ndarray]
    report: str | None = None
    patient: str | None = None
    times_s: np.ndarray | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """Clips in the order of their names (datasets: of the split).

    Attributes:
      items: the clips.
      where: folder, or dataset and split, for reports.
      synthetic: whether none shows a patient.
      failed: reasons by name of clips that a manifest lists and that are not there, or whose facts
        cannot be read.
    """

    items: tuple[ClipItem, ...]
    where: str
    synthetic: bool
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Differs if any clip differs."""
        lines = sorted(f"{item.name} {item.digest}" for item in self.items)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def open_clips(
    given: str | Path, *, option: str, split: str = "test", data_dir: Path = Path("data")
) -> ClipSet:
    """The clips that a user named.

    Args:
      given: folder, manifest, or dataset.
      option: how messages call it, such as "--generated".
      split: of a dataset.
      data_dir: where datasets lie.

    Raises:
      FileNotFoundError: neither a folder nor a dataset.
      ValueError: nothing in it that can be compared.
    """
    path = Path(given)
    if path.is_file():
        if path.suffix != ".jsonl":
            raise ValueError(f"{option} {path} is a file; give a folder, a manifest or a dataset.")
        return _of_manifest(path.parent, option)
    if path.is_dir() and not (path / "dataset_info.json").exists():
        if list(path.glob("manifest*.jsonl")):
            return _of_manifest(path, option)
        if videos := _videos(path):
            items, failed = _items(videos)
            return ClipSet(items, str(path), _all_synthetic(items), failed)
    try:
        folder = inspect.find(str(given), data_dir)
    except FileNotFoundError as error:
        if path.is_dir():
            text = f"{option} {given} has no videos, and no dataset is in it."
            raise FileNotFoundError(text) from error
        raise FileNotFoundError(
            f"{option} {given} is no folder, and no dataset: {error}"
        ) from error
    return _of_dataset(folder, split)


def single(path: Path) -> ClipItem | None:
    """The clip of one video file, or of a folder that holds PNG frames and no video, else None."""
    if path.is_file():
        return _item(path.stem, path) if path.suffix != ".jsonl" else None
    if _is_frames(path) and not any(map(_is_video, path.iterdir())):
        return _item(path.name, path)
    return None


def conform(
    item: ClipItem, num_frames: int, size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """A clip as metrics compare it.

    Args:
      item: the clip.
      num_frames: frames wanted; others are brought to it by the rule of the paper, see
        `video.standardize`.
      size: (h, w) wanted, or None for its own.

    Returns:
      Video (num_frames, h, w, c) uint8 and times (num_frames,) float32, or None where unknown.

    Raises:
      ValueError: it cannot be read.
    """
    video = item.read()
    times = item.times_s
    if times is not None and len(times) != len(video):
        times = None
    if len(video) != num_frames:
        times = None if times is None else standardize_times(times, num_frames)
        video = standardize(video, num_frames)[0]
    if size is not None and video.shape[1:3] != size:
        video = resize(video, size)
    return np.ascontiguousarray(video), times


def resize(video: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(t, h, w, c) uint8 at another (h, w): area average when it shrinks, else bicubic."""
    shrinks = size[0] <= video.shape[1] and size[1] <= video.shape[2]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    frames = [cv2.resize(frame, size[::-1], interpolation=how) for frame in video]
    return np.stack(frames).reshape(len(video), *size, video.shape[3])


# --- Folders ---


def _of_manifest(folder: Path, option: str) -> ClipSet:
    videos: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for name, record in sorted(read_records(folder).items()):
        if record["status"] != "ok":
            failed[name] = f"was not generated: {record.get('reason', 'no reason given')}"
        elif not is_whole(folder, record):
            failed[name] = "a file is missing or differs from the manifest; sample it again"
        else:
            for output in filter(_is_video, (folder / name for name in record["outputs"])):
                videos[name] = output
    if not videos:
        raise ValueError(f"{option} {folder}: its manifest lists no finished video that is there.")
    items, unread = _items(videos)
    return ClipSet(items, str(folder), _all_synthetic(items), failed | unread)


def _videos(folder: Path) -> dict[str, Path]:
    """Videos and folders of PNG frames by name.

    Raises:
      ValueError: two have the same name but for the ending.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (_is_video(path) or _is_frames(path)):
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise ValueError(f"{found[name].name} and {path.name} in {folder} have one name.")
        found[name] = path
    return found


def _is_video(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() in (".json", ".jsonl", ".png", ".csv"):
        return False
    if not path.stat().st_size:  # cut short: named among what cannot be read, others go on
        return path.suffix.lower() in VIDEO_SUFFIXES
    return images.sniff(path) in (*images.VIDEOS, *ANIMATIONS)


def _is_frames(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.png"))


def _items(videos: Mapping[str, Path]) -> tuple[tuple[ClipItem, ...], dict[str, str]]:
    """The clips, and the reasons by name of those whose facts cannot be read.

    Raises:
      ValueError: none can be read.
    """
    items, failed = [], {}
    for name, path in sorted(videos.items()):
        try:
            items.append(_item(name, path))
        except ValueError as error:
            failed[name] = str(error)
    if not items:
        raise ValueError(next(iter(failed.values())))
    return tuple(items), failed


def _item(name: str, path: Path) -> ClipItem:
    beside = path.with_name(f"{name}.json")
    facts = _facts(beside) if beside.is_file() else {}
    times = facts.get("times_s")
    return ClipItem(
        name, _digest(path, facts), functools.partial(_read, path, facts),
        report=facts.get("report"), patient=facts.get("patient"),
        times_s=None if times is None else np.asarray(times, np.float32), facts=facts,
    )  # fmt: skip


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); correct it or take it away.") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path} holds no JSON object; correct it or take it away.")
    for key in ("report", "patient"):
        if not isinstance(facts.get(key), str | None):
            raise ValueError(f"{path}: {key} is {facts[key]!r}; expected a text.")
    if not _are_seconds(facts.get("times_s")):
        raise ValueError(f"{path}: times_s is {facts['times_s']!r}; expected a list of seconds.")
    return facts


def _are_seconds(times: Any) -> bool:
    numbers = times if isinstance(times, list) else [None]
    return times is None or all(
        isinstance(t, int | float) and not isinstance(t, bool) and math.isfinite(t) for t in numbers
    )


def _read(path: Path, facts: Mapping[str, Any]) -> np.ndarray:
    video = io.load_video(path)[0][..., None]  # (t, h, w, 1)
    height, width = facts.get("height"), facts.get("width")
    if isinstance(height, int) and isinstance(width, int) and facts.get("synthetic"):
        if (height, width) != video.shape[1:3]:
            video = resize(video, (height, width))
    return video


def _digest(path: Path, facts: Mapping[str, Any]) -> str:
    """Changes with the bytes, and with what the file beside them says of size and times."""
    parts = [path] if path.is_file() else sorted(path.glob("*.png"))
    lines = [f"{part.name if path.is_dir() else ''} {files.sha256(part)}" for part in parts]
    lines.append(json.dumps([facts.get(key) for key in ("height", "width", "times_s")]))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _all_synthetic(items: Sequence[ClipItem]) -> bool:
    return all(item.facts.get("synthetic") is True for item in items)


# --- Datasets ---


def _of_dataset(folder: Path, split: str) -> ClipSet:
    opened, examples = prepared.read_split(folder, split), prepared.Examples(folder, split)
    version = prepared.content_fingerprint(folder)
    items = []
    for index in range(len(opened)):
        info = examples[index]
        content = f"{version}/{split}/{index}/{info.exam_id}"
        items.append(
            ClipItem(
                info.exam_id, hashlib.sha256(content.encode()).hexdigest(),
                functools.partial(_read_record, opened, index), report=info.report or None,
                patient=info.patient_id, times_s=info.times_s if info.times_known else None,
                facts={"findings": info.findings, "eye": info.eye, "disease": info.disease},
            )
        )  # fmt: skip
    return ClipSet(tuple(items), opened.where, opened.synthetic)


def _read_record(split: prepared.Split, index: int) -> np.ndarray:
    video = np.asarray(split.read([index])[0]["video"])  # (t, h, w, 1 or 3)
    if video.shape[-1] == 3:
        return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video])[..., None]
    return video
