"""Lesions of the retinal capillaries, haemorrhages, new vessels and laser scars.

Every function is a recipe: (finding, anatomy, grid, rng) -> primitives. Amplitudes are relative
to the vessel peak. Source: the lesion table of `docs/phantom.md`.
"""

import numpy as np

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid
from ffa_sora_jax.phantom.lesions import shapes
from ffa_sora_jax.phantom.primitives import Add, Grow, Mul, Primitive, Stain
from ffa_sora_jax.phantom.record import Finding

LEAK = {"mild": 0.17, "moderate": 0.3, "severe": 0.5}
CLOSURE = {"mild": (0.22, 0.4), "moderate": (0.6, 1.0), "severe": (1.1, 1.6)}  # patch radius, DD
BLOOD = {"capillary": 0.4, "choroid": 0.4, "all": 0.4}  # trunks shine through, a little


def microaneurysms(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Pinpoints lit with the capillaries; a third of them blur late."""
    points = shapes.scatter(finding.region, finding.count, anatomy, rng, clear_dd=0.2)
    made: list[Primitive] = []
    for sigma in (0.028, 0.042):
        some = points[rng.uniform(0, 1, len(points)) < 0.5] if sigma < 0.03 else points[::3]
        bright = rng.uniform(0.6, 1.0, len(some))
        made.append(Add(shapes.splat(grid, some, sigma, bright), shapes.dye(3.0), 0.9))
    seeping = points[::3]
    if len(seeping):
        made.append(Grow(seeping, 0.03, 0.3e-5, 20.0, 90.0, 0.35))
    return made


def capillary_leakage(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Fuzzy spots from dilated capillaries that widen and brighten after the first minute."""
    strength = LEAK[finding.severity]
    anchors = shapes.scatter(finding.region, max(3, finding.count // 3), anatomy, rng, 0.35)
    chosen = anchors[rng.integers(0, len(anchors), finding.count)]
    points = chosen + rng.normal(0, 0.3, chosen.shape)
    fine = [
        shapes.wander((x, y), rng.uniform(0, 2 * np.pi), 0.3, rng, bend=0.6, steps=6)
        for x, y in points[:60]
    ]
    return [
        Add(shapes.lines(grid, fine, 0.012), shapes.dye(3.5), 0.5),
        Grow(points, 0.06, 0.8e-5, 20.0, 80.0, 0.7 * strength),
        Grow(anchors, 0.2, 5e-5, 35.0, 130.0, 0.42 * strength),
    ]


def nonperfusion(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Capillary closure: dark geographic patches without fine vessels, grey rather than black."""
    low, high = CLOSURE[finding.severity]
    mask = np.zeros((grid.size, grid.size), np.float32)
    gap = 1.1 * low if finding.severity == "mild" else 1.5 * low
    centers = shapes.scatter(finding.region, finding.count, anatomy, rng, 0.7 + 0.8 * low, gap)
    for x, y in centers:
        radius = rng.uniform(low, high)
        mask = np.maximum(mask, shapes.blob(grid, (x, y), radius, rng, rough=0.4, edge=0.06))
    if shapes.is_quadrant(finding.region):
        mask = mask * shapes.territory(grid, anatomy, finding.region, edge=0.15)
    mask = mask * (1 - shapes.disk(grid, anatomy.disc_center_dd, 0.75, 0.3))
    mask = mask * (1 - shapes.disk(grid, (0.0, 0.0), 0.25, 0.1))
    ragged = np.clip(mask * (1.25 + 0.35 * shapes.noise(grid, 0.12, rng)), 0, 1)
    mask = np.where(mask > 0.9, mask, ragged * mask).astype(np.float32)
    factors = {"capillary": 0.08, "choroid": 0.5 + finding.values.get("choroid", 0.0)}
    return [
        Mul(mask, {**factors, "artery": 0.85, "vein": 0.85}, drop_vessels_below_um=28.0),
        Stain(_rim(mask), finding.values.get("edge_leak", 0.12), 30.0, 120.0),
    ]


def _rim(mask: np.ndarray) -> np.ndarray:
    """(h, w) the border of a soft mask, where half-closed capillaries seep."""
    return (4 * mask * (1 - mask)).astype(np.float32)


def irma(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Curly dilated capillaries beside closed ones, hardly leaking."""
    starts = shapes.scatter(finding.region, finding.count, anatomy, rng, 0.8)
    paths = [
        shapes.wander((x, y), rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.7), rng, bend=0.75)
        for x, y in starts
        for _ in range(3)
    ]
    return [
        Add(shapes.lines(grid, paths, 0.016), shapes.dye(3.0), 0.8),
        Grow(starts, 0.08, 1e-5, 40.0, 150.0, 0.18),
    ]


def tuft(
    center: tuple[float, float], radius: float, rng: np.random.Generator, sprigs: int
) -> list[np.ndarray]:
    """Polylines of a lacy frond that spreads from one point."""
    paths: list[np.ndarray] = []
    for _ in range(sprigs):
        path = shapes.wander(center, rng.uniform(0, 2 * np.pi), radius * 1.2, rng, 0.45, 10)
        paths.append(path)
        fork = path[rng.integers(3, 8)]
        paths.append(
            shapes.wander((fork[0], fork[1]), rng.uniform(0, 2 * np.pi), radius * 0.6, rng, 0.6, 6)
        )
    return paths


def nve(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """New vessels elsewhere: lacy tufts that flood their surroundings within a minute."""
    if shapes.is_quadrant(finding.region):
        centers = shapes.scatter(finding.region, finding.count, anatomy, rng, 1.3, 0.9)
    else:
        centers = np.asarray([finding.center])
    made: list[Primitive] = []
    for x, y in centers:
        radius = finding.radius * rng.uniform(0.8, 1.2)
        sprigs = tuft((x, y), radius, rng, 8)
        made.append(Add(shapes.lines(grid, sprigs, 0.018), shapes.dye(2.5), 0.95))
        buds = np.array([x, y]) + rng.normal(0, 0.45 * radius, (4, 2))
        made.append(Grow(buds, 0.45 * radius, 1.2e-4, 8.0, 25.0, 0.6))
    return made


def haemorrhage_blot(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Dots and blots of blood that screen everything beneath, in every phase."""
    points = shapes.scatter(finding.region, finding.count, anatomy, rng, 0.3)
    mask = np.zeros((grid.size, grid.size), np.float32)
    for x, y in points:
        radius = min(finding.radius * float(rng.lognormal(0, 0.45)), 0.32)
        mask = np.maximum(mask, _patch(grid, (x, y), radius, rng))
    return [Mul(mask, BLOOD)]


def _patch(
    grid: Grid, center: tuple[float, float], radius: float, rng: np.random.Generator
) -> np.ndarray:
    """(h, w) a few overlapping spots: a small clot of no particular outline."""
    spots = np.asarray(center) + rng.normal(0, 0.5 * radius, (5, 2))
    return np.minimum(1.6 * shapes.splat(grid, spots, 0.45 * radius), 1.0)


def haemorrhage_flame(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Streaks of blood along the nerve fibres."""
    points = shapes.scatter(finding.region, finding.count, anatomy, rng, 0.45)
    angles = shapes.fibre_angle(anatomy, points)
    mask = np.zeros((grid.size, grid.size), np.float32)
    for (x, y), angle in zip(points, angles, strict=True):
        length = finding.radius * float(rng.lognormal(0, 0.45))
        along = np.linspace(-length, length, 9)[:, None]
        bend = rng.normal(0, 0.12)
        way = np.array([np.cos(angle + bend), np.sin(angle + bend)])
        spots = np.array([x, y]) + along * way + rng.normal(0, 0.12 * length, (9, 2))
        taper = 1 - 0.5 * np.abs(along[:, 0]) / length
        darkness = rng.uniform(0.5, 1.0)
        mask = np.maximum(mask, shapes.splat(grid, spots, 0.2 * length, taper * darkness))
    return [Mul(np.minimum(1.5 * mask, 1.0), BLOOD)]


def preretinal_haemorrhage(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """A boat of blood with a level top that hides the vessels too."""
    x, y = finding.center
    bowl = shapes.blob(grid, (x, y), finding.radius, rng, rough=0.08, edge=0.05)
    level = y + 0.15 * finding.radius
    below = shapes.smoothstep(level - grid.y_dd, -0.02, 0.04)
    return [Mul((bowl * below).astype(np.float32), {"all": 0.1})]


def hard_exudates(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """A ring of lipid round the macula that screens only faintly."""
    angle = rng.uniform(0, 2 * np.pi, finding.count)
    radius = rng.normal(finding.radius, 0.15, finding.count)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    mask = np.minimum(1.4 * shapes.splat(grid, points, 0.05), 1.0)
    return [Mul(mask, dict.fromkeys(("capillary", "choroid"), 0.7))]


def cotton_wool(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Small pale infarcts: dark early, with a faint seeping edge late."""
    points = shapes.scatter("posterior pole", finding.count, anatomy, rng, 0.9, 0.6)
    mask = np.zeros((grid.size, grid.size), np.float32)
    for x, y in points:
        mask = np.maximum(mask, shapes.blob(grid, (x, y), rng.uniform(0.12, 0.24), rng, 0.2, 0.08))
    return [
        Mul(mask, {"capillary": 0.25, "choroid": 0.5}, drop_vessels_below_um=22.0),
        Stain(_rim(mask), 0.2, 60.0, 150.0),
    ]


def laser_scars(
    finding: Finding, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[Primitive]:
    """Burns in a loose lattice: pigmented dark centres in stained rings."""
    core = np.zeros((grid.size, grid.size), np.float32)
    ring = core.copy()
    for points in np.array_split(_burns(finding, anatomy, rng), 5):  # five sizes of burn
        size = finding.radius * float(rng.uniform(0.65, 1.2))
        strength = rng.uniform(0.55, 1.0, len(points))
        dark = np.minimum(1.4 * shapes.splat(grid, points, 0.72 * size, strength), 1.0)
        halo = np.minimum(1.4 * shapes.splat(grid, points, 1.1 * size, strength), 1.0)
        core = np.maximum(core, dark)
        ring = np.maximum(ring, halo - 0.8 * dark)
    return [
        Mul(core, {"choroid": 0.1, "capillary": 0.1}, drop_vessels_below_um=20.0),
        Add(ring, shapes.dye(1.0, peak_s=14.0), 0.1),
        Stain(ring, 0.2, 20.0, 140.0),
    ]


def _burns(finding: Finding, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) jittered triangular lattice over the treated region, at most `count` points."""
    pitch = finding.values.get("pitch", 0.42)
    steps = np.arange(-6.0, 8.0, pitch)
    xx, yy = np.meshgrid(steps, steps)
    xx = xx + (np.arange(len(steps)) % 2)[:, None] * pitch / 2
    xy = np.stack([xx, yy], axis=-1).reshape(-1, 2) + rng.normal(0, 0.09, (len(steps) ** 2, 2))
    from_disc = np.hypot(*(xy - np.asarray(anatomy.disc_center_dd)).T)
    from_fovea = np.hypot(*xy.T)
    if finding.region == "macula":
        keep = (from_fovea > 0.45) & (from_fovea < 1.3)
    else:
        far = np.hypot(*((xy - np.asarray(shapes.POLE_CENTER_DD)) / [1.0, 0.92]).T)
        keep = (far > 2.35) & (far < 4.7) & (from_disc > 1.1)
    if shapes.is_quadrant(finding.region):
        keep &= shapes.inside_territory(anatomy, finding.region)(xy)
    xy = xy[keep]
    return xy[rng.permutation(len(xy))[: finding.count]]
