"""What sampling returns: a video with everything needed to make it again, and its files."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ffa_sora_jax.common import files
from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.video import io, sheet

FORMATS = ("mp4", "webp", "gif")
FPS = 4.0  # an angiogram of minutes, shown in five seconds


@dataclasses.dataclass(frozen=True)
class VideoResult:
    """One generated angiogram.

    Attributes:
      video: (t, h, w) uint8, as the model made it.
      times_s: (t,) float32, seconds after injection.
      report: text it was made from.
      seed: seed it was made with.
      settings: sampler, steps, guidance.
      fingerprint: short hash of the weights.
      finite: False if the model gave values that are not finite.
    """

    video: np.ndarray
    times_s: np.ndarray
    report: str
    seed: int
    settings: dict[str, Any]
    fingerprint: str
    finite: bool = True

    def sidecar(self) -> dict[str, Any]:
        """What the JSON file beside the video says; the same for the same call."""
        from ffa_sora_jax import __version__

        frames, height, width = self.video.shape
        return {
            "synthetic": True,
            "report": self.report,
            "seed": self.seed,
            "settings": self.settings,
            "weights_fingerprint": self.fingerprint,
            "frames": frames,
            "height": height,
            "width": width,
            "times_s": [round(float(t), 3) for t in self.times_s],
            "generator": f"ffa-sora-jax {__version__}",
        }

    def save(self, path: str | Path, *, min_px: int = 256, mark: bool = True) -> list[Path]:
        """Writes the video, its contact sheet with frame times, and its JSON sidecar.

        Each file appears whole or not at all; the sidecar comes last.

        Args:
          path: ending in .mp4, .webp or .gif.
          min_px: videos below this height are enlarged for viewing; 0 keeps the model's pixels.
          mark: write SYNTHETIC into the pictures. The metadata and the sidecar always say it.

        Returns:
          The three paths.

        Raises:
          ValueError: the ending is not known.
          OSError: the disk is full, or the folder cannot be written.
        """
        target = Path(path)
        check_writable(target.suffix.lstrip("."))
        target.parent.mkdir(parents=True, exist_ok=True)
        frames = enlarge(self.video, min_px)
        if mark:
            frames = stamp(frames)
        paths = output_paths(target)
        sidecar = {**self.sidecar(), "shown_px": frames.shape[1], "marked": mark}
        io.save_video(paths[0], frames, fps=FPS, text=_about(sidecar))
        sheet.save_sheet(paths[1], self.video, self.times_s, title=self.report)
        files.write_text(paths[2], json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n")
        return paths


def output_paths(path: Path) -> list[Path]:
    """The video, the sheet and the sidecar of one result."""
    return [path, path.with_name(f"{path.stem}.sheet.png"), path.with_name(f"{path.stem}.json")]


def enlarge(video: np.ndarray, min_px: int) -> np.ndarray:
    """Enlarges (t, h, w) uint8 by the whole factor that brings h to `min_px` or above."""
    factor = -(-min_px // video.shape[1]) if min_px > video.shape[1] else 1
    if factor == 1:
        return video
    size = (video.shape[2] * factor, video.shape[1] * factor)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in video])


def stamp(video: np.ndarray) -> np.ndarray:
    """Writes SYNTHETIC into the lower left corner of every frame of (t, h, w) uint8."""
    height, width = video.shape[1:]
    scale = max(width / 640, 0.2)
    thickness = max(1, round(scale))
    at = (max(2, width // 64), height - max(3, height // 64))
    marked = video.copy()
    for frame in marked:
        for level, extra in ((0, 2), (230, 0)):  # dark rim, light letters
            cv2.putText(
                frame, sheet.MARK, at, cv2.FONT_HERSHEY_SIMPLEX, scale, level, thickness + extra,
                cv2.LINE_AA,
            )  # fmt: skip
    return marked


def check_writable(ending: str) -> None:
    """Raises ValueError if videos with this ending cannot be written here, before any is made."""
    if ending not in FORMATS:
        raise ValueError(unknown_name("video format", ending, FORMATS))
    if ending == "mp4" and importlib.util.find_spec("av") is None:
        raise ValueError(
            "Writing mp4 needs PyAV: pip install 'ffa-sora-jax[video]'. Or choose webp or gif."
        )


def _about(sidecar: dict[str, Any]) -> str:
    """What the container keeps beside the notice that it is synthetic."""
    keys = ("report", "seed", "settings", "weights_fingerprint", "generator")
    return json.dumps({key: sidecar[key] for key in keys}, ensure_ascii=False)
