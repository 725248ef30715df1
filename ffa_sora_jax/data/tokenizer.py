"""Reports to token ids: a SentencePiece model with T5's conventions, or BERT's WordPiece.

pad = 0, eos = 1, unk = 2, no bos; every text ends with eos and is padded with 0. The shipped model
(`assets/tokenizer/spiece.model`) folds case and falls back to bytes, so nothing is ever unknown to
it. The `spiece.model` of T5 and mT5 works too, and so does the folder of a BERT or BLIP with its
vocab.txt (see `data.wordpiece`), whose end of sequence is [SEP].
"""

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

FILE_NAME = "spiece.model"


class Tokenizer:
    """A SentencePiece model and the fingerprint of its file.

    Attributes:
      fingerprint: first 16 hex digits of the SHA-256 of the model file.
      vocab_size: number of pieces.
      pad_id: id of padding.
      eos_id: id that ends every text.
      unk_id: id of what the model cannot spell.
    """

    def __init__(self, model: bytes):
        import sentencepiece  # here, because models and training do without it

        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.fingerprint = hashlib.sha256(model).hexdigest()[:16]
        self.vocab_size: int = self._pieces.get_piece_size()
        self.eos_id: int = self._pieces.eos_id()
        self.unk_id: int = self._pieces.unk_id()
        self.pad_id: int = max(self._pieces.pad_id(), 0)
        if self.eos_id < 0:
            raise ValueError("The SentencePiece model has no end-of-sequence piece; T5 models do.")

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Tokenizer":
        """Reads a file, a folder with `spiece.model` or `vocab.txt`, or the shipped model (None).

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is not a SentencePiece model.
        """
        if path is None:
            asset = resources.files("ffa_sora_jax") / "assets" / "tokenizer" / FILE_NAME
            return cls(asset.read_bytes())
        file = Path(path)
        if file.is_dir():
            from ffa_sora_jax.data import wordpiece  # a subclass of this class

            vocabulary = any((file / name).is_file() for name in wordpiece.VOCABULARIES)
            if vocabulary and not (file / FILE_NAME).is_file():
                return wordpiece.WordPiece(file)
            file = file / FILE_NAME
        if not file.is_file():
            raise FileNotFoundError(
                f"No tokenizer at {file}. Give a SentencePiece model, or a folder with {FILE_NAME} "
                "or, for BERT and BLIP, vocab.txt."
            )
        try:
            return cls(file.read_bytes())
        except RuntimeError as error:  # what SentencePiece raises for bytes it cannot parse
            raise ValueError(f"{file} is not a SentencePiece model: {error}") from error

    def save(self, folder: str | Path) -> None:
        """Writes `spiece.model` into a folder, byte for byte as it was read."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / FILE_NAME).write_bytes(self._model)

    def check(self, vocab_size: int, *, eos_id: int, pad_id: int) -> None:
        """Raises ValueError if a model that writes text was made for another tokenizer.

        Args:
          vocab_size: tokens that the model knows; those beyond the tokenizer's are its own.
          eos_id: token with which it ends a text.
          pad_id: token behind that.
        """
        if self.vocab_size > vocab_size or (self.eos_id, self.pad_id) != (eos_id, pad_id):
            raise ValueError(
                f"The tokenizer has {self.vocab_size} tokens, end {self.eos_id} and padding "
                f"{self.pad_id}; the model knows {vocab_size}, end {eos_id} and padding {pad_id}. "
                "Set vocab_size, eos_id and pad_id of the model to those of the tokenizer, or give "
                "the tokenizer that it was trained with."
            )

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """(b,) int32 token counts, end-of-sequence included."""
        return np.array([len(ids) + 1 for ids in self._ids(texts)], np.int32)

    def encode(
        self,
        texts: Sequence[str],
        length: int,
        allow_empty: bool = False,
        truncate: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of fixed length.

        Args:
          texts: reports.
          length: tokens per text, end-of-sequence included.
          allow_empty: accept "" (the unconditional prompt: one eos, the rest padding).
          truncate: cut over-long texts before their eos, as the reference does; else refuse them.

        Returns:
          ids (b, length) int32 and mask (b, length) bool, True for tokens, eos included.

        Raises:
          ValueError: an empty text without `allow_empty`, an over-long one without `truncate`,
            or a string in place of a sequence of strings.
        """
        rows = self._ids(texts)
        ids = np.full((len(rows), length), self.pad_id, np.int32)
        mask = np.zeros((len(rows), length), bool)
        for i, (text, row) in enumerate(zip(texts, rows, strict=True)):
            if not text.strip() and not allow_empty:
                raise ValueError(f"Report {i} is empty. Give a text that names eye and findings.")
            if len(row) + 1 > length and not truncate:
                raise ValueError(
                    f"Report {i} has {len(row) + 1} tokens, the limit is {length} (end of sequence"
                    f" included). Shorten it: {text[:60]!r}..."
                )
            row = [*row[: length - 1], self.eos_id]
            ids[i, : len(row)] = row
            mask[i, : len(row)] = True
        return ids, mask

    def decode(self, ids: np.ndarray) -> list[str]:
        """Texts of (b, l) ids, each up to its end-of-sequence; folded case stays folded.

        Padding says nothing, nor do ids beyond the vocabulary, such as the one with which a model
        begins its texts: a model may write them all the same.
        """
        texts = []
        for row in np.asarray(ids):
            ends = np.flatnonzero(row == self.eos_id)
            row = row[: ends[0]] if len(ends) else row
            said = (row != self.pad_id) & (row >= 0) & (row < self.vocab_size)
            texts.append(self._text(row[said].tolist()))
        return texts

    def pieces(self, text: str) -> list[str]:
        """The pieces of one text, for people to read."""
        return self._pieces.encode(text, out_type=str)

    def _text(self, ids: list[int]) -> str:
        return self._pieces.decode(ids)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if isinstance(texts, str):
            raise ValueError("encode takes a sequence of texts; put the one text into a list.")
        return self._pieces.encode(list(texts), out_type=int)
