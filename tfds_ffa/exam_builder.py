"""What the builders of real exams share: features, shards, and examples out of the ledger.

The builders write what `ffa-sora prepare` has curated; a `Plan` carries that from the verb to the
builder. Shards are independent functions, which TFDS runs one after another, or on Apache Beam
when it is given a runner; the bytes are the same.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer

from tfds_ffa.curation.ledger import KEPT, Ledger, Outcome
from tfds_ffa.curation.process import ExamTask, Options, process_exam
from tfds_ffa.writing import SHARD_BYTES, StableWriter

SIZES = (64, 128, 256, 512, 768)
NUM_FRAMES = 21
SPLITS = ("train", "validation", "test", "unseen")
EYES = ("right", "left", "unknown")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One kept exam on its way into a record.

    Attributes:
      task: the exam, to process it again should its file in the ledger be damaged.
      digest: of what decided its clip.
      texts: the features that are text, and `eye`.
    """

    task: ExamTask
    digest: str
    texts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a dataset will hold.

    Attributes:
      splits: entries of every split, in their order.
      staging: folder of the ledger.
      options: what decided the clips.
      metadata: stored with the dataset; tells one build from another.
    """

    splits: Mapping[str, Sequence[Entry]]
    staging: Path
    options: Options
    metadata: Mapping[str, Any]


@dataclasses.dataclass(kw_only=True)
class ExamConfig(tfds.core.BuilderConfig):
    """Clips of `num_frames` frames of `size` x `size` px."""

    size: int = 512
    num_frames: int = NUM_FRAMES


def config(name: str) -> ExamConfig:
    """The configuration called "512" (21 frames), or "512_f25" for another number of frames.

    Raises:
      ValueError: no such size, or frames that are not 4 k + 1 (the VAE needs that).
    """
    match = re.fullmatch(r"(\d+)(?:_f(\d+))?", name)
    size, frames = (int(match[1]), int(match[2] or NUM_FRAMES)) if match else (0, 0)
    if size not in SIZES or frames < 5 or frames % 4 != 1:
        raise ValueError(
            f"There is no configuration {name!r}; allowed are {', '.join(map(str, SIZES))} for "
            f"{NUM_FRAMES} frames, and names such as 512_f25 for other lengths of 4 k + 1 frames."
        )
    return ExamConfig(
        name=name,
        description=f"{frames} frames of {size} x {size} px",
        size=size,
        num_frames=frames,
    )


def features(size: int, num_frames: int) -> dict[str, Any]:
    """The features of a clip; the first eight are those of the phantom dataset."""
    frames = (num_frames,)
    text = tfds.features.Text
    return {
        # Without an encoding TFDS would store every pixel as a 64-bit integer.
        "video": tfds.features.Tensor(
            shape=(*frames, size, size, 1), dtype=np.uint8, encoding="zlib"
        ),
        # Seconds from injection or from the first frame; frame numbers where times are unknown.
        "times_s": tfds.features.Tensor(shape=frames, dtype=np.float32),
        "frame_mask": tfds.features.Tensor(shape=frames, dtype=np.bool_),
        "report": text(),
        "exam_id": text(),
        "patient_id": text(),
        "eye": tfds.features.ClassLabel(names=list(EYES)),
        "disease": text(),
        "findings": text(),
        "language": text(),
        "report_zh": text(),
        "is_original": tfds.features.Tensor(shape=frames, dtype=np.bool_),
        "vessel_ratio": tfds.features.Tensor(shape=frames, dtype=np.float32),
        "times_known": np.bool_,
    }


class ExamBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes the exams of a plan."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 (the form TFDS asks for)
    BUILDER_CONFIGS = [config(str(size)) for size in SIZES]  # noqa: RUF012

    def __init__(self, *, plan: Plan | None = None, **kwargs: Any):
        """Plain TFDS arguments, and the plan made by `ffa-sora prepare`."""
        self._plan = plan
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        metadata = dict(self._plan.metadata) if self._plan else {}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                features(self.builder_config.size, self.builder_config.num_frames)
            ),
            supervised_keys=("report", "video"),
            metadata=tfds.core.MetadataDict(metadata),
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Sequence[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
        if self._plan is None:
            raise ValueError(
                f"{self.name} is made from your own files. Run: ffa-sora prepare --dataset "
                f"{self.name}/{self.builder_config.name} --exams FOLDER --table FILE "
                "--salt-file FILE; see docs/curation.md."
            )
        cfg = self.builder_config
        step = max(1, SHARD_BYTES // (cfg.num_frames * cfg.size**2))
        return {
            split: [
                functools.partial(
                    examples, self._plan.staging, self._plan.options, entries[at : at + step], at
                )
                for at in range(0, len(entries), step)
            ]
            for split, entries in self._plan.splits.items()
        }

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        """On Beam, one split after another: TFDS would run the splits before it again with each."""
        if download_config is None or download_config.beam_runner is None or self._plan is None:
            return super()._download_and_prepare(dl_manager, download_config)
        whole, done = self._plan, []
        for split, entries in whole.splits.items():
            self._plan = dataclasses.replace(whole, splits={split: entries})
            super()._download_and_prepare(dl_manager, download_config)
            done += self.info.splits.values()
        self._plan = whole
        self.info.set_splits(tfds.core.SplitDict(done))
        for left_over in Path(self.data_dir).glob("*.shard_infos.json"):
            left_over.unlink()

    def _example_writer(self) -> writer.ExampleWriter:
        return StableWriter(file_format=self.info.file_format)

    def _generate_examples(self, entries: Sequence[Entry]) -> Iterator[Any]:
        raise NotImplementedError  # shards are functions, see `examples`


def load(staging: Path, options: Options, task: ExamTask, digest: str) -> Outcome:
    """The outcome of a kept exam with its arrays; processed again if its file was damaged.

    Raises:
      ValueError: the exam was changed since it was processed, and cannot be kept any more.
    """
    outcome = Ledger(staging).read(task.key, digest) or process_exam(task, options)
    if outcome.status != KEPT:
        raise ValueError(
            "The files of an exam changed while the dataset was written. Run the same command "
            "again."
        )
    return outcome


def examples(
    staging: Path, options: Options, entries: Sequence[Entry], start: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The (number, example) pairs of one shard; `start` is the number of its first example."""
    for number, entry in enumerate(entries, start):
        outcome = load(staging, options, entry.task, entry.digest)
        video = outcome.arrays["video"][..., None]
        yield (
            number,
            {
                "video": video,
                "times_s": outcome.arrays["times_s"],
                "frame_mask": np.ones(len(video), bool),
                "is_original": outcome.arrays["is_original"],
                "vessel_ratio": outcome.arrays["vessel_ratio"],
                "times_known": outcome.facts["times_known"],
                "findings": "[]",
                **entry.texts,
            },
        )
