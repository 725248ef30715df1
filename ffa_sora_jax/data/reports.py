"""Reports of a run as the model takes them: token ids, or stored embeddings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffa_sora_jax.common.types import Text
from ffa_sora_jax.data import transforms
from ffa_sora_jax.data.config import DataConfig, choose
from ffa_sora_jax.data.prepared import ExampleInfo
from ffa_sora_jax.data.text_cache import TextCache
from ffa_sora_jax.data.tokenizer import Tokenizer


class Reports:
    """Encodes the reports of batches, and looks through all of them before a run starts."""

    def __init__(self, cfg: DataConfig):
        """Opens the tokenizer, or the stored embeddings where the config names them.

        Raises:
          FileNotFoundError: neither is there.
          ValueError: embeddings of another length or another encoder than the config's.
        """
        self._cfg = cfg
        self._cache = _open_cache(cfg) if cfg.text_embeddings else None
        self._tokenizer = None if self._cache else Tokenizer.load(cfg.tokenizer or None)

    def encode(self, reports: Sequence[str]) -> Text:
        """Tokens of b reports, (b, l), with their embeddings (b, l, d) where they are stored."""
        if self._tokenizer is None:
            assert self._cache is not None
            return Text(*self._cache.read(reports))
        length, truncate = self._cfg.text_length, self._cfg.truncate
        ids, mask = self._tokenizer.encode(reports, length, truncate=truncate)
        return Text(ids=ids, mask=mask)

    def check(self, examples: Sequence[ExampleInfo], where: str, *, mirrored: bool) -> None:
        """Refuses a dataset in which any report would stop the run later.

        Args:
          examples: the clips of a split.
          where: dataset and split, for messages. The reports themselves are never shown.
          mirrored: whether mirrored clips are trained on too.

        Raises:
          ValueError: a clip without a report in the language asked for, a report that is too
            long, or one whose embedding is not stored.
        """
        language, found = self._cfg.language, [choose(i, self._cfg.language) for i in examples]
        lacking = [not any(text.strip() for text in texts) for texts in found]
        _refuse(
            lacking, f"{where}: no report in data.language {language!r}",
            "Set data.language to 'stored', or to 'both' to take what there is.",
        )  # fmt: skip
        if mirrored:
            found = [[*texts, *map(transforms.swap_sides, texts)] for texts in found]
        if self._tokenizer is None:
            cache = self._cache
            assert cache is not None
            unknown = [any(text not in cache for text in texts) for texts in found]
            _refuse(
                unknown, f"{where}: no embedding in {cache.folder}",
                "Run `ffa-sora prepare text` for this dataset, with --mirror while data.flip is "
                f"on and --language {language}.",
            )  # fmt: skip
        elif not self._cfg.truncate:
            counts = [int(self._tokenizer.lengths(texts).max()) for texts in found]
            _refuse(
                [count > self._cfg.text_length for count in counts],
                f"{where}: the report has more than {self._cfg.text_length} tokens, the longest "
                f"{max(counts)}",
                "Set data.text_length to that, or data.truncate to True.",
            )


def _refuse(bad: Sequence[bool], what: str, remedy: str) -> None:
    """Raises ValueError where any clip is bad."""
    if any(bad):
        first = int(np.argmax(bad))
        raise ValueError(f"{what} ({sum(bad)} of {len(bad)} clips, first clip {first}). {remedy}")


def _open_cache(cfg: DataConfig) -> TextCache:
    cache = TextCache.open(Path(cfg.text_embeddings or ""))
    if cache.length != cfg.text_length:
        raise ValueError(
            f"{cfg.text_embeddings} holds {cache.length} tokens per report; data.text_length is "
            f"{cfg.text_length}. Make them equal."
        )
    if cfg.text_encoder and cache.encoder != cfg.text_encoder:
        raise ValueError(
            f"{cfg.text_embeddings} was made by the text encoder {cache.encoder}; "
            f"data.text_encoder is {cfg.text_encoder}. Make the embeddings again with it."
        )
    return cache
