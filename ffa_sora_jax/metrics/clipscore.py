"""CLIPScore: how well frames fit a text in CLIP's common space (arXiv 2104.08718).

    per frame 100 * max(cos(frame, text), 0), mean over frames, then over clips

Two other conventions are in use and are given beside it: torchmetrics clamps after the mean, and
the original multiplies by 2.5. Which CLIP it was belongs to the number.

CLIP reads 77 tokens; most FFA reports are longer, and only their beginning counts. The share of
texts that were cut is part of the result.

Axes: b clips, t frames, d width.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ffa_sora_jax.common import compiler
from ffa_sora_jax.common.types import AnyArray, Clip
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained
from ffa_sora_jax.metrics import clip_frames, text_tokens, weights
from ffa_sora_jax.metrics.base import OfTexts
from ffa_sora_jax.models.clip import CLIP

SCALE, HESSEL_SCALE = 100.0, 2.5


@dataclasses.dataclass(frozen=True)
class ClipNetwork:
    """CLIP and its tokenizer.

    Attributes:
      model: both towers.
      tokenizer: as `transformers` opens it.
    """

    model: Pretrained
    tokenizer: Any

    def images(self, video: AnyArray) -> np.ndarray:
        """One clip (t, h, w, c) in [-1, 1] -> (t, d) float32 embeddings of its frames."""
        size = self.model.cfg.vision.image_size
        pixels = clip_frames.standardized(clip_frames.frames_uint8(video), size)
        return np.asarray(self._compiled["encode_images"](self.model.params, pixels))

    def text(self, text: str) -> tuple[np.ndarray, bool]:
        """A text -> (d,) float32 embedding, and whether its end was cut off."""
        cfg = self.model.cfg.text
        ids = self.tokenizer(text.strip())["input_ids"]
        is_cut = len(ids) > cfg.max_position_embeddings
        if is_cut:
            ids = [*ids[: cfg.max_position_embeddings - 1], ids[-1]]
        padded = np.full((1, cfg.max_position_embeddings), ids[-1], np.int32)
        padded[0, : len(ids)] = ids
        return np.asarray(self._compiled["encode_texts"](self.model.params, padded))[0], is_cut

    @functools.cached_property
    def _compiled(self) -> dict[str, Any]:
        return {
            method: jax.jit(
                functools.partial(self.model.bundle.apply, method=method),
                compiler_options=compiler.options(),
            )
            for method in ("encode_images", "encode_texts")
        }


@dataclasses.dataclass(frozen=True)
class CLIPScore(OfTexts):
    """CLIPScore of clips against their prompts.

    A row holds the mean over frames with and without clamping, and whether the text was cut.
    """

    name = "clipscore"
    higher_is_better = True
    value_range = (0.0, SCALE)
    against = "clip"

    def measure(
        self, texts: Sequence[str], against: Sequence[str] | Clip, params: ClipNetwork
    ) -> np.ndarray:
        """Rows (b, 3) float32 of b prompts and a Clip (b, t, h, w, c) in [-1, 1].

        Raises:
          ValueError: there is no video, or their numbers differ.
        """
        if not isinstance(against, Clip) or against.video is None:
            raise ValueError("CLIPScore compares a text with a clip that has a video.")
        rows = []
        for text, video in zip(texts, np.asarray(against.video), strict=True):
            embedding, is_cut = params.text(text)
            score = SCALE * cosine(params.images(video), embedding)
            rows.append((np.maximum(score, 0.0).mean(), score.mean(), is_cut))
        return np.asarray(rows, np.float32)

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """The mean, its two other conventions, and the share of texts that were cut."""
        clamped, plain, cut = np.asarray(rows, np.float64).mean(0)
        return {
            "clipscore": float(clamped), "clipscore_torchmetrics": float(max(plain, 0.0)),
            "clipscore_hessel": float(clamped * HESSEL_SCALE / SCALE),
            "clipscore_texts_cut": float(cut),
        }  # fmt: skip


def cosine(frames: AnyArray, text: AnyArray) -> np.ndarray:
    """Cosines of (..., t, d) frames and (..., d) texts: (..., t) float64."""
    x, y = np.asarray(frames, np.float64), np.asarray(text, np.float64)[..., None, :]
    return (x * y).sum(-1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1))


def load(folder: Path | None) -> tuple[CLIPScore, ClipNetwork]:
    """For the registry."""
    return CLIPScore(), open_network(weights.require(("clip",), folder, "CLIPScore")["clip"])


def open_network(folder: Path) -> ClipNetwork:
    """A CLIP folder with its tokenizer.

    Raises:
      FileNotFoundError, ValueError: see `convert.from_pretrained`; and ValueError where the folder
        holds another kind of model.
    """
    tokenizer = text_tokens.open_tokenizer(folder)
    model = from_pretrained(folder)
    if model.bundle.module is not CLIP:
        raise ValueError(f"{folder} holds a {model.class_name}; CLIPScore needs a CLIPModel.")
    return ClipNetwork(model, tokenizer)
