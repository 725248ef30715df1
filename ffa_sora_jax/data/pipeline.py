"""From prepared TFDS folders to batches: TFDS/ArrayRecord -> Grain -> `Clip`.

The batch of a step is a pure function of (seed, step): nothing has to be replayed to resume, and
nothing depends on the number of processes. Position `step * batch_size + j` of the stream belongs
to a dataset (`data.mixture`) and is its n-th clip; n is split into (epoch, offset), and every epoch
visits every clip of the dataset once, in an order drawn from (seed, epoch).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.data import labels, mixture
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.data.part import Part, Rows, join
from ffa_sora_jax.data.prepared import ExampleInfo
from ffa_sora_jax.data.reports import Reports

_LAST_STEP = 2**31


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
    """Opens one split of a prepared dataset, or of all datasets of a mixture.

    Args:
      config: `config.data`, see `DataConfig`.
      split: "train", "validation", "test", or a TFDS slice of one such as "train[:100]".
      batch_size: clips per step over all processes.
      seed: fixes order, flips and languages.
      process_index: this process; it gets its share of every batch.
      process_count: number of processes, a divisor of `batch_size`.
      shuffle: reshuffle every epoch, mix, flip and draw languages; default: only for splits of
        "train".
      with_video: read pixels; default: unless cached latents replace them in training.

    Raises:
      FileNotFoundError: a dataset is not prepared.
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
      parts: the datasets that are mixed, usually one.
      num_examples: clips of all of them.
      num_batches: whole batches in the split.
      batch_size: clips per step over all processes.
      examples: `examples[i]` is the `ExampleInfo` of clip i of the first dataset, in the order of
        unshuffled batches.
      latents: the first dataset's cache of latents, or None; all are made by the same VAE.
    """

    def __init__(
        self, cfg: DataConfig, split: str, batch_size: int, seed: int,
        process: tuple[int, int], shuffle: bool, with_video: bool,
    ):  # fmt: skip
        self.cfg, self.split, self.batch_size, self.seed = cfg, split, batch_size, seed
        self._process, self._shuffle = process, shuffle
        pairs = mixture.read_weights(cfg.mixture) if shuffle else ()
        pairs = pairs or ((cfg.name, 1.0),)
        self._mixture = mixture.Mixture([weight for _, weight in pairs], seed)
        self.parts = [
            Part(cfg, name, split, (seed, k), shuffle=shuffle, with_video=with_video)
            for k, (name, _) in enumerate(pairs)
        ]
        self.num_examples = sum(part.num_examples for part in self.parts)
        self.num_batches = self.num_examples // batch_size
        self.latents = self.parts[0].latents
        self._reports = Reports(cfg) if cfg.text_length else None
        _check_alike(self.parts)
        if cfg.check_reports and not process[0]:
            self._check_words()

    @property
    def examples(self) -> Sequence[ExampleInfo]:
        """What is known of the clips of the first dataset."""
        return self.parts[0].examples

    def rows(self, step: int) -> Rows:
        """Which clips the whole (global) batch of a step holds."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        part, number = self._mixture.place(positions)
        index = np.empty_like(number)
        mirrored, second = np.empty(len(part), bool), np.empty(len(part), bool)
        for k in np.unique(part):
            here = part == k
            index[here], mirrored[here], second[here] = self.parts[k].draw(number[here])
        return Rows(part, index, mirrored, second)

    def batch(self, step: int) -> Clip:
        """This process's part of the batch of `step`, as numpy arrays.

        Unshuffled sources wrap around at their end: take `num_batches` steps to see no clip twice.
        """
        part, parts = self._process
        size = self.batch_size // parts
        rows = self.rows(step)[part * size : (part + 1) * size]
        groups = [(k, np.flatnonzero(rows.part == k)) for k in np.unique(rows.part)]
        loaded = [self.parts[k].load(rows[here]) for k, here in groups]
        clips = loaded[0] if len(groups) == 1 else join(loaded, [here for _, here in groups])
        return Clip(
            video=clips.video,
            frame_mask=clips.frame_mask,
            text=self._reports.encode(clips.reports) if self._reports is not None else None,
            labels=labels.encode(clips.diseases, clips.eyes, self.cfg.diseases),
            latent=clips.latent,
            exam=clips.exam,
        )

    def iterate(self, start_step: int = 0) -> Iterator[Clip]:
        """Batches from `start_step` on without end, read ahead by Grain's threads."""
        import grain

        dataset = grain.MapDataset.range(start_step, _LAST_STEP).map(self.batch)
        options = grain.ReadOptions(
            num_threads=self.cfg.threads, prefetch_buffer_size=self.cfg.prefetch
        )
        return iter(dataset.to_iter_dataset(options))

    def _check_words(self) -> None:
        """Refuses reports and labels that would stop the run later."""
        cfg = self.cfg
        for part in self.parts:
            if self._reports is not None:
                logging.info("Looking through the reports of %s", part.where)
                self._reports.check(part.examples, part.where, mirrored=self._shuffle and cfg.flip)
            if cfg.diseases:
                labels.check(part.examples, cfg.diseases, part.where)


def _check_alike(parts: Sequence[Part]) -> None:
    """Raises ValueError where mixed latents come from different VAEs."""
    caches = [part.latents for part in parts if part.latents is not None]
    for cache in caches[1:]:
        cache.check_like(caches[0])
