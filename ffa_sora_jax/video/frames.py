"""What kind of picture each frame of an exam is, without a network.

Exams mix angiogram frames with colour, infrared and red-free pictures, blinks and repeats. The
guard that tells angiograms from the rest is polarity: the dye makes vessels brighter than what
lies beside them, every other light makes them darker. Figures: `docs/video.md`.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ffa_sora_jax.video import field as fields
from ffa_sora_jax.video import quality

KINDS = (
    "ffa", "colour", "infrared", "red_free", "black", "blink", "overexposed", "blurred",
    "duplicate",
)  # fmt: skip
SHRUNK_PX = 384  # shorter side from which a frame is sharper and less noisy than its thumbnail
SHARP_PX = 192  # shorter side from which sharpness can be judged
BLACK_MEAN = 8.0  # grey levels: mean of the field below which nothing is to be seen
COLOUR_SPREAD = 12.0  # grey levels between the channels, median over the field
RED = 1.2  # red beside the other channels, as in every photograph of a fundus
TINT = 0.05  # spread of the ratio of two channels below which a picture is tinted grey
SATURATED = 250  # grey level
MAX_SATURATED = 0.08  # share of the field
SAME = 1.0  # grey levels: mean difference to an earlier frame below which it is a repeat
DYE = 0.005  # vessel-area ratio of a frame that shows dye
NO_DYE = 0.02  # vessel-area ratio up to which a bright field tells against dye
POLARITY = 0.45  # share of bright among all lines, below which the vessels are dark
DARK_LINES = 0.03  # share of dark lines from which polarity alone decides
BRIGHT_FIELD = 60.0  # grey levels, mean of the field: angiograms without bright vessels are dimmer
RED_FREE_DEPTH = 0.25  # contrast of the darkest 2 %: infrared shows vessels faintly
BLINK_LEVEL = 0.5  # of the usual mean grey
BLINK_FIELD = 0.7  # of the usual field
SHARP = 0.35  # sharpness of a frame blurred by a sigma of about 1 % of its width
SHARP_LINES = 0.60  # sharpness below which missing vessels are blamed on blur


@dataclass(frozen=True)
class Look:
    """What was measured on one frame.

    Attributes:
      kind: one of `KINDS`.
      grey: (256, 256) uint8 thumbnail.
      field: (256, 256) uint8 0/1 or None.
      mean: grey levels, over the field (over the frame where there is none).
      saturated: share of the field at 250 or above.
      bars: bright and dark lines; bright is the vessel-area ratio.
      depth: contrast of the darkest 2 % of the field against what lies around them, >= 0.
      sharpness: see `sharpness`; 0 without a field.
    """

    kind: str
    grey: np.ndarray
    field: np.ndarray | None
    mean: float
    saturated: float
    bars: quality.BarShares
    depth: float
    sharpness: float


class FrameJudge:
    """Judges the frames of one exam in order; remembers what is usual in it."""

    def __init__(self) -> None:
        """No frame seen yet."""
        self._last: np.ndarray | None = None  # the last frame that was no repeat
        self._dye_seen = False
        self._usual_mean = 0.0  # of the frames with dye, a running mean
        self._usual_field = 0.0

    def judge(self, image: np.ndarray) -> Look:
        """Measures and names one frame: (h, w) or (h, w, 3) uint8 RGB."""
        small = fields.thumbnail(image)
        grey = to_grey(small)
        field = fields.find_field(grey)
        inside = None if field is None else fields.inner(field)
        if field is None or inside is None:
            look = _unlit(grey)
        else:
            shrunk = min(image.shape[:2]) >= SHRUNK_PX
            look = _measured(
                grey, field, inside, quality.SENSITIVE if shrunk else quality.HYSTERESIS
            )
        kind = self._name(look, small, image.shape[:2])
        if kind != "duplicate":
            self._last = grey
        if kind == "ffa" and look.bars.bright >= DYE and field is not None:
            self._remember(look, field)
        return replace(look, kind=kind)

    def _name(self, look: Look, small: np.ndarray, shape: tuple[int, ...]) -> str:
        """The first that fits; later tests take it for granted that earlier ones failed."""
        if look.field is None or look.mean < BLACK_MEAN:
            return "blink" if self._dye_seen and look.grey.mean() >= BLACK_MEAN else "black"
        if is_colour(small, look.field):
            return "colour"
        if self._last is not None and _difference(look.grey, self._last) < SAME:
            return "duplicate"
        if look.saturated > MAX_SATURATED:
            return "overexposed"
        if self._is_blink(look):
            return "blink"
        if min(shape) >= SHARP_PX and self._is_blurred(look):
            return "blurred"
        return other_light(look.mean, look.bars, look.depth) or "ffa"

    def _is_blink(self, look: Look) -> bool:
        if not self._dye_seen or look.bars.bright >= DYE or look.field is None:
            return False
        dark = look.mean < BLINK_LEVEL * self._usual_mean
        return dark or int(look.field.sum()) < BLINK_FIELD * self._usual_field

    def _is_blurred(self, look: Look) -> bool:
        lost = self._dye_seen and look.bars.bright < DYE
        return look.sharpness < (SHARP_LINES if lost else SHARP)

    def _remember(self, look: Look, field: np.ndarray) -> None:
        area = float(field.sum())
        share = 0.2 if self._dye_seen else 1.0
        self._usual_mean += share * (look.mean - self._usual_mean)
        self._usual_field += share * (area - self._usual_field)
        self._dye_seen = True


def other_light(mean: float, bars: quality.BarShares, depth: float) -> str | None:
    """ "infrared" or "red_free" (autofluorescence counts as such) if the vessels are not dyed.

    A dim frame is an angiogram, before the dye or when only arteries are filled: other light fills
    the whole field at once. In a bright one polarity decides where dark lines are many; where they
    are few, some bright vessels make it an angiogram.

    Args:
      mean: grey levels over the field.
      bars: shares of bright and dark lines.
      depth: contrast of the darkest 2 % of the field.
    """
    if mean < BRIGHT_FIELD:
        return None
    dark_vessels = bars.polarity < POLARITY
    dyed = bars.bright > (NO_DYE if dark_vessels else DYE)
    if dyed and not (dark_vessels and bars.dark > DARK_LINES):
        return None
    return "red_free" if depth > RED_FREE_DEPTH else "infrared"


def is_colour(image: np.ndarray, field: np.ndarray) -> bool:
    """Whether a small picture shows more than one hue; a tinted grey picture does not."""
    if image.ndim == 2:
        return False
    pixels = image[field > 0]  # (n, 3)
    spread = pixels.max(axis=1).astype(np.float32) - pixels.min(axis=1)
    if np.median(spread) <= COLOUR_SPREAD:
        return False
    red, green, blue = (float(level) for level in pixels.mean(axis=0))
    if red > RED * max(green, blue):
        return True
    soft = cv2.blur(image, (9, 9))[field > 0].astype(np.float32) + 1
    order = np.argsort(soft.mean(axis=0))
    ratio = soft[:, order[1]] / soft[:, order[2]]
    return float(ratio.std()) > TINT


def to_grey(image: np.ndarray) -> np.ndarray:
    """(h, w) of a grey or tinted picture: the channel that carries most of it."""
    if image.ndim == 2:
        return image
    channel = int(np.argmax(cv2.mean(image)[:3]))
    return np.ascontiguousarray(image[..., channel])


def sharpness(contrast: np.ndarray, inside: np.ndarray) -> float:
    """Strength of details of 1 to 2 px beside that of details of 3 to 6 px, at 256 px.

    About 1.2 in sharp angiograms, 0.5 to 1 in late ones and in other light, 0.4 after a blur of
    2 px, 0.3 after one of 3 px.

    Args:
      contrast: (h, w) float32, as `quality.weber` makes it.
      inside: (h, w) uint8 0/1, where it was made; a border of it is left out.
    """
    away = fields.inner(inside)
    if away is None:
        return 0.0
    fine = _band(contrast, 0.8, 1.6)[away > 0]
    coarse = _band(contrast, 2.4, 4.8)[away > 0]
    return float(np.sqrt(np.mean(fine**2) / max(float(np.mean(coarse**2)), 1e-9)))


def _band(image: np.ndarray, low: float, high: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), low) - cv2.GaussianBlur(image, (0, 0), high)


def _measured(
    grey: np.ndarray, field: np.ndarray, inside: np.ndarray, hysteresis: tuple[float, float]
) -> Look:
    values = grey[inside > 0]
    contrast = quality.weber(grey, inside)
    return Look(
        "ffa",
        grey,
        field,
        mean=float(values.mean()),
        saturated=float(np.mean(values >= SATURATED)),
        bars=quality.bar_shares(grey, field, hysteresis),
        depth=float(-np.percentile(contrast[inside > 0], 2)),
        sharpness=sharpness(contrast, inside),
    )


def _unlit(grey: np.ndarray) -> Look:
    mean, saturated = float(grey.mean()), float(np.mean(grey >= SATURATED))
    return Look("black", grey, None, mean, saturated, quality.BarShares(0.0, 0.0), 0.0, 0.0)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(cv2.mean(cv2.absdiff(a, b))[0])
