"""What a scanning ophthalmoscope makes of the light: gain, vignette, blur, jitter, noise, 8 bits.

Source of the model and its constants: `docs/phantom.md`, section "Camera".
"""

import dataclasses

import cv2
import numpy as np

from ffa_sora_jax.phantom.anatomy import FIELD_RADIUS
from ffa_sora_jax.phantom.render import field_mask


@dataclasses.dataclass(frozen=True)
class Camera:
    """One examination's optics and electronics.

    Attributes:
      blur: sigma of the point spread, in pixels of a 256 px picture.
      noise: factor on the noise, 1 for a single scan, 1/sqrt(n) for an average of n.
      vignette: factor on the fall of brightness towards the edge.
      shift: sd of the gaze jitter between frames, as a share of the width.
      rotation_deg: sd of the rotation between frames.
      tilt: uneven illumination, relative rise from the middle to the right and lower side.
      rim: brightness of the thin arc along the field edge, 0 for none.
    """

    blur: float = 0.4
    noise: float = 0.7
    vignette: float = 1.0
    shift: float = 0.002
    rotation_deg: float = 0.12
    rim: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)


def sample_camera(rng: np.random.Generator) -> Camera:
    """A random good examination."""
    return Camera(
        blur=float(rng.uniform(0.32, 0.46)),
        noise=float(rng.uniform(0.4, 1.0)),
        vignette=float(rng.uniform(0.9, 1.6)),
        rim=float(rng.uniform(0.02, 0.06)) if rng.random() < 0.3 else 0.0,
        tilt=(float(rng.normal(0, 0.12)), float(rng.normal(0, 0.12))),
    )


def gain_of(frame: np.ndarray, inside: np.ndarray) -> float:
    """Automatic gain: the brightest 0.3 % of the field come to 0.92, within 0.85..2.6.

    Leaks that fill a small part of the field may saturate instead of dimming all the rest: then
    the brightest 3 % come to 0.66, up to 1.8 times the first gain.
    """
    values = frame[::2, ::2][inside[::2, ::2]]
    ranks = [int(share * (values.size - 1)) for share in (0.97, 0.997)]
    broad, bright = np.partition(values, ranks)[ranks]
    gain = 0.92 / max(float(bright), 0.12)
    gain = max(gain, min(0.66 / max(float(broad), 0.08), 1.8 * gain))
    return float(np.clip(gain, 0.85, 2.6))


def expose(
    rng: np.random.Generator, frames: np.ndarray, camera: Camera, mirror: bool = False
) -> np.ndarray:
    """Takes the pictures.

    Args:
      rng: chance of jitter and noise.
      frames: (t, h, w) float32 light, vessel peak about 1.
      camera: the instrument.
      mirror: flip left and right, for a left eye.

    Returns:
      (t, h, w) uint8, black outside the field.
    """
    size = frames.shape[-1]
    inside = field_mask(size)
    half = (np.arange(size) + 0.5 - size / 2) / (size / 2)
    r = np.hypot(half[:, None], half[None]).astype(np.float32)
    vignette = 1 - camera.vignette * (0.28 * r**2 + 0.05 * r**6)
    vignette *= np.clip(1 + camera.tilt[0] * half[None] + camera.tilt[1] * half[:, None], 0.5, 1.5)
    vignette = np.clip(vignette, 0.15, None).astype(np.float32)
    rim = camera.rim * np.exp(-(((r - 2 * FIELD_RADIUS + 0.012) / 0.008) ** 2)).astype(np.float32)
    edge = np.clip((2 * FIELD_RADIUS - r) * size / 2 + 0.5, 0, 1)  # one pixel soft
    moves = rng.normal(0, 1, (len(frames), 3))
    moves[0] = 0
    reach = np.array([camera.shift * size, camera.shift * size, camera.rotation_deg])
    sigma = camera.blur * size / 256
    grain = rng.standard_normal(frames.shape, dtype=np.float32)
    video = np.empty(frames.shape, np.uint8)
    for n, frame in enumerate(frames):
        seen = _move(frame * vignette, moves[n] * reach)
        gain = gain_of(seen, inside)
        if sigma > 0.3:
            seen = cv2.GaussianBlur(seen, (0, 0), sigma)
        seen = gain * seen + rim
        sd = camera.noise * np.sqrt(0.12 * seen * gain / 55 + (0.011 * gain) ** 2)
        seen = (seen + sd * grain[n]) * edge
        video[n] = np.rint(np.clip(seen, 0, 1) * 255)
    return np.ascontiguousarray(video[:, :, ::-1]) if mirror else video


def _move(frame: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Shifts (px) and turns (degrees) one frame about its middle; the edge repeats."""
    if not move.any():
        return frame
    middle = (frame.shape[1] / 2 - 0.5, frame.shape[0] / 2 - 0.5)
    matrix = cv2.getRotationMatrix2D(middle, float(move[2]), 1.0)
    matrix[:, 2] += move[:2]
    return cv2.warpAffine(
        frame, matrix, frame.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
