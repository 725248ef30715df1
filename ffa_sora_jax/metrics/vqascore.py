"""VQAScore: how surely a model that sees images says that a clip shows a text (arXiv 2404.01291).

The model is asked `Does this figure show "..."?`, and its answer is scored:

    exp(-mean cross entropy of "Yes" and of the end of the answer)

the geometric mean of both probabilities, not the probability of "Yes" alone.

The model sees one image. "avg_frames" asks about single frames and averages the scores; "concat"
puts the frames side by side into one picture, in which eight frames are 42 pixels high each, too
small for lesions.

Axes: b clips, t frames, n images, m tokens of the answer, v vocabulary.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import AnyArray, Array, Clip
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained
from ffa_sora_jax.metrics import clip_frames, text_tokens, weights
from ffa_sora_jax.metrics.base import OfTexts
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.clip_t5 import CLIPT5

MODES = ("avg_frames", "concat")
PLACES: dict[str, Callable[[int, int], np.ndarray]] = {
    "even": clip_frames.even_places,
    "step": clip_frames.step_places,
}
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "row": clip_frames.montage,
    "grid": clip_frames.grid,
}
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
ANSWER = "Yes"
IGNORED = -100  # label of a token that does not count
# The conversation that the model was tuned on; the image stands between the two parts.
BEFORE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: "
)
AFTER = "\n{} ASSISTANT: "
MAX_TOKENS = 2048
_BUCKET = 64  # questions are padded to multiples of this, so that few programs are compiled


@dataclasses.dataclass(frozen=True)
class VQANetwork:
    """CLIP-FlanT5 and its tokenizer.

    Attributes:
      model: the network.
      tokenizer: as `transformers` opens it.
    """

    model: Pretrained
    tokenizer: Any

    def scores(self, images: Sequence[np.ndarray], text: str) -> np.ndarray:
        """(n,) float32 scores of uint8 images (h, w, 3), of one size, for one text."""
        squares = [clip_frames.padded_to_square(image) for image in images]
        pixels = clip_frames.standardized(squares, self.model.cfg.vision.image_size)
        before, after, mask, labels = self._tokens(text)
        n = len(pixels)
        decoder_ids = np.concatenate([[self.tokenizer.pad_token_id], labels[:-1]])
        logits = self.model(
            pixels, before, *(np.repeat(x[None], n, axis=0) for x in (after, mask, decoder_ids))
        )
        return np.asarray(answer_score(logits, np.repeat(labels[None], n, axis=0)))

    def _tokens(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ids before and after the image, the mask of the latter, and the labels of the answer.

        All parts are tokenised alone, so that an end-of-sequence id stands before the image too.
        """
        before, after, labels = (
            self.tokenizer(part, truncation=True, max_length=MAX_TOKENS)["input_ids"]
            for part in (BEFORE, AFTER.format(QUESTION.format(text)), ANSWER)
        )
        padded = np.full(-(-len(after) // _BUCKET) * _BUCKET, self.tokenizer.pad_token_id, np.int32)
        padded[: len(after)] = after
        mask = np.arange(len(padded)) < len(after)
        return np.asarray(before, np.int32), padded, mask, np.asarray(labels, np.int32)


@dataclasses.dataclass(frozen=True)
class VQAScore(OfTexts):
    """VQAScore of clips against their prompts.

    Attributes:
      mode: "avg_frames" averages over frames, "concat" asks about one picture of all frames.
      num_frames: how many frames are looked at.
      places: "even" takes them from the first to the last; "step" every (t // num_frames)-th, as
        the reference does, which never sees the end: of 21 frames the first 15.
      layout: of the picture; "row" with gaps of 10 px, or "grid" of 1024 px.
    """

    mode: str = "avg_frames"
    num_frames: int = 8
    places: str = "even"
    layout: str = "row"
    name = "vqascore"
    higher_is_better = True
    value_range = (0.0, 1.0)
    against = "clip"

    def __post_init__(self) -> None:
        for field, allowed in (("mode", MODES), ("places", PLACES), ("layout", LAYOUTS)):
            if getattr(self, field) not in allowed:
                raise ValueError(unknown_name(field, getattr(self, field), allowed))
        if self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames}; at least one frame is needed.")

    def images(self, video: AnyArray) -> list[np.ndarray]:
        """What the model is shown of a clip (t, h, w, c) in [-1, 1]: uint8 images (h, w, 3)."""
        frames = clip_frames.frames_uint8(video)
        frames = frames[PLACES[self.places](len(frames), self.num_frames)]
        return [LAYOUTS[self.layout](frames)] if self.mode == "concat" else list(frames)

    def measure(
        self, texts: Sequence[str], against: Sequence[str] | Clip, params: VQANetwork
    ) -> np.ndarray:
        """Rows (b,) float32 of b prompts and a Clip (b, t, h, w, c) in [-1, 1].

        Raises:
          ValueError: there is no video, or their numbers differ.
        """
        if not isinstance(against, Clip) or against.video is None:
            raise ValueError("VQAScore compares a text with a clip that has a video.")
        pairs = zip(texts, np.asarray(against.video), strict=True)
        return np.array(
            [params.scores(self.images(video), text.strip()).mean() for text, video in pairs],
            np.float32,
        )

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """The mean."""
        return {"vqascore": float(np.asarray(rows, np.float64).mean())}


@jax.jit
def answer_score(logits: Array, labels: Array) -> jax.Array:
    """exp(-mean cross entropy) of given answers.

    Args:
      logits: (n, m, v).
      labels: (n, m) token ids, `IGNORED` where there is none.

    Returns:
      (n,) float32 in 0 .. 1.
    """
    counts = labels != IGNORED
    ids = jnp.where(counts, labels, 0)[..., None]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), ids, axis=-1)
    return jnp.exp(jnp.where(counts, log_p[..., 0], 0.0).sum(1) / counts.sum(1))


def load(folder: Path | None) -> tuple[VQAScore, VQANetwork]:
    """For the registry."""
    return VQAScore(), open_network(weights.require(("clip_t5",), folder, "VQAScore")["clip_t5"])


def load_concat(folder: Path | None) -> tuple[VQAScore, VQANetwork]:
    """One picture of eight frames in a row, as the reference took them; for the registry."""
    return VQAScore(mode="concat", places="step"), load(folder)[1]


def open_network(folder: Path, dtype: str = "bfloat16") -> VQANetwork:
    """A CLIP-FlanT5 folder with its tokenizer.

    Args:
      folder: as published, with the image tower in it or in its folder `vision_tower/`.
      dtype: of parameters and matrix products; the reference's is bfloat16, 22 GB for XXL.

    Raises:
      FileNotFoundError, ValueError: see `convert.from_pretrained`; and ValueError where the folder
        holds another kind of model.
    """
    tokenizer = text_tokens.open_tokenizer(folder, "T5Tokenizer")
    model = from_pretrained(folder, dtype)
    if model.bundle.module is not CLIPT5:
        raise ValueError(f"{folder} holds a {model.class_name}; VQAScore needs CLIP-FlanT5.")
    cfg = dataclasses.replace(
        model.cfg,
        t5=dataclasses.replace(model.cfg.t5, dtype=dtype),
        vision=dataclasses.replace(model.cfg.vision, dtype=dtype),
    )
    return VQANetwork(dataclasses.replace(model, bundle=Bundle.create(CLIPT5, cfg)), tokenizer)
