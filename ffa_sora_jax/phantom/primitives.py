"""The nine building blocks of which every lesion is a list.

A recipe turns a `Finding` into primitives whose masks are already drawn on the pixel grid; the
renderer only adds, multiplies and delays. `Vessel`, `Delay` and `Slow` act on the vessel trees
and arrival maps, the others on the layers of the picture. Amplitudes are relative to the vessel
peak (1), times in seconds, lengths in DD unless a name says otherwise.
Source of the set: the lesion table of `docs/phantom.md`.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Curve: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Amplitude over time: (t,) seconds -> (t,) values in 0..1."""

LAYERS = ("choroid", "capillary", "disc", "artery", "vein")


@dataclasses.dataclass(frozen=True)
class Add:
    """I += amplitude * mask * curve(t)."""

    mask: np.ndarray  # (h, w) float32 0..1
    curve: Curve
    amplitude: float


@dataclasses.dataclass(frozen=True)
class Grow:
    """Gaussian leaks: sigma(t)^2 = sigma0^2 + 2 D (t - t0)+, peak 1 - exp(-(t - t0)/tau)."""

    centers: np.ndarray  # (n, 2) DD, canonical
    sigma0: float  # DD
    diffusivity: float  # DD^2 / s
    onset_s: float
    tau_s: float
    amplitude: float


@dataclasses.dataclass(frozen=True)
class Pool:
    """Dye filling a space of fixed, crisp outline: peak 1 - exp(-(t-t0)/tau)."""

    mask: np.ndarray  # (h, w)
    onset_s: float
    tau_s: float
    amplitude: float


@dataclasses.dataclass(frozen=True)
class Stain:
    """Tissue taking up dye late: fixed place, soft border, peak 1 - exp(-(t-t0)/tau)."""

    mask: np.ndarray  # (h, w)
    amplitude: float
    onset_s: float = 0.0
    tau_s: float = 150.0


@dataclasses.dataclass(frozen=True)
class Mul:
    """Blocks or drops layers: layer *= 1 - mask * (1 - factor)."""

    mask: np.ndarray  # (h, w)
    factors: dict[str, float]  # by layer of LAYERS; "all" for the whole picture
    drop_vessels_below_um: float = 0.0  # vessels of a smaller radius vanish inside the mask


@dataclasses.dataclass(frozen=True)
class Window:
    """Transmission defect: the choroid layer times 1 + mask * (factor - 1)."""

    mask: np.ndarray  # (h, w)
    factor: float


@dataclasses.dataclass(frozen=True)
class Delay:
    """Later arrival of dye inside a territory."""

    mask: np.ndarray  # (h, w)
    delay_s: float
    layers: tuple[str, ...] = ("vein",)


@dataclasses.dataclass(frozen=True)
class Slow:
    """Stretches the dye curve in time inside a territory: C((t - T) / stretch)."""

    mask: np.ndarray  # (h, w)
    stretch: float
    layers: tuple[str, ...] = ("vein",)


@dataclasses.dataclass(frozen=True)
class Vessel:
    """Edits the tree before it is drawn: calibre, tortuosity, beading, wall stain.

    The edit applies to the nodes for which `inside(xy_dd) -> (n,) bool` holds.
    """

    kind: str  # "artery" or "vein"
    inside: Callable[[np.ndarray], np.ndarray]  # (n, 2) DD -> (n,) bool
    radius_factor: float = 1.0
    tortuosity_widths: float = 0.0  # amplitude of the waviness in vessel widths
    beading: float = 0.0  # relative radius modulation, 0..0.4
    wall_stain: float = 0.0  # late amplitude along the wall


Primitive: TypeAlias = Add | Grow | Pool | Stain | Mul | Window | Delay | Slow | Vessel
