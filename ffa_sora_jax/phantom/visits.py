"""Further visits of one eye: the same vessels on another day, from another camera position.

What stays is what identifies an eye: landmarks, vessel trees, the texture of its choroid and
capillaries. What changes: the dye, the frame times, the camera and where it stands, how far the
lesions have come, and the wording of the report. Measured figures: `docs/privacy.md`.
"""

import copy
import dataclasses

import cv2
import numpy as np

from ffa_sora_jax.phantom.anatomy import FIELD_RADIUS, Anatomy, Grid
from ffa_sora_jax.phantom.lesions import RECIPES
from ffa_sora_jax.phantom.primitives import Primitive
from ffa_sora_jax.phantom.record import Exam, Finding

SHIFT, TURN_DEG, ZOOM = 0.02, 1.5, 0.01  # sd of how differently the camera stands
MAX_SD = 2.5  # a photographer who is further off looks again
STABLE = 0.4  # share of findings that do not change
GROWTH = (0.04, 0.10)  # mean and sd of the logarithm of a lesion's growth per visit
GROWN = (0.7, 1.4)  # bounds of the growth over all visits
SCARS = ("laser_scars",)  # these keep their size


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where the camera stands, relative to the first visit.

    Attributes:
      x, y: shift of the picture's content to the right and down, in shares of the width.
      turn_deg: counter-clockwise rotation of the content about the middle.
      zoom: magnification.
    """

    x: float = 0.0
    y: float = 0.0
    turn_deg: float = 0.0
    zoom: float = 1.0

    def matrix(self, size: int) -> np.ndarray:
        """(2, 3) float64: pixel (column, row) of the first visit to that of this one."""
        middle = (size / 2 - 0.5, size / 2 - 0.5)
        matrix = cv2.getRotationMatrix2D(middle, self.turn_deg, self.zoom)
        matrix[:, 2] += np.array([self.x, self.y]) * size
        return matrix

    def move(self, frames: np.ndarray) -> np.ndarray:
        """(t, h, w) float32 light as it falls into this camera, without a dark rim.

        Beyond the field nothing was drawn: there the light is the mirror image of what lies within.
        """
        size = frames.shape[-1]
        rows, columns = _mirrored_at_rim(size)
        matrix = self.matrix(size)
        return np.stack(
            [
                cv2.warpAffine(
                    cv2.remap(frame, columns, rows, cv2.INTER_LINEAR), matrix, (size, size),
                    flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
                )
                for frame in frames
            ]
        )  # fmt: skip

    def move_map(self, array: np.ndarray) -> np.ndarray:
        """(h, w) mask or map of the first visit in the pixels of this one; nearest neighbour."""
        size = array.shape[0]
        nothing = np.nan if np.issubdtype(array.dtype, np.floating) else 0
        source = array.astype(np.float32) if nothing else array.astype(np.uint8)
        moved = cv2.warpAffine(
            source, self.matrix(size), (size, size), flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT, borderValue=(nothing,),
        )  # fmt: skip
        return moved.astype(array.dtype)

    def seen_center(self, anatomy: Anatomy, size: int) -> tuple[float, float]:
        """The retinal point, in DD, at the middle of this visit's picture."""
        grid = Grid.over(anatomy, size)
        back = cv2.invertAffineTransform(self.matrix(size))
        col, row = back @ np.array([size / 2 - 0.5, size / 2 - 0.5, 1.0])
        x = (col - size / 2 + 0.5) / grid.px_per_dd + grid.center_dd[0]
        y = (size / 2 - 0.5 - row) / grid.px_per_dd + grid.center_dd[1]
        return float(x), float(y)


def sample_pose(rng: np.random.Generator) -> Pose:
    """A random pose of a later visit."""
    x, y, turn, zoom = np.clip(rng.normal(0, 1, 4), -MAX_SD, MAX_SD)
    return Pose(SHIFT * x, SHIFT * y, TURN_DEG * turn, float(np.exp(ZOOM * zoom)))


def progress(exam: Exam, visit: int, rng: np.random.Generator) -> Exam:
    """The exam at a later visit: some lesions have grown, a few have shrunk, none is new.

    Args:
      exam: the first visit.
      visit: number of the visit; 0 changes nothing.
      rng: the same for all visits of one eye, so that the third visit goes on from the second.
    """
    is_stable = rng.random(len(exam.findings)) < STABLE
    steps = rng.normal(*GROWTH, (visit, len(exam.findings)))  # by rows: later visits add rows
    factors = np.where(is_stable, 1.0, np.clip(np.exp(steps.sum(axis=0)), *GROWN))
    pairs = zip(exam.findings, factors.tolist(), strict=True)
    return dataclasses.replace(exam, findings=tuple(_grown(f, factor) for f, factor in pairs))


def _grown(finding: Finding, factor: float) -> Finding:
    if finding.kind in SCARS:
        return finding
    if finding.radius:
        return dataclasses.replace(finding, radius=finding.radius * factor)
    count = finding.count if finding.count <= 2 else max(2, round(finding.count * factor))
    return dataclasses.replace(finding, count=count)  # spots grow in number


def draw(
    first: Exam, now: Exam, anatomy: Anatomy, grid: Grid, rng: np.random.Generator
) -> list[list[Primitive]]:
    """The primitives of every finding of a visit.

    Each lesion draws from the stream of chance where it stood at the first visit, so that one that
    grows does not move the others.
    """
    if now == first:
        return [RECIPES[f.kind](f, anatomy, grid, rng) for f in now.findings]
    recipes = []
    for before, finding in zip(first.findings, now.findings, strict=True):
        own = copy.deepcopy(rng)
        recipes.append(RECIPES[finding.kind](finding, anatomy, grid, own))
        RECIPES[before.kind](before, anatomy, grid, rng)
    return recipes


def _mirrored_at_rim(size: int) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 rows and columns: inside the field its own, beyond it mirrored at the rim."""
    half = (np.arange(size) + 0.5 - size / 2).astype(np.float32)
    r = np.hypot(half[:, None], half[None])
    rim = FIELD_RADIUS * size - 1
    inward = np.where(r > rim, np.clip(2 * rim - r, 0, None) / np.maximum(r, 1e-6), 1.0)
    at = size / 2 - 0.5
    return (half[:, None] * inward + at).astype(np.float32), (half * inward + at).astype(np.float32)
