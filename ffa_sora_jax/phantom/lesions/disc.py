"""Lesions of the optic disc: staining, leakage, new vessels.

Every function is a recipe: (finding, anatomy, grid, rng) -> primitives.
Source: the lesion table of `docs/phantom.md`.
"""

import numpy as np

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid
from ffa_sora_jax.phantom.lesions import shapes
from ffa_sora_jax.phantom.lesions.retina import LEAK, tuft
from ffa_sora_jax.phantom.primitives import Add, Grow, Primitive, Stain
from ffa_sora_jax.phantom.record import Finding


def disc_stain(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Dye held by the disc tissue late, within its border."""
    mask = shapes.disk(grid, anatomy.disc_center_dd, anatomy.disc_radius_dd, 0.12)
    amplitude = {"mild": 0.14, "moderate": 0.24, "severe": 0.36}[finding.severity]
    return [Stain(mask, amplitude, 15.0, 110.0)]


def disc_leak(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Dye that passes the disc border and blurs it."""
    x, y = anatomy.disc_center_dd
    strength = 0.3 + LEAK[finding.severity]
    ring = np.linspace(0, 2 * np.pi, 9)[:-1] + rng.uniform(0, 1)
    threads = [
        shapes.wander((x, y), angle, 0.6, rng, bend=0.2, steps=8)
        for angle in rng.uniform(0, 2 * np.pi, 24)
    ]
    rim = np.array([x, y]) + 0.42 * np.stack([np.cos(ring), np.sin(ring)], axis=-1)
    return [
        Add(shapes.lines(grid, threads, 0.014), shapes.dye(2.5), 0.45),
        Grow(np.array([[x, y]]), 0.38, 6e-5, 20.0, 90.0, strength),
        Grow(rim, 0.16, 6e-5, 30.0, 110.0, 0.35 * strength),
    ]


def nvd(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """New vessels on the disc: an early frond, then profuse leakage over its border."""
    x, y = anatomy.disc_center_dd
    frond = tuft((x, y), 0.7, rng, 14)
    buds = np.array([x, y]) + rng.normal(0, 0.3, (6, 2))
    return [
        Add(shapes.lines(grid, frond, 0.018), shapes.dye(2.0), 0.9),
        Grow(buds, 0.22, 1.2e-4, 8.0, 25.0, 0.5),
    ]
