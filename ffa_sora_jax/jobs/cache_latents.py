"""`ffa-sora prepare latents`: stores the VAE posterior of every clip of a dataset, once.

    ffa-sora prepare latents --dataset phantom/64 --data-dir data --vae runs/vae-model --mirror

Training then reads latents instead of encoding the same clips in every epoch
(`--config.data.latents=data/latents/{name}`). Running the command again after a kill goes on with
the shards that are missing; a folder made by other weights, or of another build of the dataset, is
refused. Several machines share the work with --shard 0/4, 1/4, ...: the last one to finish
completes the folder.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained
from ffa_sora_jax.data import latents, prepared, transforms
from ffa_sora_jax.jobs import shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `prepare latents`."""
    parser.add_argument("--dataset", default="phantom/64", help="default: phantom/64")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--vae", type=Path, required=True, help="model folder of the VAE")
    parser.add_argument(
        "--output", type=Path, help="folder for the latents (default: DATA_DIR/latents/DATASET)"
    )
    parser.add_argument("--mirror", action="store_true", help="also of mirrored clips (data.flip)")
    parser.add_argument("--batch-size", type=int, default=4, help="clips encoded at a time")
    shards.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Encodes what is missing; 0 when its share is complete, 1 when the disk is full."""
    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; it must be at least 1.")
    shards.parse_shard(args.shard)  # refused before the VAE is read
    folder = prepared.dataset_folder(args.data_dir, args.dataset)
    sizes = prepared.split_sizes(folder)
    vae = from_pretrained(args.vae)
    key = {
        "dataset": args.dataset, "content": prepared.content_fingerprint(folder),
        "vae": vae.fingerprint, "mirror": args.mirror,
    }  # fmt: skip
    output = args.output or args.data_dir / "latents" / args.dataset
    writer = latents.LatentWriter(output, key, sizes)
    try:
        _fill(writer, {split: prepared.read_split(folder, split) for split in sizes}, vae, args)
        left = sum(len(part) for _, part in writer.missing())
        if left:
            sys.stdout.write(
                f"{output}: share {args.shard} is complete; {left} clips are left to others\n"
            )
            return 0
        cache = writer.finish()
    except OSError as error:
        free = shutil.disk_usage(output).free / 2**20
        sys.stderr.write(
            f"prepare latents: {error} ({free:.0f} MiB free). What is written is kept. Run the "
            "same command again to go on from there.\n"
        )
        return 1
    total = sum(sizes.values())
    sys.stdout.write(f"{output}: latents of {total} clips by the VAE {cache.key['vae']}\n")
    sys.stdout.write(f"mean {[round(float(v), 4) for v in cache.mean]}\n")
    sys.stdout.write(f"std  {[round(float(v), 4) for v in cache.std]}\n")
    return 0


def _fill(
    writer: latents.LatentWriter, splits: dict[str, prepared.Split], vae: Pretrained,
    args: argparse.Namespace,
) -> None:  # fmt: skip
    """Writes the missing shards of this process's share."""
    missing = writer.missing(*shards.parse_shard(args.shard))
    progress = Progress("clips encoded", sum(len(part) for _, part in missing))
    for split, part in missing:
        clips = [record["video"] for record in splits[split].read(part)]
        writer.write(split, part, _moments(vae, clips, args))
        progress.advance(len(part))


def _moments(vae: Pretrained, clips: list[np.ndarray], args: argparse.Namespace) -> np.ndarray:
    """(clips, copies, t', h', w', 2 l) float32; copy 1 is of the mirrored clip."""
    video = np.stack(clips)  # (n, t, h, w, 1) uint8
    copies = [video, transforms.flip_horizontal(video)] if args.mirror else [video]
    return np.stack([_encode(vae, copy, args.batch_size) for copy in copies], axis=1)


def _encode(vae: Pretrained, video: np.ndarray, batch_size: int) -> np.ndarray:
    parts: list[Any] = []
    for at in range(0, len(video), batch_size):
        batch = video[at : at + batch_size]
        # A short last batch is filled up: another size would be compiled again.
        filled = np.concatenate([batch, np.repeat(batch[-1:], batch_size - len(batch), axis=0)])
        x = filled.astype(np.float32) / 127.5 - 1.0
        x = np.repeat(x, vae.cfg.in_channels // x.shape[-1], axis=-1)
        mean, logvar = vae.encode(x)
        parts.append(np.concatenate([mean, logvar], axis=-1)[: len(batch)])
    return np.concatenate(parts).astype(np.float32)
