"""A folder of VAE latents: posterior moments per clip, in memory-mapped shards.

    key.json                 what the latents are of, written first; another key is refused
    train-00000.npy ...      (examples, copies, t', h', w', 2 l) float16; copy 1 is mirrored
    index.json               clips per split and per shard, latent statistics; written last

Several processes may fill one folder (`missing(shard, num_shards)`): every shard is one file that
appears whole or not at all, and whoever finds none missing writes the index.

float16 holds moments with a relative error of 5e-4, far below the posterior's own spread; they
are returned as float32.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common import files, names

SHARD_EXAMPLES = 64


class LatentCache:
    """A finished folder of latents.

    Attributes:
      key: what the latents are of: "dataset" (name), "content" (fingerprint of the prepared
        dataset), "vae" (fingerprint of its weights), "mirror" (bool).
      mean: (l,) float32 mean of every latent channel over the training split.
      std: (l,) float32 standard deviation of a sampled latent, posterior variance included.
    """

    def __init__(self, folder: Path, key: dict[str, Any], index: dict[str, Any]):
        self.folder, self.key, self._splits = folder, key, index["splits"]
        self._shard_examples = index["shard_examples"]
        self.mean = np.asarray(index["mean"], np.float32)
        self.std = np.asarray(index["std"], np.float32)

    @classmethod
    def open(cls, folder: Path) -> "LatentCache":
        """Opens a finished folder.

        Raises:
          FileNotFoundError: no folder, or `ffa-sora prepare latents` has not finished it.
        """
        if not (folder / "index.json").exists():
            raise FileNotFoundError(
                f"No finished latents in {folder}. Make them, or finish them, with: "
                "ffa-sora prepare latents --data-dir ... --vae ... --output ..."
            )
        key = json.loads((folder / "key.json").read_text())
        return cls(folder, key, json.loads((folder / "index.json").read_text()))

    def check(
        self, dataset: str, content: str, split: str, num_examples: int, *, mirrored: bool
    ) -> None:
        """Raises ValueError unless the cache fits a split of a dataset."""
        if dataset != self.key["dataset"]:
            raise ValueError(
                f"{self.folder} holds latents of {self.key['dataset']}, not {dataset}."
            )
        if split not in self._splits:
            raise ValueError(names.unknown_name(f"split of {self.folder}", split, self._splits))
        if num_examples != self._splits[split] or content != self.key.get("content"):
            raise ValueError(
                f"{self.folder} holds {self._splits[split]} clips of {split} of another build of "
                f"{dataset}, which now has {num_examples}: it was prepared again. Make the latents "
                "again, in a new folder."
            )
        if mirrored and not self.key["mirror"]:
            raise ValueError(
                f"{self.folder} has no mirrored copies, which data.flip needs. Make it with "
                "--mirror, or set data.flip to False."
            )

    def check_vae(self, fingerprint: str) -> None:
        """Raises ValueError when the latents were made by other weights."""
        if fingerprint != self.key["vae"]:
            raise ValueError(
                f"{self.folder} was made by the VAE {self.key['vae']}; this run uses "
                f"{fingerprint}. Make the latents again with these weights."
            )

    def check_like(self, other: "LatentCache") -> None:
        """Raises ValueError when two caches were made by different weights."""
        if self.key["vae"] != other.key["vae"]:
            raise ValueError(
                f"{self.folder} was made by the VAE {self.key['vae']}, {other.folder} by "
                f"{other.key['vae']}. Mixed datasets need latents of one VAE."
            )

    def read(self, split: str, index: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        """Moments of clips: (b, t', h', w', 2 l) float32, mean first, then log-variance."""
        size = self._shard_examples
        return np.stack(
            [
                self._shard(split, int(i) // size)[int(i) % size, int(copy)]
                for i, copy in zip(index, mirrored, strict=True)
            ]
        ).astype(np.float32)

    @functools.lru_cache(maxsize=64)  # noqa: B019 (few caches live, each as long as its run)
    def _shard(self, split: str, number: int) -> np.ndarray:
        return np.load(self.folder / shard_name(split, number), mmap_mode="r")


class LatentWriter:
    """Fills a folder of latents shard by shard; may be stopped and opened again at any time."""

    def __init__(self, folder: Path, key: Mapping[str, Any], splits: Mapping[str, int]):
        """Opens or makes the folder.

        Args:
          folder: where the latents go.
          key: what they are of: "dataset", "content", "vae", "mirror".
          splits: number of clips by split name.

        Raises:
          ValueError: the folder holds latents of something else.
        """
        self.folder, self.splits = folder, dict(splits)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "key.json"
        if path.exists():
            _check_key(folder, json.loads(path.read_text()), dict(key))
        files.write_json(path, dict(key))

    def missing(self, shard: int = 0, num_shards: int = 1) -> list[tuple[str, range]]:
        """The shards that are not there yet, as (split, example indices).

        Args:
          shard: this process, of those that fill the folder; what falls to it does not depend on
            what is there.
          num_shards: number of processes.
        """
        return [
            (split, examples)
            for split, examples in self._shards()[shard::num_shards]
            if not self._is_whole(split, examples)
        ]

    def write(self, split: str, examples: range, moments: np.ndarray) -> None:
        """Stores one shard, (examples, copies, t', h', w', 2 l); whole or not at all.

        Raises:
          ValueError: a moment is not finite, or too large for float16.
        """
        with np.errstate(over="ignore"):  # refused in words below
            stored = moments.astype(np.float16)
        if not np.isfinite(stored).all():
            raise ValueError(
                f"Latents of {split} clips {examples.start}..{examples.stop - 1} are not finite "
                "in float16. Are these VAE weights trained, and is the dtype float32?"
            )
        path = self.folder / shard_name(split, examples.start // SHARD_EXAMPLES)
        with files.replacing(path) as partial, partial.open("wb") as file:
            np.save(file, stored)

    def finish(self) -> LatentCache:
        """Measures the training latents, writes the index and opens the cache.

        Raises:
          ValueError: shards are missing.
        """
        if self.missing():
            raise ValueError(f"{len(self.missing())} shards of {self.folder} are missing.")
        mean, std = self._statistics()
        index = {
            "splits": self.splits, "shard_examples": SHARD_EXAMPLES,
            "mean": mean.tolist(), "std": std.tolist(),
        }  # fmt: skip
        files.write_json(self.folder / "index.json", index)
        return LatentCache.open(self.folder)

    def _shards(self) -> list[tuple[str, range]]:
        return [
            (split, range(at, min(at + SHARD_EXAMPLES, count)))
            for split, count in self.splits.items()
            for at in range(0, count, SHARD_EXAMPLES)
        ]

    def _is_whole(self, split: str, examples: range) -> bool:
        """Whether the shard is there; one cut short by a power cut is not."""
        path = self.folder / shard_name(split, examples.start // SHARD_EXAMPLES)
        try:
            return len(np.load(path, mmap_mode="r")) == len(examples)
        except (FileNotFoundError, ValueError, EOFError):
            return False

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Per channel: mean, and std = sqrt(Var[posterior mean] + E[posterior variance])."""
        count, total, square = 0, np.zeros(1), np.zeros(1)
        for split, examples in self._shards():
            if split != "train":
                continue
            path = self.folder / shard_name(split, examples.start // SHARD_EXAMPLES)
            moments = np.load(path).astype(np.float64)
            mean, logvar = np.split(moments.reshape(-1, moments.shape[-1]), 2, axis=-1)
            count += len(mean)
            total = total + mean.sum(0)
            square = square + (mean**2 + np.exp(logvar)).sum(0)
        average = total / count
        return average, np.sqrt(square / count - average**2)


def shard_name(split: str, number: int) -> str:
    """File name of one shard."""
    return f"{split}-{number:05d}.npy"


def _check_key(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    if found == wanted:
        return
    pairs = {key: (found.get(key), wanted.get(key)) for key in sorted({*found, *wanted})}
    lines = [f"  {k}: there {a!r}, asked for {b!r}" for k, (a, b) in pairs.items() if a != b]
    raise ValueError(
        f"{folder} holds something else:\n" + "\n".join(lines) + "\nChoose another --output."
    )
