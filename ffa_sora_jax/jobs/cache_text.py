"""`ffa-sora prepare text`: stores the text encoder's output for every report of a dataset, once.

    ffa-sora prepare text --dataset phantom/64 --data-dir data --text-encoder mt5-xxl \
        --tokenizer mt5-xxl --length 512 --mirror

Training then never loads the encoder (`--config.data.text_embeddings=data/text`). Texts that are
stored already are skipped, so the command goes on after a kill and adds new datasets to an old
folder. The empty report, which guidance needs, is always included. Several machines share the work
with --shard 0/4, 1/4, ...; nothing has to be joined afterwards.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np

from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained
from ffa_sora_jax.data import prepared, transforms
from ffa_sora_jax.data.config import CHOICES, choose
from ffa_sora_jax.data.text_cache import DTYPES, TextCache
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.jobs import shards

SHARD_TEXTS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `prepare text`."""
    parser.add_argument("--dataset", default="phantom/64", help="default: phantom/64")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--text-encoder", type=Path, required=True, help="T5 or mT5 model folder")
    parser.add_argument("--tokenizer", type=Path, help="default: the one that ships")
    parser.add_argument(
        "--output", type=Path, help="folder for the embeddings (default: DATA_DIR/text)"
    )
    parser.add_argument("--length", type=int, default=256, help="tokens per text, as in training")
    parser.add_argument("--truncate", action="store_true", help="cut longer texts, do not refuse")
    parser.add_argument("--mirror", action="store_true", help="also mirrored reports (data.flip)")
    parser.add_argument("--batch-size", type=int, default=8, help="texts encoded at a time")
    parser.add_argument(
        "--language", choices=CHOICES, default="stored", help="as data.language in training"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="as stored")
    shards.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Encodes what is missing; 0 when complete, 1 when the disk is full (run it again)."""
    for name in ("batch_size", "length"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} is {getattr(args, name)}; it must be at least 1.")
    shard, num_shards = shards.parse_shard(args.shard)
    texts, output = _texts(args), args.output or args.data_dir / "text"
    encoder = from_pretrained(args.text_encoder, encoder_only=True)
    tokenizer = Tokenizer.load(args.tokenizer)
    cache = TextCache.create(
        output, encoder.fingerprint, tokenizer.fingerprint, args.length, args.dtype
    )
    missing = cache.missing(texts, shard, num_shards)
    progress = Progress("texts encoded", len(missing))
    try:
        for at in range(0, len(missing), SHARD_TEXTS):
            chunk = missing[at : at + SHARD_TEXTS]
            ids, mask = tokenizer.encode(
                chunk, args.length, allow_empty=True, truncate=args.truncate
            )
            cache.write(chunk, ids, mask, _encode(encoder, ids, mask, args.batch_size))
            progress.advance(len(chunk))
    except OSError as error:
        free = shutil.disk_usage(output).free / 2**20
        sys.stderr.write(
            f"prepare text: {error} ({free:.0f} MiB free). What is written is kept. Run the same "
            "command again to go on from there.\n"
        )
        return 1
    sys.stdout.write(f"{output}: {len(cache)} texts by the encoder {cache.encoder}\n")
    return 0


def _texts(args: argparse.Namespace) -> list[str]:
    """Every different report, mirrored ones too if asked for, and the empty one."""
    folder = prepared.dataset_folder(args.data_dir, args.dataset)
    reports = [
        report
        for split in prepared.split_sizes(folder)
        for info in prepared.Examples(folder, split)
        for report in choose(info, args.language)
    ]
    mirrored = [transforms.swap_sides(report) for report in reports] if args.mirror else []
    return list(dict.fromkeys(["", *reports, *mirrored]))


def _encode(encoder: Pretrained, ids: np.ndarray, mask: np.ndarray, batch_size: int) -> np.ndarray:
    """(n, l, d) float32 output of the encoder."""
    parts = []
    for at in range(0, len(ids), batch_size):
        here = slice(at, at + batch_size)
        fill = ((0, batch_size - len(ids[here])), (0, 0))  # another size would compile again
        hidden = encoder(np.pad(ids[here], fill), np.pad(mask[here], fill, mode="edge"))
        parts.append(np.asarray(hidden, np.float32)[: len(ids[here])])
    return np.concatenate(parts)
