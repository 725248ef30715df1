"""`ffa-sora prepare` for phantoms: renders with workers, and goes on where it was killed.

Workers render chunks of a few exams into files beside the dataset; when all are there the TFDS
builder streams them into ArrayRecord and moves the finished folder into place. Running the same
command again after a kill, a full disk or a power cut gives the same bytes.
"""

import argparse
import contextlib
import dataclasses
import functools
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.progress import Progress
from tfds_ffa import workers, writing
from tfds_ffa.phantom import exams

CHUNK_LIMIT_S = 3600.0  # many times what a chunk takes; a worker that hangs ends the run in words


class WorkerLost(RuntimeError):
    """A worker gave no chunk; the text says why."""


def run(args: argparse.Namespace) -> int:
    """Prepares one dataset; 0 when it is complete, 1 when stopped half-way and resumable."""
    builder = make_builder(args.dataset, args.data_dir, args.num_exams, args.seed)
    target = Path(builder.data_dir)
    if writing.is_ready(target, dataclasses.asdict(builder.recipe), args.overwrite):
        sys.stdout.write(f"{target} is complete already.\n")
        return 0
    chunk_dir = target.parent / f".chunks-{exams.renderer_fingerprint()}-{builder.recipe.seed}"
    chunk_dir.mkdir(parents=True, exist_ok=True)
    try:
        with writing.only_one(target.parent):
            _check_space(chunk_dir, builder.recipe)
            render_chunks(builder.recipe, chunk_dir, args.workers)
            _write_dataset(args, target, chunk_dir)
    except KeyboardInterrupt:
        return _stopped("interrupted", chunk_dir)
    except WorkerLost as error:
        return _stopped(str(error), chunk_dir)
    except OSError as error:
        if error.errno not in writing.DISK_FULL:
            raise
        return _stopped(writing.no_space(chunk_dir), chunk_dir)
    _remove_leftovers(target.parent)
    sys.stdout.write(writing.summary(target))
    return 0


def make_builder(
    name: str,
    data_dir: Path,
    num_exams: int | None,
    seed: int | None,
    chunk_dir: Path | None = None,
) -> Any:
    """The TFDS builder of a dataset name such as "phantom/64".

    Raises:
      ValueError: unknown dataset or configuration, with near matches.
    """
    from tfds_ffa.phantom.phantom_dataset_builder import Builder

    allowed = [f"phantom/{config}" for config in Builder.builder_configs]
    if name not in allowed:
        raise ValueError(unknown_name("dataset", name, allowed))
    return Builder(
        config=name.split("/")[1],
        data_dir=data_dir,
        num_exams=num_exams,
        seed=seed,
        chunk_dir=chunk_dir,
    )


def render_chunks(recipe: exams.Recipe, chunk_dir: Path, num_workers: int) -> None:
    """Renders every chunk that is not there yet."""
    chunks = [chunk for split in exams.SPLITS for chunk in recipe.chunks(split)]
    missing = [chunk for chunk in chunks if not exams.chunk_path(chunk_dir, chunk).exists()]
    kept = recipe.num_exams - sum(len(chunk) for chunk in missing)
    progress = Progress("exams rendered", recipe.num_exams, done=kept)
    for count in _render(recipe, chunk_dir, missing, num_workers):
        progress.advance(count)


def _render(
    recipe: exams.Recipe, chunk_dir: Path, chunks: list[tuple[int, ...]], num_workers: int
) -> Iterable[int]:
    """Yields the number of exams of every chunk as it is finished."""
    write = functools.partial(exams.write_chunk, chunk_dir, recipe)
    if min(num_workers, len(chunks)) <= 1:
        for chunk in chunks:
            write(chunk)
            yield len(chunk)
        return
    with contextlib.closing(workers.run(write, chunks, num_workers, CHUNK_LIMIT_S)) as results:
        for chunk, result in results:
            if isinstance(result, workers.Failure):
                raise WorkerLost(
                    "a worker was killed (out of memory? try fewer --workers)"
                    if result.reason == "worker_died"
                    else f"a worker took more than {CHUNK_LIMIT_S:.0f} s for {len(chunk)} exams"
                )
            yield len(chunk)


def _write_dataset(args: argparse.Namespace, target: Path, chunk_dir: Path) -> None:
    def make() -> Any:
        return make_builder(args.dataset, args.data_dir, args.num_exams, args.seed, chunk_dir)

    writing.write_dataset(make, target, chunk_dir, overwrite=args.overwrite)


def _check_space(chunk_dir: Path, recipe: exams.Recipe) -> None:
    chunks = [chunk for split in exams.SPLITS for chunk in recipe.chunks(split)]
    there = sum(len(c) for c in chunks if exams.chunk_path(chunk_dir, c).exists())
    clip = exams.NUM_FRAMES * recipe.size**2
    # Rendered chunks are raw; the finished records take about 0.6 of that.
    needed = clip * (recipe.num_exams - there) + 0.6 * clip * recipe.num_exams
    free = shutil.disk_usage(chunk_dir).free
    if needed > free:
        raise ValueError(
            f"{recipe.num_exams} exams of {recipe.size} px need about {needed / 2**20:.0f} MiB "
            f"in {chunk_dir.parent}, which has {free / 2**20:.0f} MiB free. Make room, or ask "
            "for fewer with --num-exams."
        )


def _stopped(why: str, chunk_dir: Path) -> int:
    kept = len(list(chunk_dir.glob("*.npz")))
    sys.stderr.write(
        f"prepare: {why}. {kept} chunks of {exams.CHUNK_EXAMS} exams are kept. {writing.RETRY}\n"
    )
    return 1


def _remove_leftovers(folder: Path) -> None:
    for chunk_dir in folder.glob(".chunks-*"):
        shutil.rmtree(chunk_dir)
