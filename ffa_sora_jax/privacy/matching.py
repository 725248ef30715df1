"""The nearest clip of a gallery after the best similarity alignment: flip, turn, zoom, shift.

Two clips of one eye agree where their maps are laid over each other, whatever the camera did. All
pairs are compared coarsely (mirrored or not, some angles, all shifts by Fourier transform); the
best few again with finer angles and zooms, and scored by the normalised cross-correlation over the
pixels that both fields show.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from scipy import fft

from ffa_sora_jax.privacy.traces import MAP_PX, Trace, stack

TURNS_DEG = (-6.0, -3.0, 0.0, 3.0, 6.0)
FINE_TURNS_DEG = (-1.5, 0.0, 1.5)
FINE_ZOOMS = (0.97, 1.0, 1.03)
COARSE, FINE = (40, 48), (64, 80)  # pixels of the map, and with room for shifts
REACH = 0.20  # largest shift, share of the width
CANDIDATES = 6  # pairs looked at closely
BLUR_PX = 1.2  # of the 128 px maps: vessels that lie a little apart still overlap
_BLOCK = 512  # clips of the gallery at once


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How a query is moved onto a clip of the gallery; shifts in shares of the width."""

    mirrored: bool
    turn_deg: float
    zoom: float
    x: float = 0.0
    y: float = 0.0

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """(n, n) float32 moved; zero where nothing is known."""
        size = picture.shape[0]
        source = np.ascontiguousarray(picture[:, ::-1]) if self.mirrored else picture
        middle = (size / 2 - 0.5, size / 2 - 0.5)
        matrix = cv2.getRotationMatrix2D(middle, self.turn_deg, self.zoom)
        matrix[:, 2] += np.array([self.x, self.y]) * size
        return cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_LINEAR)


@dataclasses.dataclass(frozen=True)
class Match:
    """A clip of the gallery beside a query: its place, the agreement, and how it was laid over."""

    index: int
    score: float
    alignment: Alignment


class Gallery:
    """Clips that are searched by one of their maps, "vessels" or "contrast"."""

    def __init__(self, traces: Sequence[Trace], channel: str):
        self.channel = channel
        self._maps = _blurred(stack(traces, channel))  # float16: galleries may be large
        self._fields = stack(traces, "field")
        self._spectra = np.concatenate(
            [
                _spectra(self._maps[i : i + _BLOCK], self._fields[i : i + _BLOCK], COARSE)
                for i in range(0, len(traces), _BLOCK)
            ]
        )

    def __len__(self) -> int:
        return len(self._maps)

    def best(self, query: Trace, exclude: Sequence[int] = ()) -> list[Match]:
        """The most similar clips, best first.

        Args:
          query: the clip looked for.
          exclude: places in the gallery that do not count, such as the query itself.
        """
        poses = [Alignment(flip, turn, 1.0) for flip in (False, True) for turn in TURNS_DEG]
        line = _blurred(getattr(query, self.channel)[None])[0].astype(np.float32)
        field = query.field.astype(np.float32)
        scores = np.full(len(self), -1.0, np.float32)
        chosen = np.zeros(len(self), int)
        for number, pose in enumerate(poses):
            peaks = self._peaks(line, field, pose)
            better = peaks > scores
            scores[better], chosen[better] = peaks[better], number
        scores[list(exclude)] = -np.inf
        top = np.argsort(-scores, kind="stable")[:CANDIDATES]
        found = [
            self._refine(line, field, int(i), poses[chosen[i]])
            for i in top
            if np.isfinite(scores[i])
        ]
        return sorted(found, key=lambda match: -match.score)

    def _peaks(self, line: np.ndarray, field: np.ndarray, pose: Alignment) -> np.ndarray:
        """(n,) largest correlation of one pose of the query over all shifts."""
        spectrum = _spectra(pose.apply(line)[None], pose.apply(field)[None], COARSE)[0]
        peaks = []
        for i in range(0, len(self), _BLOCK):
            plane = _plane(self._spectra[i : i + _BLOCK], spectrum, COARSE)
            peaks.append(plane.reshape(len(plane), -1).max(axis=1))
        return np.concatenate(peaks)

    def _refine(self, line: np.ndarray, field: np.ndarray, index: int, coarse: Alignment) -> Match:
        other = self._maps[index].astype(np.float32)
        other_field = self._fields[index].astype(np.float32)
        own = _spectra(other[None], other_field[None], FINE)
        best, value = coarse, -np.inf
        for turn in FINE_TURNS_DEG:
            for zoom in FINE_ZOOMS:
                pose = Alignment(coarse.mirrored, coarse.turn_deg + turn, zoom)
                spectrum = _spectra(pose.apply(line)[None], pose.apply(field)[None], FINE)[0]
                plane = _plane(own, spectrum, FINE)[0]
                row, column = np.unravel_index(int(plane.argmax()), plane.shape)
                if plane[row, column] > value:
                    value, reach = float(plane[row, column]), plane.shape[0] // 2
                    x, y = (int(column) - reach) / FINE[0], (int(row) - reach) / FINE[0]
                    best = dataclasses.replace(pose, x=x, y=y)
        shared = best.apply(field) * other_field
        return Match(index, _correlation(best.apply(line), other, shared), best)


def _blurred(maps: np.ndarray) -> np.ndarray:
    blurred = [cv2.GaussianBlur(one.astype(np.float32), (0, 0), BLUR_PX) for one in maps]
    return np.stack(blurred).astype(np.float16)


def _spectra(maps: np.ndarray, fields: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(n, p, p/2 + 1) complex64 of the maps at mean 0 in the field and length 1."""
    side, padded = grid
    small = np.stack([_shrunk(one, side) for one in maps])
    weight = np.stack([_shrunk(one, side) for one in fields])
    mean = (small * weight).sum(axis=(1, 2)) / np.maximum(weight.sum(axis=(1, 2)), 1e-6)
    level = (small - mean[:, None, None]) * weight
    norm = np.sqrt((level**2).sum(axis=(1, 2)))
    return fft.rfft2(level / np.maximum(norm, 1e-9)[:, None, None], s=(padded, padded))


def _plane(spectra: np.ndarray, query: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(n, 2 r + 1, 2 r + 1) correlations over shifts of the query; no shift in the middle."""
    reach = round(REACH * grid[0])
    plane = fft.irfft2(spectra * query.conj(), s=(grid[1], grid[1]))
    shifts = np.arange(-reach, reach + 1)
    return plane[:, shifts[:, None], shifts]


def _shrunk(one: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(one.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> float:
    """Weighted correlation of two pictures; 0 where they hardly overlap."""
    total = float(weight.sum())
    if total < 0.2 * MAP_PX**2:
        return 0.0
    a = a - float((a * weight).sum()) / total
    b = b - float((b * weight).sum()) / total
    power = float((a * a * weight).sum()) * float((b * b * weight).sum())
    return float((a * b * weight).sum() / np.sqrt(power)) if power > 0 else 0.0
