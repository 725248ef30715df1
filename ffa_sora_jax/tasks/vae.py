"""The video autoencoder: reconstruction, KL, wavelet and adversarial terms.

    player "model"          pixel (+ perceptual) + kl + wavelet + adaptive * adversarial
    player "discriminator"  hinge loss on real and reconstructed clips, on every second step

Terms whose weight is 0 are not computed; without an adversarial term there is one player.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ffa_sora_jax import losses
from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import Array, Clip, Params
from ffa_sora_jax.models import wfvae_pca
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.tasks.base import Task

PIXEL_LOSSES = {"l1": losses.l1, "l2": losses.l2}


@dataclasses.dataclass(frozen=True)
class VAELossConfig:
    """`config.vae` of a VAE run: the weights of all terms; the defaults are the reference recipe.

    Attributes:
      pixel: "l1" or "l2".
      mse_weight: of an extra squared error, which holds the mean of blurred edges in place.
      detail_weight: of the error of neighbouring-pixel differences.
      kl_weight, wavelet_weight: of these terms.
    """

    pixel: str = "l1"
    mse_weight: float = 0.0
    detail_weight: float = 0.0
    kl_weight: float = 1e-6
    wavelet_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.pixel not in PIXEL_LOSSES:
            raise ValueError(names.unknown_name("pixel loss", self.pixel, PIXEL_LOSSES))


class VAETask(Task):
    """Trains a WF-VAE; `clip.video` is (b, 4 k + 1, h, w, c) in [-1, 1]."""

    def __init__(self, model: WFVAEConfig, loss: VAELossConfig):
        self.bundle, self.weights = Bundle.create(WFVAE, model), loss
        self.players = ("model",)

    def init(self, rng: jax.Array) -> dict[str, Params]:
        """Random parameters."""
        return {"model": self.bundle.init(rng)}

    def calibrate(self, params: dict[str, Params], clips: Iterator[Clip]) -> dict[str, Params]:
        """PCA of the calibration clips, where the model has a linear path."""
        if not self.bundle.cfg.linear_path:
            return params
        videos = (clip.video for clip in clips if clip.video is not None)
        return {**params, "model": wfvae_pca.pca_init(self.bundle, params["model"], videos)}

    def loss(
        self, player: str, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip,
        step: Array,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        """The loss of one player, and its terms."""
        video, weights = _video(clip), self.weights
        apply, model = self.bundle.apply, params["model"]
        mean, logvar, *encoder_bands = apply(model, video, method="encode_with_flows")
        noise = jax.random.normal(rng, mean.shape)
        latent = mean + jnp.exp(0.5 * logvar) * noise
        recon, *decoder_bands = apply(model, latent, method="decode_with_flows")
        pixel = PIXEL_LOSSES[weights.pixel](video, recon)
        scalars = {"pixel": pixel, "kl": losses.kl(mean, logvar)}
        total = pixel + weights.kl_weight * scalars["kl"]
        if weights.mse_weight:
            scalars["mse"] = losses.l2(video, recon)
            total = total + weights.mse_weight * scalars["mse"]
        if weights.detail_weight:
            scalars["detail"] = losses.detail(video, recon)
            total = total + weights.detail_weight * scalars["detail"]
        if weights.wavelet_weight:
            scalars["wavelet"] = losses.wavelet(tuple(encoder_bands), tuple(decoder_bands))
            total = total + weights.wavelet_weight * scalars["wavelet"]
        return total, scalars

    def sample(self, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip) -> Clip:
        """The reconstruction from the posterior mean."""
        mean, _ = self.bundle.apply(params["model"], _video(clip), method="encode")
        video = self.bundle.apply(params["model"], mean, method="decode")
        return clip.replace(video=jnp.clip(video, -1.0, 1.0))


def create(config: Mapping[str, Any]) -> VAETask:
    """The task of a run; reads `config.model` (WFVAEConfig) and `config.vae` (VAELossConfig)."""
    return VAETask(
        _read("model", WFVAEConfig, config["model"]), _read("vae", VAELossConfig, config["vae"])
    )


def _read(section: str, cls: type, values: Mapping[str, Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(cls)]
    names.check_keys(f"{section} option", values, fields)
    return cls(**dict(values))


def _video(clip: Clip) -> Array:
    if clip.video is None:
        raise ValueError("The VAE trains on video; leave data.latents empty.")
    return clip.video
