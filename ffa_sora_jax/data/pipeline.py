"""From a prepared TFDS folder to batches: TFDS/ArrayRecord -> Grain -> `Clip`.

The batch of a step is a pure function of (seed, step): nothing has to be replayed to resume, and
nothing depends on the number of processes. Global position `step * batch_size + j` is split into
(epoch, offset); every epoch visits every example once, in an order drawn from (seed, epoch).
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common import names, sections
from ffa_sora_jax.common.types import Clip, Text
from ffa_sora_jax.data import transforms
from ffa_sora_jax.data.latents import LatentCache
from ffa_sora_jax.data.text_cache import TextCache

EYES = ("right", "left")
_ORDER, _FLIP = 0, 1  # streams of random numbers
_LAST_STEP = 2**31


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """`config.data`. Empty strings and None both mean "not used".

    Attributes:
      name: dataset and configuration, such as "phantom/64".
      data_dir: folder given to `ffa-sora prepare --data-dir`.
      split: split to train on.
      eval_split: split to evaluate on.
      res: pixels per side; must be those of the dataset.
      num_frames: frames per clip; fewer than stored are spread evenly over the clip.
      channels: 1, or 3 to repeat the grey picture for a VAE made for colour.
      flip: mirror half of the training clips, and swap the sides in their reports.
      text_length: tokens per report, padded.
      truncate: cut longer reports; otherwise they are an error.
      tokenizer: folder or file of a tokenizer; None is the one that ships with the package.
      latents: folder made by `ffa-sora prepare latents`; its moments replace the training video.
      text_embeddings: folder made by `ffa-sora prepare text`.
      threads: reader threads.
      prefetch: batches read ahead.
    """

    name: str = "phantom/64"
    data_dir: str = "data"
    split: str = "train"
    eval_split: str = "validation"
    res: int = 64
    num_frames: int = 21
    channels: int = 1
    flip: bool = True
    text_length: int = 256
    truncate: bool = False
    tokenizer: str | None = None
    latents: str | None = None
    text_embeddings: str | None = None
    threads: int = 2
    prefetch: int = 4

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> "DataConfig":
        """Reads a config section; an unknown key is an error that names near matches."""
        return sections.read(cls, section, "data")


@dataclasses.dataclass(frozen=True)
class ExampleInfo:
    """What is known of one clip besides its pixels."""

    exam_id: str
    patient_id: str
    report: str
    eye: str
    disease: str
    times_s: np.ndarray  # (t,) float32
    findings: list[dict[str, Any]]


def make_source(
    config: Mapping[str, Any],
    split: str,
    batch_size: int,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    shuffle: bool | None = None,
    with_video: bool | None = None,
) -> "ClipSource":
    """Opens one split of a prepared dataset.

    Args:
      config: `config.data`, see `DataConfig`.
      split: "train", "validation", "test", or a TFDS slice of one such as "train[:100]".
      batch_size: clips per step over all processes.
      seed: fixes order and flips.
      process_index: this process; it gets its share of every batch.
      process_count: number of processes, a divisor of `batch_size`.
      shuffle: reshuffle every epoch and flip; default: only for splits of "train".
      with_video: read pixels; default: unless cached latents replace them in training.

    Raises:
      FileNotFoundError: the dataset is not prepared.
      ValueError: an option that does not fit the dataset.
    """
    cfg = DataConfig.read(config)
    shuffle = split.startswith("train") if shuffle is None else shuffle
    with_video = not (cfg.latents and shuffle) if with_video is None else with_video
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size is {batch_size}; it must be a positive multiple of the "
            f"{process_count} processes."
        )
    return ClipSource(
        cfg, split, batch_size, seed, (process_index, process_count), shuffle, with_video
    )


class ClipSource:
    """Batches of one split; see `make_source`.

    Attributes:
      num_examples: clips in the split.
      num_batches: whole batches in the split.
      batch_size: clips per step over all processes.
      examples: `examples[i]` is the `ExampleInfo` of clip i, in the order of unshuffled batches.
      latents: the opened cache of latents, or None.
    """

    def __init__(
        self, cfg: DataConfig, split: str, batch_size: int, seed: int,
        process: tuple[int, int], shuffle: bool, with_video: bool,
    ):  # fmt: skip
        self.cfg, self.split, self.batch_size, self.seed = cfg, split, batch_size, seed
        self._process, self._shuffle, self._with_video = process, shuffle, with_video
        folder = dataset_folder(cfg.data_dir, cfg.name)
        num_stored, res = read_split(folder, split).video_shape[:2]
        if res != cfg.res:
            raise ValueError(f"{folder} has {res} px, data.res is {cfg.res}. Make them equal.")
        if cfg.channels not in (1, 3):
            raise ValueError(f"data.channels is {cfg.channels}; it must be 1 or 3.")
        self._frames = transforms.pick_frames(num_stored, cfg.num_frames)
        self._records = read_split(folder, split, skip_video=not with_video).records
        self.num_examples = len(self._records)
        self.num_batches = self.num_examples // batch_size
        self.examples: Sequence[ExampleInfo] = Examples(folder, split)
        self.latents = LatentCache.open(Path(cfg.latents)) if cfg.latents else None
        self._text_cache = (
            TextCache.open(Path(cfg.text_embeddings)) if cfg.text_embeddings else None
        )
        self._check_caches(num_stored)

    def indices(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Which examples the whole (global) batch of a step holds.

        Returns:
          Example indices (batch_size,) int64, and whether each one is mirrored, (batch_size,) bool.
        """
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, offsets = np.divmod(position, self.num_examples)
        if not self._shuffle:
            return offsets, np.zeros(self.batch_size, bool)
        index, mirrored = np.empty_like(offsets), np.zeros(self.batch_size, bool)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            order, flips = _epoch(self.seed, int(epoch), self.num_examples)
            index[here] = order[offsets[here]]
            mirrored[here] = flips[index[here]] & self.cfg.flip
        return index, mirrored

    def batch(self, step: int) -> Clip:
        """This process's part of the batch of `step`, as numpy arrays.

        Unshuffled sources wrap around at their end: take `num_batches` steps to see no clip twice.
        """
        index, mirrored = self.indices(step)
        part, parts = self._process
        size = self.batch_size // parts
        here = slice(part * size, (part + 1) * size)
        return self._load(index[here], mirrored[here])

    def iterate(self, start_step: int = 0) -> Iterator[Clip]:
        """Batches from `start_step` on without end, read ahead by Grain's threads."""
        import grain

        dataset = grain.MapDataset.range(start_step, _LAST_STEP).map(self.batch)
        options = grain.ReadOptions(
            num_threads=self.cfg.threads, prefetch_buffer_size=self.cfg.prefetch
        )
        return iter(dataset.to_iter_dataset(options))

    def _load(self, index: np.ndarray, mirrored: np.ndarray) -> Clip:
        records = self._records.__getitems__([int(i) for i in index])
        reports = [record["report"].decode() for record in records]
        reports = [
            transforms.swap_sides(report) if flip else report
            for report, flip in zip(reports, mirrored, strict=True)
        ]
        return Clip(
            video=self._video(records, mirrored) if self._with_video else None,
            frame_mask=np.stack([record["frame_mask"][self._frames] for record in records]),
            text=self._text(reports),
            latent=self._latent(index, mirrored),
            exam=np.array([exam_hash(record["exam_id"].decode()) for record in records], np.int64),
        )

    def _video(self, records: Sequence[Mapping[str, Any]], mirrored: np.ndarray) -> np.ndarray:
        clips = [record["video"][self._frames] for record in records]
        video = np.stack(
            [
                transforms.flip_horizontal(clip) if flip else clip
                for clip, flip in zip(clips, mirrored, strict=True)
            ]
        )  # (b, t, h, w, 1) uint8
        return np.repeat(video, self.cfg.channels, axis=-1)

    def _text(self, reports: Sequence[str]) -> Text:
        if self._text_cache is not None:
            return Text(*self._text_cache.read(reports))
        ids, mask = self._tokenizer.encode(
            reports, self.cfg.text_length, truncate=self.cfg.truncate
        )
        return Text(ids=ids, mask=mask)

    def _latent(self, index: np.ndarray, mirrored: np.ndarray) -> np.ndarray | None:
        if self.latents is None:
            return None
        return self.latents.read(self.split, index, mirrored)  # (b, t', h', w', 2 l)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from ffa_sora_jax.data.tokenizer import Tokenizer

        return Tokenizer.load(self.cfg.tokenizer or None)

    def _check_caches(self, num_stored: int) -> None:
        if self.latents is not None:
            if self.cfg.num_frames != num_stored:
                raise ValueError(
                    f"data.num_frames is {self.cfg.num_frames}, but cached latents are of whole "
                    f"clips. Leave it at {num_stored}, or data.latents empty."
                )
            self.latents.check(
                self.cfg.name, self.split, self.num_examples,
                mirrored=self._shuffle and self.cfg.flip,
            )  # fmt: skip
        if self._text_cache is not None and self._text_cache.length != self.cfg.text_length:
            raise ValueError(
                f"{self.cfg.text_embeddings} holds {self._text_cache.length} tokens per report; "
                f"data.text_length is {self.cfg.text_length}. Make them equal."
            )


class Examples(Sequence[ExampleInfo]):
    """The reports and ids of one split, read when asked for, without decoding pixels."""

    def __init__(self, folder: Path, split: str):
        self._records = read_split(folder, split, skip_video=True).records

    def __len__(self) -> int:
        """Clips in the split."""
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        """The `ExampleInfo` of one clip, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        record = self._records[index % len(self)]
        return ExampleInfo(
            exam_id=record["exam_id"].decode(),
            patient_id=record["patient_id"].decode(),
            report=record["report"].decode(),
            eye=EYES[int(record["eye"])],
            disease=record["disease"].decode(),
            times_s=record["times_s"],
            findings=json.loads(record["findings"]),
        )


# --- Prepared folders ---


@dataclasses.dataclass(frozen=True)
class Split:
    """One opened split: `records[i]` is a dict of features; `video_shape` is (t, h, w, c)."""

    records: Any
    video_shape: tuple[int, ...]


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
            f"No finished dataset in {folder}. Datasets in {data_dir}: {', '.join(others) or 'none'}"
            f". Make it with: ffa-sora prepare --dataset {name} --data-dir {data_dir}"
        )
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")])


def read_split(folder: Path, split: str, *, skip_video: bool = False) -> Split:
    """Opens a split of a prepared folder with plain TFDS.

    Args:
      folder: versioned dataset folder.
      split: split name, or a TFDS slice of one.
      skip_video: leave `record["video"]` as the compressed bytes, which is fast.

    Raises:
      ValueError: no such split, or an empty one.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    base = split.split("[")[0]
    if base not in builder.info.splits:
        raise ValueError(names.unknown_name(f"split of {folder}", base, builder.info.splits))
    decoders = {"video": tfds.decode.SkipDecoding()} if skip_video else None
    records = builder.as_data_source(split=split, decoders=decoders)
    if not len(records):
        raise ValueError(f"Split {split!r} of {folder} is empty.")
    return Split(records, tuple(builder.info.features["video"].shape))


def exam_hash(exam_id: str) -> int:
    """A salted 63-bit hash of an exam id: tells exams apart, names nobody."""
    digest = hashlib.blake2b(exam_id.encode(), digest_size=8, salt=b"ffa-sora-exam").digest()
    return int.from_bytes(digest, "little") >> 1


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Order of the examples and which of them are mirrored, as functions of (seed, epoch)."""
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch, _ORDER]))
    flip = np.random.default_rng(np.random.SeedSequence([seed, epoch, _FLIP]))
    return order.permutation(num_examples), flip.random(num_examples) < 0.5
