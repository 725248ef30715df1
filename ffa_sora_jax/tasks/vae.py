"""The video autoencoder: reconstruction, KL, wavelet, perceptual and adversarial terms.

    player "model"          pixel + perceptual + kl + wavelet + adaptive weight * adversarial
    player "discriminator"  hinge loss on real and reconstructed clips, on every second step

Terms whose weight is 0 are not computed; without an adversarial term there is one player.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ffa_sora_jax import losses
from ffa_sora_jax.common import names, sections
from ffa_sora_jax.common.types import Array, Clip, Params
from ffa_sora_jax.convert import lpips
from ffa_sora_jax.models import wfvae_pca
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.discriminators import DiscriminatorConfig, PatchDiscriminator3D
from ffa_sora_jax.models.wfvae import WFVAE, Decoded, WFVAEConfig
from ffa_sora_jax.tasks import initial
from ffa_sora_jax.tasks.base import Task, check_clip_size

PIXEL_LOSSES = {"l1": losses.l1, "l2": losses.l2}

Terms = dict[str, tuple[float | Array, Array]]  # weight and value by name
# (parameters, video, reconstruction) -> distance per frame (b, t)
Perceptual = Callable[[Params, Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class VAELossConfig:
    """`config.vae` of a VAE run; the defaults are the reference recipe.

    Attributes:
      pixel: "l1" or "l2".
      mse_weight: of an extra squared error, which holds the mean of blurred edges in place.
      detail_weight: of the error of neighbouring-pixel differences.
      perceptual_weight: of the perceptual distance, where a network for it is given.
      kl_weight, wavelet_weight: of these terms.
      adversarial_weight: of the adversarial term, on top of the adaptive weight; 0 trains without
        a discriminator.
      adversarial_start: first step that uses the discriminator.
      adaptive_eps, adaptive_max: see `losses.adaptive_weight`.
      train_encoder: False keeps the encoder as it starts, so that latents stay what they were and
        a diffusion model can train beside the decoder.
      whitening: of the latent that PCA starts from, see `wfvae_pca.pca_init`.
    """

    pixel: str = "l1"
    mse_weight: float = 0.0
    detail_weight: float = 0.0
    perceptual_weight: float = 1.0
    kl_weight: float = 1e-6
    wavelet_weight: float = 0.1
    adversarial_weight: float = 0.5
    adversarial_start: int = 0
    adaptive_eps: float = 1e-6
    adaptive_max: float = 1e6
    train_encoder: bool = True
    whitening: float = 1.0

    def __post_init__(self) -> None:
        if self.pixel not in PIXEL_LOSSES:
            raise ValueError(names.unknown_name("pixel loss", self.pixel, PIXEL_LOSSES))


class VAETask(Task):
    """Trains a WF-VAE; `clip.video` is (b, 4 k + 1, h, w, c) in [-1, 1].

    Args:
      model: sizes of the autoencoder.
      loss: weights of the terms.
      discriminator: sizes of the discriminator; unused when `loss.adversarial_weight` is 0.
      perceptual: distance between clips, and its frozen parameters; None leaves the term out.
    """

    def __init__(
        self, model: WFVAEConfig, loss: VAELossConfig, discriminator: DiscriminatorConfig,
        perceptual: tuple[Perceptual, Params] | None = None,
    ):  # fmt: skip
        self.bundle, self.weights = Bundle.create(WFVAE, model), loss
        self.discriminator = Bundle.create(PatchDiscriminator3D, discriminator)
        self.players = ("model", "discriminator") if loss.adversarial_weight else ("model",)
        self._perceptual = perceptual

    def init(self, rng: jax.Array) -> dict[str, Params]:
        """Random parameters of all players."""
        keys = jax.random.split(rng)
        params = {"model": self.bundle.init(keys[0])}
        if "discriminator" in self.players:
            params["discriminator"] = self.discriminator.init(keys[1])
        return params

    def frozen(self) -> Params:
        """Parameters of the perceptual distance."""
        return {} if self._perceptual is None else {"perceptual": self._perceptual[1]}

    def warm_start(self, directory: Path) -> dict[str, Params]:
        """The autoencoder of a model's or pipeline's folder; the discriminator starts fresh.

        `scale` and `shift` of the latent may differ: training changes what they describe, and
        `ffa-sora export --latent-stats` measures them.
        """
        folder = initial.find(directory, "vae")
        free = ("scale", "shift", "conv_form", "encoder_dtype", "decoder_dtype")
        model = initial.load(
            folder, ("WFVAEModel",), self.bundle.cfg, section="model", free=free
        )  # fmt: skip
        return {"model": model}

    def calibrate(self, params: dict[str, Params], clips: Iterator[Clip]) -> dict[str, Params]:
        """PCA of the calibration clips, where the model has a linear path."""
        if not self.bundle.cfg.linear_path:
            return params
        videos = (clip.video for clip in clips if clip.video is not None)
        model = wfvae_pca.pca_init(self.bundle, params["model"], videos, self.weights.whitening)
        return {**params, "model": model}

    def player(self, step: int) -> str:
        """The autoencoder alone before `adversarial_start`, then both in turn."""
        return "model" if step < self.weights.adversarial_start else super().player(step)

    def loss(
        self, player: str, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip,
        step: Array,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        """The loss of one player on one batch, and its terms."""
        video, cfg = self._video(clip), self.bundle.cfg
        b, t, h, w, _ = video.shape
        noise = jax.random.normal(rng, (b, (t - 1) // 4 + 1, h // 8, w // 8, cfg.latent_dim))
        return self.objective(player, params, frozen, video, noise, step)

    def objective(
        self, player: str, params: dict[str, Params], frozen: Params, video: Array, noise: Array,
        step: Array | int,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        """As `loss`, with the noise of the posterior sample given, shaped like the latent."""
        model = params["model"]
        mean, logvar, *bands = self.bundle.apply(model, video, method="encode_with_flows")
        if not self.weights.train_encoder:
            mean, logvar = jax.lax.stop_gradient((mean, logvar))
        latent = mean + jnp.exp(0.5 * logvar) * noise
        decoded = self.bundle.apply(model, latent, method="decode_with_flows")
        if player == "discriminator":
            return self._discriminator_loss(params, video, decoded.video)
        terms: Terms = {"kl": (self.weights.kl_weight, losses.kl(mean, logvar))}
        if self.weights.wavelet_weight:
            flows = losses.wavelet(tuple(bands), (decoded.l1_bands, decoded.l2_bands))
            terms["wavelet"] = (self.weights.wavelet_weight, flows)
        terms |= self._pixel_terms(frozen, video, decoded.video)
        if "discriminator" in self.players:
            terms["adversarial"] = self._adversarial(params, frozen, video, decoded, step)
        total = sum((weight * value for weight, value in terms.values()), jnp.zeros(()))
        scalars = {name: value for name, (_, value) in terms.items()}
        if "adversarial" in terms:
            scalars["adaptive_weight"] = jnp.asarray(terms["adversarial"][0])
        return total, scalars

    def sample(self, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip) -> Clip:
        """The reconstruction from the posterior mean, clipped to [-1, 1]."""
        mean, _ = self.bundle.apply(params["model"], self._video(clip), method="encode")
        video = jnp.clip(self.bundle.apply(params["model"], mean, method="decode"), -1.0, 1.0)
        if clip.video is not None and clip.video.shape[-1] != video.shape[-1]:
            video = jnp.mean(video, axis=-1, keepdims=True)
        return clip.replace(video=video)

    def _video(self, clip: Clip) -> Array:
        """The clip's pixels; grey ones are repeated for a colour model."""
        if clip.video is None:
            raise ValueError("The VAE trains on video; leave data.latents empty.")
        video = jnp.asarray(clip.video)
        repeats = self.bundle.cfg.in_channels == 3 and video.shape[-1] == 1
        return jnp.repeat(video, 3, axis=-1) if repeats else video

    def _pixel_terms(self, frozen: Params, video: Array, recon: Array) -> Terms:
        """Weight and value of the terms that compare the reconstruction with the video."""
        weights = self.weights
        terms: Terms = {"pixel": (1.0, PIXEL_LOSSES[weights.pixel](video, recon))}
        if weights.mse_weight:
            terms["mse"] = (weights.mse_weight, losses.l2(video, recon))
        if weights.detail_weight:
            terms["detail"] = (weights.detail_weight, losses.detail(video, recon))
        if self._perceptual is not None and weights.perceptual_weight:
            distance = self._perceptual[0](frozen["perceptual"], video, recon)  # (b, t)
            frame_size = video.shape[2] * video.shape[3] * video.shape[4]
            terms["perceptual"] = (
                weights.perceptual_weight, losses.perceptual(distance, frame_size)
            )  # fmt: skip
        return terms

    def _adversarial(
        self, params: dict[str, Params], frozen: Params, video: Array, decoded: Decoded,
        step: Array | int,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Adaptive weight and value of the adversarial term."""
        weights = self.weights

        def pixel(recon: Array) -> Array:
            terms = self._pixel_terms(frozen, video, recon).values()
            return sum((weight * value for weight, value in terms), jnp.zeros(()))

        def deceive(recon: Array) -> Array:
            return losses.generator_hinge(self._logits(params, recon))

        kernel_grads = self._last_kernel_grads(params["model"], decoded, (pixel, deceive))
        adaptive = losses.adaptive_weight(
            *kernel_grads, eps=weights.adaptive_eps, limit=weights.adaptive_max
        )
        weight = jnp.where(
            step >= weights.adversarial_start, weights.adversarial_weight * adaptive, 0.0
        )  # fmt: skip
        return weight, deceive(decoded.video)

    def _last_kernel_grads(
        self, model: Params, decoded: Decoded, functions: tuple[Callable[[Array], Array], ...]
    ) -> list[Array]:
        """Gradients at the decoder's last kernel of functions of the reconstruction."""
        features, base, recon = jax.lax.stop_gradient(
            (decoded.features, decoded.base, decoded.video)
        )
        decoder = model["decoder"]

        def finish(kernel: Array) -> Array:
            conv_out = {**decoder["conv_out"], "kernel": kernel}
            changed = {**model, "decoder": {**decoder, "conv_out": conv_out}}
            return self.bundle.apply(changed, features, base, method="finish")

        _, pull = jax.vjp(finish, decoder["conv_out"]["kernel"])
        return [pull(jax.grad(function)(recon))[0] for function in functions]

    def _discriminator_loss(
        self, params: dict[str, Params], video: Array, recon: Array
    ) -> tuple[Array, dict[str, Array]]:
        real = self._logits(params, video)
        fake = self._logits(params, jax.lax.stop_gradient(recon))
        scalars = {"logits_real": jnp.mean(real), "logits_fake": jnp.mean(fake)}
        return losses.discriminator_hinge(real, fake), scalars

    def _logits(self, params: dict[str, Params], video: Array) -> Array:
        return self.discriminator.apply(params["discriminator"], video)


def create(config: Mapping[str, Any]) -> VAETask:
    """The task of a run.

    Reads `config.model` (`WFVAEConfig`) and `config.vae`: the fields of `VAELossConfig`,
    `discriminator` (`DiscriminatorConfig`) where its sizes are not the default ones, and
    `perceptual_dir`, a folder for `convert.lpips.load_lpips`; empty leaves the perceptual term out.

    Raises:
      ValueError: unknown key or name, or clips (`config.data`) of a size that no WF-VAE takes.
    """
    check_clip_size(config.get("data", {}))
    loss = dict(config["vae"])
    perceptual = _load_perceptual(loss.pop("perceptual_dir", ""))
    model = sections.read(WFVAEConfig, config["model"], "model")
    discriminator = {"in_channels": model.in_channels, **dict(loss.pop("discriminator", {}))}
    return VAETask(
        model,
        sections.read(VAELossConfig, loss, "vae"),
        sections.read(DiscriminatorConfig, discriminator, "vae.discriminator"),
        perceptual,
    )


def _load_perceptual(directory: str) -> tuple[Perceptual, Params] | None:
    if not directory:
        return None
    bundle, params = lpips.load_lpips(directory)
    return bundle.apply, params
