"""BERT's WordPiece tokens, from the folder of a model such as BLIP.

The same conventions as everywhere: every text ends with the end token (here [SEP]) and is padded;
no token stands before it. What begins a text is the model's business.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ffa_sora_jax.data.tokenizer import Tokenizer

FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json",
         "added_tokens.json")  # fmt: skip
VOCABULARIES = FILES[:2]


class WordPiece(Tokenizer):
    """A WordPiece vocabulary; see `Tokenizer` for the attributes."""

    def __init__(self, folder: Path):
        """Reads a folder with vocab.txt or tokenizer.json.

        Raises:
          ValueError: the files are not those of a BERT tokenizer.
        """
        from transformers import BertTokenizer  # slow to import, and needed here only

        self._files = {n: (folder / n).read_bytes() for n in FILES if (folder / n).is_file()}
        try:
            self._bert = BertTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder} holds no BERT tokenizer: {error}") from error
        special = (self._bert.sep_token_id, self._bert.pad_token_id, self._bert.unk_token_id)
        if None in special:
            raise ValueError(f"The tokenizer in {folder} lacks [SEP], [PAD] or [UNK].")
        self.eos_id, self.pad_id, self.unk_id = special
        self.vocab_size = len(self._bert)
        digest = hashlib.sha256()
        for name in VOCABULARIES:
            digest.update(self._files.get(name, b""))
        self.fingerprint = digest.hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Writes the files into a folder, byte for byte as they were read."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (Path(folder) / name).write_bytes(content)

    def pieces(self, text: str) -> list[str]:
        """The pieces of one text, for people to read."""
        return self._bert.tokenize(text)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if isinstance(texts, str):
            raise ValueError("encode takes a sequence of texts; put the one text into a list.")
        return [self._bert.encode(text, add_special_tokens=False) for text in texts]

    def _text(self, ids: list[int]) -> str:
        return join_signs(self._bert.decode(ids, clean_up_tokenization_spaces=True))


def join_signs(text: str) -> str:
    """Takes out the spaces that stand where none was written: BERT makes every sign a word.

    Around Chinese characters and full-width signs, hyphens and slashes between words, within
    brackets, before colons and behind the point of "0.5". "左 眼" -> "左眼",
    "non - perfusion ( 3 )" -> "non-perfusion (3)".
    """
    for pattern, joined in _JOINED:
        text = pattern.sub(joined, text)
    return text


_WIDE = "[\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]"
_JOINED = tuple(
    (re.compile(pattern), joined)
    for pattern, joined in (
        (rf"(?<={_WIDE}) | (?={_WIDE})", ""), (r"(?<=\w) ([-/]) (?=\w)", r"\1"),
        (r"(?<=[(\[]) | (?=[)\]:;%])", ""), (r"\b0\. (?=\d)", "0."),
    )
)  # fmt: skip
