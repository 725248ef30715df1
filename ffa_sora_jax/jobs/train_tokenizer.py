"""Makes the shipped tokenizer: `python -m ffa_sora_jax.jobs.train_tokenizer --out DIR`.

A Unigram SentencePiece model with byte fallback, trained on phantom reports and on a list of
general angiography terms (`assets/tokenizer/terms.txt`), so that reports from elsewhere split into
few pieces too.
"""

import argparse
import io
import re
from importlib import resources
from pathlib import Path

import numpy as np
from absl import logging

from ffa_sora_jax.phantom.diseases import sample_exam
from ffa_sora_jax.phantom.report import write_report

REQUIRED = "abcdefghijklmnopqrstuvwxyz0123456789.,;:()?!-/%'\"+&<>=~*_[]"
SEED = 20_412  # of the reports; clips of phantom data sets are drawn from other seeds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the job."""
    parser.add_argument("--out", type=Path, required=True, help="folder for spiece.model")
    parser.add_argument("--reports", type=int, default=20_000, help="phantom reports to read")
    parser.add_argument("--vocab-size", type=int, default=1_500, help="pieces, bytes included")
    parser.add_argument("--term-repeats", type=int, default=60, help="weight of the term list")


def run(args: argparse.Namespace) -> int:
    """Trains and writes the model; the same arguments give the same file."""
    model = train(corpus(args.reports, args.term_repeats), args.vocab_size)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "spiece.model").write_bytes(model)
    logging.info("wrote %s, %d bytes", args.out / "spiece.model", len(model))
    return 0


def corpus(reports: int, term_repeats: int) -> list[str]:
    """Phantom reports and the term list, one text per entry."""
    made = []
    for index in range(reports):
        rng = np.random.default_rng(np.random.SeedSequence((SEED, index)))
        made.append(write_report(sample_exam(rng), rng))
    asset = resources.files("ffa_sora_jax") / "assets" / "tokenizer" / "terms.txt"
    terms = asset.read_text(encoding="utf-8").splitlines()
    return made + terms * term_repeats + _in_every_position([*made, *terms])


def _in_every_position(texts: list[str]) -> list[str]:
    """Every word once before each punctuation mark and once without a space before it.

    The trainer takes candidates from strings that occur in two or more distinct words; a word that
    always stands alone, such as "and", would otherwise never become one piece.
    """
    words = sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})
    return [f"{w}, {w}. {w}; {w}: ({w}) {w},{w}" for w in words]


def train(texts: list[str], vocab_size: int) -> bytes:
    """Trains on texts and returns the model file's bytes."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=out,
        model_type="unigram",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        required_chars=REQUIRED,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        max_sentence_length=16_384,
        minloglevel=2,
    )
    return out.getvalue()


if __name__ == "__main__":
    PARSER = argparse.ArgumentParser(description=__doc__)
    add_arguments(PARSER)
    raise SystemExit(run(PARSER.parse_args()))
