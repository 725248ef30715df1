"""Reference values of I3D at reduced width, and its weights under their published names."""

import functools
from pathlib import Path

import numpy as np
from einops import rearrange

from ffa_sora_jax.models.i3d import MIXED, I3DConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"


@functools.cache
def golden(name):
    return dict(np.load(GOLDEN / f"{name}.npz"))


def state_dict(prefix="p/", name="i3d_tiny"):
    data = golden(name)
    return {key.removeprefix(prefix): data[key] for key in data if key.startswith(prefix)}


def tiny_config(epsilon=1e-3):
    data = golden("i3d_tiny")
    stem = tuple(int(data[f"width/{name}"]) for name in ("1a", "2b", "2c"))
    mixed = tuple(tuple(map(int, data[f"width/{name}"])) for name in MIXED)
    return I3DConfig(stem, mixed, int(data["num_classes"]), epsilon)


def channels_last(x):
    return rearrange(x, "b c t h w -> b t h w c")
