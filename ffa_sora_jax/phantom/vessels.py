"""Two retinal vessel trees, grown by space colonisation, and their arrival times.

Trunks leave the disc (per kind two temporal arcades with their branches, two to four nasal
ones); three passes of colonisation, coarse to fine, fill the field; radii follow Murray's law
from the tips; dye arrives along the arteries, crosses the capillaries, and returns in the veins.
Lengths in mm, canonical frame. Source of the numbers: `docs/phantom.md`, table "Vessels".
"""

import dataclasses
import math

import numpy as np
from scipy.spatial import cKDTree

from ffa_sora_jax.phantom.anatomy import FIELD_MM, FIELD_RADIUS, Anatomy
from ffa_sora_jax.phantom.primitives import Vessel

EXPONENT = {"artery": 2.6, "vein": 2.1}  # Murray exponents
ROOT_MM = {"artery": 0.076, "vein": 0.099}  # radius of the widest trunk
ROOT_SPEED = {"artery": 14.0, "vein": 9.0}  # mm/s at the widest trunk
FLOOR_SPEED = 2.0  # mm/s
# attractors, step, kill distance, reach (mm), gap around the fovea in FAZ radii
PASSES = ((110, 0.30, 0.75, 3.20, 1.9), (300, 0.22, 0.40, 1.50, 1.9), (640, 0.16, 0.24, 0.75, 1.4))
ARC_NODES = 48
DRIFT = 0.35  # weight of the overall course of the vessels against the pull of the sinks
MAX_STEPS = 40  # of growth in one pass
MARGIN_MM = 0.6  # trees grow a little beyond the field


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """One vessel tree; a node comes after its parent, roots have parent -1.

    Attributes:
      kind: "artery" or "vein".
      xy_mm: (n, 2) node positions.
      parent: (n,) int index of the parent, -1 for roots.
      radius_mm: (n,) radius of the vessel that ends in the node.
      first_s: (n,) when dye is first seen in the node.
      mean_s: (n,) flow-weighted mean arrival; equal to `first_s` in arteries.
      wave_mm, phase: (n,) amplitude and phase of the waviness across the vessel.
      wall_stain: (n,) late amplitude along the wall.
    """

    kind: str
    xy_mm: np.ndarray
    parent: np.ndarray
    radius_mm: np.ndarray
    first_s: np.ndarray
    mean_s: np.ndarray
    wave_mm: np.ndarray
    phase: np.ndarray
    wall_stain: np.ndarray


def leaf_counts(parent: np.ndarray) -> np.ndarray:
    """(n,) number of tips at or above each node."""
    counts = [0] * len(parent)
    parents = parent.tolist()
    for node in range(len(parents) - 1, -1, -1):
        counts[node] = max(counts[node], 1)
        if parents[node] >= 0:
            counts[parents[node]] += counts[node]
    return np.asarray(counts)


def segment_lengths(xy: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """(n,) distance of each node to its parent, 0 for roots."""
    step = xy - xy[np.maximum(parent, 0)]
    return np.where(parent >= 0, np.hypot(step[:, 0], step[:, 1]), 0.0)


def from_root(values: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """(n,) sum of `values` over the path from the root to each node."""
    total = values.tolist()
    for node, up in enumerate(parent.tolist()):
        if up >= 0:
            total[node] += total[up]
    return np.asarray(total)


def _bridge(rng: np.random.Generator, n: int, sd: float) -> np.ndarray:
    """(n, 2) random walk that starts at 0 and wanders by about `sd`."""
    walk = np.cumsum(rng.normal(0, 1, (n, 2)), axis=0)
    walk -= walk[0] + np.linspace(0, 1, n)[:, None] * (walk[-1] - walk[0])
    return sd * walk / math.sqrt(n) * 2.0


def _even(points: np.ndarray, n: int) -> np.ndarray:
    """(n, 2) the same line with points evenly spaced along it."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, along[-1], n)
    return np.stack([np.interp(at, along, points[:, k]) for k in (0, 1)], axis=1)


def _arcade(rng: np.random.Generator, disc: np.ndarray, sign: int, base: dict) -> np.ndarray:
    """(ARC_NODES, 2) a temporal arcade above (sign 1) or below (-1) the macula."""
    s = np.linspace(0, 1, 200)
    x = disc[0] - base["reach"] * s**1.15
    y = disc[1] * (1 - s) + sign * base["height"] * np.sin(base["close"] * math.pi * s**0.66)
    return _even(np.stack([x, y], axis=1), ARC_NODES) + _bridge(rng, ARC_NODES, 0.10)


def _nasal(rng: np.random.Generator, disc: np.ndarray, angle: float, bend: float) -> np.ndarray:
    """(20, 2) a nasal trunk: a quadratic curve from the disc."""
    s = np.linspace(0, 1, 20)
    length = rng.uniform(3.6, 4.8)
    turn = angle + bend * s
    path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0) * length / 20
    return disc + path - path[0] + _bridge(rng, 20, 0.06)


def _side_branch(
    rng: np.random.Generator, trunk: np.ndarray, node: int, turn: float, bend: float, length: float
) -> np.ndarray:
    """(20, 2) a branch that leaves a trunk at an angle of `turn` and curves by `bend` (rad)."""
    along = trunk[node + 1] - trunk[node - 1]
    n = 20
    angle = math.atan2(along[1], along[0]) + turn + bend * np.linspace(0, 1, n)
    path = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0) * length / n
    return trunk[node] + path + _bridge(rng, n, 0.05)


Path = tuple[np.ndarray, int, int]  # points, the owning path or -1, the node of it


def _arcade_branches(
    rng: np.random.Generator, arc: np.ndarray, sign: int, owner: int
) -> list[Path]:
    """First-order branches of an arcade: two to the periphery, one to the macula."""
    out = -sign  # seen along the flow, the periphery of the upper arcade lies to the right
    near, far = int(rng.integers(7, 14)), int(rng.integers(18, 30))
    macular = int(rng.integers(10, 22))
    plan = (
        (near, out * rng.uniform(0.45, 0.85), -out * rng.uniform(-0.3, 0.5), (4.5, 7.0)),
        (far, out * rng.uniform(0.30, 0.65), -out * rng.uniform(-0.3, 0.4), (2.5, 4.0)),
        (macular, -out * rng.uniform(0.45, 0.75), -out * rng.uniform(0.1, 0.6), (1.5, 2.4)),
    )
    return [
        (_side_branch(rng, arc, node, turn, bend, rng.uniform(*length)), owner, node)
        for node, turn, bend, length in plan
    ]


def _trunks(
    rng: np.random.Generator, disc: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per kind: node positions, parents and own directions of the hand-drawn trunks."""
    paths: dict[str, list[Path]] = {"artery": [], "vein": []}
    for sign in (1, -1):
        base = {
            "height": rng.uniform(3.1, 4.0),
            "reach": rng.uniform(9.3, 10.5),
            "close": rng.uniform(0.66, 0.80),
        }
        nasal, steep = sign * rng.uniform(0.35, 0.8), sign * rng.uniform(1.15, 1.6)
        for kind, own in paths.items():
            arc = _arcade(rng, disc, sign, base)
            if kind == "vein":
                arc = _weave(rng, arc)
            owner = len(own)
            own.append((arc, -1, 0))
            own.extend(_arcade_branches(rng, arc, sign, owner))
            beside = sign * rng.uniform(0.2, 0.4) if kind == "vein" else 0.0
            own.append((_nasal(rng, disc, nasal + beside, sign * rng.uniform(-0.1, 0.5)), -1, 0))
            if rng.random() < 0.75:
                steeper = steep + (beside if rng.random() < 0.5 else -beside)
                own.append((_nasal(rng, disc, steeper, sign * rng.uniform(-0.5, 0.2)), -1, 0))
    return {kind: _join(rng, disc, path) for kind, path in paths.items()}


def _weave(rng: np.random.Generator, arc: np.ndarray) -> np.ndarray:
    """Displaces a vein sideways along its artery's arc, so that the two cross 1 to 3 times."""
    s = np.linspace(0, 1, len(arc))
    turns, phase = rng.uniform(1.4, 3.2), rng.uniform(-0.6, 0.6)
    shift = rng.choice([-1, 1]) * rng.uniform(0.40, 0.75) * np.sin(math.pi * s * turns + phase)
    along = np.gradient(arc, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(*along.T)[:, None]
    return arc + normal * (shift * np.clip(8 * s, 0, 1))[:, None] + _bridge(rng, len(arc), 0.06)


def _join(
    rng: np.random.Generator, disc: np.ndarray, paths: list[Path]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strings paths into one node list; a path with an owner hangs on a node of that path."""
    hilum = disc + rng.normal(0, 0.10, 2)
    starts: list[int] = []
    xy: list[np.ndarray] = []
    parents: list[np.ndarray] = []
    count = 0
    for points, owner, node in paths:
        if owner < 0:  # trunks leave one place near the middle of the disc
            fade = np.exp(-np.hypot(*(points - points[0]).T) / 0.7)[:, None]
            points = points + fade * (hilum + rng.normal(0, 0.06, 2) - points[0])
            first = -1
        else:
            first = starts[owner] + node
            points = points + (xy[owner][node] - paths[owner][0][node])
        starts.append(count)
        parents.append(np.concatenate([[first], np.arange(count, count + len(points) - 1)]))
        xy.append(points)
        count += len(points)
    nodes, parent = np.concatenate(xy), np.concatenate(parents).astype(np.int64)
    step = nodes - nodes[np.maximum(parent, 0)]
    norm = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
    return nodes, parent, step / norm


def _attractors(
    rng: np.random.Generator, anatomy: Anatomy, count: int, faz_factor: float
) -> np.ndarray:
    """(<= count, 2) random oxygen sinks in the field, outside disc and FAZ, unevenly dense."""
    scale = anatomy.dd_mm
    radius = FIELD_RADIUS * FIELD_MM + MARGIN_MM
    half = min(radius, FIELD_MM / 2 + MARGIN_MM)
    xy = rng.uniform(-half, half, (int(count * 1.6), 2))
    keep = np.hypot(xy[:, 0], xy[:, 1]) < radius
    waves = rng.normal(0, 0.7, (3, 2))  # an uneven density keeps the venules from looking combed
    density = sum(np.sin(xy @ wave + rng.uniform(0, 6.3)) for wave in waves)
    keep &= rng.uniform(0, 1, len(xy)) < 0.85 + 0.15 * density
    xy = xy + np.asarray(anatomy.field_center_dd) * scale
    to_disc = np.hypot(*(xy - np.asarray(anatomy.disc_center_dd) * scale).T)
    keep &= to_disc > 1.1 * anatomy.disc_radius_dd * scale
    keep &= np.hypot(xy[:, 0], xy[:, 1]) > faz_factor * anatomy.faz_radius_dd * scale
    return xy[keep][:count]


def _outflow(xy: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """(n, 2) unit course of the vessels: away from the disc, in the macula to the fovea."""
    away = xy - disc
    away /= np.maximum(np.hypot(away[:, 0], away[:, 1]), 0.1)[:, None]
    r = np.hypot(xy[:, 0], xy[:, 1])[:, None]
    macular = np.exp(-((r / 2.7) ** 4))
    return (1 - macular) * away - macular * xy / np.maximum(r, 0.1)


class _Growth:
    """The growing node list of one tree."""

    def __init__(
        self, xy: np.ndarray, parent: np.ndarray, heading: np.ndarray, anatomy: Anatomy
    ) -> None:
        self.xy, self.parent, self.heading = xy, parent, heading
        self.disc = np.asarray(anatomy.disc_center_dd) * anatomy.dd_mm
        self.forbidden = 1.2 * anatomy.faz_radius_dd * anatomy.dd_mm
        self.children = np.bincount(parent[parent >= 0], minlength=len(xy))

    def step(
        self, rng: np.random.Generator, sinks: np.ndarray, length: float, kill: float, reach: float
    ) -> tuple[np.ndarray, bool]:
        """One iteration; returns the sinks that remain and whether anything grew."""
        tree = cKDTree(self.xy)
        distance, nearest = tree.query(sinks)
        alive = distance > kill
        sinks, distance, nearest = sinks[alive], distance[alive], nearest[alive]
        pulled = (distance < reach) & (self.children[nearest] < 2)
        nodes, index = np.unique(nearest[pulled], return_inverse=True)
        if not len(nodes):
            return sinks, False
        pull = (sinks[pulled] - self.xy[nearest[pulled]]) / distance[pulled, None]
        count = np.bincount(index)
        mean = np.stack([np.bincount(index, pull[:, k]) / count for k in (0, 1)], axis=1)
        inertia = np.where(self.children[nodes] == 0, 0.75, 0.40)[:, None]
        heading = mean + inertia * self.heading[nodes] + rng.normal(0, 0.15, mean.shape)
        heading += DRIFT * _outflow(self.xy[nodes], self.disc)
        heading /= np.maximum(np.hypot(heading[:, 0], heading[:, 1]), 1e-9)[:, None]
        new = self.xy[nodes] + length * heading
        ok = tree.query(new, distance_upper_bound=0.45 * length)[0] > 0.45 * length
        # nothing crosses the horizontal raphe temporal to the fovea
        ok &= (new[:, 0] > -0.3) | (new[:, 1] * self.xy[nodes, 1] > 0)
        ok &= np.hypot(new[:, 0], new[:, 1]) > self.forbidden
        self._append(new[ok], nodes[ok], heading[ok])
        return sinks, bool(ok.any())

    def _append(self, xy: np.ndarray, parent: np.ndarray, heading: np.ndarray) -> None:
        self.xy = np.concatenate([self.xy, xy])
        self.parent = np.concatenate([self.parent, parent])
        self.heading = np.concatenate([self.heading, heading])
        self.children[parent] += 1
        self.children = np.concatenate([self.children, np.zeros(len(xy), np.int64)])


def _grow(
    rng: np.random.Generator,
    anatomy: Anatomy,
    trunk: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Fills the field from the trunks; returns node positions and parents."""
    growth = _Growth(*trunk, anatomy)
    for count, length, kill, reach, faz_factor in PASSES:
        sinks = _attractors(rng, anatomy, count, faz_factor)
        for _ in range(MAX_STEPS):
            sinks, grew = growth.step(rng, sinks, length, kill, reach)
            if not grew or not len(sinks):
                break
    return _straighten(growth.xy, growth.parent, len(trunk[0])), growth.parent


def _straighten(xy: np.ndarray, parent: np.ndarray, kept: int) -> np.ndarray:
    """Takes the zigzag of the growth out of all but the first `kept` nodes."""
    for _ in range(2):
        child = np.flatnonzero(parent >= 0)
        weight = np.bincount(parent[child], minlength=len(xy)).astype(np.float64)
        ahead = np.stack(
            [np.bincount(parent[child], xy[child, k], minlength=len(xy)) for k in (0, 1)], axis=1
        )
        inner = np.flatnonzero((weight > 0) & (np.arange(len(xy)) >= kept))
        towards = xy[parent[inner]] + ahead[inner] / weight[inner, None]
        xy = xy.copy()
        xy[inner] = 0.4 * xy[inner] + 0.3 * towards
    return xy


def murray_radii(parent: np.ndarray, exponent: float, root: float) -> np.ndarray:
    """(n,) radii with r0^g = r1^g + r2^g, the widest one `root`."""
    leaves = leaf_counts(parent).astype(np.float64)
    return root * (leaves / leaves.max()) ** (1 / exponent)


def travel_times(
    xy: np.ndarray, parent: np.ndarray, radius: np.ndarray, root_speed: float
) -> np.ndarray:
    """(n,) seconds that the blood takes through the segment that ends in each node."""
    speed = np.maximum(root_speed * (radius / radius.max()) ** 0.7, FLOOR_SPEED)
    return segment_lengths(xy, parent) / speed


def _venous_times(
    rng: np.random.Generator,
    xy: np.ndarray,
    parent: np.ndarray,
    transit: np.ndarray,
    arteries: Tree,
) -> tuple[np.ndarray, np.ndarray]:
    """First and flow-weighted mean arrival at every venous node, from the tips to the disc."""
    tips = np.setdiff1d(np.arange(len(arteries.parent)), arteries.parent)
    near = cKDTree(arteries.xy_mm[tips]).query(xy)[1]
    fed = arteries.first_s[tips][near] + 1.0 + rng.gamma(2.0, 0.35, len(xy))
    leaves = leaf_counts(parent).tolist()
    first, total = [math.inf] * len(xy), [0.0] * len(xy)
    own, parents, transits = fed.tolist(), parent.tolist(), transit.tolist()
    for node in range(len(parents) - 1, -1, -1):
        if total[node] == 0.0:  # a tip
            first[node], total[node] = own[node], own[node]
        up = parents[node]
        if up >= 0:
            first[up] = min(first[up], first[node] + transits[node])
            total[up] += total[node] + leaves[node] * transits[node]
    return np.asarray(first), np.asarray(total) / np.asarray(leaves)


def _new_tree(kind: str, xy: np.ndarray, parent: np.ndarray, root: float) -> Tree:
    zeros = np.zeros(len(xy))
    radius = murray_radii(parent, EXPONENT[kind], root)
    return Tree(kind, xy, parent, radius, zeros, zeros, zeros, zeros, zeros)


def grow_trees(rng: np.random.Generator, anatomy: Anatomy) -> tuple[Tree, Tree]:
    """Arteries and veins of one healthy eye, grown around its landmarks."""
    disc = np.asarray(anatomy.disc_center_dd) * anatomy.dd_mm
    trunks = _trunks(rng, disc)
    calibre = rng.normal(1.0, 0.06)
    arteries = _new_tree(
        "artery", *_grow(rng, anatomy, trunks["artery"]), calibre * ROOT_MM["artery"]
    )
    transit = travel_times(
        arteries.xy_mm, arteries.parent, arteries.radius_mm, ROOT_SPEED["artery"]
    )
    arrival = from_root(transit, arteries.parent)
    arteries = dataclasses.replace(arteries, first_s=arrival, mean_s=arrival)
    veins = _new_tree("vein", *_grow(rng, anatomy, trunks["vein"]), calibre * ROOT_MM["vein"])
    transit = travel_times(veins.xy_mm, veins.parent, veins.radius_mm, ROOT_SPEED["vein"])
    first, mean = _venous_times(rng, veins.xy_mm, veins.parent, transit, arteries)
    return arteries, dataclasses.replace(veins, first_s=first, mean_s=mean)


def edit_tree(tree: Tree, edit: Vessel, anatomy: Anatomy) -> Tree:
    """Applies one calibre, waviness, beading or wall edit to the nodes inside its territory."""
    if tree.kind != edit.kind:
        return tree
    inside = edit.inside(tree.xy_mm / anatomy.dd_mm)
    radius = np.where(inside, tree.radius_mm * edit.radius_factor, tree.radius_mm)
    lengths = segment_lengths(tree.xy_mm, tree.parent)
    wave, phase = tree.wave_mm, tree.phase
    if edit.tortuosity_widths:
        # a wave is 9 widths long, but no shorter than two growth steps
        turns = lengths / np.maximum(9 * 2 * radius, 0.45)
        phase = from_root(2 * math.pi * turns, tree.parent)
        uneven = 0.7 + 0.3 * np.sin(0.37 * phase + 1.0)  # no two bends of a vein are alike
        wave = np.where(inside, uneven * edit.tortuosity_widths * 2 * radius, wave)
        phase = phase + 0.9 * np.sin(0.45 * phase)
    if edit.beading:
        beads = from_root(2 * math.pi * lengths / np.maximum(6 * 2 * radius, 0.45), tree.parent)
        radius = np.where(inside, radius * (1 + edit.beading * np.sin(beads)), radius)
    wall = np.where(inside, np.maximum(tree.wall_stain, edit.wall_stain), tree.wall_stain)
    return dataclasses.replace(tree, radius_mm=radius, wave_mm=wave, phase=phase, wall_stain=wall)
