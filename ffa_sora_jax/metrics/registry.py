"""All metrics by name: what kind each is, which weights it needs, how it is made.

Modules load only when their metric is asked for. A metric whose weights are missing is an error
that names the file; nothing takes its place.

A loader is a function `load(folder: Path | None) -> (metric, params)`: `metric` is a frozen
dataclass of one of the bases of `metrics.base`, `params` is what its `measure` or `features` takes
(None without a network), and `folder` is the weights folder, which holds what the entry needs.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.metrics import weights

KINDS = ("pair", "sets", "text", "clip_text")


@dataclasses.dataclass(frozen=True)
class Paper:
    """A published value, and why it is no target."""

    value: str
    caveat: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """One metric.

    Attributes:
      name: its name on the command line and in configs.
      title: what the report calls it.
      kind: "pair" (sample beside reference), "sets", "text" (text beside text), or "clip_text".
      loader: "module:function".
      needs: keys of `weights.WEIGHTS`.
      network: what computes the features, "" if nothing does.
      unit: of the value, "" if none.
      definition: the choices that decide the number, in one sentence.
      paper: published value, where there is one.
    """

    name: str
    title: str
    kind: str
    loader: str
    needs: tuple[str, ...] = ()
    network: str = ""
    unit: str = ""
    definition: str = ""
    paper: Paper | None = None


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A metric ready to run.

    Attributes:
      entry: its entry.
      metric: description, see `metrics.base`.
      params: parameters of its network, or None.
      weights: SHA-256 by file name.
    """

    entry: Entry
    metric: Any
    params: Any
    weights: Mapping[str, str]


_PIXELS = "ffa_sora_jax.metrics.pixel"

_ENTRIES = (
    Entry(
        "psnr", "PSNR", "pair", f"{_PIXELS}:load_psnr", unit="dB",
        definition="mean over frames and clips of per-frame decibels on [0, 1]; identical frames "
        "count as 100 dB",
        paper=Paper("11.81", "Fundus2Video (MICCAI 2024), another task: video from a fundus photo"),
    ),
    Entry(
        "ssim", "SSIM", "pair", f"{_PIXELS}:load_ssim",
        definition="mean over frames and clips; Gaussian window 11 x 11, sigma 1.5, whole windows",
    ),
    Entry(
        "ssim_uniform", "SSIM (uniform window)", "pair", f"{_PIXELS}:load_ssim_uniform",
        definition="mean over frames and clips; uniform window 7 x 7, unbiased covariance",
    ),
)  # fmt: skip
METRICS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def load(name: str, folder: Path | None = None) -> Loaded:
    """Opens one metric.

    Args:
      name: key of `METRICS`.
      folder: weights folder, see `ffa-sora weights`.

    Raises:
      ValueError: unknown name, or a file that is not what its name says.
      FileNotFoundError: weights are missing.
    """
    entry = find(name)
    paths = weights.require(entry.needs, folder, entry.title)
    for key, path in paths.items():
        if problem := weights.check(weights.WEIGHTS[key], path):
            raise ValueError(f"{path}: {problem}.")
    module, function = entry.loader.split(":")
    metric, params = getattr(importlib.import_module(module), function)(folder)
    hashes = {path.name: weights.fingerprint(path) for path in paths.values()}
    return Loaded(entry, metric, params, hashes)


def find(name: str) -> Entry:
    """The entry of a name; ValueError with near matches if there is none."""
    if name not in METRICS:
        raise ValueError(unknown_name("metric", name, METRICS))
    return METRICS[name]
