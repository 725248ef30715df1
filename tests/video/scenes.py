"""Frames for tests: phantom exams, and what other light makes of the same eye."""

import functools

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ffa_sora_jax.phantom import Phantom, generate


@functools.cache
def phantom(index=0, size=256, schedule="paper", disease="normal") -> Phantom:
    """One exam, rendered once per test run."""
    return generate(1, index, size, schedule, disease=disease)


def other_light(kind, size=256, index=0):
    """(h, w[, 3]) uint8: the eye of `phantom(index)` without dye."""
    exam = phantom(index, size)
    vessels = (exam.truth.artery | exam.truth.vein).astype(np.float32)
    vessels = cv2.GaussianBlur(vessels, (0, 0), size / 256)
    field = (exam.video.max(axis=0) > 0).astype(np.float32)
    noise = np.random.default_rng(5).normal(0, 4, vessels.shape)
    if kind == "infrared":
        level = 115 * (1 - 0.15 * vessels)
    elif kind == "red_free":
        level = 100 * (1 - 0.55 * vessels)
    elif kind == "colour":
        rgb = [180 * (1 - 0.3 * vessels), 95 * (1 - 0.6 * vessels), 45 * (1 - 0.4 * vessels)]
        return _grey_levels(np.stack([(c + noise) * field for c in rgb], axis=-1))
    else:
        raise ValueError(kind)
    return _grey_levels((level + noise) * field)


def with_text(frame, text, at, height_px=14, level=255):
    """The frame with letters at `at` = (x, y) in shares of its size."""
    image = Image.fromarray(frame)
    place = (int(at[0] * frame.shape[1]), int(at[1] * frame.shape[0]))
    font = ImageFont.load_default(size=height_px)
    ImageDraw.Draw(image).text(place, text, fill=level, font=font)
    return np.asarray(image)


def enlarged(video, size):
    """(t, size, size) of (t, h, w)."""
    return np.stack([cv2.resize(f, (size, size), interpolation=cv2.INTER_CUBIC) for f in video])


def _grey_levels(picture):
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
