"""Video to report: BLIP trained on the clips and reports of a dataset.

    clip.video --pictures, ViT--> context      clip.text  --shift right, hide some--> inputs
    decoder(context, inputs)  --> logits       cross-entropy with clip.text

This is the role of the paper's report generator, which judges a generated clip by the report that
is read from it.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import names, sections
from ffa_sora_jax.common.types import AnyArray, Array, Clip, Params, Text
from ffa_sora_jax.convert.blip import CLASS_NAME
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.data.latents import LatentCache
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.captioner import Blip, BlipConfig
from ffa_sora_jax.tasks import initial
from ffa_sora_jax.tasks.augment import vary
from ffa_sora_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class CaptionLossConfig:
    """What `config.model` holds beside the fields of `BlipConfig`.

    Attributes:
      label_smoothing: share of every target that is spread over the whole vocabulary.
      token_dropout: share of the decoder's input tokens that it is not shown (padding stands for
        them), so that it has to look at the pictures instead of going on with the sentence.
      shift: training clips are moved by up to this share of their side, up or down and left or
        right, edges repeated.
      gain: their light is multiplied by a factor between 1 / (1 + gain) and 1 + gain.
      emphasised: tokens that count more than others, such as the words for left and right: one
        word in a hundred, and the gravest error of a report.
      emphasis: how much more.
    """

    label_smoothing: float = 0.0
    token_dropout: float = 0.0
    shift: float = 0.0
    gain: float = 0.0
    emphasised: tuple[int, ...] = ()
    emphasis: float = 1.0

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "token_dropout", "shift", "gain"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(
                    f"config.model.{name} is {getattr(self, name)}; it must be at least 0 and "
                    "below 1."
                )
        if self.emphasis < 0:
            raise ValueError(f"config.model.emphasis is {self.emphasis}; it must not be negative.")


@dataclasses.dataclass(frozen=True)
class WriteConfig:
    """`config.sample`: how reports are written while the task trains, and by default afterwards.

    Attributes:
      num_beams: beams of the search; 1 is greedy.
      length_penalty: see `models.generation.beam_search`.
    """

    num_beams: int = 1
    length_penalty: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Captioner(Task):
    """Trains a BLIP captioner as one player, "model".

    Attributes:
      bundle: architecture.
      options: of the loss.
      writing: of `sample`.
      tokenizer: folder or file that the data are tokenised with, or None for the shipped one.
    """

    bundle: Bundle
    options: CaptionLossConfig = CaptionLossConfig()
    writing: WriteConfig = WriteConfig()
    tokenizer: str | None = None
    players = ("model",)
    makes = "report"

    def init(self, rng: jax.Array) -> dict[str, Params]:
        """Fresh parameters."""
        return {"model": self.bundle.init(rng)}

    def check_data(self, latents: LatentCache | None) -> None:
        """The tokenizer must write tokens that the model knows, and end texts as it does.

        Raises:
          ValueError: it does not, or there are cached latents in place of video.
        """
        super().check_data(latents)
        cfg = self.bundle.cfg
        Tokenizer.load(self.tokenizer).check(cfg.vocab_size, eos_id=cfg.eos_id, pad_id=cfg.pad_id)

    def warm_start(self, directory: Path) -> dict[str, Params]:
        """The weights of a BLIP folder; the embeddings of several pictures start at zero."""
        cfg = self.bundle.cfg
        folder = initial.find(directory, "captioner")
        params = initial.load(
            folder, (CLASS_NAME,), cfg, section="model", free=("dtype", "num_frames")
        )
        shapes = self.bundle.abstract
        if "frame_embedding" in shapes and "frame_embedding" not in params:
            leaf = shapes["frame_embedding"]
            params["frame_embedding"] = jnp.zeros(leaf.shape, leaf.dtype)
        if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, shapes):
            raise ValueError(
                f"{folder} looks at another number of pictures than config.model.num_frames="
                f"{cfg.num_frames}; only a model of one picture can start one of several."
            )
        return {"model": params}

    def loss(
        self, player: str, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip,
        step: Array,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        """Mean cross-entropy per token; logs the plain one, and the share that is guessed right."""
        del frozen, step
        video, text = _fields_of(clip)
        video_key, text_key = jax.random.split(rng)
        video = vary(video, video_key, shift=self.options.shift, gain=self.options.gain)
        logits = self.bundle.apply(params[player], video, self._inputs(text_key, text))
        log_p = jax.nn.log_softmax(logits)  # (b, l, v)
        right = jnp.take_along_axis(log_p, text.ids[..., None], axis=-1)[..., 0]
        real = jnp.asarray(text.mask, jnp.float32)
        smooth = self.options.label_smoothing
        per_token = -(1.0 - smooth) * right - smooth * log_p.mean(-1)
        scalars = {
            "nll": _mean(-right, real),
            "accuracy": _mean(logits.argmax(-1) == text.ids, real),
        }
        return _mean(per_token, real * self._emphasis(text.ids)), scalars

    def sample(self, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip) -> Clip:
        """The clips of the batch with reports written from their video."""
        del frozen, rng
        cfg, (video, text) = self.bundle.cfg, _fields_of(clip)
        ids, _ = self.bundle.apply(
            params["model"], video, method="search", beams=self.writing.num_beams,
            length=text.ids.shape[1], length_penalty=self.writing.length_penalty,
        )  # fmt: skip
        best = ids[:, 0]
        return dataclasses.replace(clip, text=Text(ids=best, mask=best != cfg.pad_id))

    def texts(self, ids: np.ndarray) -> list[str]:
        """The reports of (b, l) token ids."""
        return Tokenizer.load(self.tokenizer).decode(ids)

    def _emphasis(self, ids: AnyArray) -> Array:
        """(b, l) how much each token counts."""
        if not self.options.emphasised:
            return jnp.ones(ids.shape, jnp.float32)
        chosen = jnp.isin(ids, jnp.array(self.options.emphasised))
        return jnp.where(chosen, self.options.emphasis, 1.0)

    def _inputs(self, rng: jax.Array, text: Text) -> Array:
        """(b, l) what the decoder is shown: the beginning, and all tokens but the last."""
        cfg = self.bundle.cfg
        hidden = jax.random.uniform(rng, text.ids.shape) < self.options.token_dropout
        shown = jnp.where(hidden, cfg.pad_id, text.ids)
        first = jnp.full_like(text.ids[:, :1], cfg.bos_id)
        return jnp.concatenate([first, shown[:, :-1]], axis=1)


def create(config: Mapping[str, Any]) -> Captioner:
    """The task of a config; reads `model`, `data` and `sample`.

    Raises:
      ValueError: unknown key, sections that are not used, or reports longer than the decoder.
    """
    for section in ("vae", "text_encoder", "diffusion"):
        names.check_keys(f"key of config.{section} (a captioner has none)", config[section], ())
    model = dict(config["model"])
    fields = {f.name for f in dataclasses.fields(CaptionLossConfig)}
    options = {name: model.pop(name) for name in fields & set(model)}
    cfg = sections.read(BlipConfig, model, "model")
    data = DataConfig.read(config["data"])
    if not 0 < data.text_length <= cfg.max_positions:
        raise ValueError(
            f"config.data.text_length is {data.text_length}; reports of this decoder have 1 .. "
            f"{cfg.max_positions} tokens (config.model.max_positions)."
        )
    return Captioner(
        bundle=Bundle.create(Blip, cfg),
        options=sections.read(CaptionLossConfig, options, "model"),
        writing=sections.read(WriteConfig, config["sample"], "sample"),
        tokenizer=data.tokenizer or None,
    )


def _fields_of(clip: Clip) -> tuple[Array, Text]:
    if clip.text is None or clip.video is None:
        raise ValueError("A clip to learn reports from needs video and text.")
    return jnp.asarray(clip.video), clip.text


def _mean(values: Array, weights: Array) -> Array:
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1.0)
