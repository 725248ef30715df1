"""Contact sheets: all frames of a clip in one picture, with times, phases and the report.

The picture carries the word SYNTHETIC, unless the caller knows that the clip is real.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ffa_sora_jax.video import io

MARK = "SYNTHETIC"
REAL_MARK = "PATIENT DATA"  # in its place on sheets of real exams
# Start of each phase in seconds after dye first shows at the disc.
PHASES = (
    (-float("inf"), "pre-arterial"),
    (0.0, "arterial"),
    (1.5, "laminar venous"),
    (5.0, "venous"),
    (45.0, "mid"),
    (240.0, "late"),
)
_TILE_PX = 160  # frames are enlarged to about this
_PAPER, _INK, _FAINT = (16, 16, 20), (235, 235, 235), (150, 160, 175)
_GAP_PX = 6


def phase_name(time_s: float) -> str:
    """The name of the phase at a time; times are seconds after dye first shows at the disc."""
    return [name for start, name in PHASES if time_s >= start][-1]


def format_time(time_s: float) -> str:
    """ "4.5 s", "42 s" or "6:12 min"."""
    if time_s < 9.95:
        return f"{time_s:.1f} s"
    seconds = round(time_s)
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60}:{seconds % 60:02d} min"


def contact_sheet(
    video: np.ndarray,
    times_s: Sequence[float] | np.ndarray | None = None,
    columns: int = 7,
    scale: int | None = None,
    title: str | None = None,
    mark: str = MARK,
    phases: bool = True,
) -> np.ndarray:
    """All frames of a clip in one picture.

    Args:
      video: (t, h, w), (t, h, w, 1) or (t, h, w, 3) uint8.
      times_s: (t,) seconds after dye first shows; written below each frame with the phase.
      columns: frames per row.
      scale: whole enlargement of the frames; default: to about 160 px.
      title: text above the frames, such as the report; wrapped.
      mark: what stands in the corner, such as "PATIENT DATA" on real exams.
      phases: write the phase beside the time; False where times do not start with the dye.

    Returns:
      (H, W, 3) uint8 picture.

    Raises:
      ValueError: wrong shape, dtype, number of times, columns or scale.
    """
    tiles = _tiles(video, scale)
    if times_s is not None and len(times_s) != len(tiles):
        raise ValueError(f"{len(times_s)} times for {len(tiles)} frames.")
    if columns < 1:
        raise ValueError(f"columns is {columns}; it must be at least 1.")
    columns = min(columns, len(tiles))
    height, width = tiles.shape[1:3]
    font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(size=max(12.0, width / 12)))
    label_px = round(1.5 * font.size)
    sheet_px = columns * (width + _GAP_PX) + _GAP_PX
    lines = _wrap(title, font, sheet_px - 2 * _GAP_PX) if title else []
    top = _GAP_PX + label_px * (1 + len(lines)) + _GAP_PX
    cell = height + label_px + _GAP_PX
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (sheet_px, top + rows * cell), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP_PX, _GAP_PX), mark, fill=_INK, font=font)
    for number, line in enumerate(lines):
        draw.text((_GAP_PX, _GAP_PX + label_px * (1 + number)), line, fill=_INK, font=font)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = _GAP_PX + column * (width + _GAP_PX), top + row * cell
        sheet.paste(Image.fromarray(tile), (x, y))
        label = _label(number, None if times_s is None else float(times_s[number]), phases)
        draw.text((x, y + height + 1), _fit(label, font, width), fill=_FAINT, font=font)
    return np.asarray(sheet)


def save_sheet(
    path: str | Path,
    video: np.ndarray,
    times_s: Sequence[float] | np.ndarray | None = None,
    columns: int = 7,
    scale: int | None = None,
    title: str | None = None,
) -> None:
    """Writes the contact sheet of a clip as PNG; arguments and errors of `contact_sheet`."""
    picture = contact_sheet(video, times_s, columns=columns, scale=scale, title=title)
    io.write_image(path, picture, text=title or "")


def _tiles(video: np.ndarray, scale: int | None) -> np.ndarray:
    """(t, H, W, 3) enlarged frames."""
    video = np.asarray(video)
    shape = tuple(video.shape)
    if video.ndim == 3:
        video = video[..., None]
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] not in (1, 3) or 0 in shape:
        raise ValueError(
            f"video is {video.dtype} of shape {shape}; expected uint8 (t, h, w) or (t, h, w, 3)."
        )
    height, width, channels = video.shape[1:]
    if scale is None:
        scale = max(1, round(_TILE_PX / width))
    if scale < 1:
        raise ValueError(f"scale is {scale}; it must be at least 1.")
    video = np.repeat(video, 3 // channels, axis=-1)
    size = (width * scale, height * scale)
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_CUBIC) for f in video])


def _label(number: int, time_s: float | None, phases: bool) -> str:
    if time_s is None:
        return f"frame {number + 1}"
    return format_time(time_s) + (f"  {phase_name(time_s)}" if phases else "")


def _fit(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    """The text, cut where it is too wide for its frame."""
    while text and font.getlength(text) > width_px:
        text = text[:-1]
    return text


def _wrap(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    """Lines no wider than `width_px`; a single longer word is broken."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}".strip()
            if font.getlength(joined) <= width_px:
                line = joined
                continue
            if line:
                lines.append(line)
            line = word
            while font.getlength(line) > width_px:
                head = _fit(line, font, width_px) or line[0]
                lines.append(head)
                line = line[len(head) :]
        lines.append(line)
    return lines
