"""Prints how close phantom frames come to real angiograms, and what a clip costs on one core.

    python -m benchmarks.phantom [--count 12] [--real FOLDER_OF_FRAMES]

Grey levels are percentiles inside the field of view; calibre is the full width at half maximum of
vessel profiles at 512 px; area is `video.quality.vessel_area_ratio`.
"""

import argparse
import pathlib
import time

import cv2
import numpy as np

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.video.quality import vessel_area_ratio

PERCENTILES = (1, 5, 50, 95, 99, 99.9)
WIDTHS = (10, 50, 90, 97)
PHASES = {"arterial": (6,), "venous": (10, 11, 12), "90 s": (15,), "620 s": (20,)}  # of "full"


def field_of(frame: np.ndarray) -> np.ndarray:
    bright = cv2.medianBlur(frame, 7) > 6
    points = cv2.findNonZero(bright.astype(np.uint8))
    field = np.zeros_like(frame)
    cv2.fillConvexPoly(field, cv2.convexHull(points), 1)
    return cv2.erode(field, np.ones((7, 7), np.uint8)) > 0


def calibres(frame: np.ndarray) -> np.ndarray:
    """(k,) full widths at half maximum, in px, of the ridges of a 512 px frame."""
    grey = frame.astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.5)
    dx, dy = (cv2.Sobel(smooth, -1, *order, ksize=3) for order in ((1, 0), (0, 1)))
    xx, yy = cv2.Sobel(dx, -1, 1, 0, ksize=3), cv2.Sobel(dy, -1, 0, 1, ksize=3)
    xy = cv2.Sobel(dx, -1, 0, 1, ksize=3)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)  # axis of one curvature; the other is at 90 degrees
    along = xx * np.cos(angle) ** 2 + yy * np.sin(angle) ** 2 + xy * np.sin(2 * angle)
    other = xx + yy - along
    angle = np.where(along < other, angle, angle + np.pi / 2)
    curved = np.minimum(along, other)
    rows, cols = np.nonzero(curved < np.percentile(curved[field_of(frame)], 12))
    inner = (np.minimum(rows, cols) > 20) & (np.maximum(rows, cols) < len(frame) - 20)
    rows, cols = rows[inner], cols[inner]
    nx, ny = np.cos(angle[rows, cols]), np.sin(angle[rows, cols])
    reach = np.arange(-12, 12.01, 0.5, dtype=np.float32)
    map_x = (cols[:, None] + nx[:, None] * reach).astype(np.float32)
    map_y = (rows[:, None] + ny[:, None] * reach).astype(np.float32)
    light = cv2.GaussianBlur(grey, (0, 0), 0.6)
    profile = np.concatenate(
        [
            cv2.remap(light, map_x[i : i + 30000], map_y[i : i + 30000], cv2.INTER_LINEAR)
            for i in range(0, len(rows), 30000)
        ]
    )
    middle = len(reach) // 2
    peak = profile[:, middle]
    ridge = (peak >= profile[:, middle - 2]) & (peak >= profile[:, middle + 2])
    base = np.maximum(profile[:, :middle].min(axis=1), profile[:, middle + 1 :].min(axis=1))
    ridge &= peak - base > 0.5 * base + 12
    profile, half = profile[ridge], 0.5 * (peak + base)[ridge, None]
    left = np.argmax(profile[:, middle::-1] < half, axis=1)
    right = np.argmax(profile[:, middle:] < half, axis=1)
    found = (left > 0) & (right > 0)
    return 0.5 * (left + right)[found]


def row(name: str, frames: list[np.ndarray]) -> str:
    greys = np.mean([np.percentile(f[field_of(f)], PERCENTILES) for f in frames], axis=0)
    widths = np.percentile(np.concatenate([calibres(f) for f in frames]), WIDTHS)
    area = np.median([vessel_area_ratio(f) for f in frames])
    lit = np.mean([(f > 6).mean() for f in frames])
    return (
        f"| {name} | {'/'.join(f'{g:.0f}' for g in greys)} | "
        f"{'/'.join(f'{w:.1f}' for w in widths)} | {area:.3f} | {lit:.3f} |"
    )


def real_frames(folder: pathlib.Path) -> dict[str, list[np.ndarray]]:
    groups: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.rglob("*.jpg")):
        frame = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        groups.setdefault(path.parent.name, []).append(cv2.resize(frame, (512, 512)))
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--real", type=pathlib.Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"| frames | grey {PERCENTILES} | FWHM px {WIDTHS} | vessel area | lit |")
    print("|---|---|---|---|---|")
    if args.real:
        for name, frames in real_frames(args.real).items():
            print(row(f"real {name} ({len(frames)})", frames))
    clips = [generate(11, k, 512, "full", disease="normal") for k in range(args.count)]
    for phase, indices in PHASES.items():
        print(row(f"phantom {phase}", [c.video[n] for c in clips for n in indices]))
    for size in (64, 128, 256, 512):
        start = time.process_time()
        for k in range(args.count):
            generate(12, k, size)
        cost = (time.process_time() - start) / args.count
        print(f"{size:4d} px: {cost:.3f} s of one core per 21-frame clip")


if __name__ == "__main__":
    main()
