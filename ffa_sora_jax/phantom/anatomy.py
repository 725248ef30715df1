"""Where things lie in one eye, and the pixel grid on which they are drawn.

Everything is in the canonical frame: the fovea at the origin, +x nasal, +y superior, lengths in
disc diameters (DD). On the grid the canonical frame looks like a right eye (nasal to the right);
a left eye is the mirrored picture, made at the very end.
Source of the numbers: `docs/phantom.md`, table "Anatomy".
"""

import dataclasses
import functools

import numpy as np

FIELD_MM = 16.0  # width of a 55 degree field on the retina of an emmetropic eye
FIELD_RADIUS = 0.5125  # of the width: the circle is clipped by the four sides


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """The fixed landmarks of one eye.

    Attributes:
      dd_mm: mm per DD, which is the vertical diameter of this disc.
      disc_center_dd: (x, y) of the disc, DD from the fovea.
      disc_radius_dd: half the vertical diameter, 0.5 by definition of the unit.
      disc_axis_ratio: horizontal over vertical diameter.
      faz_radius_dd: radius of the foveal avascular zone.
      field_center_dd: the retinal point at the middle of the picture.
      pigment: strength of the macular pigment's screening of the choroid, about 1.
    """

    dd_mm: float = 1.76
    disc_center_dd: tuple[float, float] = (2.67, 0.2)
    disc_radius_dd: float = 0.5
    disc_axis_ratio: float = 0.93
    faz_radius_dd: float = 0.16
    field_center_dd: tuple[float, float] = (0.3, 0.1)
    pigment: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A square pixel grid over the canonical frame.

    Attributes:
      size: pixels per side.
      px_per_dd: scale.
      center_dd: the canonical point in the middle of the picture.
    """

    size: int
    px_per_dd: float
    center_dd: tuple[float, float]

    @classmethod
    def over(cls, anatomy: Anatomy, size: int) -> "Grid":
        """The grid of a 55 degree picture of this eye, `size` x `size` pixels."""
        return cls(size, size * anatomy.dd_mm / FIELD_MM, anatomy.field_center_dd)

    @functools.cached_property
    def x_dd(self) -> np.ndarray:
        """(h, w) float32: canonical x (nasal) of every pixel centre."""
        row = (np.arange(self.size) + 0.5 - self.size / 2) / self.px_per_dd + self.center_dd[0]
        return np.broadcast_to(row.astype(np.float32), (self.size, self.size))

    @functools.cached_property
    def y_dd(self) -> np.ndarray:
        """(h, w) float32: canonical y (superior) of every pixel centre."""
        col = (self.size / 2 - np.arange(self.size) - 0.5) / self.px_per_dd + self.center_dd[1]
        return np.broadcast_to(col.astype(np.float32)[:, None], (self.size, self.size))

    def to_px(self, xy_dd: np.ndarray) -> np.ndarray:
        """(..., 2) canonical DD -> (..., 2) pixel (column, row), pixel centres at integers."""
        xy_dd = np.asarray(xy_dd, np.float64)
        col = (xy_dd[..., 0] - self.center_dd[0]) * self.px_per_dd + self.size / 2 - 0.5
        row = (self.center_dd[1] - xy_dd[..., 1]) * self.px_per_dd + self.size / 2 - 0.5
        return np.stack([col, row], axis=-1)

    def distance(self, center_dd: tuple[float, float]) -> np.ndarray:
        """(h, w) float32 distance in DD of every pixel from a canonical point."""
        return np.hypot(self.x_dd - center_dd[0], self.y_dd - center_dd[1])


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """One random healthy eye (lengths drawn in mm, returned in DD)."""
    radius_mm = float(np.clip(rng.normal(0.88, 0.06), 0.74, 1.02))
    dd_mm = 2 * radius_mm
    disc_x = float(np.clip(rng.normal(4.7, 0.25), 4.2, 5.2))
    disc_y = float(np.clip(rng.normal(0.40, 0.16), 0.05, 0.75))
    return Anatomy(
        dd_mm=dd_mm,
        disc_center_dd=(disc_x / dd_mm, disc_y / dd_mm),
        disc_axis_ratio=float(rng.uniform(0.85, 1.0)),
        faz_radius_dd=float(np.clip(rng.normal(0.28, 0.04), 0.18, 0.38)) / dd_mm,
        field_center_dd=(
            float(rng.normal(0.5, 0.5)) / dd_mm,
            float(rng.normal(0.15, 0.3)) / dd_mm,
        ),
        pigment=float(np.clip(rng.normal(1.0, 0.12), 0.6, 1.25)),
    )
