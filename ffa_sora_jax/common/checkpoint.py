"""Checkpoints that are whole or do not count.

Orbax writes the arrays; on top of it every step folder gets a manifest of SHA-256 sums, written
last. A step without a manifest was interrupted, and a step whose files do not match theirs is
damaged (Orbax itself restores flipped bits without a word). Restoring takes the newest good step,
says loudly what it passed over and why, and moves the damaged folders to `damaged/`.

    <directory>/1200/state/...        arrays (Orbax)
    <directory>/1200/meta/metadata    what the caller stored beside them, as JSON (Orbax)
    <directory>/1200/manifest.json    sizes and SHA-256 of all files above

A checkpoint restores onto any mesh: the caller gives shapes, dtypes and shardings, and shapes and
dtypes must be those that were saved.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from ffa_sora_jax.common import tree
from ffa_sora_jax.common.files import sha256, write_text

MANIFEST = "manifest.json"
DAMAGED = "damaged"
UNFINISHED = "was never finished (no manifest)"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored checkpoint: its step, the arrays, and what was stored beside them."""

    step: int
    state: Any
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    `save` returns while the arrays are still being written; the manifest follows at the next
    `poll`, `save` or `wait`. Only then the step counts.
    """

    def __init__(self, directory: Path, *, keep: int = 3):
        """Names the folder; creates nothing until the first save.

        Raises:
          ValueError: fewer than two checkpoints are to be kept.
        """
        if keep < 2:
            raise ValueError(
                f"keep is {keep}; keep at least 2 checkpoints, so that one survives a crash while "
                "the next is written."
            )
        self.directory = Path(directory).absolute()
        self._keep = keep
        self._pending: int | None = None
        self._lazy_manager: ocp.CheckpointManager | None = None

    def steps(self) -> list[int]:
        """Steps with a manifest, ascending; their contents are not verified here."""
        return [s for s in _step_folders(self.directory) if self._manifest(s).exists()]

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        """Starts writing a step; an intact checkpoint of the same step is left as it is.

        Args:
          step: number of finished steps.
          state: tree of arrays.
          meta: JSON-compatible facts to store beside them.

        Raises:
          OSError: this or the step before could not be written.
        """
        self.wait()
        if step in self.steps():
            return
        if (self.directory / str(step)).exists():
            self._set_aside({step: UNFINISHED})
        described = {**meta, "tree": _describe(state)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(described)
        )
        try:
            self._manager().save(step, args=args, force=True)
        except (ValueError, OSError) as error:
            raise self._failed(step, error) from error
        self._pending = step

    def poll(self) -> None:
        """Finishes the pending step if its arrays are on disk; returns at once otherwise."""
        if self._pending is not None and not self._manager().is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Blocks until the pending step, if any, counts.

        Raises:
          OSError: it could not be written.
        """
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        try:
            # Orbax reports a failed asynchronous write nowhere else, and lists it as saved.
            self._manager().wait_until_finished()
            if jax.process_index() == 0:
                _write_manifest(self.directory / str(step))
        except (ValueError, OSError) as error:
            raise self._failed(step, error) from error

    def restore(self, abstract: Any, *, set_aside: bool = True) -> Restored | None:
        """The newest intact checkpoint, or None where there is none at all.

        Args:
          abstract: tree of `jax.ShapeDtypeStruct` with shardings.
          set_aside: move damaged and unfinished steps to `damaged/`. Readers that share the
            folder with a running trainer pass False.

        Raises:
          ValueError: every checkpoint is damaged, or the newest intact one holds another tree.
        """
        step, bad = self._newest_intact_of_all()
        if set_aside and bad:
            self._set_aside(bad)
        if step is None:
            damaged = {s: reason for s, reason in bad.items() if reason != UNFINISHED}
            if damaged:
                raise ValueError(
                    f"No intact checkpoint in {self.directory}: "
                    + "; ".join(f"step {s} {reason}" for s, reason in damaged.items())
                    + ". Restore a backup, or start again in another workdir."
                )
            return None
        meta = self._read_meta(step)
        _check_same_tree(_describe(abstract), meta.pop("tree"))
        state = ocp.StandardCheckpointer().restore(
            self.directory / str(step) / "state", target=abstract
        )
        return Restored(step=step, state=state, meta=meta)

    def restore_part(self, abstract: Any) -> Restored:
        """Part of the newest intact checkpoint, such as only the averaged parameters.

        Args:
          abstract: a tree with some of the keys of the saved one.

        Raises:
          FileNotFoundError: there is no intact checkpoint.
          ValueError: a leaf was not saved, or with another shape or dtype.
        """
        step, bad = self._newest_intact()
        if step is None:
            raise FileNotFoundError(
                f"No intact checkpoint in {self.directory}. " + (f"Damaged: {bad}." if bad else "")
            )
        meta = self._read_meta(step)
        saved, wanted = meta.pop("tree"), _describe(abstract)
        _check_same_tree(wanted, {path: saved[path] for path in wanted if path in saved})
        state = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
            self.directory / str(step) / "state",
            args=ocp.args.PyTreeRestore(
                item=abstract,
                restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
                partial_restore=True,
            ),
        )
        return Restored(step=step, state=state, meta=meta)

    def close(self) -> None:
        """Finishes the pending step and stops Orbax's threads."""
        self.wait()
        if self._lazy_manager is not None:
            self._lazy_manager.close()
            self._lazy_manager = None

    def _manager(self) -> ocp.CheckpointManager:
        if self._lazy_manager is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lazy_manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self._keep, cleanup_tmp_directories=True
                ),
            )
        return self._lazy_manager

    def _manifest(self, step: int) -> Path:
        return self.directory / str(step) / MANIFEST

    def _newest_intact_of_all(self) -> tuple[int | None, dict[int, str]]:
        """`_newest_intact` as process 0 sees it: it alone moves folders, so it alone looks."""
        if jax.process_count() == 1:
            return self._newest_intact()
        step, bad = self._newest_intact() if jax.process_index() == 0 else (None, {})
        known = multihost_utils.broadcast_one_to_all(np.int64(-1 if step is None else step))
        return (None if known < 0 else int(known)), bad

    def _newest_intact(self) -> tuple[int | None, dict[int, str]]:
        """The newest intact step, and what is wrong with the newer ones."""
        bad: dict[int, str] = {}
        for step in reversed(_step_folders(self.directory)):
            reason = verify(self.directory / str(step))
            if reason is None:
                return step, bad
            bad[step] = reason
            logging.warning("CHECKPOINT %d IN %s IS NOT USED: it %s.", step, self.directory, reason)
        return None, bad

    def _set_aside(self, bad: Mapping[int, str]) -> None:
        """Moves folders to `damaged/`, so that their steps can be saved anew."""
        if self._lazy_manager is not None:
            self._lazy_manager.close()
            self._lazy_manager = None  # it lists the folders once, when it is made
        if jax.process_index() == 0:
            for step in bad:
                source, target = self.directory / str(step), self.directory / DAMAGED / str(step)
                target.parent.mkdir(exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)
                source.rename(target)

    def _read_meta(self, step: int) -> dict[str, Any]:
        return json.loads((self.directory / str(step) / "meta" / "metadata").read_text("utf-8"))

    def _failed(self, step: int, error: Exception) -> OSError:
        good = [s for s in self.steps() if s != step]
        last = f"The last good one is step {good[-1]}." if good else "There is no earlier one."
        return OSError(
            f"Could not write checkpoint {step} to {self.directory}: {error}. {last} Free space "
            "or mend the folder, then run the same command to resume."
        )


def verify(folder: Path) -> str | None:
    """What is wrong with one step folder, or None when every file is as it was written."""
    path = folder / MANIFEST
    if not path.exists():
        return UNFINISHED
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
    except (ValueError, KeyError) as error:
        return f"has an unreadable manifest ({error})"
    for name, expected in files.items():
        file = folder / name
        if not file.exists():
            return f"lacks the file {name}"
        if file.stat().st_size != expected["bytes"]:
            return f"has {name} with {file.stat().st_size} bytes instead of {expected['bytes']}"
        if sha256(file) != expected["sha256"]:
            return f"has {name} with other contents than were written (SHA-256 differs)"
    return None


def _write_manifest(folder: Path) -> None:
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(MANIFEST)
    }
    if not files:
        raise OSError(f"{folder} is empty or missing")
    write_text(folder / MANIFEST, json.dumps({"files": files}, indent=1))


def _step_folders(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit() and p.is_dir())


def _describe(state: Any) -> dict[str, list[Any]]:
    """Shape and dtype of every leaf by path."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    key: Callable[[Any], str] = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")  # noqa: E731
    return {key(path): [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves}


def _check_same_tree(wanted: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    tree.check_same_paths(wanted, saved, given="this model", expected="the checkpoint")
    for path, (shape, dtype) in wanted.items():
        if [list(shape), dtype] != [list(saved[path][0]), saved[path][1]]:
            raise ValueError(
                f"{path} is {dtype} {tuple(shape)} in this model, but {saved[path][1]} "
                f"{tuple(saved[path][0])} in the checkpoint. Use the config of that run."
            )
