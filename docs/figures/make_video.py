"""Draws docs/figures/video.jpg: a raw phantom exam, what cleaning says of it, and the clip.

python docs/figures/make_video.py
"""

import pathlib

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ffa_sora_jax import phantom
from ffa_sora_jax.video.cleaning import CleaningConfig, clean_exam

SEED, INDEX, SIZE = 1, 2, 256
TILE, GAP, COLUMNS = 112, 6, 11
USED, FILLED, LEFT_OUT = (70, 190, 110), (235, 160, 50), (200, 70, 70)
PAPER, INK = (16, 16, 20), (235, 235, 235)


def other_light(exam: phantom.Phantom, depths: tuple[float, ...], levels: tuple[int, ...]):
    """(h, w, 3): the same eye without dye; vessels darken each channel by its depth."""
    vessels = (exam.truth.artery | exam.truth.vein).astype(np.float32)
    vessels = cv2.GaussianBlur(vessels, (0, 0), 0.8)
    field = exam.video.max(axis=0) > 0
    noise = np.random.default_rng(0).normal(0, 4, vessels.shape)
    channels = [
        (level * (1 - d * vessels) + noise) * field for d, level in zip(depths, levels, strict=True)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)


def raw_frames(exam: phantom.Phantom) -> list[np.ndarray]:
    """Frames as a camera exports them: wide, with text beside the field, of several kinds."""
    video = [np.stack([frame] * 3, axis=-1) for frame in exam.video]
    infrared = other_light(exam, (0.15,) * 3, (115,) * 3)
    colour = other_light(exam, (0.3, 0.6, 0.4), (180, 95, 45))
    blurred = cv2.GaussianBlur(video[14], (0, 0), 4)
    frames = [colour, infrared, *video[0:7:2], video[8], np.zeros_like(colour), video[10]]
    frames += [video[10], blurred, video[13], video[15], video[18], video[20]]
    return [dressed(frame, n) for n, frame in enumerate(frames)]


def dressed(frame: np.ndarray, number: int) -> np.ndarray:
    """Adds margins and the words that cameras write there."""
    wide = np.pad(frame, ((0, 28), (30, 30), (0, 0)))
    image = Image.fromarray(wide)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=13)
    draw.text((4, 264), f"FA {number:02d}  OS 55  DOE, JANE  12:30", fill="white", font=font)
    return np.asarray(image)


def tile(frame: np.ndarray, label: str, colour: tuple[int, int, int]) -> np.ndarray:
    """One frame with a coloured border and a label below."""
    height = round(TILE * frame.shape[0] / frame.shape[1])
    picture = cv2.resize(frame, (TILE, height), interpolation=cv2.INTER_AREA)
    if picture.ndim == 2:
        picture = np.stack([picture] * 3, axis=-1)
    image = Image.new("RGB", (TILE + GAP, height + 18 + GAP), PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((1, 1, TILE + 4, height + 4), fill=colour)
    image.paste(Image.fromarray(picture), (3, 3))
    font = ImageFont.load_default(size=11)
    draw.text((3, height + 6), label, fill=colour if colour != FILLED else INK, font=font)
    return np.asarray(image)


def row_of(tiles: list[np.ndarray]) -> np.ndarray:
    """Tiles in rows of `COLUMNS`."""
    blank = np.full_like(tiles[0], PAPER)
    tiles = tiles + [blank] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    return np.vstack(rows)


def main() -> None:
    """Cleans the exam and writes the picture beside this file."""
    exam = phantom.generate(SEED, INDEX, SIZE, "full", disease="normal")
    frames = raw_frames(exam)
    clean = clean_exam(frames, None, CleaningConfig(size=SIZE, vessel_filter="drop_frames"))
    above = row_of(
        [
            tile(frame, f"{f.kind} {f.vessel_ratio:.3f}", USED if f.used else LEFT_OUT)
            for frame, f in zip(frames, clean.frames, strict=True)
        ]
    )
    below = row_of(
        [
            tile(frame, f"at {time:.2f}", USED if original else FILLED)
            for frame, time, original in zip(
                clean.video, clean.times_s, clean.is_original, strict=True
            )
        ]
    )
    path = pathlib.Path(__file__).with_name("video.jpg")
    picture = np.vstack([above, np.full((14, above.shape[1], 3), PAPER, np.uint8), below])
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 74])


if __name__ == "__main__":
    main()
