"""Tokenizers of text metrics: the files that lie in the model's own folder."""

from pathlib import Path
from typing import Any

FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip


def open_tokenizer(folder: Path, class_name: str = "AutoTokenizer") -> Any:
    """The tokenizer of a Hugging Face style folder; reads local files only.

    Args:
      folder: model folder with its tokenizer files.
      class_name: class of `transformers`, for models whose name that package does not know.

    Raises:
      FileNotFoundError: the folder holds none.
      ValueError: the `transformers` package is missing, or cannot read the files.
    """
    if not any((folder / name).is_file() for name in FILES):
        raise FileNotFoundError(
            f"{folder} holds no tokenizer: none of {', '.join(FILES)} is there. Copy the tokenizer "
            "files of the model beside its weights."
        )
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            "Tokenizers of text metrics need the package transformers: pip install transformers."
        ) from error
    try:
        return getattr(transformers, class_name).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ValueError(f"The tokenizer in {folder} cannot be opened: {error}") from error
