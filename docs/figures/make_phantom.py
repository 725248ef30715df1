"""Draws docs/figures/phantom.jpg: five phantom exams over time."""

import pathlib

import cv2
import numpy as np

from ffa_sora_jax.phantom import generate

EXAMS = (
    ("normal", 2, "right"),
    ("brvo", 4, "left"),
    ("csc_smokestack", 3, "right"),
    ("pdr", 6, "left"),
    ("crvo", 8, "right"),
)
FRAMES = (5, 7, 10, 12, 15, 18, 20)  # of the schedule "full"


def label(frame: np.ndarray, text: str, row: int) -> None:
    """Writes a short text into a frame, in place."""
    cv2.putText(frame, text, (4, row), cv2.FONT_HERSHEY_SIMPLEX, 0.38, 220, 1, cv2.LINE_AA)


rows = []
for disease, index, eye in EXAMS:
    clip = generate(41, index, schedule="full", disease=disease, eye=eye)
    cells = [cv2.resize(clip.video[n], (192, 192), interpolation=cv2.INTER_AREA) for n in FRAMES]
    for cell, n in zip(cells, FRAMES, strict=True):
        label(cell, f"{clip.times_s[n]:.0f} s", 12)
    label(cells[0], disease, 188)
    rows.append(np.hstack(cells))
path = pathlib.Path(__file__).with_name("phantom.jpg")
cv2.imwrite(str(path), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 82])
