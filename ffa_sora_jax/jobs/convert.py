"""`ffa-sora convert`: reads a model folder in any accepted form and writes it as safetensors.

Sources are Hugging Face style folders: `config.json` beside safetensors (single or sharded) or a
PyTorch file. The target holds the same keys, so PyTorch programs and this package open it alike.
`--check` reads everything, prints what was found, and writes nothing.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import pretrained
from ffa_sora_jax.convert.pretrained import DTYPES, Pretrained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `convert`."""
    parser.add_argument("source", type=Path, help="model folder: config.json beside the weights")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, help="model folder to write")
    what.add_argument("--check", action="store_true", help="print every parameter, write nothing")
    parser.add_argument("--dtype", choices=DTYPES, help="dtype to store (default: float32)")


def run(args: argparse.Namespace) -> int:
    """Converts or checks one folder."""
    model = pretrained.from_pretrained(args.source)
    if args.check:
        sys.stdout.write(table(model))
    else:
        pretrained.save_pretrained(model, args.output, args.dtype)
    sys.stdout.write(summary(model))
    if not args.check:
        sys.stdout.write(f"written to {args.output}\n")
    return 0


def table(model: Pretrained) -> str:
    """One line per parameter: path, shape, dtype, largest magnitude."""
    leaves = tree.flatten(model.params)
    width = max(len(path) for path in leaves)
    lines = [
        f"{path:<{width}}  {tuple(leaf.shape)!s:<22} {leaf.dtype!s:<9} "
        f"{float(np.abs(np.asarray(leaf, np.float32)).max(initial=0)):.4g}\n"
        for path, leaf in leaves.items()
    ]
    return "".join(lines)


def summary(model: Pretrained) -> str:
    """Class, number of parameters and fingerprint in one line."""
    leaves = tree.flatten(model.params).values()
    count = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    return f"{model.class_name}: {count:,} parameters, fingerprint {model.fingerprint}\n"
