"""Losses of the video autoencoder and its discriminator.

The scale is that of the reference recipe: pixel terms are sums over the pixels of a frame,
averaged over frames; KL and wavelet terms are sums over a clip, averaged over clips.

Axes: b batch, t frames, h w space, c channels.
"""

import jax
import jax.numpy as jnp

from ffa_sora_jax.common.types import Array


def per_frame_sum(error: Array) -> jax.Array:
    """Sum of an error map (b, t, h, w, c) over each frame, averaged over frames."""
    return jnp.sum(error) / (error.shape[0] * error.shape[1])


def l1(video: Array, other: Array) -> jax.Array:
    """Sum of absolute differences per frame."""
    return per_frame_sum(jnp.abs(video - other))


def l2(video: Array, other: Array) -> jax.Array:
    """Sum of squared differences per frame."""
    return per_frame_sum(jnp.square(video - other))


def detail(video: Array, other: Array) -> jax.Array:
    """Sum of absolute differences between neighbouring-pixel differences, per frame.

    It weighs fine vessels, which a plain pixel loss gives up first.
    """
    error = video - other
    rows, columns = jnp.diff(error, axis=2), jnp.diff(error, axis=3)
    return per_frame_sum(jnp.abs(rows)) + per_frame_sum(jnp.abs(columns))


def perceptual(distance: Array, frame_size: int) -> jax.Array:
    """Perceptual distances (b, t) on the scale of the pixel terms.

    The reference adds the one distance of a frame to each of its `frame_size` = h w c pixel
    errors before summing them.
    """
    return frame_size * jnp.mean(distance)


def kl(mean: Array, logvar: Array) -> jax.Array:
    """KL divergence of N(mean, exp(logvar)) from N(0, 1), summed over a clip."""
    total = jnp.sum(jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar)
    return 0.5 * total / mean.shape[0]


def wavelet(encoder_bands: tuple[Array, ...], decoder_bands: tuple[Array, ...]) -> jax.Array:
    """L1 between the energy flows of encoder and decoder, level by level, summed over a clip."""
    pairs = zip(encoder_bands, decoder_bands, strict=True)
    return sum(
        (jnp.sum(jnp.abs(a - b)) / a.shape[0] for a, b in pairs), start=jnp.zeros(())
    )  # fmt: skip


def discriminator_hinge(real: Array, fake: Array) -> jax.Array:
    """Hinge loss of the discriminator on logits of real and reconstructed clips."""
    return 0.5 * (jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake)))


def generator_hinge(fake: Array) -> jax.Array:
    """What the autoencoder minimises to deceive the discriminator."""
    return -jnp.mean(fake)


def adaptive_weight(
    pixel_grad: Array, adversarial_grad: Array, *, eps: float = 1e-6, limit: float = 1e6
) -> jax.Array:
    """Ratio of two gradient norms at the decoder's last kernel; no gradient flows through it.

    Balances the adversarial term against the pixel term (VQGAN, Esser et al. 2021, equation 7).
    """
    ratio = jnp.linalg.norm(pixel_grad) / (jnp.linalg.norm(adversarial_grad) + eps)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, limit))
