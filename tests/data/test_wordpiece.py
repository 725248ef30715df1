import re

import numpy as np
import pytest

from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.data.wordpiece import WordPiece

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "right", "eye", ":", ".", "leak", "##age",
    "of", "the", "disc",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def test_a_folder_with_a_vocabulary_gives_wordpiece(folder):
    tokenizer = Tokenizer.load(folder)
    assert isinstance(tokenizer, WordPiece)
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id) == (len(WORDS), 0, 3)


def test_texts_end_with_sep_and_nothing_stands_before_them(folder):
    tokenizer = Tokenizer.load(folder)
    ids, mask = tokenizer.encode(["Left eye: leakage of the disc.", "right"], 12)
    assert ids[0].tolist() == [5, 7, 8, 10, 11, 12, 13, 14, 9, 3, 0, 0]
    assert ids[1].tolist() == [6, 3] + [0] * 10
    assert mask.sum(1).tolist() == [10, 2]
    assert tokenizer.lengths(["left eye"]).tolist() == [3]
    assert tokenizer.pieces("leakage") == ["leak", "##age"]


def test_decodes_up_to_the_end(folder):
    tokenizer = Tokenizer.load(folder)
    ids = np.array([[5, 7, 10, 11, 9, 3, 6, 6]])
    assert tokenizer.decode(ids) == ["left eye leakage."]


@pytest.mark.parametrize(
    "text",
    [
        "左眼：1.视网膜动脉充盈正常。",
        "non-perfusion (3), a/v ratio: 0.5",
        "1. no leak; disc: 5%",
    ],
)
def test_signs_stand_where_they_stood(text, tmp_path):
    """What other libraries give back as "左 眼" and "non - perfusion"."""
    words = dict.fromkeys(re.findall(r"[a-z]+|\d|[^\w\s]|[^a-z\s]", text))
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS[:5], *words]) + "\n", encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    ids, _ = tokenizer.encode([text], 30)
    assert tokenizer.unk_id not in ids
    assert tokenizer.decode(ids)[0] == text


def test_saves_what_it_read(folder, tmp_path):
    tokenizer = Tokenizer.load(folder)
    tokenizer.save(tmp_path / "copy")
    again = Tokenizer.load(tmp_path / "copy")
    assert again.fingerprint == tokenizer.fingerprint
    np.testing.assert_array_equal(again.encode(["left disc"], 5)[0], [[5, 14, 3, 0, 0]])


def test_a_folder_without_any_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt"):
        Tokenizer.load(tmp_path)
