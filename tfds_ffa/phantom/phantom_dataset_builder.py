"""TFDS builder of the phantom dataset. Writes ArrayRecord, needs no TensorFlow.

ffa-sora prepare --dataset phantom/64 --data-dir data      # parallel, can be resumed
builder = tfds.builder_from_directory("data/phantom/64/1.0.0")
source = builder.as_data_source(split="train")             # source[0]["video"]
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer

from tfds_ffa.phantom import exams
from tfds_ffa.writing import SHARD_BYTES, StableWriter

SIZES = (64, 128, 256, 512)
SCHEDULES = ("paper", "full")


@dataclasses.dataclass(kw_only=True)
class PhantomConfig(tfds.core.BuilderConfig):
    """One phantom dataset: `size` pixels, frame times by `schedule`, `num_exams` by default."""

    size: int = 64
    schedule: str = "paper"
    num_exams: int = 2000
    seed: int = 0


def _config(size: int, schedule: str) -> PhantomConfig:
    return PhantomConfig(
        name=f"{size}" if schedule == "paper" else f"{size}_{schedule}",
        description=f"21 frames of {size} x {size} px, schedule {schedule!r}",
        size=size,
        schedule=schedule,
    )


class Builder(tfds.core.ShardBasedBuilder):
    """Phantom exams in the order of their index, split 80/10/10 by patient."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 (the form TFDS asks for)
    BUILDER_CONFIGS = [_config(size, name) for name in SCHEDULES for size in SIZES]  # noqa: RUF012

    def __init__(
        self,
        *,
        num_exams: int | None = None,
        seed: int | None = None,
        chunk_dir: Path | None = None,
        **kwargs: Any,
    ):
        """Plain TFDS arguments, and what to render.

        Args:
          num_exams: number of clips, instead of the configuration's.
          seed: world seed, instead of the configuration's.
          chunk_dir: folder in which `prepare` left rendered exams; what is missing there is
            rendered while the builder runs.
          **kwargs: `config`, `data_dir`, `version`, as for any TFDS builder.
        """
        self._num_exams, self._seed, self._chunk_dir = num_exams, seed, chunk_dir
        super().__init__(**kwargs)

    @property
    def recipe(self) -> exams.Recipe:
        """What this builder renders."""
        config = self.builder_config
        return exams.Recipe(
            size=config.size,
            schedule=config.schedule,
            seed=config.seed if self._seed is None else self._seed,
            num_exams=config.num_exams if self._num_exams is None else self._num_exams,
        )

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.size
        frames = (exams.NUM_FRAMES,)
        features = {
            # Without an encoding TFDS would store every pixel as a 64-bit integer.
            "video": tfds.features.Tensor(
                shape=(*frames, size, size, 1), dtype=np.uint8, encoding="zlib"
            ),
            "times_s": tfds.features.Tensor(shape=frames, dtype=np.float32),
            "frame_mask": tfds.features.Tensor(shape=frames, dtype=np.bool_),
            "report": tfds.features.Text(),
            "exam_id": tfds.features.Text(),
            "patient_id": tfds.features.Text(),
            "eye": tfds.features.ClassLabel(names=["right", "left"]),
            "disease": tfds.features.Text(),
            # Ground truth. JSON of the findings; a pixel of `lesions` holds the "label" of one.
            "findings": tfds.features.Text(),
            "lesions": tfds.features.Tensor(shape=(size, size), dtype=np.uint8, encoding="zlib"),
            # Share of each pixel covered by arteries and by veins, times 255.
            "vessels": tfds.features.Tensor(shape=(size, size, 2), dtype=np.uint8, encoding="zlib"),
            # Disc x, y, radius, fovea x, y, radius of the avascular zone.
            "landmarks_px": tfds.features.Tensor(shape=(6,), dtype=np.float32),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("report", "video"),
            metadata=tfds.core.MetadataDict(
                dataclasses.asdict(self.recipe), renderer=exams.renderer_fingerprint()
            ),
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Sequence[Callable[[], Iterator[tuple[int, exams.Example]]]]]:
        clip_bytes = exams.NUM_FRAMES * self.builder_config.size**2
        step = max(1, SHARD_BYTES // (clip_bytes * exams.CHUNK_EXAMS))
        shards: dict[str, Sequence[Callable[[], Iterator[tuple[int, exams.Example]]]]] = {}
        for split in exams.SPLITS:
            chunks = self.recipe.chunks(split)
            shards[split] = [
                functools.partial(self._generate_examples, chunks[at : at + step])
                for at in range(0, len(chunks), step)
            ]
        return shards

    def _example_writer(self) -> writer.ExampleWriter:
        return StableWriter(file_format=self.info.file_format)

    def _generate_examples(
        self, chunks: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, exams.Example]]:
        for chunk in chunks:
            rendered = exams.read_chunk(self._chunk_dir, self.recipe, chunk)
            yield from zip(chunk, rendered, strict=True)
