"""Lesions of the macula: oedema, detachments, neovascular membranes, drusen, atrophy.

Every function is a recipe: (finding, anatomy, grid, rng) -> primitives.
Source: the lesion table of `docs/phantom.md`.
"""

import numpy as np

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid
from ffa_sora_jax.phantom.lesions import shapes
from ffa_sora_jax.phantom.lesions.retina import tuft
from ffa_sora_jax.phantom.primitives import Add, Grow, Mul, Pool, Primitive, Stain, Window
from ffa_sora_jax.phantom.record import Finding

OEDEMA = {"mild": 0.2, "moderate": 0.3, "severe": 0.42}


def oedema_cystoid(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Petals of dye round a dark centre, best seen after minutes."""
    cx, cy = finding.center
    reach = finding.radius
    angle = np.arctan2(grid.y_dd - cy, grid.x_dd - cx)
    radius = grid.distance(finding.center) * (1 + 0.12 * shapes.noise(grid, 0.35, rng))
    petals = int(finding.values.get("petals", 8))
    bent = angle + 0.12 * shapes.noise(grid, 0.3, rng)
    lobes = 0.5 + 0.5 * np.cos(petals * bent + rng.uniform(0, 2 * np.pi))
    hollow = shapes.smoothstep(radius, 0.12 * reach, 0.5 * reach)
    border = shapes.smoothstep(radius, 1.15 * reach, 0.65 * reach)
    uneven = np.clip(0.75 + 0.25 * shapes.noise(grid, 0.3, rng), 0.3, 1.0)
    mask = np.clip(hollow * border * (0.25 + 0.75 * lobes) * uneven, 0, 1)
    amplitude = 0.25 + OEDEMA[finding.severity]
    points = _around(finding.center, 0.75 * reach, 14, rng)
    return [
        Pool(mask.astype(np.float32), finding.onset_s, 170.0, amplitude),
        Grow(points, 0.06, 0.6e-5, 25.0, 80.0, 0.3 * amplitude),
    ]


def _around(
    center: tuple[float, float], radius: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """(n, 2) points scattered round a centre, sparing the centre itself."""
    angle = rng.uniform(0, 2 * np.pi, count)
    distance = radius * np.sqrt(rng.uniform(0.05, 1.2, count))
    return np.asarray(center) + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)


def oedema_diffuse(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Many small leaks that merge into an even late haze."""
    strength = OEDEMA[finding.severity]
    haze = shapes.blob(grid, finding.center, finding.radius, rng, rough=0.15, edge=0.6)
    haze = haze * np.clip(0.8 + 0.25 * shapes.noise(grid, 0.3, rng), 0.2, 1.0)
    points = _around(finding.center, 0.8 * finding.radius, finding.count, rng)
    return [
        Grow(points, 0.07, 0.8e-5, finding.onset_s, 70.0, 0.55 * strength),
        Stain(haze.astype(np.float32), 0.9 * strength, finding.onset_s + 20.0, 150.0),
    ]


def csc_inkblot(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """A point that spreads evenly like a drop of ink, under a faintly filled detachment."""
    points = np.array([finding.center])
    return [
        Grow(points, 0.045, 1.3e-4, finding.onset_s, 35.0, 0.75),
        _detachment(finding, grid, rng, 0.14),
    ]


def _detachment(
    finding: Finding, grid: Grid, rng: np.random.Generator, amplitude: float
) -> Primitive:
    """The slowly filling space of the neurosensory detachment, between leak and fovea."""
    middle = (0.5 * finding.center[0], 0.5 * finding.center[1])
    roof = shapes.blob(grid, middle, finding.values["detachment"], rng, rough=0.06, edge=0.35)
    roof = roof * np.clip(0.8 + 0.12 * shapes.noise(grid, 0.5, rng), 0.4, 1.0)
    return Pool(roof.astype(np.float32), 60.0, 260.0, amplitude)


def csc_smokestack(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """A point from which dye climbs and then spreads under the roof like a mushroom."""
    x, y = finding.center
    height, speed = finding.values["height"], finding.values["speed_dd_s"]
    made: list[Primitive] = [
        Grow(np.array([[x, y]]), 0.05, 1.5e-5, finding.onset_s, 30.0, 0.75),
        _detachment(finding, grid, rng, 0.16),
    ]
    rungs = 7
    for i in range(rungs):
        low = y + height * i / rungs
        spots = np.stack([np.full(4, x), np.linspace(low, low + height / rungs, 4)], axis=-1)
        spots[:, 0] += 0.04 * np.sin(4 * spots[:, 1])
        width = 0.05 + 0.05 * i / rungs
        start = finding.onset_s + 8.0 + (low - y) / speed
        made.append(Pool(shapes.splat(grid, spots, width), start, 14.0, 0.55))
    top = finding.onset_s + 8.0 + height / speed
    for i in range(1, 5):
        spread = 0.18 * i
        along = np.linspace(-spread, spread, 4 * i + 1)
        spots = np.stack([x + along, y + height + 0.02 - 0.45 * along**2], axis=-1)
        made.append(Pool(shapes.splat(grid, spots, 0.15), top + 22.0 * i, 40.0, 0.24))
    return made


def csc_chronic(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Mottled pigment epithelium that transmits, with several weak late oozes."""
    cx, cy = finding.center
    mottle = np.clip(0.5 + 0.6 * shapes.noise(grid, 0.09, rng), 0, 1)
    area = shapes.blob(grid, finding.center, finding.radius, rng, rough=0.2, edge=0.3)
    tract = shapes.smoothstep(
        np.abs(grid.x_dd - cx - 0.15 * finding.radius), 0.6 * finding.radius, 0.2
    )
    tract = tract * shapes.smoothstep(cy - grid.y_dd, 0.2, 0.6)
    tract = tract * shapes.smoothstep(grid.y_dd, cy - 2.3, cy - 1.6)
    made: list[Primitive] = [Window((np.maximum(area, 0.7 * tract) * mottle), 2.6)]
    if finding.count:
        oozes = _around(finding.center, 0.6 * finding.radius, finding.count, rng)
        made.append(Grow(oozes, 0.06, 1.2e-5, finding.onset_s, 120.0, 0.35))
    return made


def cnv_classic(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """A lacy membrane lit before the retinal veins, with a dark rim, leaking past its border."""
    radius = finding.radius
    mesh = tuft(finding.center, radius, rng, 14)
    membrane = shapes.blob(grid, finding.center, radius, rng, rough=0.12, edge=0.1)
    outer = shapes.disk(grid, finding.center, 1.35 * radius, 0.12)
    rim = np.clip(outer - membrane, 0, 1).astype(np.float32)
    seeds = _around(finding.center, 0.4 * radius, 8, rng)
    return [
        Add(shapes.lines(grid, mesh, 0.016), shapes.dye(0.4, peak_s=5.0), 0.8),
        Add(membrane, shapes.dye(0.8, peak_s=8.0), 0.28),
        Mul(rim, {"choroid": 0.35, "capillary": 0.6}),
        Grow(seeds, 0.4 * radius, 4e-5, 15.0, 55.0, 0.22),
        Grow(np.array([finding.center]), 0.75 * radius, 6e-5, 15.0, 60.0, 0.42),
    ]


def cnv_occult(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Stippled staining of uncertain border from the second minute, oozing late."""
    area = shapes.blob(grid, finding.center, finding.radius, rng, rough=0.25, edge=0.35)
    stipple = np.clip(0.5 + 0.38 * shapes.noise(grid, 0.075, rng), 0, 1)
    oozes = _around(finding.center, 0.6 * finding.radius, finding.count, rng)
    return [
        Stain((area * stipple).astype(np.float32), 0.38, finding.onset_s, 100.0),
        Stain(area, 0.12, finding.onset_s + 40.0, 200.0),
        Grow(oozes, 0.1, 2.5e-5, 100.0, 150.0, 0.3),
    ]


def ped(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """A dome under the pigment epithelium: fills evenly, keeps its sharp round border."""
    dome = shapes.blob(grid, finding.center, finding.radius, rng, rough=0.05, edge=0.08)
    dome = dome * np.clip(0.88 + 0.07 * shapes.noise(grid, 0.35, rng), 0.6, 1.0)
    return [Pool(dome.astype(np.float32), finding.onset_s, 60.0, 0.38)]


def polyps(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Round aneurysmal bulbs at the end of a faint branching net, oozing late."""
    bulbs = _around(finding.center, finding.radius, finding.count, rng)
    net = tuft(finding.center, finding.radius, rng, 5)
    made: list[Primitive] = [Add(shapes.lines(grid, net, 0.016), shapes.dye(1.5), 0.4)]
    for x, y in bulbs:
        size = rng.uniform(0.07, 0.14)
        made.append(Pool(shapes.disk(grid, (x, y), size, 0.05), 4.0, 12.0, 0.55))
    made.append(Grow(bulbs, 0.1, 2e-5, 40.0, 120.0, 0.4))
    return made


def drusen(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Discrete deposits: half transmit early, half stain late, none grows."""
    points = rng.normal(0, 0.6 * finding.radius, (finding.count, 2)) + finding.center
    half = finding.count // 2
    size = finding.values.get("size", 0.04)
    window = np.minimum(1.5 * shapes.splat(grid, points[:half], size), 1.0)
    stain = np.minimum(1.5 * shapes.splat(grid, points[half:], 1.3 * size), 1.0)
    return [
        Window(window, 3.0),
        Add(window, shapes.dye(1.0, peak_s=14.0), 0.2),
        Stain(stain, 0.28, 20.0, 120.0),
    ]


def atrophy(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Bare choroid: a window with a sharp scalloped border that keeps its size and fades late."""
    mask = shapes.blob(grid, finding.center, finding.radius, rng, rough=0.19, edge=0.05)
    for _ in range(finding.count - 1):
        at = _around(finding.center, 1.3 * finding.radius, 1, rng)[0]
        extra = finding.radius * rng.uniform(0.3, 0.7)
        island = shapes.blob(grid, (at[0], at[1]), extra, rng, 0.19, 0.05)
        mask = np.maximum(mask, island)
    coarse = np.clip(0.75 + 0.25 * shapes.noise(grid, 0.22, rng), 0.3, 1.0)
    rim = (4 * mask * (1 - mask)).astype(np.float32)
    return [
        Window((mask * coarse).astype(np.float32), 4.5),
        Mul(mask, {"capillary": 0.6}),
        Stain(rim, 0.15, 60.0, 200.0),
    ]


def macular_hole(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """A small round window at the foveal centre that never changes."""
    mask = shapes.disk(grid, (0.0, 0.0), finding.radius, 0.05)
    return [Window(mask, 5.0), Mul(mask, {"capillary": 0.1})]
