"""Masks, point clouds and time curves from which the lesion recipes are put together.

Everything random is drawn in DD, never in pixels, so one record gives the same lesion at every
picture size.
"""

import functools
import itertools
from collections.abc import Callable

import cv2
import numpy as np

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid
from ffa_sora_jax.phantom.dye import Dye
from ffa_sora_jax.phantom.primitives import Curve
from ffa_sora_jax.phantom.record import QUADRANTS

LATTICE_HALF_DD = 8.0  # noise lattices reach this far from the fovea: beyond any field of view
REACH_DD = 4.1  # lesions keep within this distance of the middle of the posterior pole
POLE_CENTER_DD = (0.9, 0.1)


@functools.lru_cache(maxsize=32)
def _bolus(peak_s: float) -> Dye:
    return Dye(peak_s=peak_s)


def dye(delay_s: float = 0.0, peak_s: float = 9.0) -> Curve:
    """Dye in a small vessel: it arrives at `delay_s` and peaks `peak_s` later (seconds)."""
    bolus = _bolus(peak_s)
    return lambda t: bolus(np.asarray(t, np.float32) - delay_s)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic between (reversed when high < low)."""
    s = np.clip((x - low) / (high - low), 0.0, 1.0)
    return (s * s * (3 - 2 * s)).astype(np.float32)


def noise(grid: Grid, scale_dd: float, rng: np.random.Generator) -> np.ndarray:
    """(h, w) float32 smooth Gaussian noise of unit variance and grain `scale_dd`, in DD space."""
    n = int(np.ceil(2 * LATTICE_HALF_DD / scale_dd)) + 4
    lattice = rng.standard_normal((n, n)).astype(np.float32)
    origin = -LATTICE_HALF_DD - scale_dd
    columns = ((grid.x_dd - origin) / scale_dd).astype(np.float32)
    rows = ((grid.y_dd - origin) / scale_dd).astype(np.float32)
    field = cv2.remap(lattice, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return (field / 0.75).astype(np.float32)  # cubic interpolation averages part of the variance


def disk(grid: Grid, center: tuple[float, float], radius: float, edge: float) -> np.ndarray:
    """(h, w) round mask whose border is `edge` DD wide, at least one pixel."""
    width = max(edge, 1.0 / grid.px_per_dd)
    return smoothstep(grid.distance(center), radius + width / 2, radius - width / 2)


def blob(
    grid: Grid,
    center: tuple[float, float],
    radius: float,
    rng: np.random.Generator,
    rough: float = 0.25,
    edge: float = 0.08,
) -> np.ndarray:
    """(h, w) irregular patch of about `radius`: a disk whose radius wavers with the angle."""
    angle = np.arctan2(grid.y_dd - center[1], grid.x_dd - center[0])
    wave = np.zeros_like(angle)
    for k in range(2, 8):
        wave += rng.normal(0, 1) / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    if rough > 0.2:  # a geographic border also has bays and spurs
        wave += 0.45 * noise(grid, 0.3, rng)
    border = radius * np.exp(rough * wave)
    width = max(edge, 1.0 / grid.px_per_dd)
    return smoothstep(grid.distance(center) - border, width / 2, -width / 2)


def splat(
    grid: Grid, centers: np.ndarray, sigma_dd: float, weights: np.ndarray | float = 1.0
) -> np.ndarray:
    """(h, w) Gaussian spots of peak `weights`, the brightest winning where they overlap.

    A spot narrower than a pixel is shown as that pixel's mean over it: its peak falls and its
    width grows, so small pictures look like area averages of large ones.
    """
    out = np.zeros((grid.size, grid.size), np.float32)
    centers = np.asarray(centers, np.float64).reshape(-1, 2)
    if not len(centers):
        return out
    sigma = sigma_dd * grid.px_per_dd
    seen = np.sqrt(sigma**2 + 1 / 12 + 0.16)  # pixel box plus the narrowest blur of the optics
    peak = np.broadcast_to(np.asarray(weights, np.float32), len(centers)) * (sigma / seen) ** 2
    reach = int(np.ceil(3 * seen))
    px = grid.to_px(centers)  # (n, 2) column, row
    base = np.rint(px).astype(int)
    offset = np.arange(-reach, reach + 1)
    columns = base[:, 0, None] + offset  # (n, k)
    rows = base[:, 1, None] + offset  # (n, k)
    across = np.exp(-((columns - px[:, 0, None]) ** 2) / (2 * seen**2))
    down = np.exp(-((rows - px[:, 1, None]) ** 2) / (2 * seen**2))
    across *= (columns >= 0) & (columns < grid.size)
    down *= (rows >= 0) & (rows < grid.size)
    spots = peak[:, None, None] * down[:, :, None] * across[:, None, :]  # (n, k, k)
    index = np.clip(rows, 0, grid.size - 1)[:, :, None] * grid.size
    index = index + np.clip(columns, 0, grid.size - 1)[:, None, :]
    np.maximum.at(out.reshape(-1), index.reshape(-1), spots.reshape(-1).astype(np.float32))
    return out


def lines(grid: Grid, paths: list[np.ndarray], radius_dd: float) -> np.ndarray:
    """(h, w) fine vessels along polylines (n, 2) DD."""
    step = radius_dd
    points = [
        np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / step)))
        for path in paths
        for a, b in itertools.pairwise(path)
    ]
    if not points:
        return np.zeros((grid.size, grid.size), np.float32)
    sigma = radius_dd * grid.px_per_dd
    seen = np.sqrt(sigma**2 + 1 / 12 + 0.16)
    # A line loses brightness to the pixel in one direction only; `splat` takes it off in two.
    return splat(grid, np.concatenate(points), radius_dd, weights=float(seen / sigma))


def wander(
    start: tuple[float, float],
    angle: float,
    length: float,
    rng: np.random.Generator,
    bend: float = 0.35,
    steps: int = 14,
) -> np.ndarray:
    """(steps + 1, 2) random walk of given length whose direction drifts by `bend` rad a step."""
    angles = angle + np.cumsum(rng.normal(0, bend, steps))
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * (length / steps)
    return np.concatenate([[start], np.asarray(start) + np.cumsum(moves, axis=0)])


def raphe_y(anatomy: Anatomy, x: np.ndarray) -> np.ndarray:
    """Height of the line from the fovea to the disc, the border of upper and lower territories."""
    disc_x, disc_y = anatomy.disc_center_dd
    return np.clip(x / disc_x, 0.0, 1.0) * disc_y


def side_signs(region: str) -> tuple[int, int]:
    """(+1 temporal or -1 nasal, +1 superior or -1 inferior) of a quadrant name, 0 if unnamed."""
    temporal = 1 if "temporal" in region else -1 if "nasal" in region else 0
    superior = 1 if "supero" in region else -1 if "infero" in region else 0
    return temporal, superior


def territory(grid: Grid, anatomy: Anatomy, region: str, edge: float = 0.25) -> np.ndarray:
    """(h, w) soft mask of a quadrant, split at the disc's vertical and at the raphe; else all."""
    temporal, superior = side_signs(region)
    mask = np.ones((grid.size, grid.size), np.float32)
    if temporal:
        mask = mask * smoothstep(
            temporal * (anatomy.disc_center_dd[0] - grid.x_dd), -edge / 2, edge
        )
    if superior:
        above = superior * (grid.y_dd - raphe_y(anatomy, grid.x_dd))
        mask = mask * smoothstep(above, -edge / 4, edge)
    return mask


def inside_territory(
    anatomy: Anatomy, region: str, from_disc_dd: float = 0.0
) -> Callable[[np.ndarray], np.ndarray]:
    """The test (n, 2) DD -> (n,) bool for points of a quadrant beyond a distance of the disc."""
    temporal, superior = side_signs(region)
    disc = np.asarray(anatomy.disc_center_dd)

    def inside(xy: np.ndarray) -> np.ndarray:
        keep = np.hypot(*(xy - disc).T) >= from_disc_dd
        if temporal:
            keep &= temporal * (disc[0] - xy[:, 0]) > 0
        if superior:
            keep &= superior * (xy[:, 1] - raphe_y(anatomy, xy[:, 0])) > 0
        return keep

    return inside


def scatter(
    region: str,
    count: int,
    anatomy: Anatomy,
    rng: np.random.Generator,
    clear_dd: float = 0.25,
    gap_dd: float = 0.0,
) -> np.ndarray:
    """(n, 2) random points of a region, off the disc and off the foveal centre.

    Args:
      region: a quadrant, "all quadrants", "posterior pole", "mid-periphery" or "macula".
      count: points wanted; fewer come back only if `gap_dd` leaves no room.
      anatomy: the eye.
      rng: source of chance.
      clear_dd: distance kept from the fovea; the disc keeps its radius plus 0.15.
      gap_dd: least distance between two points.
    """
    inside = inside_territory(anatomy, region if "quadrant" in region else "")
    disc = np.asarray(anatomy.disc_center_dd)
    kept: list[np.ndarray] = []
    for _ in range(200):
        xy = _propose(region, max(64, count), rng)
        ok = inside(xy) & (np.hypot(*xy.T) > clear_dd)
        ok &= np.hypot(*(xy - disc).T) > anatomy.disc_radius_dd + 0.15
        for point in xy[ok]:
            if all(np.hypot(*(point - other)) >= gap_dd for other in kept) or not gap_dd:
                kept.append(point)
            if len(kept) == count:
                return np.asarray(kept)
    return np.asarray(kept).reshape(-1, 2)


def _propose(region: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 2) candidates before the rules of `scatter`."""
    angle = rng.uniform(0, 2 * np.pi, n)
    if region == "macula":
        radius = 1.3 * np.sqrt(rng.uniform(0, 1, n))
        center = (0.0, 0.0)
    elif region == "posterior pole":
        radius = 2.3 * np.sqrt(rng.uniform(0, 1, n))
        center = (0.6, 0.0)
    elif region == "mid-periphery":
        radius = np.sqrt(rng.uniform(2.9**2, REACH_DD**2, n))
        center = POLE_CENTER_DD
    else:  # a quadrant or all of them; thinner outwards, as capillaries are
        radius = REACH_DD * rng.uniform(0.02, 1, n) ** 0.6
        center = POLE_CENTER_DD
    return np.asarray(center) + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)


def fibre_angle(anatomy: Anatomy, xy: np.ndarray) -> np.ndarray:
    """(n,) direction of the nerve fibres: arcs round the macula, rays nasal to the disc."""
    disc = np.asarray(anatomy.disc_center_dd)
    around = xy - np.array([0.45 * disc[0], disc[1]])
    arc = np.stack([-around[:, 1], around[:, 0]], axis=-1)
    arc = arc * np.where(around[:, 1:] > 0, -1.0, 1.0)
    ray = xy - disc
    nasal = smoothstep(xy[:, 0] - disc[0], -0.5, 0.5)[:, None]
    unit = [v / np.maximum(np.hypot(*v.T), 1e-6)[:, None] for v in (arc, ray)]
    mixed = (1 - nasal) * unit[0] + nasal * unit[1]
    return np.arctan2(mixed[:, 1], mixed[:, 0])


def is_quadrant(region: str) -> bool:
    """Whether a region names one quadrant."""
    return any(region.startswith(q) for q in QUADRANTS)
