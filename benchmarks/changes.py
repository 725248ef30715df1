"""What several benchmarks do to clips. Clips are (..., h, w) uint8."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from ffa_sora_jax import phantom
from tfds_ffa.phantom.exams import RENDER_SIZE


def as_stored(
    seed: int, index: int, size: int, schedule: str = "paper", visit: int = 0
) -> phantom.Phantom:
    """A phantom whose video is what the datasets hold: drawn large, then averaged down to `size`.

    The networks that ship have seen such clips; one that is drawn small has other noise.
    """
    exam = phantom.generate(seed, index, max(size, RENDER_SIZE), schedule, visit=visit)
    return dataclasses.replace(exam, video=resized(exam.video, size))


def each_frame(video: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The clip, or clips, with every frame changed."""
    changed = np.stack([change(frame) for frame in video.reshape(-1, *video.shape[-2:])])
    return changed.reshape(*video.shape[:-2], *changed.shape[1:])


def resized(video: np.ndarray, size: int) -> np.ndarray:
    """Averaged down to (..., size, size)."""
    return each_frame(video, lambda f: cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA))


def blurred(video: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blurred by a Gaussian."""
    return each_frame(video, lambda f: cv2.GaussianBlur(f, (0, 0), sigma_px))


def noisy(video: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """With Gaussian noise of `sd` grey levels."""
    return np.clip(video + rng.normal(0, sd, video.shape), 0, 255).astype(np.uint8)


def jpeg(video: np.ndarray, quality: int) -> np.ndarray:
    """Stored as JPEG and read again."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return each_frame(video, lambda f: cv2.imdecode(cv2.imencode(".jpg", f, options)[1], 0))


def warped(
    video: np.ndarray, x: float = 0, y: float = 0, turn: float = 0, zoom: float = 1
) -> np.ndarray:
    """Moved by shares of the width, turned by degrees and magnified about the middle."""
    size = video.shape[-1]
    matrix = cv2.getRotationMatrix2D((size / 2 - 0.5, size / 2 - 0.5), turn, zoom)
    matrix[:, 2] += (x * size, y * size)
    return each_frame(video, lambda f: cv2.warpAffine(f, matrix, (size, size)))


def shipped_vae() -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """Picture size of the shipped auto-encoder, and a clip's (t, h, w) round trip through it."""
    import jax

    from ffa_sora_jax.pipelines.text_to_video import SHIPPED, TextToVideo

    pipeline = TextToVideo.from_pretrained(SHIPPED)
    vae, size = pipeline.parts["vae"], pipeline.sampling.size
    encode, decode = jax.jit(vae.encode), jax.jit(vae.decode)

    def through(video: np.ndarray) -> np.ndarray:
        clip = resized(video, size)[None, ..., None].astype(np.float32) / 127.5 - 1
        decoded = np.asarray(decode(encode(clip)[0]))[0, ..., 0]
        return np.clip((decoded + 1) * 127.5, 0, 255).round().astype(np.uint8)

    return size, through
