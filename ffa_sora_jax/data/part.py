"""One dataset of a stream of clips: its order, its records, its cached latents."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.data import prepared, transforms
from ffa_sora_jax.data.config import DataConfig, choose
from ffa_sora_jax.data.latents import LatentCache
from ffa_sora_jax.data.prepared import ExampleInfo

_ORDER, _FLIP, _LANGUAGE = 0, 1, 2  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which clips a batch holds; all arrays are (b,).

    Attributes:
      part: number of the dataset.
      index: clip of the dataset.
      mirrored: bool, shown as the other eye.
      second: bool, with the report in the second language where there is one.
    """

    part: np.ndarray
    index: np.ndarray
    mirrored: np.ndarray
    second: np.ndarray

    def __getitem__(self, here: Any) -> "Rows":
        """Some of the rows."""
        return Rows(self.part[here], self.index[here], self.mirrored[here], self.second[here])


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Clips of one dataset: what a `Clip` holds, before words become numbers."""

    video: np.ndarray | None
    frame_mask: Any  # (b, t) bool
    reports: list[str]
    diseases: list[str]
    eyes: list[str]
    latent: np.ndarray | None
    exam: Any  # (b,) int64


def join(loaded: Sequence[Loaded], rows: Sequence[np.ndarray]) -> Loaded:
    """Clips of several datasets as one batch; `rows` tells which rows are whose."""
    back = np.argsort(np.concatenate(rows))

    def of(name: str) -> np.ndarray | None:
        arrays = [getattr(clips, name) for clips in loaded]
        return None if arrays[0] is None else np.concatenate(arrays)[back]

    def words(name: str) -> list[str]:
        given = [word for clips in loaded for word in getattr(clips, name)]
        return [given[i] for i in back]

    return Loaded(
        video=of("video"), frame_mask=of("frame_mask"), reports=words("reports"),
        diseases=words("diseases"), eyes=words("eyes"), latent=of("latent"), exam=of("exam"),
    )  # fmt: skip


class Part:
    """One split of one dataset.

    Attributes:
      name: dataset and configuration.
      where: dataset, version and split, for messages.
      num_examples: clips in the split.
      examples: what is known of each clip.
      latents: the cache of latents, or None.
    """

    def __init__(
        self, cfg: DataConfig, name: str, split: str, seeds: tuple[int, int], *,
        shuffle: bool, with_video: bool,
    ):  # fmt: skip
        """Opens the split; `seeds` are those of the run and of this dataset in the mixture."""
        self.name, self.split = name, split
        self._cfg, self._seeds, self._shuffle = cfg, seeds, shuffle
        folder = prepared.dataset_folder(cfg.data_dir, name)
        self._stored = prepared.read_split(folder, split, skip_video=not with_video)
        self._frames = _check_video(self._stored.video_shape, folder, cfg)
        self.where, self.num_examples = self._stored.where, len(self._stored)
        self.examples: Sequence[ExampleInfo] = prepared.Examples(folder, split)
        self.latents = self._open_latents(folder) if cfg.latents else None

    def draw(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The clips of some positions in this dataset's own stream.

        Args:
          number: (b,) int64 clips of this dataset that came before.

        Returns:
          Clips (b,) int64; whether each is mirrored, and in its second language, (b,) bool.
        """
        epochs, offsets = np.divmod(number, self.num_examples)
        if not self._shuffle:
            return offsets, np.zeros(len(number), bool), np.zeros(len(number), bool)
        index, mirrored, second = np.empty_like(offsets), *np.empty((2, len(number)), bool)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            order, flips, languages = _epoch(self._seeds, int(epoch), self.num_examples)
            index[here] = order[offsets[here]]
            mirrored[here] = flips[index[here]] & self._cfg.flip
            second[here] = languages[index[here]] & (self._cfg.language == "both")
        return index, mirrored, second

    def load(self, rows: Rows) -> Loaded:
        """Reads clips of this dataset."""
        records = self._stored.read(rows.index.tolist())
        infos = [
            self._stored.info(record, int(index))
            for record, index in zip(records, rows.index, strict=True)
        ]
        latent = None
        if self.latents is not None:
            latent = self.latents.read(self.split, rows.index, rows.mirrored)
        return Loaded(
            video=None if self._stored.compressed else self._video(records, rows.mirrored),
            frame_mask=np.stack([info.is_original[self._frames] for info in infos]),
            reports=[
                self._report(info, bool(flip), bool(second))
                for info, flip, second in zip(infos, rows.mirrored, rows.second, strict=True)
            ],
            diseases=[info.disease for info in infos],
            eyes=[
                transforms.swap_sides(info.eye) if flip else info.eye
                for info, flip in zip(infos, rows.mirrored, strict=True)
            ],
            latent=latent,
            exam=np.array([prepared.exam_hash(info.exam_id) for info in infos], np.int64),
        )

    def _video(self, records: Sequence[Mapping[str, Any]], mirrored: np.ndarray) -> np.ndarray:
        clips = [record["video"][self._frames] for record in records]
        video = np.stack(
            [
                transforms.flip_horizontal(clip) if flip else clip
                for clip, flip in zip(clips, mirrored, strict=True)
            ]
        )  # (b, t, h, w, 1) uint8
        return np.repeat(video, self._cfg.channels, axis=-1)

    def _report(self, info: ExampleInfo, mirrored: bool, second: bool) -> str:
        report = choose(info, self._cfg.language)[-1 if second else 0]
        return transforms.swap_sides(report) if mirrored else report

    def _open_latents(self, folder: Path) -> LatentCache:
        cfg, num_stored = self._cfg, self._stored.video_shape[0]
        if cfg.num_frames != num_stored:
            raise ValueError(
                f"data.num_frames is {cfg.num_frames}, but cached latents are of whole clips, and "
                f"those of {self.name} have {num_stored} frames. Leave it at {num_stored}, or "
                "data.latents empty."
            )
        cache = LatentCache.open(cfg.latents_folder(self.name))
        cache.check(
            self.name, prepared.content_fingerprint(folder), self.split, self.num_examples,
            mirrored=self._shuffle and cfg.flip,
        )  # fmt: skip
        return cache


def _check_video(shape: tuple[int, ...], folder: Path, cfg: DataConfig) -> np.ndarray:
    """The frames to take of every clip; ValueError where the clips are not those of the config."""
    num_stored, height, width, channels = shape
    if height != width or channels != 1:
        raise ValueError(
            f"The clips of {folder} are {width} x {height} px with {channels} channel(s); they "
            "must be square and grey. Prepare the dataset with `ffa-sora prepare`."
        )
    if height != cfg.res:
        raise ValueError(f"{folder} has {height} px, data.res is {cfg.res}. Make them equal.")
    try:
        return transforms.pick_frames(num_stored, cfg.num_frames)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


@functools.lru_cache(maxsize=16)
def _epoch(
    seeds: tuple[int, int], epoch: int, num_examples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order of the clips, which are mirrored, which are in their second language."""
    run, dataset = seeds
    order, flip, language = (
        np.random.default_rng(np.random.SeedSequence([run, epoch, stream, dataset]))
        for stream in (_ORDER, _FLIP, _LANGUAGE)
    )
    return (
        order.permutation(num_examples),
        flip.random(num_examples) < 0.5,
        language.random(num_examples) < 0.5,
    )
