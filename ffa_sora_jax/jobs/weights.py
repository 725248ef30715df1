"""`ffa-sora weights`: which files each metric needs, and which of them are there.

Nothing is downloaded. With a folder, every file is looked for by its names; --verify also compares
the published hash where one is known and opens the file as its metric does. --convert writes the
single PyTorch files as safetensors, under names that are looked for too, so that evaluation needs
no torch; model folders of Hugging Face style are converted by `ffa-sora convert`. Exit code: 0, or
3 if a file was found wrong.
"""

import argparse
import sys
from pathlib import Path

from ffa_sora_jax.common import files
from ffa_sora_jax.convert import i3d, safetensors_io
from ffa_sora_jax.metrics import registry, weights
from ffa_sora_jax.metrics.weights import WEIGHTS, Weights

OK, SOME_WRONG = 0, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `weights`."""
    parser.add_argument("folder", type=Path, nargs="?", help="folder given to `evaluate --weights`")
    parser.add_argument("--metric", help="only what this metric needs")
    parser.add_argument(
        "--verify", action="store_true", help="check hashes, and open every file that is there"
    )
    parser.add_argument(
        "--convert", type=Path, metavar="OUT", help="folder for the PyTorch files as safetensors"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the list."""
    if args.folder is not None and not args.folder.is_dir():
        raise FileNotFoundError(f"No folder {args.folder}.")
    if (args.verify or args.convert) and args.folder is None:
        raise ValueError("--verify and --convert need the folder to look in.")
    if args.convert is not None:
        files.check_folder(args.convert, "--convert")
    keys = WEIGHTS if args.metric is None else registry.find(args.metric).needs
    if not keys:
        sys.stdout.write(f"{args.metric} needs no weights.\n")
    wrong = 0
    for key in keys:
        sys.stdout.write(_described(key, args.folder))
        path = WEIGHTS[key].find(args.folder)
        lines = verify(key, path, args.folder) if args.verify and path else []
        lines += convert(key, path, args.convert) if args.convert and path else []
        wrong += sum(line.startswith("WRONG") for line in lines)
        sys.stdout.write("".join(f"  {line}\n" for line in lines))
    if args.metric is None:
        free = [entry.title for entry in registry.METRICS.values() if not entry.needs]
        sys.stdout.write(f"No weights are needed for: {', '.join(free)}.\n")
    return SOME_WRONG if wrong else OK


def verify(key: str, path: Path, folder: Path) -> list[str]:
    """What was found out about one file; lines that begin with WRONG are failures."""
    lines = [f"sha256 {weights.fingerprint(path)}"]
    if problem := weights.check(WEIGHTS[key], path):
        return [*lines, f"WRONG: {problem}"]
    known = path.name in WEIGHTS[key].sha256
    lines.append("the start of the hash is the published one" if known else "no published hash")
    for name, entry in registry.METRICS.items():
        if key not in entry.needs or any(WEIGHTS[k].find(folder) is None for k in entry.needs):
            continue
        try:
            registry.load(name, folder)
        except (ValueError, FileNotFoundError) as error:
            lines.append(f"WRONG: {name} cannot use it: {error}")
        else:
            lines.append(f"{name} opens it")
    return lines


def convert(key: str, path: Path, output: Path) -> list[str]:
    """Writes one file as safetensors; says what was done, lines that begin with WRONG are failures.

    What is safetensors already, or a model folder, is left alone.
    """
    names = [name for name in WEIGHTS[key].names if name.endswith(".safetensors")]
    if path.is_dir() or path.suffix == ".safetensors" or not names:
        return []
    if problem := weights.check(WEIGHTS[key], path):
        return [f"WRONG: {problem}"]
    try:
        read = i3d.read_state_dict if key == "i3d" else safetensors_io.open_weights
        state = dict(read(path))
    except (ValueError, ImportError) as error:
        return [f"WRONG: {error}"]
    output.mkdir(parents=True, exist_ok=True)
    with files.replacing(output / names[0]) as partial:
        safetensors_io.write_safetensors(partial, state)
    return [f"converted to {output / names[0]}"]


def _described(key: str, folder: Path | None) -> str:
    entry = WEIGHTS[key]
    users = [e.name for e in registry.METRICS.values() if key in e.needs]
    lines = [
        f"{key}: {entry.title}",
        f"  for      {', '.join(users) or 'no metric of this version'}",
        f"  files    {_names(entry)}",
        f"  licence  {entry.licence}",
        f"  source   {entry.source}",
    ]
    if folder is not None:
        path = entry.find(folder)
        lines.append(f"  {'found    ' + str(path) if path else 'missing'}")
    return "\n".join(lines) + "\n"


def _names(entry: Weights) -> str:
    return ", or ".join(
        f"{name} (sha256 {entry.sha256[name]}...)" if name in entry.sha256 else name
        for name in entry.names
    )
