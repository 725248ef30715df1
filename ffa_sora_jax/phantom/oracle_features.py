"""Numbers that the oracle's rules weigh: what brightens late, what is dark, what is pointlike ...

Each function reads one kind of sign from a `View` and returns named numbers. "quad1" is the
quadrant with the highest value, "quad4" that with the lowest: where a lesion lies does not matter
for whether it is there. Logarithms turn the unknown gain into an offset.
Source of the signs: `docs/phantom.md`, section "Reading back".
"""

import itertools
from collections.abc import Callable

import cv2
import numpy as np

from ffa_sora_jax.phantom import oracle_views as views
from ffa_sora_jax.phantom.oracle_views import DD, SIZE, SMALL, View, blur
from ffa_sora_jax.phantom.record import QUADRANTS

Features = dict[str, float]

ZONES = ("fovea", "ring", "disc", "rim")
RISES = (
    ("t6", "t12"), ("t12", "t50"), ("t12", "t200"), ("t12", "late"), ("t50", "late"),
    ("t100", "late"),
)  # fmt: skip
DARKER = (0.25, 0.4, 0.6, 0.9, 1.3)  # natural logarithms below the expected level
DOT_RANKS = (1, 3, 6, 12, 25, 50, 100)
VESSEL_SHARE = 0.14  # of a quadrant, taken as vessels
RISE_END_S = 75.0  # later contrast tells of leaks, not of filling
DELAY_RANKS = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9}
TINY = 0.05  # of the field median, keeps logarithms finite


def rises(view: View) -> Features:
    """How much the tissue brightens between two instants; static shading cancels."""
    found: Features = {"late_time": float(np.log(max(view.times_s[-3:].mean(), 1.0)))}
    logs = {name: np.log(image + TINY) for name, image in view.opened.items()}
    for first, last in RISES:
        rise = logs[last] - logs[first]
        rise = rise - np.median(rise[view.regions["outer"]])
        _put(found, f"rise.{first}.{last}", rise, view, {"p50": 0.5, "p90": 0.9, "p98": 0.98})
    return found


def levels(view: View) -> Features:
    """Brightness against what a normal eye would show there, in three phases."""
    found: Features = {}
    ranks = {"p2": 0.02, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p98": 0.98}
    for name, level in level_maps(view).items():
        _put(found, f"level.{name}", level, view, ranks)
        for sigma in (0, 5):
            smooth = blur(level, sigma) if sigma else level
            for limit in DARKER:
                below = smooth < -limit
                share = {q: float(below[view.regions[q]].mean()) for q in (*QUADRANTS, "pole")}
                share["far"] = float(below[view.regions["far"]].mean())
                quads = sorted(share[q] for q in QUADRANTS)
                key = f"dark.{name}.s{sigma}.b{limit}"
                found[f"{key}.pole"] = _log_share(share["pole"])
                found[f"{key}.far"] = _log_share(share["far"])
                found[f"{key}.quad1"] = _log_share(quads[-1])
                found[f"{key}.quad4"] = _log_share(quads[0])
    return found


def level_maps(view: View) -> dict[str, np.ndarray]:
    """(256, 256) brightness against a normal eye by phase (early, mid, late), as logarithms.

    Smooth shading is fitted outside the macula; the macular pigment is taken as known.
    """
    phases = {
        "early": view.opened["t3"],
        "mid": views.opened(view.filling),
        "late": view.opened["late"],
    }
    r_mm = view.from_fovea * views.DD_MM
    pigment = 1 - 0.62 * np.exp(-((r_mm / 1.1) ** 2)) - 0.20 * np.exp(-((r_mm / 2.4) ** 2))
    mesh = 1 - np.exp(-((np.maximum(r_mm / 0.28 - 1, 0) / 2.2) ** 1.2))
    normal = np.log(0.75 * pigment + 0.25 * mesh)
    field = views.field_mask(SIZE, views.EDGE)
    sparse = np.zeros_like(field)
    sparse[::4, ::4] = True
    used = field & sparse & (view.from_fovea > 1.2) & (view.from_disc > 0.4)
    x, y = (c / 8 for c in views.millimetres(SIZE))  # -1..1
    r2 = x**2 + y**2
    basis = np.stack([np.ones_like(x), x, y, r2, r2**3], axis=-1)
    out = {}
    for name, image in phases.items():
        level = np.log(image + TINY) - normal
        out[name] = ((level - basis @ _robust(basis[used], level[used])) * field).astype(np.float32)
    return out


def pits(view: View) -> Features:
    """Small dark spots: blood, and burns with their bright rings."""
    found: Features = {}
    image = view.filling
    for narrow, wide in ((1.5, 5.0), (3.0, 9.0)):
        depth = np.log(blur(image, narrow) / (blur(image, wide) + TINY) + 0.02)
        for zone in ("pole", "far", "ring"):
            ranks = {"p0.1": 0.001, "p0.5": 0.005, "p2": 0.02, "p5": 0.05}
            for rank, value in _ranks(depth[view.regions[zone]], ranks).items():
                found[f"pit.s{narrow:g}.{zone}.{rank}"] = value
        by_quadrant = [
            _ranks(depth[view.regions[q]], {"p0.2": 0.002, "p1": 0.01, "p4": 0.04})
            for q in QUADRANTS
        ]
        for rank in by_quadrant[0]:
            found[f"pit.s{narrow:g}.quad4.{rank}"] = min(ranks[rank] for ranks in by_quadrant)
    return found | _burns(view)


def _burns(view: View) -> Features:
    found: Features = {}
    depth = np.log(blur(view.filling, 1.8) + 0.03) - np.log(blur(view.filling, 6.0) + 0.03)
    at = (depth == cv2.erode(depth, np.ones((7, 7)))) & (depth < -0.22) & (view.from_disc > 0.8)
    late, early = (np.log(blur(view.images[n], 1.5) + TINY) for n in ("late", "t12"))
    rise = late - early
    rise = rise - blur(rise, 9.0)
    rows, cols = np.mgrid[-7:8, -7:8]
    radius = np.hypot(rows, cols)
    fine = np.log(blur(view.images["late"], 1.2) + TINY)
    core = cv2.filter2D(fine, -1, _even(radius < 1.6))
    for low, high in ((2.5, 4.5), (4.0, 6.5)):
        ring = _even((radius >= low) & (radius < high))
        halo = cv2.filter2D(rise, -1, ring)
        step = cv2.filter2D(fine, -1, ring) - core
        signs = {}
        for zone in ("far", "ring", "near", *QUADRANTS):
            spots = at & view.regions[zone]
            best = np.sort(halo[spots])[::-1][:40]
            signs[zone] = {
                "count": float(spots.sum()),
                "halo": float(best.mean()) if best.size else 0.0,
                "ringed": float(((halo > 0.08) & (step > 0.3))[spots].sum()),
                "deep": float((step > 0.6)[spots].sum()),
            }
        for sign in ("count", "halo", "ringed", "deep"):
            for zone in ("far", "ring", "near"):
                found[f"burn.r{low:g}.{zone}.{sign}"] = signs[zone][sign]
            found[f"burn.r{low:g}.quad1.{sign}"] = max(signs[q][sign] for q in QUADRANTS)
    return found


def dots(view: View) -> Features:
    """Round bright points: the n-th strongest of each zone while vessels fill, and late."""
    found: Features = {}
    maps = {
        "dots": _pointedness(view.filling),
        "late_dots": _pointedness(view.images["late"]),
        "early_dots": _pointedness(view.images["t3"]),
    }
    field = view.regions["outer"] | view.regions["macula"]
    for name in ("dots", "late_dots"):
        peaks = (maps[name] == cv2.dilate(maps[name], np.ones((5, 5)))) & field
        for zone in ("macula", "pole", "far", "all"):
            inside = peaks & view.regions[zone] if zone != "all" else peaks
            ordered = np.sort(maps[name][inside])[::-1]
            for n in DOT_RANKS[: None if zone == "all" else -1]:
                found[f"{name}.{zone}.{n}"] = float(ordered[n - 1]) if len(ordered) >= n else 0.0
    peaks = (maps["dots"] == cv2.dilate(maps["dots"], np.ones((5, 5)))) & field
    best = np.flatnonzero(peaks)[np.argsort(-maps["dots"][peaks])[:8]]
    strength = maps["dots"].flat[best] + 1e-3
    for name in ("late_dots", "early_dots"):
        kept = maps[name].flat[best] / strength
        found[f"{name}.kept"] = float(np.median(kept)) if kept.size else 0.0
    return found


def blob(view: View) -> Features:
    """The spot of the macula that brightens most: how far, how wide, how sharp, how fast."""
    base = view.opened["t12"]
    inside = (view.from_fovea < 1.8) & (view.from_disc > 0.75) & views.field_mask(SIZE, views.EDGE)
    times = ("t50", "t100", "t200", "late")
    rise = {name: np.where(inside, view.opened[name] - base, 0.0) for name in times}
    late = rise["late"]
    top = np.unravel_index(int(late.argmax()), late.shape)
    peak = max(float(late[top]), TINY)
    parts = {name: _part(image, (int(top[0]), int(top[1]))) for name, image in rise.items()}
    area = {name: float(part.sum()) / DD**2 + 0.01 for name, part in parts.items()}
    found: Features = {"blob.peak": peak, "blob.from_fovea": float(view.from_fovea[top])}
    found |= {f"blob.area.{name}": float(np.log(value)) for name, value in area.items()}
    for name in ("t50", "t100", "t200"):
        found[f"blob.growth.{name}"] = float(np.log(area["late"] / area[name]))
        found[f"blob.rise.{name}"] = float(rise[name][top]) / peak
    found["blob.before.t12"] = float(base[top]) / float(view.opened["late"][top] + TINY)
    found["blob.before.t3"] = float(view.opened["t3"][top]) / float(base[top] + TINY)
    part = parts["late"]
    if not part.any():
        return found | dict.fromkeys((f"blob.{n}" for n in SHAPE), 0.0)
    image = blur(view.images["late"], 1.0)
    slope = np.hypot(*(cv2.Sobel(image, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1))))
    edge = part & ~(cv2.erode(part.astype(np.uint8), np.ones((3, 3))) > 0)
    rows, cols = np.nonzero(part)
    reach = max(float(np.hypot(rows - rows.mean(), cols - cols.mean()).max()), 1.0)
    shape = (
        float(np.median(slope[edge])) / peak * DD,
        float(np.median(late[part])) / peak,
        float(view.images["late"][part].std()) / peak,
        len(rows) / (np.pi * reach**2),
        float(np.hypot(view.x_dd[part].mean(), view.y_dd[part].mean())),
        float(view.y_dd[part].mean() - view.y_dd[top]),
    )
    return found | {f"blob.{name}": value for name, value in zip(SHAPE, shape, strict=True)}


SHAPE = ("edge", "filled", "uneven", "round", "middle", "above")


def rings(view: View) -> Features:
    """Rise and grain of rings round the fovea: a haze is even, a membrane stippled or aside."""
    field = views.field_mask(SIZE, views.EDGE)
    edges = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5)
    zones = [
        field & (view.from_fovea >= low) & (view.from_fovea < high)
        for low, high in itertools.pairwise(edges)
    ]
    outer = view.regions["outer"]
    found: Features = {}
    for last in ("t50", "t100", "t200", "late"):
        rise = np.log(view.opened[last] + TINY) - np.log(view.opened["t12"] + TINY)
        base = np.median(rise[outer])
        profile = [float(np.median(rise[zone]) - base) for zone in zones]
        spread = [float(np.subtract(*np.quantile(rise[zone], (0.9, 0.1)))) for zone in zones]
        for i, (middle, wide) in enumerate(zip(profile, spread, strict=True)):
            found[f"rings.{last}.{i}.p50"] = middle
            found[f"rings.{last}.{i}.spread"] = wide
        found[f"rings.{last}.fall"] = profile[1] - profile[5]
        found[f"rings.{last}.hollow"] = profile[2] - profile[0]
    return found | _stipple(view, zones)


def _stipple(view: View, zones: list[np.ndarray]) -> Features:
    """Fine structure of what has risen, against the rise itself."""
    found: Features = {}
    for name in ("t50", "t100", "late"):
        rise = view.images[name] - view.images["t12"]
        soft = blur(rise, 3.0)
        fine = blur(rise, 1.0) - soft
        for i in (0, 2, 4):
            zone = zones[i] | zones[i + 1]
            spread = float(np.subtract(*np.quantile(fine[zone], (0.9, 0.1))))
            level = float(np.median(soft[zone]))
            found[f"rings.{name}.fine.{i}"] = spread
            found[f"rings.{name}.stipple.{i}"] = spread / max(level, 0.15)
            found[f"rings.{name}.level.{i}"] = level
    return found


def petals(view: View) -> Features:
    """Periods of brightness round the fovea, 5 to 10 per turn, round a dark centre."""
    image = blur(view.images["late"] - 0.5 * view.images["t12"], 1.0)
    angle = np.arange(64) / 64 * 2 * np.pi
    radius = np.linspace(0.15, 0.6, 10)[:, None]
    origin = np.abs(view.x_dd[0]).argmin(), np.abs(view.y_dd[:, 0]).argmin()
    best = (0.0, 0.0, 0.0)
    for dx in (-0.3, -0.15, 0.0, 0.15, 0.3):
        for dy in (-0.3, -0.15, 0.0, 0.15, 0.3):
            cols = origin[0] + DD * (dx + radius * np.cos(angle))
            rows = origin[1] - DD * (dy + radius * np.sin(angle))
            polar = cv2.remap(
                image, cols.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR
            )
            ring = polar[2:8].mean(axis=0)
            power = np.abs(np.fft.rfft(ring)) / len(ring)
            excess = power[5:11].max() - 0.5 * (power[1:4].mean() + power[11:15].mean())
            best = max(best, (excess, float(polar[0].mean() - ring.mean()), float(ring.mean())))
    return {
        "petal.power": float(best[0]),
        "petal.share": float(best[0] / (best[2] + 0.3)),
        "petal.centre": best[1],
        "petal.ring": best[2],
    }


def windows(view: View) -> Features:
    """What is bright with the choroid, before capillaries and leaks, and fades with it."""
    found: Features = {}
    fade = np.log(view.opened["t3"] + TINY) - np.log(view.opened["late"] + TINY)
    for zone in ("fovea", "ring"):
        ranks = {"p50": 0.5, "p90": 0.9, "p98": 0.98}
        for rank, value in _ranks(fade[view.regions[zone]], ranks).items():
            found[f"fade.{zone}.{rank}"] = value
    around = views.field_mask(SIZE, views.EDGE) & (view.from_fovea > 0.4) & (view.from_fovea < 0.8)
    for name in ("t1", "t3", "t12", "late"):
        soft, wide = blur(view.images[name], 2.0), blur(view.images[name], 6.0)
        centre = np.log(soft[view.regions["fovea"]].max() + TINY)
        found[f"centre.{name}"] = float(centre - np.log(np.median(soft[around]) + TINY))
        mottle = (soft - wide) / (wide + 0.1)
        for zone in ("fovea", "ring"):
            ranks = {"p5": 0.05, "p90": 0.9, "p98": 0.98}
            for rank, value in _ranks(mottle[view.regions[zone]], ranks).items():
                found[f"mottle.{name}.{zone}.{rank}"] = value
        found[f"mottle.{name}.tract"] = _sd(mottle[view.regions["tract"]])
    return found | _grain(view)


def _grain(view: View) -> Features:
    found: Features = {}
    bands = {
        name: blur(image, 1.5) - blur(image, 5.0)
        for name, image in (
            ("early", view.images["t3"]),
            ("mid", view.filling),
            ("late", view.images["late"]),
        )
    }
    for name, band in bands.items():
        for zone in ("fovea", "ring", "pole", "far"):
            found[f"grain.{name}.{zone}"] = _sd(band[view.regions[zone]])
    for a, b, zone in (("early", "late", "ring"), ("early", "late", "fovea"),
                       ("early", "mid", "ring")):  # fmt: skip
        pair = [bands[n][view.regions[zone]] for n in (a, b)]
        spread = _sd(pair[0]) * _sd(pair[1])
        product = float(((pair[0] - pair[0].mean()) * (pair[1] - pair[1].mean())).mean())
        found[f"grain.{a}.{b}.{zone}"] = product / spread if spread > 1e-9 else 0.0
    return found


def disc(view: View) -> Features:
    """Brightness of rings round the disc against the tissue further out."""
    field = views.field_mask(SIZE, views.EDGE)
    starts = np.arange(9) * 0.15
    rings = [field & (view.from_disc > a) & (view.from_disc < a + 0.15) for a in starts]
    rings.append(field & (view.from_disc > 1.35) & (view.from_disc < 1.8))
    profile = {}
    for name in ("t12", "t50", "late"):
        level = np.log([float(np.median(view.opened[name][ring])) + TINY for ring in rings])
        profile[name] = level[:-1] - level[-1]
    late, rise, growth = (
        profile["late"],
        profile["late"] - profile["t12"],
        profile["late"] - profile["t50"],
    )
    found: Features = {}
    for i in range(len(starts)):
        found[f"disc.late.{i}"] = float(late[i])
        found[f"disc.rise.{i}"] = float(rise[i])
        found[f"disc.growth.{i}"] = float(growth[i])
    found["disc.late.step"] = float(-np.diff(late[2:6]).max())
    found["disc.rise.step"] = float(-np.diff(rise[1:7]).min())
    found["disc.rise.outside"] = float(rise[5:8].mean())
    found["disc.rise.inside"] = float(rise[:3].mean())
    return found | _disc_edge(view, field)


def _disc_edge(view: View, field: np.ndarray) -> Features:
    """How much of the late rise ends at the border of the disc."""
    found: Features = {}
    starts = np.arange(0, 1.2, 0.08)
    zones = [field & (view.from_disc >= a) & (view.from_disc < a + 0.08) for a in starts]
    for name in ("t100", "late"):
        gain = blur(view.images[name], 1.0) - blur(view.images["t12"], 1.0)
        profile = np.array([float(np.median(gain[zone])) for zone in zones])
        inside, outside = profile[:5].mean(), profile[7:10].mean()
        drops = profile[3:9] - profile[5:11]
        key = f"disc.edge.{name}"
        found[f"{key}.inside"] = float(inside - profile[12:].mean())
        found[f"{key}.outside"] = float(outside - profile[12:].mean())
        found[f"{key}.drop"] = float(drops.max())
        found[f"{key}.share"] = float(drops.max() / max(inside - profile[12:].mean(), 0.1))
    return found


def delays(view: View) -> Features:
    """Half-rise times of the vessels of each quadrant (logarithms of seconds)."""
    ranked = quadrant_delays(view)
    found: Features = {}
    for j, rank in enumerate(DELAY_RANKS):
        ordered = np.sort(np.log(np.maximum(ranked[:, j], 0.3)))
        found[f"delay.{rank}.max"] = float(ordered[-1])
        found[f"delay.{rank}.second"] = float(ordered[-2])
        found[f"delay.{rank}.min"] = float(ordered[0])
        found[f"delay.{rank}.mean"] = float(ordered.mean())
        found[f"delay.{rank}.gap"] = float(ordered[-1] - ordered[-2])
        found[f"delay.{rank}.span"] = float(ordered[-1] - ordered[0])
    return found


def quadrant_delays(view: View) -> np.ndarray:
    """(4, 5) seconds: half-rise times of the vessels of each quadrant by `DELAY_RANKS`."""
    count = max(int((view.times_s <= RISE_END_S).sum()), 1)
    lines = views.contrast(views.resized(view.frames[:count], SMALL))
    times = view.times_s[:count]
    best = np.max([lines[max(i - 1, 0) : i + 2].mean(axis=0) for i in range(count)], axis=0)
    ranked = []
    for quadrant in QUADRANTS:
        inside = view.regions[quadrant][::2, ::2]
        vessels = (best >= np.quantile(best[inside], 1 - VESSEL_SHARE)) & inside
        rise = half_rise(along(lines, vessels)[:, vessels], times)
        ranked.append(np.quantile(rise, list(DELAY_RANKS.values())))
    return np.asarray(ranked)


def along(lines: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """(t, h, w) contrast averaged with neighbouring vessel pixels, against noise."""
    mask = vessels.astype(np.float32)
    weight = np.maximum(blur(mask, 1.5), 1e-3)
    return np.stack([blur(f * mask, 1.5) / weight for f in lines])


def half_rise(curves: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """(n,) time at which each of (t, n) curves first reaches half its maximum, interpolated."""
    level = 0.5 * np.maximum(curves.max(axis=0), 1e-6)
    above = curves >= level
    first = above.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    column = np.arange(curves.shape[1])
    low, high = curves[before, column], curves[first, column]
    share = np.where(first > before, (level - low) / np.maximum(high - low, 1e-6), 0.0)
    return times_s[before] + np.clip(share, 0, 1) * (times_s[first] - times_s[before])


SIGNS: tuple[Callable[[View], Features], ...] = (
    rises, levels, pits, dots, blob, rings, petals, windows, disc, delays,
)  # fmt: skip


def all_features(view: View) -> Features:
    """Every number that the rules may weigh, by name."""
    return {name: value for sign in SIGNS for name, value in sign(view).items()}


# --- Helpers ---


def _robust(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients of a fit that leaves dark patches and leaks below and above it."""
    weight = np.ones(len(values))
    calm = np.diag([0.0, 0.02, 0.02, 0.02, 0.02])
    fit = np.zeros(basis.shape[1])
    for _ in range(6):
        normal = (basis * weight[:, None]).T
        fit = np.linalg.solve(normal @ basis + calm, normal @ values)
        error = values - basis @ fit
        weight = np.where(error > 0, 1.0, 0.8) / np.maximum(np.abs(error), 0.08)
    return fit


def _pointedness(image: np.ndarray) -> np.ndarray:
    """(h, w) the weaker of the two downward curvatures, relative to the surroundings."""
    soft = blur(image, 1.0)
    xx = cv2.filter2D(soft, -1, np.array([[1, -2, 1]], np.float32))
    yy = cv2.filter2D(soft, -1, np.array([[1], [-2], [1]], np.float32))
    xy = cv2.filter2D(
        soft, -1, np.array([[0.25, 0, -0.25], [0, 0, 0], [-0.25, 0, 0.25]], np.float32)
    )
    weaker = -(0.5 * (xx + yy) + np.sqrt((0.5 * (xx - yy)) ** 2 + xy**2))
    return np.clip(weaker, 0, None) / (blur(image, 5.0) + 0.3)


def _part(rise: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: what is connected with a point above half of its rise."""
    above = (rise > 0.5 * max(float(rise[at]), TINY)).astype(np.uint8)
    labels = cv2.connectedComponents(above)[1]
    return (labels == labels[at]) & (labels[at] > 0)


def _put(
    found: Features, key: str, values: np.ndarray, view: View, ranks: dict[str, float]
) -> None:
    """Ranks of the zones, and of the quadrants in the order of their values."""
    for zone in ZONES:
        for rank, value in _ranks(values[view.regions[zone]], ranks).items():
            found[f"{key}.{zone}.{rank}"] = value
    by_quadrant = [_ranks(values[view.regions[q]], ranks) for q in QUADRANTS]
    for rank in ranks:
        ordered = sorted(quadrant[rank] for quadrant in by_quadrant)
        found[f"{key}.quad1.{rank}"] = ordered[-1]
        found[f"{key}.quad2.{rank}"] = ordered[-2]
        found[f"{key}.quad4.{rank}"] = ordered[0]


def _ranks(values: np.ndarray, ranks: dict[str, float]) -> Features:
    """Values at given shares of the sorted values; 0 where there are none."""
    if not values.size:
        return dict.fromkeys(ranks, 0.0)
    ordered = np.sort(values)
    last = len(ordered) - 1
    return {name: float(ordered[min(int(p * len(ordered)), last)]) for name, p in ranks.items()}


def _even(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32) / max(int(mask.sum()), 1)


def _log_share(share: float) -> float:
    return float(np.log(1e-4 + share))


def _sd(values: np.ndarray) -> float:
    return float(values.std()) if values.size else 0.0
