"""The pictures of the corpus: small phantom exams, and what clinics do to them."""

import functools

import cv2
import numpy as np

from ffa_sora_jax import phantom

SEED = 31
SIZE = 96  # the smallest size at which vessels still pass the vessel filter
FIRST, FRAMES = 3, 8  # after the first dye, before it has left


@functools.cache
def exam(index: int) -> phantom.Phantom:
    """Phantom number `index`, `SIZE` px, 21 frames."""
    return phantom.generate(SEED, index, size=SIZE)


def clip(index: int, first: int = FIRST, count: int = FRAMES) -> np.ndarray:
    """(count, SIZE, SIZE) uint8 bright frames of one phantom."""
    return exam(index).video[first : first + count]


def frames(index: int, count: int) -> np.ndarray:
    """(count, SIZE, SIZE): `clip`, or as many bright frames as wanted by fading between them."""
    if count <= FRAMES:
        return clip(index, count=count)
    bright = clip(index).astype(np.float32)
    at = np.linspace(0, FRAMES - 1, count)
    low = np.minimum(at.astype(int), FRAMES - 2)
    share = (at - low)[:, None, None]
    return ((1 - share) * bright[low] + share * bright[low + 1]).round().astype(np.uint8)


def times_s(index: int, first: int = FIRST, count: int = FRAMES) -> np.ndarray:
    """(count,) seconds of the frames of `clip`, whole milliseconds."""
    return np.round(exam(index).times_s[first : first + count].astype(np.float64), 3)


def resized(video: np.ndarray, width: int, height: int) -> np.ndarray:
    """(t, height, width): the field keeps its shape on a black ground."""
    side = min(width, height)
    out = np.zeros((len(video), height, width), np.uint8)
    x, y = (width - side) // 2, (height - side) // 2
    for target, frame in zip(out, video, strict=True):
        target[y : y + side, x : x + side] = cv2.resize(frame, (side, side))
    return out


def rgb(video: np.ndarray) -> np.ndarray:
    """(t, h, w, 3) with three equal channels."""
    return np.repeat(video[..., None], 3, axis=-1)


def deep(video: np.ndarray, used_bits: int) -> np.ndarray:
    """(t, h, w) uint16 with the lowest `used_bits` of 16 in use."""
    return (video.astype(np.float64) / 255 * (2**used_bits - 1)).round().astype(np.uint16)


def colour(video: np.ndarray) -> np.ndarray:
    """(t, h, w, 3): colour fundus photographs of the same field, vessels dark on orange."""
    gray = video.astype(np.float64)
    field = cv2.blur((video.max(axis=0) > 8).astype(np.float32), (3, 3)) > 0.5
    out = np.stack([190 - 0.3 * gray, 95 - 0.3 * gray, 40 - 0.1 * gray], axis=-1)
    return (out.clip(0, 255) * field[..., None]).astype(np.uint8)


def with_strip(video: np.ndarray, text: str, height: int = 18) -> np.ndarray:
    """Adds a strip of text below the picture, as exports of some cameras have it."""
    count, _, width = video.shape
    strip = np.zeros((height, width), np.uint8)
    cv2.putText(strip, text, (2, height - 5), cv2.FONT_HERSHEY_PLAIN, 0.7, 230, 1)
    return np.concatenate([video, np.repeat(strip[None], count, axis=0)], axis=1)


def with_text_inside(video: np.ndarray, lines: tuple[str, ...]) -> np.ndarray:
    """Burns lines of text into the field of every frame."""
    out = video.copy()
    height, width = video.shape[1:]
    for frame in out:
        for number, line in enumerate(lines):
            at = (int(0.22 * width), int((0.4 + 0.12 * number) * height))
            cv2.putText(frame, line, at, cv2.FONT_HERSHEY_PLAIN, width / 130, 255, 1)
    return out


def featureless(count: int = FRAMES, size: int = SIZE) -> np.ndarray:
    """(t, h, w) a gray field without any vessel."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    glow = 90 - 40 * (x**2 + y**2) / (size / 2) ** 2
    field = np.where(x**2 + y**2 < (0.5 * size) ** 2, glow, 0)
    fading = np.linspace(1, 0.7, count)[:, None, None]
    return (field * fading).astype(np.uint8)


def with_blinks(video: np.ndarray) -> np.ndarray:
    """One frame black (a blink), one far over-exposed."""
    out = video.copy()
    out[2] = 3
    out[5] = np.where(out[5] > 8, 255, out[5])
    return out
