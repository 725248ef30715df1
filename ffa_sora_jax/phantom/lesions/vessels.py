"""Occlusions and other changes of the retinal trunks: calibre, course, speed.

Every function is a recipe: (finding, anatomy, grid, rng) -> primitives.
Source: the lesion table of `docs/phantom.md`.
"""

import numpy as np

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid
from ffa_sora_jax.phantom.lesions import shapes
from ffa_sora_jax.phantom.primitives import Add, Delay, Primitive, Slow, Vessel
from ffa_sora_jax.phantom.record import Finding


def vein_occlusion(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Late, slow drainage with wide and winding veins, in one quadrant or in all four."""
    mask = shapes.territory(grid, anatomy, finding.region)
    start = 0.9 if shapes.is_quadrant(finding.region) else 0.55
    mask = mask * (1 - shapes.disk(grid, anatomy.disc_center_dd, start, 0.3))
    inside = shapes.inside_territory(anatomy, finding.region, from_disc_dd=start)
    delay = finding.values["delay_s"]
    made: list[Primitive] = [
        Delay(mask, delay, ("vein",)),
        Delay(mask, 0.25 * delay, ("capillary",)),
        Slow(mask, finding.values.get("stretch", 1.5), ("vein",)),
        Vessel(
            "vein",
            inside,
            radius_factor=finding.values.get("width", 1.3),
            tortuosity_widths=finding.values.get("tortuosity", 1.2),
        ),
    ]
    if finding.values.get("wall_stain"):  # only a stretch of the vein, where the wall is diseased
        x, y = shapes.scatter(finding.region, 1, anatomy, rng, 1.0)[0]

        def stretch(xy: np.ndarray) -> np.ndarray:
            return inside(xy) & (np.hypot(*(xy - [x, y]).T) < 1.1)

        made.append(Vessel("vein", stretch, wall_stain=finding.values["wall_stain"]))
    return made


def collaterals(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Winding links across the temporal raphe that fill with the veins and do not leak."""
    paths = []
    for _ in range(finding.count):
        x = rng.uniform(-1.9, -0.8)
        y = np.linspace(rng.uniform(0.7, 1.2), -rng.uniform(0.7, 1.2), 24)
        sway = 0.03 * np.cumsum(rng.normal(0, 1, 24))  # a walk, with two waves over it
        for waves in rng.uniform(1.5, 5, 2):
            sway += 0.06 * np.sin(np.linspace(0, 2 * np.pi * waves, 24) + rng.uniform(0, 6.28))
        paths.append(np.stack([x + sway - 0.25 * y**2, y], axis=-1))
    return [Add(shapes.lines(grid, paths, 0.022), shapes.dye(8.0), 0.85)]


def venous_beading(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Veins of uneven calibre, like a string of beads."""
    inside = shapes.inside_territory(anatomy, finding.region, from_disc_dd=0.8)
    return [Vessel("vein", inside, radius_factor=1.15, beading=0.35)]


def arterial_narrowing(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Thin arteries."""
    inside = shapes.inside_territory(anatomy, finding.region)
    return [Vessel("artery", inside, radius_factor=finding.values.get("width", 0.7))]


def filling_delay(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """The whole retinal circulation arrives late behind a normally filled choroid."""
    everywhere = np.ones((grid.size, grid.size), np.float32)
    layers = ("artery", "capillary", "vein")  # the disc tissue fills with the choroid
    return [Delay(everywhere, finding.values["delay_s"], layers)]
