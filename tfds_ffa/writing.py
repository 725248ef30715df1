"""What all builders and verbs of this folder share: records that are the same bytes in every run,
one writer per folder, and a dataset that appears whole or not at all."""

import contextlib
import errno
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer
from tensorflow_datasets.proto import tf_example_pb2

from ffa_sora_jax.common import files

RETRY = "Run the same command again to go on from there."
DOWNLOADS = "downloads"  # folder that TFDS wants, and leaves empty
SHARD_BYTES = 64 * 2**20  # raw video per shard; a shard is held in memory while it is written
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StableWriter(writer.ExampleWriter):
    """Writes the same bytes in every process.

    A TFDS record is a protobuf map, and those are written in an order that differs from one
    process to the next unless asked otherwise.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        """Writes serialised (key, example) pairs to one shard."""
        return super().write(path, ((key, _stable(record)) for key, record in examples))


def _stable(record: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True)


def write_dataset(
    make_builder: Callable[[], Any],
    target: Path,
    scratch: Path,
    *,
    overwrite: bool = False,
    beam_runner: Any = None,
    beam_options: Any = None,
) -> None:
    """Runs a builder; its folder is moved into place when all records are written.

    Args:
      make_builder: called after an old dataset is removed: a builder reads what it finds.
      target: folder of the finished dataset.
      scratch: folder for what TFDS leaves behind.
      overwrite: remove a finished dataset first.
      beam_runner: name or object of an Apache Beam runner that writes the shards.
      beam_options: `PipelineOptions` for it.
    """
    for leftover in target.parent.glob(f"*incomplete*{target.name}*"):
        shutil.rmtree(leftover)
    if overwrite and target.exists():
        shutil.rmtree(target)
    builder = make_builder()
    sys.stderr.write(f"writing {target}\n")
    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(beam_runner=beam_runner, beam_options=beam_options)
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints; stdout is for the result
        builder.download_and_prepare(
            download_dir=scratch / DOWNLOADS,
            download_config=config,
            file_format="array_record",
        )


def is_ready(target: Path, wanted: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether exactly this dataset lies there already; refuses another one under its name.

    Args:
      target: folder of the finished dataset.
      wanted: what its metadata must hold.
      overwrite: whatever is there counts as absent.

    Raises:
      ValueError: another dataset lies there.
    """
    if overwrite or not (target / "dataset_info.json").exists():
        return False
    found = dict(tfds.builder_from_directory(target).info.metadata or {})
    different = {key: found.get(key) for key in wanted if found.get(key) != wanted[key]}
    if different:
        hint = " (inputs: a hash of table, files and options)" if "inputs" in different else ""
        raise ValueError(
            f"{target} holds a dataset with {different}; asked for "
            f"{ {key: wanted[key] for key in different} }{hint}. Choose another --data-dir, or "
            "--overwrite."
        )
    return True


def only_one(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps a second `prepare` out of the same folder while entered."""
    folder.mkdir(parents=True, exist_ok=True)
    return files.locked(folder / ".lock", f"Another prepare is writing to {folder}; wait for it.")


def summary(target: Path) -> str:
    """One line on a finished dataset."""
    splits = tfds.builder_from_directory(target).info.splits
    counts = ", ".join(f"{name} {split.num_examples}" for name, split in splits.items())
    size = sum(path.stat().st_size for path in target.iterdir() if path.is_file())
    return f"{target}: {counts} clips, {size / 2**20:.1f} MiB\n"


def no_space(folder: Path) -> str:
    """Why a build stopped on a full disk."""
    free = shutil.disk_usage(folder).free
    return f"no space left ({free / 2**20:.0f} MiB free), make room"
