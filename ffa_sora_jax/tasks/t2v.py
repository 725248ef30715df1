"""Text to video: a diffusion transformer on the latents of a frozen video VAE.

    clip.latent (posterior moments)  --sample, normalize-->  x0  (b, t', h', w', c')
    clip.text                        --drop, encode------->  text (b, l, d), mask (b, l)
    Objective(denoise = DiT)         ----------------------> loss

The text encoder is either small and trained together with the DiT ("t5"), or large, frozen and
never loaded: then its stored embeddings come with the data ("stored").
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ffa_sora_jax.common import names, sections
from ffa_sora_jax.common.types import Array, Clip, Params, Text
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained
from ffa_sora_jax.data.latents import LatentCache
from ffa_sora_jax.data.text_cache import TextCache
from ffa_sora_jax.diffusion.guidance import Guidance
from ffa_sora_jax.diffusion.objective import Objective
from ffa_sora_jax.diffusion.sampler import Sampler
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.dit import DiT, DiTConfig
from ffa_sora_jax.models.t5 import T5Config, T5Encoder
from ffa_sora_jax.tasks import initial
from ffa_sora_jax.tasks.base import Task, check_clip_size

Cond = dict[str, Array]

TEXT_ENCODERS = ("t5", "stored")
_EOS = 1  # end of sequence of T5 and of the shipped tokenizer; an empty report is this token alone


@dataclasses.dataclass(frozen=True)
class T2VConfig:
    """What `config.diffusion` holds beside the fields of `Objective`.

    Attributes:
      text_dropout: share of training clips whose report is replaced by the empty one.
      sample_posterior: draw latents from the VAE's posterior; False takes its mean.
    """

    text_dropout: float = 0.1
    sample_posterior: bool = True


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """`config.sample`: how the task samples while it is trained, and by default afterwards."""

    sampler: str = "euler_ancestral"
    num_steps: int = 100
    spacing: str = "trailing"
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class T2V(Task):
    """Trains a DiT, and with it a small text encoder if there is one.

    Parameters of the player "model": {"dit": ...} and, when trained together, "text_encoder".
    Frozen: {"vae": ...} and, with stored embeddings, "empty": embedding (l, d) and mask (l,) of
    the empty report.

    Attributes:
      dit: architecture of the denoiser.
      text_encoder: architecture of a jointly trained encoder; None for stored embeddings.
      objective: training objective.
      sampler: used by `sample`.
      options: the rest of `config.diffusion`.
      vae_dir: model folder of the frozen VAE; opened when first needed.
      text_dir: folder of stored embeddings, which must hold the empty report; or "".
    """

    dit: Bundle
    text_encoder: Bundle | None
    objective: Objective
    sampler: Sampler
    options: T2VConfig = T2VConfig()
    vae_dir: str = ""
    text_dir: str = ""
    players = ("model",)

    @functools.cached_property
    def vae(self) -> Pretrained:
        """The frozen VAE.

        Raises:
          ValueError: no folder named in the config, or a VAE of another latent width.
        """
        if not self.vae_dir:
            raise ValueError(
                "config.vae.dir is empty; name the folder of a trained VAE: --config.vae.dir=..."
            )
        vae = from_pretrained(self.vae_dir)
        width, expected = vae.cfg.latent_dim, self.dit.cfg.in_channels
        if width != expected:
            raise ValueError(
                f"The latents of {self.vae_dir} have {width} channels, model.in_channels is "
                f"{expected}; they must be equal."
            )
        return vae

    def init(self, rng: jax.Array) -> dict[str, Params]:
        """Fresh parameters of the DiT and of the trained text encoder."""
        dit_key, text_key = jax.random.split(rng)
        params = {"dit": self.dit.init(dit_key)}
        if self.text_encoder is not None:
            params["text_encoder"] = self.text_encoder.init(text_key)
        return {"model": params}

    def check_data(self, latents: LatentCache | None) -> None:
        """Latents must be those of the very weights that decode the samples."""
        if latents is not None:
            latents.check_vae(self.vae.fingerprint)

    def warm_start(self, directory: Path) -> dict[str, Params]:
        """The DiT of a transformer's or pipeline's folder, and the pipeline's text encoder.

        The text encoder is read where it is trained together with the DiT; a transformer's folder
        has none, so that it starts fresh.
        """
        folder = initial.find(directory, "transformer")
        params = {
            "dit": initial.load(
                folder, ("OpenSoraT2V_v1_3",), self.dit.cfg, section="model",
                free=("out_channels", "zero_init", "remat", "dtype"),
            )
        }  # fmt: skip
        beside = directory / "text_encoder"
        if self.text_encoder is not None and folder != directory and beside.is_dir():
            params["text_encoder"] = initial.load(
                beside, ("T5EncoderModel", "MT5EncoderModel"), self.text_encoder.cfg,
                section="text_encoder", free=("dtype",),
            )  # fmt: skip
        return {"model": params}

    def frozen(self) -> Params:
        """The VAE, and the stored embedding of the empty report where embeddings are stored."""
        frozen: Params = {"vae": self.vae.params}
        if self.text_encoder is None:
            _, mask, embedding = TextCache.open(Path(self.text_dir)).read([""])
            frozen["empty"] = {"embedding": embedding[0], "mask": mask[0]}
        return frozen

    def loss(
        self, player: str, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip,
        step: Array,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        """Mean weighted error of the prediction; logs the plain error and that of x0."""
        del step
        latent_key, drop_key, loss_key = jax.random.split(rng, 3)
        x0 = self._latent(frozen, latent_key, clip)
        text = _text_of(clip)
        drop = jax.random.uniform(drop_key, (x0.shape[0],)) < self.options.text_dropout
        cond = self._condition(params[player], frozen, text, drop)
        denoise = functools.partial(self._denoise, params[player]["dit"])
        losses, scalars = self.objective.loss(denoise, loss_key, x0, cond)
        return losses.mean(), scalars

    def sample(self, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip) -> Clip:
        """A clip for every report of the batch, of the size of the batch's own clips."""
        noise_key, step_key = jax.random.split(rng)
        noise = jax.random.normal(noise_key, self._latent_shape(frozen, clip), jnp.float32)
        text, model = _text_of(clip), params["model"]
        keep = jnp.zeros((noise.shape[0],), bool)
        cond = self._condition(model, frozen, text, keep)
        uncond = None
        if self.sampler.guidance.scale != 1.0:
            uncond = self._condition(model, frozen, text, ~keep)
        denoise = functools.partial(self._denoise, model["dit"])
        latent = self.sampler(denoise, step_key, noise, cond, uncond)
        raw = self.vae.bundle.apply(frozen["vae"], latent, method="denormalize")
        video = self.vae.bundle.apply(frozen["vae"], raw, method="decode")
        video = jnp.clip(video.astype(jnp.float32), -1.0, 1.0)
        return dataclasses.replace(clip, video=video, latent=None)

    def _denoise(self, params: Params, x_t: Array, t: Array, cond: Cond) -> Array:
        return self.dit.apply(params, x_t, t, cond["text"], cond["mask"])

    def _condition(self, params: Params, frozen: Params, text: Text, drop: Array) -> Cond:
        """Encoded reports, those of `drop` (b,) replaced by the empty report."""
        if self.text_encoder is None:
            if text.embedding is None:
                raise ValueError(
                    "The data carry no stored text embeddings: set config.data.text_embeddings "
                    "to a folder made by `ffa-sora prepare text`."
                )
            empty = frozen["empty"]
            hidden = jnp.where(drop[:, None, None], empty["embedding"], text.embedding)
            return {"text": hidden, "mask": jnp.where(drop[:, None], empty["mask"], text.mask)}
        first = jnp.arange(text.ids.shape[1]) == 0
        ids = jnp.where(drop[:, None], jnp.where(first, _EOS, 0), text.ids)
        mask = jnp.where(drop[:, None], first, text.mask)
        hidden = self.text_encoder.apply(params["text_encoder"], ids, mask)  # (b, l, d)
        return {"text": hidden, "mask": mask}

    def _latent(self, frozen: Params, rng: jax.Array, clip: Clip) -> Array:
        """Normalised latents (b, t', h', w', c') of a batch, from the cache or by encoding."""
        mean, logvar = self._moments(frozen, clip)
        latent = mean
        if self.options.sample_posterior:
            noise = jax.random.normal(rng, mean.shape, jnp.float32)
            latent = mean + jnp.exp(0.5 * logvar) * noise
        latent = self.vae.bundle.apply(frozen["vae"], latent, method="normalize")
        return jax.lax.stop_gradient(latent)

    def _moments(self, frozen: Params, clip: Clip) -> tuple[Array, Array]:
        if clip.latent is not None:
            mean, logvar = jnp.split(jnp.asarray(clip.latent, jnp.float32), 2, axis=-1)
            return mean, logvar
        if clip.video is None:
            raise ValueError("A clip needs cached latents or video.")
        return self.vae.bundle.apply(frozen["vae"], clip.video, method="encode")

    def _latent_shape(self, frozen: Params, clip: Clip) -> tuple[int, ...]:
        mean, _ = jax.eval_shape(self._moments, frozen, clip)
        return mean.shape


def create(config: Mapping[str, Any]) -> T2V:
    """The task of a config; reads `model`, `vae`, `text_encoder`, `diffusion` and `sample`.

    Raises:
      ValueError: unknown key or name, settings that have no meaning together, or clips
        (`config.data`) of a size that no WF-VAE takes.
    """
    check_clip_size(config["data"])
    encoder = dict(config["text_encoder"])
    kind = encoder.pop("kind")
    if kind not in TEXT_ENCODERS:
        raise ValueError(names.unknown_name("text_encoder.kind", kind, TEXT_ENCODERS))
    text_dir = config["data"].get("text_embeddings") or ""
    if kind == "stored" and encoder:
        raise ValueError(
            f"A stored text encoder has no settings; given: {sorted(encoder)}. Write "
            "config.text_encoder = dict(kind='stored') in the config file."
        )
    if kind == "stored" and not text_dir:
        raise ValueError(
            "text_encoder.kind 'stored' needs data.text_embeddings: `ffa-sora prepare text`."
        )
    dit = sections.read(DiTConfig, config["model"], "model")
    text = None if kind == "stored" else sections.read(T5Config, encoder, "text_encoder")
    if text is not None and text.d_model != dit.caption_channels:
        raise ValueError(
            f"text_encoder.d_model is {text.d_model}, but model.caption_channels is "
            f"{dit.caption_channels}; they must be equal."
        )
    diffusion = dict(config["diffusion"])
    rest = {f.name: diffusion.pop(f.name) for f in dataclasses.fields(T2VConfig)
            if f.name in diffusion}  # fmt: skip
    objective = sections.read(Objective, diffusion, "diffusion")
    names.check_keys("key of config.vae", config["vae"], ("dir",))
    return T2V(
        dit=Bundle.create(DiT, dit),
        text_encoder=None if text is None else Bundle.create(T5Encoder, text),
        objective=objective,
        sampler=_sampler(objective, sections.read(SampleConfig, config["sample"], "sample")),
        options=sections.read(T2VConfig, rest, "diffusion"),
        vae_dir=config["vae"]["dir"],
        text_dir=text_dir,
    )


def _sampler(objective: Objective, sample: SampleConfig) -> Sampler:
    low, high = sample.guidance_interval
    return Sampler(
        name=sample.sampler,
        num_steps=sample.num_steps,
        schedule=objective.schedule,
        prediction=objective.prediction,
        spacing=sample.spacing,
        guidance=Guidance(sample.guidance_scale, sample.guidance_rescale, (low, high)),
    )


def _text_of(clip: Clip) -> Text:
    if clip.text is None:
        raise ValueError("A text-to-video clip needs text.")
    return clip.text
