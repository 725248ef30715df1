"""Prepared TFDS folders: which there are, their splits, and what is known of every clip.

Any dataset with the features `video` and `report` can be read; phantom, hospital_exams and ffa_ir
have more. What a dataset does not have is taken as follows:

    exam_id        dataset, split and number of the clip     language      "en"
    patient_id     the exam_id                               report_zh     "", no Chinese report
    eye            "unknown"                                 times_s       0, 1, 2, ...
    disease        "", unknown                               times_known   whether there is times_s
    findings       none                                      is_original   all frames
    frame_mask     all frames                                vessel_ratio  NaN, not measured
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common import names

UNKNOWN = "unknown"  # eye
LANGUAGES = ("en", "zh")
SYNTHETIC = ("phantom",)  # datasets that show no patient


@dataclasses.dataclass(frozen=True)
class ExampleInfo:
    """What is known of one clip besides its pixels; the defaults are in the header of this file.

    Attributes:
      exam_id: salted hash, or made up for a phantom.
      patient_id: the same for the patient.
      report: text in `language`.
      eye: "right", "left" or "unknown".
      disease: names separated by "; ", "normal", or "" where unknown.
      times_s: (t,) float32 seconds; frame numbers where `times_known` is False.
      findings: ground truth of phantoms, else usually empty.
      language: "en" or "zh".
      report_zh: the Chinese report beside an English one, or "".
      is_original: (t,) bool, False on interpolated or padded frames.
      vessel_ratio: (t,) float32 vessel-area ratio, NaN where not measured.
      times_known: whether `times_s` was measured.
      synthetic: whether the clip is made up; otherwise it is patient data.
    """

    exam_id: str
    patient_id: str
    report: str
    eye: str
    disease: str
    times_s: np.ndarray
    findings: list[dict[str, Any]]
    language: str
    report_zh: str
    is_original: np.ndarray
    vessel_ratio: np.ndarray
    times_known: bool
    synthetic: bool

    @property
    def reports(self) -> dict[str, str]:
        """The reports by language."""
        both = {self.language: self.report}
        return both | {"zh": self.report_zh} if self.report_zh else both


@dataclasses.dataclass(frozen=True)
class Split:
    """One opened split.

    Attributes:
      where: dataset, version and split, for messages and for exams without an id.
      records: `records[i]` is a dict of features.
      video_shape: (t, h, w, c).
      eyes: names of the labels of `eye`.
      compressed: whether `record["video"]` is left as compressed bytes.
      synthetic: whether the clips are made up; otherwise they are patient data.
    """

    where: str
    records: Any
    video_shape: tuple[int, ...]
    eyes: tuple[str, ...]
    compressed: bool
    synthetic: bool

    def __len__(self) -> int:
        """Clips in the split."""
        return len(self.records)

    def read(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The records of some clips."""
        return self.records.__getitems__([int(i) for i in indices])

    def info(self, record: Mapping[str, Any], index: int) -> ExampleInfo:
        """What a record says besides its pixels, defaults filled in."""
        frames = self.video_shape[0]
        exam_id = _text(record, "exam_id", f"{self.where}/{index}")
        return ExampleInfo(
            exam_id=exam_id,
            patient_id=_text(record, "patient_id", exam_id),
            report=_text(record, "report", ""),
            eye=self.eyes[int(record["eye"])] if "eye" in record else UNKNOWN,
            disease=_text(record, "disease", ""),
            times_s=record.get("times_s", np.arange(frames, dtype=np.float32)),
            findings=json.loads(_text(record, "findings", "[]") or "[]"),
            language=_text(record, "language", "en"),
            report_zh=_text(record, "report_zh", ""),
            is_original=_frames(record, "is_original", frames)
            & _frames(record, "frame_mask", frames),
            vessel_ratio=record.get("vessel_ratio", np.full(frames, np.nan, np.float32)),
            times_known=bool(record.get("times_known", "times_s" in record)),
            synthetic=self.synthetic,
        )


class Examples(Sequence[ExampleInfo]):
    """The reports and ids of one split, read when asked for, without decoding pixels."""

    def __init__(self, folder: Path, split: str):
        self._split = read_split(folder, split, skip_video=True)

    def __len__(self) -> int:
        """Clips in the split."""
        return len(self._split)

    def __getitem__(self, index: Any) -> Any:
        """The `ExampleInfo` of one clip, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        index %= len(self)
        return self._split.info(self._split.records[index], index)


def dataset_folder(data_dir: str | Path, name: str) -> Path:
    """The newest version of a prepared dataset.

    Raises:
      FileNotFoundError: there is none; the message tells how to make it.
    """
    folder = Path(data_dir) / name
    versions = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "dataset_info.json").exists()
    ]
    if not versions:
        others = sorted(
            path.parents[1].relative_to(data_dir).as_posix()
            for path in Path(data_dir).glob("*/*/*/dataset_info.json")
        )
        raise FileNotFoundError(
            f"No finished dataset in {folder}. Datasets in {data_dir}: "
            f"{', '.join(others) or 'none'}. Make it with: "
            f"ffa-sora prepare --dataset {name} --data-dir {data_dir}"
        )
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")])


def split_sizes(folder: Path) -> dict[str, int]:
    """Clips by split of a prepared folder; splits without clips are left out."""
    return {
        split["name"]: count
        for split in _description(folder)["splits"]
        if (count := sum(int(n) for n in split["shardLengths"]))
    }


def content_fingerprint(folder: Path) -> str:
    """Short hash that differs from one build of a dataset to another.

    Of version, clips per shard, bytes per split, and of the metadata, in which the builders of real
    exams keep a hash of all that went in.
    """
    found, metadata = _description(folder), folder / "metadata.json"
    splits = [
        (split["name"], [int(n) for n in split["shardLengths"]], int(split.get("numBytes", 0)))
        for split in found["splits"]
    ]
    made = json.loads(metadata.read_text("utf-8")) if metadata.exists() else {}
    text = json.dumps([found["version"], sorted(splits), made], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_split(folder: Path, split: str, *, skip_video: bool = False) -> Split:
    """Opens a split of a prepared folder with plain TFDS.

    Args:
      folder: versioned dataset folder.
      split: split name, or a TFDS slice of one.
      skip_video: leave `record["video"]` as the compressed bytes, which is fast.

    Raises:
      ValueError: no such split, an empty one, or features that are not those of clips.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    base, features = split.split("[")[0], builder.info.features
    if base not in builder.info.splits:
        raise ValueError(names.unknown_name(f"split of {folder}", base, builder.info.splits))
    shape = tuple(features["video"].shape) if "video" in features else ()
    if len(shape) != 4 or None in shape or "report" not in features:
        raise ValueError(
            f"{folder} is no dataset of clips: it needs a video of fixed size (t, h, w, c) and a "
            f"report; its features are {', '.join(sorted(features))}, its video is {shape}."
        )
    decoders = {"video": tfds.decode.SkipDecoding()} if skip_video else None
    records = builder.as_data_source(split=split, decoders=decoders)
    if not len(records):
        raise ValueError(f"Split {split!r} of {folder} is empty.")
    eyes = tuple(features["eye"].names) if "eye" in features else ()
    return Split(
        f"{builder.info.full_name}/{split}", records, shape, eyes, skip_video,
        synthetic=builder.info.name in SYNTHETIC,
    )  # fmt: skip


def exam_hash(exam_id: str) -> int:
    """A salted 63-bit hash of an exam id: tells exams apart, names nobody."""
    digest = hashlib.blake2b(exam_id.encode(), digest_size=8, salt=b"ffa-sora-exam").digest()
    return int.from_bytes(digest, "little") >> 1


def _description(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "dataset_info.json").read_text("utf-8"))


def _text(record: Mapping[str, Any], feature: str, default: str) -> str:
    return record[feature].decode() if feature in record else default


def _frames(record: Mapping[str, Any], feature: str, count: int) -> np.ndarray:
    return record[feature] if feature in record else np.ones(count, bool)
