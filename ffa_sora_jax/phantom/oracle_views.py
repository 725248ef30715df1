"""How the oracle looks at a clip: upright as a right eye, free of gain, at fixed instants.

Every clip is brought to 256 x 256 pixels, mirrored if it shows a left eye, and divided frame by
frame by its field median, which cancels the automatic gain. Frames are averaged around instants
of the dye's run, so that clips of any schedule are alike. The disc is found where vessels
converge; the fovea lies at its mean distance from there.
Source of the rules: `docs/phantom.md`, section "Reading back".
"""

import dataclasses
import functools

import cv2
import numpy as np

from ffa_sora_jax.phantom.anatomy import FIELD_MM, FIELD_RADIUS
from ffa_sora_jax.phantom.record import QUADRANTS

SIZE = 256
PX_PER_MM = SIZE / FIELD_MM
DD_MM = 1.76
DD = DD_MM * PX_PER_MM  # pixels per disc diameter
INSTANTS_S = {
    "t1": 1.5, "t3": 3.0, "t6": 6.0, "t12": 12.0, "t25": 25.0, "t50": 50.0, "t100": 100.0,
    "t200": 200.0,
}  # fmt: skip
LATE_FRAMES = 3  # the last ones are averaged to "late"
SMALL = 128  # width at which vessels are followed
SMALL_PX_PER_MM = SMALL / FIELD_MM
EDGE = 0.03  # of the width, left out along the border of the field
RIM = 0.045  # the same where vessels are followed
FLOOR = 12.0  # grey levels that keep the contrast of dark frames finite
DISC_MM = (4.2, 0.25)  # mean place of the disc in the picture of a right eye, x right, y up
DISC_SPREAD_MM = (0.7, 0.45)
DISC_FROM_FOVEA_MM = (4.7, 0.4)
CONVERGENCE_MM = (0.6, 4.0)  # vessels between these distances of a spot vote for it


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """A clip as the rules see it: right eye, x to the right (nasal), y up.

    Attributes:
      frames: (t, 256, 256) float32 0..255.
      times_s: (t,) float64 ascending.
      images: by instant, (256, 256) float32 relative to the field median of the frame.
      opened: the same without vessels and small spots.
      disc_dd: (x, y) of the disc in DD from the fovea.
      x_dd, y_dd: (256, 256) DD from the fovea.
    """

    frames: np.ndarray
    times_s: np.ndarray
    images: dict[str, np.ndarray]
    opened: dict[str, np.ndarray]
    disc_dd: tuple[float, float]
    x_dd: np.ndarray
    y_dd: np.ndarray

    @functools.cached_property
    def from_fovea(self) -> np.ndarray:
        """(256, 256) distance from the fovea in DD."""
        return np.hypot(self.x_dd, self.y_dd)

    @functools.cached_property
    def from_disc(self) -> np.ndarray:
        """(256, 256) distance from the middle of the disc in DD."""
        return np.hypot(self.x_dd - self.disc_dd[0], self.y_dd - self.disc_dd[1])

    @functools.cached_property
    def filling(self) -> np.ndarray:
        """(256, 256) mean of the images at 6, 12 and 25 s: every vessel lit, little leaks."""
        return np.mean([self.images[name] for name in ("t6", "t12", "t25")], axis=0)

    @functools.cached_property
    def regions(self) -> dict[str, np.ndarray]:
        """(256, 256) bool by name: fovea, ring, macula, disc, rim, the quadrants, far, pole."""
        r, rd, field = self.from_fovea, self.from_disc, field_mask(SIZE, EDGE)
        raphe = np.clip(self.x_dd / max(self.disc_dd[0], 0.5), 0, 1) * self.disc_dd[1]
        above, temporal = self.y_dd > raphe, self.x_dd < self.disc_dd[0]
        outer = field & (rd > 0.75) & (r > 1.2)
        quadrants = (above & temporal, ~above & temporal, above & ~temporal, ~above & ~temporal)
        from_pole = np.hypot(self.x_dd - 0.9, (self.y_dd - 0.1) / 0.92)
        return {
            "fovea": field & (r < 0.45),
            "macula": field & (r < 1.2),
            "ring": field & (r > 0.45) & (r < 1.2),
            "disc": field & (rd < 0.4),
            "rim": field & (rd > 0.6) & (rd < 1.1),
            "outer": outer,
            "far": outer & (from_pole > 2.4),
            "near": outer & (from_pole <= 2.4),
            "pole": outer & (np.hypot(self.x_dd - 0.6, self.y_dd) < 2.3),
            "tract": field & (np.abs(self.x_dd) < 1) & (self.y_dd < -0.6) & (self.y_dd > -1.8),
            **{name: outer & part for name, part in zip(QUADRANTS, quadrants, strict=True)},
        }


def look(video: np.ndarray, times_s: np.ndarray, eye: str) -> View:
    """The view of a clip that shows this eye.

    Args:
      video: (t, h, w) grey clip 0..255, square.
      times_s: (t,) ascending, seconds.
      eye: "right" or "left".

    Raises:
      ValueError: shapes do not fit, times that do not ascend, or unknown eye.
    """
    times = np.asarray(times_s, np.float64)
    if times.shape != (len(video),):
        raise ValueError(f"{len(video)} frames but frame times of shape {times.shape}.")
    if not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
        raise ValueError("Frame times must be finite and ascend.")
    if eye not in ("right", "left"):
        raise ValueError(f"eye is {eye!r}; allowed: 'right', 'left'.")
    frames = resized(video, SIZE)
    if eye == "left":
        frames = np.ascontiguousarray(frames[:, :, ::-1])
    disc_mm = find_disc(frames)
    images = _at_instants(frames, times)
    x_mm, y_mm = millimetres(SIZE)
    return View(
        frames=frames,
        times_s=times,
        images=images,
        opened={name: opened(image) for name, image in images.items()},
        disc_dd=(DISC_FROM_FOVEA_MM[0] / DD_MM, DISC_FROM_FOVEA_MM[1] / DD_MM),
        x_dd=(x_mm - disc_mm[0] + DISC_FROM_FOVEA_MM[0]) / DD_MM,
        y_dd=(y_mm - disc_mm[1] + DISC_FROM_FOVEA_MM[1]) / DD_MM,
    )


def resized(video: np.ndarray, size: int) -> np.ndarray:
    """(t, h, w) uint8 or float 0..255 -> (t, size, size) float32, area-averaged or enlarged.

    Raises:
      ValueError: not a (t, h, w) array or not square.
    """
    if video.ndim != 3 or video.shape[1] != video.shape[2]:
        raise ValueError(f"Expected a square grey clip (t, h, w), got shape {video.shape}.")
    how = cv2.INTER_AREA if video.shape[1] >= size else cv2.INTER_CUBIC
    frames = [cv2.resize(frame, (size, size), interpolation=how) for frame in video]
    return np.clip(np.asarray(frames, np.float32), 0, 255)


@functools.cache
def field_mask(size: int, margin: float) -> np.ndarray:
    """(size, size) bool: inside the round field, `margin` widths off its rim."""
    c = np.arange(size) + 0.5 - size / 2
    return np.hypot(c[:, None], c[None]) < (FIELD_RADIUS - margin) * size


@functools.cache
def millimetres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y up, (size, size), in mm from the middle of the picture."""
    c = (np.arange(size) + 0.5 - size / 2) * FIELD_MM / size
    x, y = np.meshgrid(c, -c)
    return x.astype(np.float32), y.astype(np.float32)


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian mean of (h, w)."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def opened(image: np.ndarray) -> np.ndarray:
    """(256, 256) without bright structures narrower than 9 px: the tissue behind the vessels."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    return blur(cv2.morphologyEx(blur(image, 1.0), cv2.MORPH_OPEN, kernel), 1.5)


def contrast(frames: np.ndarray, sigma_px: float = 3.0) -> np.ndarray:
    """(t, h, w) Weber contrast against the surroundings; 0 outside the field."""
    field = field_mask(frames.shape[-1], RIM).astype(np.float32)
    weight = np.maximum(blur(field, sigma_px), 1e-3)
    mean = np.stack([blur(f * field, sigma_px) / weight for f in frames])
    return (frames - mean) / (mean + FLOOR) * field


def filling_lines(video: np.ndarray) -> np.ndarray:
    """(128, 128) lines of the vessels while they fill, before any leak can mislead, 0..0.5."""
    third = max(len(video) // 3, 1)
    filling = resized(video[min(1, len(video) - 1) : third + 1], SMALL)
    return np.clip(contrast(filling.mean(axis=0, keepdims=True))[0], 0, 0.5)


def convergence(lines: np.ndarray) -> np.ndarray:
    """(128, 128) how well the vessels around point at each spot.

    A vessel of direction theta seen from a spot in direction phi points at it as far as
    cos(2 (theta - phi)) is near 1; written out this is a sum of two convolutions.
    """
    soft = blur(lines.astype(np.float32), 0.8)
    gx, gy = (cv2.Sobel(soft, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    xx, yy, xy = (blur(g, 1.2) for g in (gx * gx, gy * gy, gx * gy))
    power = np.hypot(xx - yy, 2 * xy) + 1e-6
    weight = lines * power / (xx + yy + 1e-4)  # strength times coherence
    cosine, sine = -(xx - yy) / power * weight, -2 * xy / power * weight  # along, not across
    reach = int(CONVERGENCE_MM[1] * SMALL_PX_PER_MM) + 1
    dx, dy = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    r = np.hypot(dx, dy) / SMALL_PX_PER_MM
    ring = ((r > CONVERGENCE_MM[0]) & (r < CONVERGENCE_MM[1])) / np.maximum(r, 0.3)
    twice = 2 * np.arctan2(dy, dx)
    score = cv2.filter2D(cosine.astype(np.float32), -1, (ring * np.cos(twice)).astype(np.float32))
    score += cv2.filter2D(sine.astype(np.float32), -1, (ring * np.sin(twice)).astype(np.float32))
    return score


def find_disc(frames: np.ndarray) -> tuple[float, float]:
    """(x, y) of the disc of a right eye in mm from the middle of the picture, x right, y up."""
    score = blur(convergence(filling_lines(frames)), 2.0)
    field = field_mask(SMALL, RIM)
    x, y = millimetres(SMALL)
    off = ((x - DISC_MM[0]) / DISC_SPREAD_MM[0]) ** 2 + ((y - DISC_MM[1]) / DISC_SPREAD_MM[1]) ** 2
    likely = np.where(field, score / (score[field].std() + 1e-6) - 0.5 * off, -np.inf)
    best = int(likely.argmax())
    return float(x.flat[best]), float(y.flat[best])


def _at_instants(frames: np.ndarray, times_s: np.ndarray) -> dict[str, np.ndarray]:
    """Images of the instants: weighted means of the frames near them on a logarithmic axis."""
    field = field_mask(SIZE, EDGE)
    median = np.median(frames[:, field][:, ::7], axis=1)
    relative = frames / np.maximum(median, 4.0)[:, None, None]
    log_times = np.log(np.maximum(times_s, 0.5))
    images = {}
    for name, instant in INSTANTS_S.items():
        off = np.abs(log_times - np.log(instant))
        weight = np.exp(-0.5 * (off / 0.28) ** 2)
        if weight.sum() < 0.3:  # no frame near: the nearest stands in
            weight = (np.arange(len(off)) == off.argmin()).astype(float)
        weight[weight < 0.02 * weight.sum()] = 0.0
        used = weight > 0
        images[name] = np.tensordot(
            (weight[used] / weight[used].sum()).astype(np.float32), relative[used], 1
        )
    images["late"] = relative[-LATE_FRAMES:].mean(axis=0)
    return images
