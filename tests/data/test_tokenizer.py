import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.jobs import train_tokenizer
from ffa_sora_jax.phantom.diseases import sample_exam
from ffa_sora_jax.phantom.report import write_report

FIGURE_2 = Path(__file__).parents[1] / "golden" / "text" / "figure2_prompts.json"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load()


@pytest.fixture(scope="module")
def prompts():
    return json.loads(FIGURE_2.read_text(encoding="utf-8"))["prompts"]


def test_the_papers_prompts_have_no_unknowns_and_few_fragments(tokenizer, prompts):
    assert len(prompts) == 8
    ids, mask = tokenizer.encode(list(prompts.values()), length=192)
    assert not (ids[mask] == tokenizer.unk_id).any()
    for text in prompts.values():
        pieces = tokenizer.pieces(text)
        assert not any(p.startswith("<0x") for p in pieces)
        assert len(pieces) < 1.7 * len(text.replace(",", " ").split()) + 8


def test_text_comes_back_with_folded_case(tokenizer, prompts):
    ids, _ = tokenizer.encode(list(prompts.values()), length=192)
    for back, text in zip(tokenizer.decode(ids), prompts.values(), strict=True):
        assert back == " ".join(text.lower().split())


@pytest.mark.parametrize("text", ["左眼 FFA：微血管瘤样强荧光", "Ødème 50 µm", "emoji 👁"])
def test_bytes_spell_what_no_piece_does(tokenizer, text):
    ids, mask = tokenizer.encode([text], length=128)
    assert not (ids[mask] == tokenizer.unk_id).any()
    assert tokenizer.decode(ids)[0].split()[-1]


def test_ids_that_say_nothing_are_left_out(tokenizer):
    """A model's own beginning of texts lies beyond the vocabulary."""
    ids = tokenizer.encode(["Left eye"], 4, truncate=True)[0][0]
    written = [1500, ids[0], 0, *ids[1:]]
    assert tokenizer.decode(np.array([written])) == ["left eye"]


def test_ids_mask_and_padding(tokenizer):
    ids, mask = tokenizer.encode(["Left eye FFA: normal.", "Right eye"], length=16)
    assert ids.shape == mask.shape == (2, 16)
    assert ids.dtype == np.int32 and mask.dtype == bool
    for row, kept in zip(ids, mask, strict=True):
        n = kept.sum()
        assert kept[:n].all() and row[n - 1] == tokenizer.eos_id == 1
        assert (row[n:] == tokenizer.pad_id).all() and tokenizer.pad_id == 0
        assert (row[: n - 1] > 2).all()
    assert (
        tokenizer.lengths(["Left eye FFA: normal.", "Right eye"]).tolist() == mask.sum(1).tolist()
    )


def test_laterality_and_digits_are_their_own_tokens(tokenizer):
    left, right = (tokenizer.pieces(f"{side} eye FFA: 1.5") for side in ("Left", "Right"))
    assert left[1:] == right[1:] and left[0] != right[0]
    assert [p for p in left if p.strip("▁").isdigit()] == ["1", "5"]


def test_every_phantom_report_fits_192_tokens(tokenizer):
    texts = []
    for i in range(1500):
        rng = np.random.default_rng((77, i))
        texts.append(write_report(sample_exam(rng), rng))
    lengths = tokenizer.lengths(texts)
    assert lengths.max() <= 192
    words = sum(len(t.replace(",", " ").split()) for t in texts)
    assert lengths.sum() < 1.6 * words


def test_over_long_reports_are_refused_or_cut_on_request(tokenizer):
    text = "leakage " * 40
    with pytest.raises(ValueError, match=r"Report 1 has 41 tokens, the limit is 16"):
        tokenizer.encode(["ok", text], length=16)
    ids, mask = tokenizer.encode(["ok", text], length=16, truncate=True)
    assert mask[1].all() and ids[1, -1] == tokenizer.eos_id


def test_empty_text_only_where_asked(tokenizer):
    for text in ("", "  \n"):
        with pytest.raises(ValueError, match="Report 0 is empty"):
            tokenizer.encode([text], length=8)
    ids, mask = tokenizer.encode([""], length=8, allow_empty=True)
    assert ids[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert mask[0].tolist() == [True] + [False] * 7


def test_one_string_is_not_a_batch(tokenizer):
    with pytest.raises(ValueError, match="sequence of texts"):
        tokenizer.encode("Left eye", length=8)


def test_loading(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"spiece\.model"):
        Tokenizer.load(tmp_path)
    broken = tmp_path / "spiece.model"
    broken.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Tokenizer.load(broken)


def test_training_is_repeatable_and_the_fingerprint_tells_models_apart(tokenizer, tmp_path):
    prints = []
    for name in ("a", "b"):
        args = argparse.Namespace(out=tmp_path / name, reports=150, vocab_size=700, term_repeats=2)
        assert train_tokenizer.run(args) == 0
        prints.append(Tokenizer.load(tmp_path / name).fingerprint)
    assert prints[0] == prints[1] != tokenizer.fingerprint
    small = Tokenizer.load(tmp_path / "a")
    assert small.vocab_size <= 700 and (small.pad_id, small.eos_id, small.unk_id) == (0, 1, 2)


def test_asset_is_small():
    asset = Path(train_tokenizer.__file__).parents[1] / "assets" / "tokenizer" / "spiece.model"
    assert asset.stat().st_size < 400_000
