"""From trees, maps and primitives to the light that leaves the retina, frame by frame.

Layers add up: dark current, choroid, capillaries, disc, vessels, then lesions. Each layer is
one look-up of the dye curve at (frame time - arrival time). Values are relative to the vessel
peak (1), before the camera.
Source of the layer formulas: `docs/phantom.md`, section "Layers".
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ffa_sora_jax.phantom.anatomy import FIELD_RADIUS, Anatomy, Grid
from ffa_sora_jax.phantom.dye import Dye
from ffa_sora_jax.phantom.primitives import (
    LAYERS,
    Add,
    Delay,
    Grow,
    Mul,
    Pool,
    Primitive,
    Slow,
    Stain,
    Vessel,
    Window,
)
from ffa_sora_jax.phantom.vessels import Tree, edit_tree

DENSIFY = 4  # points per tree segment
TRUNK_MM = 0.042  # vessels at least this wide (radius) are drawn over the thin ones
DARK = 0.020  # dark current and autofluorescence
NEVER_S = 1e4  # arrival time where there is no vessel


@dataclasses.dataclass(eq=False)
class VesselMap:
    """One tree on the grid; every field is (h, w) float32."""

    coverage: np.ndarray  # 0..1
    radius_um: np.ndarray  # 0 where there is none
    arrival_s: np.ndarray  # with laminar flow: walls before the axis in veins
    wall: np.ndarray  # late amplitude of stained walls


def smooth_noise(rng: np.random.Generator, size: int, cells: float) -> np.ndarray:
    """(size, size) float32 noise of unit sd with about `cells` bumps per side, any size."""
    n = min(math.ceil(cells) + 4, 2 * size)
    field = rng.standard_normal((n, n), dtype=np.float32)
    margin = 2 * size / max(n - 4, 1)
    grown = max(round(size + 2 * margin), size)
    wide = cv2.resize(field, (grown, grown), interpolation=cv2.INTER_CUBIC)
    start = (grown - size) // 2
    cut = wide[start : start + size, start : start + size]
    return (cut - cut.mean()) / max(float(cut.std()), 1e-6)


def densify(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Splines the tree: (m, 2) positions in mm and (m,) the node whose vessel each belongs to."""
    child = np.flatnonzero(tree.parent >= 0)
    up = tree.parent[child]
    before = np.where(tree.parent[up] >= 0, tree.parent[up], up)
    main = np.arange(len(tree.parent))  # the widest child of every node, itself at a tip
    order = child[np.argsort(tree.radius_mm[child], kind="stable")]
    main[tree.parent[order]] = order
    p0, p1, p2, p3 = (tree.xy_mm[i] for i in (before, up, child, main[child]))
    normal = np.stack([p1[:, 1] - p2[:, 1], p2[:, 0] - p1[:, 0]], axis=1)
    normal /= np.maximum(np.hypot(normal[:, 0], normal[:, 1]), 1e-9)[:, None]
    node_normal = np.zeros_like(tree.xy_mm)
    node_normal[child] = normal
    node_normal[up[tree.parent[up] < 0]] = normal[tree.parent[up] < 0]
    points = []
    for u in np.arange(1, DENSIFY + 1) / DENSIFY:
        spline = 0.5 * (
            2 * p1
            + (p2 - p0) * u
            + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2
            + (3 * p1 - p0 - 3 * p2 + p3) * u**3
        )
        if tree.wave_mm.any():
            amplitude = (1 - u) * tree.wave_mm[up] + u * tree.wave_mm[child]
            phase = (1 - u) * tree.phase[up] + u * tree.phase[child]
            across = (1 - u) * node_normal[up] + u * node_normal[child]
            spline = spline + across * (amplitude * np.sin(phase))[:, None]
        points.append(spline)
    return np.concatenate(points), np.tile(child, DENSIFY)


def _band(px: np.ndarray, size: int, reach: float) -> np.ndarray:
    """(k, 2) int (row, column) of the pixels within about `reach` px of any of the points."""
    mask = np.zeros((size, size), np.uint8)
    at = np.rint(px).astype(int)
    at = at[((at >= 0) & (at < size)).all(axis=1)]
    mask[at[:, 1], at[:, 0]] = 1
    side = 2 * math.ceil(reach + 1) + 1
    return np.argwhere(cv2.dilate(mask, np.ones((side, side), np.uint8)))


def rasterise(tree: Tree, grid: Grid, dd_mm: float) -> VesselMap:
    """Draws one tree; the wide vessels lie over the thin ones."""
    xy, node = densify(tree)
    px = grid.to_px(xy / dd_mm)
    px_per_mm = grid.px_per_dd / dd_mm
    radius_px = tree.radius_mm[node] * px_per_mm
    trunk = tree.radius_mm[node] >= TRUNK_MM
    shape = (grid.size, grid.size)
    out = VesselMap(*(np.zeros(shape, np.float32) for _ in range(4)))
    out.arrival_s[:] = NEVER_S
    for group in (~trunk, trunk):
        if not group.any():
            continue
        reach = max(float(radius_px[group].max()), 0.5) + 0.5 + px_per_mm * 0.06
        at = _band(px[group], grid.size, reach)
        distance, index = cKDTree(px[group]).query(at[:, ::-1], distance_upper_bound=reach + 1)
        near = np.isfinite(distance)
        at, distance, index = at[near], distance[near], index[near]
        _paint(out, tree, node[group][index], radius_px[group][index], distance, at)
    return out


def _paint(
    out: VesselMap,
    tree: Tree,
    node: np.ndarray,
    radius_px: np.ndarray,
    distance: np.ndarray,
    at: np.ndarray,
) -> None:
    """Writes the pixels of one group of vessels where they cover more than what is there."""
    rows, cols = at[:, 0], at[:, 1]
    thin = np.minimum(1.0, (2 * radius_px + 0.15) / 1.15)
    coverage = np.clip(np.maximum(radius_px, 0.5) + 0.5 - distance, 0, 1) * thin
    wall = tree.wall_stain[node] * np.exp(-(((distance / np.maximum(radius_px, 0.6)) - 1) ** 2))
    np.maximum.at(out.wall, (rows, cols), wall.astype(np.float32))
    over = coverage > 0.6 * out.coverage[rows, cols]
    over &= coverage > 0
    rows, cols, node = rows[over], cols[over], node[over]
    rho = np.clip(distance[over] / np.maximum(radius_px[over], 0.5), 0, 1)
    lag = np.clip(tree.mean_s[node] - tree.first_s[node], 0.5, 4.0) * 1.3
    axis = (1 - rho) * lag if tree.kind == "vein" else 0.25 * rho
    out.coverage[rows, cols] = np.maximum(coverage[over], out.coverage[rows, cols])
    out.radius_um[rows, cols] = 1000 * tree.radius_mm[node]
    out.arrival_s[rows, cols] = tree.first_s[node] + axis


@dataclasses.dataclass(eq=False)
class Scene:
    """Everything about one eye that does not change with time; maps are (h, w) float32."""

    anatomy: Anatomy
    grid: Grid
    artery: VesselMap
    vein: VesselMap
    vein_in_front: np.ndarray  # where a vein crosses over its artery
    choroid: np.ndarray
    choroid_arrival_s: np.ndarray
    capillary: np.ndarray
    capillary_arrival_s: np.ndarray
    disc_early: np.ndarray
    disc_late: np.ndarray
    stretch: dict[str, np.ndarray]
    lesions: tuple[Primitive, ...]


def build_scene(
    rng: np.random.Generator,
    anatomy: Anatomy,
    grid: Grid,
    trees: tuple[Tree, Tree],
    primitives: Sequence[Primitive],
) -> Scene:
    """Draws the healthy eye and applies what does not depend on the frame time."""
    edited = list(trees)
    for edit in primitives:
        if isinstance(edit, Vessel):
            edited = [edit_tree(tree, edit, anatomy) for tree in edited]
    artery, vein = (rasterise(tree, grid, anatomy.dd_mm) for tree in edited)
    choroid, choroid_arrival = _choroid(rng, anatomy, grid)
    capillary, capillary_arrival = _capillaries(rng, anatomy, grid, edited[0])
    disc_early, disc_late, disc_inside = _disc(rng, anatomy, grid)
    scene = Scene(
        anatomy=anatomy,
        grid=grid,
        artery=artery,
        vein=vein,
        vein_in_front=smooth_noise(rng, grid.size, 8) > 0.5,
        choroid=choroid * (1 - 0.75 * disc_inside),
        choroid_arrival_s=choroid_arrival,
        capillary=capillary * (1 - disc_inside),
        capillary_arrival_s=capillary_arrival,
        disc_early=disc_early,
        disc_late=disc_late,
        stretch={},
        lesions=tuple(primitives),
    )
    for primitive in primitives:
        _apply_static(scene, primitive)
    return scene


def _choroid(
    rng: np.random.Generator, anatomy: Anatomy, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Level and arrival time of the choroid as seen through pigment epithelium and pigment."""
    lobules = 1 + 0.08 * smooth_noise(rng, grid.size, 24) + 0.14 * smooth_noise(rng, grid.size, 4)
    lobules += 0.09 * smooth_noise(rng, grid.size, 120)
    r_mm = grid.distance((0.0, 0.0)) * anatomy.dd_mm * (1 + 0.1 * smooth_noise(rng, grid.size, 5))
    dark = 0.62 * np.exp(-((r_mm / 1.1) ** 2)) + 0.20 * np.exp(-((r_mm / 2.4) ** 2))
    pigment = 1 - anatomy.pigment * dark
    level = 0.185 * np.clip(lobules, 0.3, 2.0) * np.clip(pigment, 0.1, 1.0)
    arrival = np.clip(-1.0 + 0.55 * smooth_noise(rng, grid.size, 11), -1.8, 1.4)
    return level.astype(np.float32), arrival.astype(np.float32)


def _capillaries(
    rng: np.random.Generator, anatomy: Anatomy, grid: Grid, arteries: Tree
) -> tuple[np.ndarray, np.ndarray]:
    """Level and arrival time of the capillary bed; none inside the FAZ."""
    size = grid.size
    r_faz = grid.distance((0.0, 0.0)) / anatomy.faz_radius_dd
    r_faz = r_faz * (1 + 0.12 * smooth_noise(rng, size, 16))
    mesh = smooth_noise(rng, size, 210) - 0.4 * smooth_noise(rng, size, 80)
    level = 1 - np.exp(-((np.maximum(r_faz - 1, 0) / 2.2) ** 1.2))
    level *= 1 + 0.42 * mesh
    level *= np.exp(-((grid.distance((1.2, 0.0)) / 7.5) ** 2))
    tips = np.setdiff1d(np.arange(len(arteries.parent)), arteries.parent)
    coarse = 32
    at = (np.indices((coarse, coarse)).reshape(2, -1).T + 0.5) / coarse * size - 0.5
    px = grid.to_px(arteries.xy_mm[tips] / anatomy.dd_mm)
    near = cKDTree(px).query(at[:, ::-1], k=4)[1]
    times = arteries.first_s[tips][near].mean(axis=1).reshape(coarse, coarse)
    arrival = cv2.resize(times.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(0.075 * level, 0, None).astype(np.float32), arrival + 0.7


def _disc(
    rng: np.random.Generator, anatomy: Anatomy, grid: Grid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Early capillary glow with radial streaks, late staining of rim and disc, soft inside."""
    dx = (grid.x_dd - anatomy.disc_center_dd[0]) / anatomy.disc_axis_ratio
    dy = grid.y_dd - anatomy.disc_center_dd[1]
    r, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    r = r * (1 + 0.04 * smooth_noise(rng, grid.size, 9))
    edge = anatomy.disc_radius_dd
    inside = 0.5 - 0.5 * np.tanh((r - edge) / 0.07)
    phases = rng.uniform(0, 2 * math.pi, 3)
    streaks = sum(np.sin(k * angle + p) for k, p in zip((17, 29, 43), phases, strict=True)) / 3
    cup = 1 - rng.uniform(0.3, 0.7) * np.exp(-((r / (0.45 * edge)) ** 2))
    # radial peripapillary capillaries reach a little beyond the margin, above and below most
    fibres = np.exp(-np.clip(r - edge, 0, None) / 0.30) * (1 - inside) * np.abs(np.sin(angle))
    early = 0.28 * inside * cup * (1 + 0.30 * streaks) + 0.05 * fibres * (1 + 0.6 * streaks)
    uneven = 1 + 0.35 * smooth_noise(rng, grid.size, 14)
    rim = np.exp(-(((r - 0.95 * edge) * anatomy.dd_mm / 0.36) ** 2)) * np.clip(uneven, 0.2, 1.8)
    late = 0.10 * rim + 0.10 * inside
    return early.astype(np.float32), late.astype(np.float32), inside.astype(np.float32)


def _apply_static(scene: Scene, primitive: Primitive) -> None:
    """Multiplies layers and delays arrivals."""
    if isinstance(primitive, Window):
        scene.choroid = scene.choroid * (1 + primitive.mask * (primitive.factor - 1))
    elif isinstance(primitive, Mul):
        for layer, factor in primitive.factors.items():
            if layer != "all":
                _scale(scene, layer, 1 - primitive.mask * (1 - factor))
        if primitive.drop_vessels_below_um:
            for vessels in (scene.artery, scene.vein):
                thin = vessels.radius_um < primitive.drop_vessels_below_um
                vessels.coverage *= 1 - primitive.mask * thin
    elif isinstance(primitive, Delay):
        for layer in primitive.layers:
            _arrival(scene, layer)[...] += primitive.mask * np.float32(primitive.delay_s)
    elif isinstance(primitive, Slow):
        for layer in primitive.layers:
            before = scene.stretch.get(layer, np.float32(1.0))
            scene.stretch[layer] = before * (1 + primitive.mask * (primitive.stretch - 1))


def _scale(scene: Scene, layer: str, factor: np.ndarray) -> None:
    if layer == "artery":
        scene.artery.coverage *= factor
    elif layer == "vein":
        scene.vein.coverage *= factor
    elif layer == "choroid":
        scene.choroid = scene.choroid * factor
    elif layer == "capillary":
        scene.capillary = scene.capillary * factor
    elif layer == "disc":
        scene.disc_early, scene.disc_late = scene.disc_early * factor, scene.disc_late * factor
    else:
        raise ValueError(f"Unknown layer {layer!r}. Allowed: all, {', '.join(LAYERS)}.")


def _arrival(scene: Scene, layer: str) -> np.ndarray:
    arrivals = {
        "artery": scene.artery.arrival_s,
        "vein": scene.vein.arrival_s,
        "capillary": scene.capillary_arrival_s,
        "choroid": scene.choroid_arrival_s,
    }
    if layer not in arrivals:
        raise ValueError(f"Layer {layer!r} has no arrival time. Allowed: {', '.join(arrivals)}.")
    return arrivals[layer]


def field_mask(size: int, margin: float = 0.0) -> np.ndarray:
    """(size, size) bool: the round field, clipped by the four sides, wider by `margin` widths."""
    c = np.arange(size) + 0.5 - size / 2
    return np.hypot(c[:, None], c[None]) < (FIELD_RADIUS + margin) * size


def light(scene: Scene, dye: Dye, times_s: np.ndarray) -> np.ndarray:
    """(t, h, w) float32 light of every frame, vessel peak about 1.

    It reaches a little beyond the field, so that a moving camera finds light at its edge.
    """
    size = scene.grid.size
    inside = field_mask(size, margin=0.02)
    t = np.asarray(times_s, np.float32)[:, None]
    choroid_t = _since(scene, "choroid", scene.choroid_arrival_s, t, inside)
    washed = np.exp(-np.maximum(t, 0) / 500.0)
    image = 0.55 * dye(choroid_t) + 0.33 * dye.exposure(choroid_t) * washed
    image *= scene.choroid[inside]
    capillary_t = _since(scene, "capillary", scene.capillary_arrival_s, t, inside)
    image += scene.capillary[inside] * dye(capillary_t)
    image += scene.disc_early[inside] * dye(t + 0.2)
    image += scene.disc_late[inside] * (1 - np.exp(-np.maximum(t, 0) / 150.0))
    image += DARK
    image[:, _flat(scene, inside)] = _with_vessels(scene, dye, t, image, inside)
    frames = np.zeros((len(t), size, size), np.float32)
    frames[:, inside] = image
    add_lesions(frames, scene.lesions, scene.grid, t[:, 0], dye, scene)
    frames *= inside
    return frames


def _since(
    scene: Scene, layer: str, arrival: np.ndarray, t: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """(t, k) seconds of the dye curve at the pixels `where`, stretched where the flow is slow."""
    since = t - arrival[where]
    if layer in scene.stretch:
        since /= scene.stretch[layer][where]
    return since


def _flat(scene: Scene, inside: np.ndarray) -> np.ndarray:
    """Positions, within the field pixels, that any vessel covers."""
    return np.flatnonzero((scene.artery.coverage + scene.vein.coverage)[inside] > 0)


def _with_vessels(
    scene: Scene, dye: Dye, t: np.ndarray, image: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """(t, k) background and vessels together at the vessel pixels."""
    covered = (scene.artery.coverage + scene.vein.coverage > 0) & inside
    a, v = scene.artery.coverage[covered], scene.vein.coverage[covered]
    artery = a * dye(_since(scene, "artery", scene.artery.arrival_s, t, covered))
    vein = v * dye(_since(scene, "vein", scene.vein.arrival_s, t, covered))
    # unfilled blood in front of a filled vessel hides most of it
    artery *= 1 - 0.6 * v * scene.vein_in_front[covered]
    behind = image[:, _flat(scene, inside)] * (1 - 0.45 * np.maximum(a, v))
    return behind + 0.95 * np.maximum(artery, 0.97 * vein)


def add_lesions(
    frames: np.ndarray,
    lesions: Sequence[Primitive],
    grid: Grid,
    times_s: np.ndarray,
    dye: Dye,
    scene: Scene | None = None,
) -> None:
    """Adds leaks, pools, stains and spots to (t, h, w) frames in place, then blocks all."""
    for lesion in lesions:
        if isinstance(lesion, Add):
            _add_mask(frames, lesion.mask, lesion.amplitude * lesion.curve(times_s))
        elif isinstance(lesion, Pool | Stain):
            _add_mask(frames, lesion.mask, lesion.amplitude * uptake(lesion, times_s))
        elif isinstance(lesion, Grow):
            grow_frames(frames, lesion, grid, times_s)
    if scene is not None:
        late = 1 - np.exp(-np.maximum(times_s, 0) / 120.0)
        _add_mask(frames, scene.artery.wall + scene.vein.wall, late)
    for lesion in lesions:
        if isinstance(lesion, Mul) and "all" in lesion.factors:
            frames *= 1 - lesion.mask * (1 - lesion.factors["all"])


def uptake(lesion: Pool | Stain | Grow, times_s: np.ndarray) -> np.ndarray:
    """(t,) 1 - exp(-(t - onset)/tau), 0 before the onset."""
    return 1 - np.exp(-np.maximum(times_s - lesion.onset_s, 0) / lesion.tau_s)


def _add_mask(frames: np.ndarray, mask: np.ndarray, amplitude: np.ndarray) -> None:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    frames[:, *box] += np.asarray(amplitude, np.float32)[:, None, None] * mask[box]


def grow_sigma(lesion: Grow, times_s: np.ndarray) -> np.ndarray:
    """(t,) sigma in DD: sigma0^2 + 2 D (t - t0)+ under the root."""
    spread = 2 * lesion.diffusivity * np.maximum(times_s - lesion.onset_s, 0)
    return np.sqrt(lesion.sigma0**2 + spread)


def grow_frames(frames: np.ndarray, lesion: Grow, grid: Grid, times_s: np.ndarray) -> None:
    """Adds the growing Gaussians of one primitive; overlapping ones saturate at 1.5 peaks."""
    px = grid.to_px(np.asarray(lesion.centers, np.float64).reshape(-1, 2))
    sigmas = grow_sigma(lesion, times_s) * grid.px_per_dd
    amplitudes = lesion.amplitude * uptake(lesion, times_s)
    at = np.arange(grid.size, dtype=np.float32)
    for frame, sigma, amplitude in zip(frames, sigmas, amplitudes, strict=True):
        if amplitude < 1e-4:
            continue
        total = np.zeros_like(frame)
        for col, row in px:  # windows and outer products: no BLAS, so the bits never change
            cols, rows = window(col, 3.5 * sigma, grid.size), window(row, 3.5 * sigma, grid.size)
            across = np.exp(-0.5 * ((at[cols] - col) / sigma) ** 2)
            down = np.exp(-0.5 * ((at[rows] - row) / sigma) ** 2)
            total[rows, cols] += down[:, None] * across
        frame += np.float32(amplitude) * np.minimum(total, 1.5)


def window(center: float, reach: float, size: int) -> slice:
    """The pixels of one axis within `reach` of a position, cut at the picture."""
    first, last = math.ceil(center - reach), math.floor(center + reach)
    return slice(min(max(first, 0), size), min(max(last + 1, 0), size))
