"""A folder of text embeddings, so that a large frozen text encoder is never loaded in training.

    key.json                  fingerprints of encoder and tokenizer, token length, dtype; another
                              key is refused
    embeddings-HASH.npy ...   (tokens, d): the real tokens of all its texts, one after another
    texts-HASH.json ...       hash and token ids of every text of the shard; written last

Texts are found by the hash of their characters, so a folder may serve several datasets, and
running the job again adds only what is new. A shard is named by a hash of its texts, so several
processes may fill one folder. Padding is not stored: it is masked in every model.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common import files

DTYPES = ("float32", "float16")


class TextCache:
    """Embeddings by text.

    Attributes:
      folder: where they lie.
      length: tokens per text, padded.
      encoder: fingerprint of the text encoder.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        self.folder = folder
        self.length, self.encoder, self.dtype = key["length"], key["encoder"], key["dtype"]
        self._place: dict[str, tuple[str, int, list[int]]] = {}  # shard, first token, ids
        self._read_index()

    @classmethod
    def open(cls, folder: Path) -> "TextCache":
        """Opens an existing folder.

        Raises:
          FileNotFoundError: the folder holds no embeddings.
        """
        if not (folder / "key.json").exists():
            raise FileNotFoundError(
                f"No text embeddings in {folder}. Make them with: "
                "ffa-sora prepare text --data-dir ... --text-encoder ... --output ..."
            )
        return cls(folder, json.loads((folder / "key.json").read_text()))

    @classmethod
    def create(
        cls, folder: Path, encoder: str, tokenizer: str, length: int, dtype: str
    ) -> "TextCache":
        """Opens or makes a folder for writing.

        Args:
          folder: where the embeddings go.
          encoder: fingerprint of the weights of the text encoder.
          tokenizer: fingerprint of the tokenizer.
          length: tokens per text, padded.
          dtype: "float32", or "float16" for half the space.

        Raises:
          ValueError: the folder holds embeddings made otherwise.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}.")
        folder.mkdir(parents=True, exist_ok=True)
        key = {"encoder": encoder, "tokenizer": tokenizer, "length": length, "dtype": dtype}
        path = folder / "key.json"
        found = json.loads(path.read_text()) if path.exists() else key
        if found != key:
            raise ValueError(f"{folder} holds {found}; asked for {key}. Choose another --output.")
        files.write_json(path, key)
        return cls(folder, key)

    def __len__(self) -> int:
        """Number of stored texts."""
        return len(self._place)

    def __contains__(self, text: str) -> bool:
        """Whether a text is stored."""
        return text_hash(text) in self._place

    def missing(self, texts: Iterable[str], shard: int = 0, num_shards: int = 1) -> list[str]:
        """The texts that are not stored, each once, in the order given.

        Args:
          texts: what should be stored.
          shard: this process, of those that fill the folder; what falls to it does not depend on
            what is stored.
          num_shards: number of processes.
        """
        return [
            text
            for text in dict.fromkeys(texts)
            if text not in self and int(text_hash(text), 16) % num_shards == shard
        ]

    def write(
        self, texts: Sequence[str], ids: np.ndarray, mask: np.ndarray, embeddings: np.ndarray
    ) -> None:
        """Appends one shard.

        Args:
          texts: b texts.
          ids: (b, l) int32 tokens.
          mask: (b, l) bool, True on the leading, real tokens.
          embeddings: (b, l, d) float output of the encoder.

        Raises:
          ValueError: wrong length, a mask with holes, or values that the dtype cannot hold.
        """
        counts = mask.sum(1)
        if (
            ids.shape[1] != self.length
            or not (mask == (np.arange(self.length) < counts[:, None])).all()
        ):
            raise ValueError(f"Tokens must be left-aligned and padded to {self.length}.")
        with np.errstate(over="ignore"):  # refused in words below
            rows = embeddings[mask].astype(self.dtype)  # (tokens, d)
        if not np.isfinite(rows).all():
            raise ValueError(f"Embeddings are not finite in {self.dtype}.")
        entries = [
            {"hash": text_hash(text), "ids": row[:count].tolist()}
            for text, row, count in zip(texts, ids, counts, strict=True)
        ]
        name = text_hash(" ".join(entry["hash"] for entry in entries))[:16]
        path = self.folder / f"embeddings-{name}.npy"
        with files.replacing(path) as partial, partial.open("wb") as file:
            np.save(file, rows)
        files.write_json(self.folder / f"texts-{name}.json", entries)
        self._add(name, entries)

    def read(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens and embeddings of texts.

        Returns:
          ids (b, l) int32, mask (b, l) bool, embeddings (b, l, d) float32, zero where padded.

        Raises:
          ValueError: a text is not stored.
        """
        found = [self._find(text) for text in texts]
        width = self._shard(found[0][0]).shape[1]
        ids = np.zeros((len(texts), self.length), np.int32)
        mask = np.zeros((len(texts), self.length), bool)
        embeddings = np.zeros((len(texts), self.length, width), np.float32)
        for row, (shard, first, tokens) in enumerate(found):
            count = len(tokens)
            ids[row, :count], mask[row, :count] = tokens, True
            embeddings[row, :count] = self._shard(shard)[first : first + count]
        return ids, mask, embeddings

    def _find(self, text: str) -> tuple[str, int, list[int]]:
        try:
            return self._place[text_hash(text)]
        except KeyError:
            raise ValueError(
                f"{self.folder} lacks the embedding of a report of {len(text)} characters (hash "
                f"{text_hash(text)}). Run `ffa-sora prepare text` again for this dataset; "
                "data.flip needs --mirror, and data.language the same --language."
            ) from None

    def _read_index(self) -> None:
        for path in sorted(self.folder.glob("texts-*.json")):
            self._add(path.stem.removeprefix("texts-"), json.loads(path.read_text()))

    def _add(self, shard: str, entries: Sequence[Mapping[str, Any]]) -> None:
        first = 0
        for entry in entries:
            self._place[entry["hash"]] = (shard, first, entry["ids"])
            first += len(entry["ids"])

    @functools.lru_cache(maxsize=64)  # noqa: B019 (few caches live, each as long as its run)
    def _shard(self, shard: str) -> np.ndarray:
        return np.load(self.folder / f"embeddings-{shard}.npy", mmap_mode="r")


def text_hash(text: str) -> str:
    """128-bit hash of the exact characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
