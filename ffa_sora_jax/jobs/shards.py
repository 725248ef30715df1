"""`--shard I/N`: which share of a long job this process does."""

import argparse


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--shard`."""
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="this process of N, from 0")


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/8" to (2, 8): the third of eight processes.

    Raises:
      ValueError: malformed, or no such process.
    """
    try:
        shard, num_shards = (int(part) for part in text.split("/"))
    except ValueError:
        raise ValueError(f"--shard is {text!r}; expected I/N such as 0/4.") from None
    if not 0 <= shard < num_shards:
        raise ValueError(f"--shard is {text!r}; I runs from 0 to N - 1.")
    return shard, num_shards
