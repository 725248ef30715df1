"""The release folder: copies of the clips that an audit found clean, and nothing else."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import files

MANIFEST = "release.json"


def release(
    clean: Mapping[str, Sequence[Path]], source: Path, target: Path, about: Mapping[str, Any]
) -> int:
    """Copies the files of clean clips; deletes nothing anywhere.

    Args:
      clean: by name of the clip, its files and folders in `source`.
      source: folder of the generated clips.
      target: a new or empty folder, or one that an earlier run of the same audit filled.
      about: written into the manifest, such as the fingerprint of the audit.

    Returns:
      The number of clips in the folder.

    Raises:
      ValueError: `target` holds anything that would not be part of the release, or lies in
        `source` or around it.
    """
    check_target(source, target)
    wanted = {path.relative_to(source).parts[0] for paths in clean.values() for path in paths}
    _check_strangers(target, wanted)
    target.mkdir(parents=True, exist_ok=True)
    copied: dict[str, str] = {}
    for name in sorted(clean):
        for path in sorted(_all_files(clean[name])):
            relative = path.relative_to(source)
            _copy(path, target / relative)
            copied[relative.as_posix()] = files.sha256(target / relative)
    files.write_json(target / MANIFEST, {**about, "clips": len(clean), "sha256": copied})
    return len(clean)


def check_target(source: Path, target: Path) -> None:
    """Asks before the long work what `release` would refuse after it.

    Raises:
      ValueError: `target` is a file, lies in the folder `source` or around it, or holds what is not
        in `source`.
    """
    files.check_folder(target, "--release")
    there, here = target.resolve(), source.resolve()
    if here in (there, *there.parents) or there in here.parents:
        raise ValueError(f"--release {target} and the generated clips must be separate folders.")
    _check_strangers(target, {path.name for path in source.iterdir()})


def _check_strangers(target: Path, wanted: set[str]) -> None:
    present = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if strangers := sorted(present - wanted - {MANIFEST}):
        raise ValueError(
            f"{target} holds {strangers[0]!r}, which is not part of this release; give a new "
            "folder, so that no clip of an earlier one is shared by mistake."
        )


def _all_files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        yield from (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as partial:
        shutil.copyfile(source, partial)
