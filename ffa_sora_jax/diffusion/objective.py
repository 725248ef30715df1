"""Training objective of a diffusion or flow model on `denoise(x_t, t, cond)`.

One frozen dataclass holds the choices: schedule, prediction type, law of the training times and
weighting. All arithmetic is float32, whatever the network computes in.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.diffusion import prediction as predictions
from ffa_sora_jax.diffusion.schedule import Discrete, Flow, ScheduleLike, get_schedule

DenoiseFn: TypeAlias = Callable[[Array, Array, Any], Array]

TIME_LAWS = ("uniform", "logit_normal", "mode", "mixed")
WEIGHTINGS = ("none", "min_snr", "sigma_sqrt", "cosmap")

_MODE_SCALE = 1.29  # of Stable Diffusion 3's "mode" law (arXiv 2403.03206, section 3.1)


@dataclasses.dataclass(frozen=True)
class Objective:
    """How a denoiser is trained.

    Attributes:
      schedule: schedule object or its name.
      prediction: "eps", "v", "x0" or "flow".
      time_law: law of the noise fraction u: "uniform", "logit_normal" (sigmoid of a normal),
        "mode" (a sharp peak in the middle), or "mixed" (half logit-normal, half uniform).
      stratified: one draw in each of `batch` equal slices of probability, in random order.
      logit_mean: mean of the normal of the logit-normal law.
      logit_std: its standard deviation.
      weighting: "none"; "min_snr" (arXiv 2303.09556) with `snr_gamma`; "sigma_sqrt" and "cosmap"
        (arXiv 2403.03206) for flows.
      snr_gamma: cap on the signal-to-noise ratio for "min_snr".
      weight_floor: lower bound of the weight. Min-SNR weighting with a zero terminal SNR gives
        the terminal step, where sampling starts, a weight of exactly 0; a floor repairs that.
      velocity_loss: with prediction "x0", measures the error of the implied velocity, the
        squared x0 error over max(sigma, min_sigma)^2 (arXiv 2511.13720).
      min_sigma: the clamp of the velocity loss. The paper's is 0.05; a larger one gives more of a
        short training to high noise, where the layout is decided.
      noise_offset: scale of extra noise shared by all positions of a channel.
    """

    schedule: ScheduleLike = "linear_zero_snr"
    prediction: str = "v"
    time_law: str = "uniform"
    stratified: bool = False
    logit_mean: float = 0.0
    logit_std: float = 1.0
    weighting: str = "none"
    snr_gamma: float = 5.0
    weight_floor: float = 0.0
    velocity_loss: bool = False
    min_sigma: float = 0.05
    noise_offset: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "schedule", get_schedule(self.schedule))
        predictions.check_prediction(self.prediction, self.path)
        for what, given, allowed in (
            ("time law", self.time_law, TIME_LAWS),
            ("weighting", self.weighting, WEIGHTINGS),
        ):
            if given not in allowed:
                raise ValueError(unknown_name(what, given, allowed))
        if self.weighting in ("sigma_sqrt", "cosmap") and not isinstance(self.path, Flow):
            raise ValueError(f"Weighting {self.weighting!r} needs schedule 'flow'.")
        if self.velocity_loss and self.prediction != "x0":
            raise ValueError(
                f"velocity_loss re-weights prediction 'x0'; prediction is {self.prediction!r}."
            )

    @property
    def path(self) -> Discrete | Flow:
        """The schedule object."""
        return get_schedule(self.schedule)

    def sample_time(self, rng: jax.Array, batch: int) -> Array:
        """(batch,) training times: int32 for a DDPM chain, float32 for a flow."""
        draw, order = jax.random.split(rng)
        u = jax.random.uniform(draw, (batch,))
        if self.stratified:
            u = (jax.random.permutation(order, batch) + u) / batch
        return self.path.time(self._noise_fraction(jnp.clip(u, 1e-6, 1.0 - 1e-6)))

    def noised(self, x0: Array, noise: Array, t: Array) -> Array:
        """x_t = alpha_t x0 + sigma_t noise, float32."""
        alpha, sigma = self._coeffs(t, x0)
        return alpha * x0 + sigma * noise

    def target(self, x0: Array, noise: Array, t: Array) -> Array:
        """What the network should predict."""
        return predictions.target(self.prediction, x0, noise, *self._coeffs(t, x0))

    def to_x0(self, pred: Array, x_t: Array, t: Array) -> Array:
        """The clean latent implied by a prediction; safe where alpha is 0."""
        return predictions.to_x0(self.prediction, pred, x_t, *self._coeffs(t, x_t))

    def weight(self, t: Array) -> Array:
        """Loss weight of the squared prediction error, float32, of the shape of `t`."""
        alpha, sigma = self.path.coeffs(t)
        if self.weighting == "min_snr":
            weight = _min_snr(self.prediction, alpha, sigma, self.snr_gamma)
        elif self.weighting == "sigma_sqrt":
            weight = sigma**-2
        elif self.weighting == "cosmap":
            weight = 2.0 / (jnp.pi * (1.0 - 2.0 * sigma + 2.0 * sigma**2))
        else:
            weight = jnp.ones_like(sigma)
        if self.velocity_loss:
            weight = weight / jnp.maximum(sigma, self.min_sigma) ** 2
        return jnp.maximum(weight, self.weight_floor)

    def draw_noise(self, rng: jax.Array, x0: Array) -> Array:
        """Standard normal noise like `x0`, with the channel offset if there is one."""
        plain, offset = jax.random.split(rng)
        noise = jax.random.normal(plain, x0.shape, jnp.float32)
        if self.noise_offset:
            shape = (x0.shape[0], *(1 for _ in x0.shape[1:-1]), x0.shape[-1])
            noise = noise + self.noise_offset * jax.random.normal(offset, shape, jnp.float32)
        return noise

    def loss(
        self, denoise: DenoiseFn, rng: jax.Array, x0: Array, cond: Any, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Draws times and noise, and scores the denoiser.

        Args:
          denoise: network, called as `denoise(x_t, t, cond)`.
          rng: key for times and noise.
          x0: (b, t, h, w, c) normalised latents.
          cond: whatever the network takes.
          mask: (b, t, h, w), 1 where the latent counts; None counts all.

        Returns:
          Losses of `score`.
        """
        time_key, noise_key = jax.random.split(rng)
        x0 = x0.astype(jnp.float32)
        t = self.sample_time(time_key, x0.shape[0])
        noise = self.draw_noise(noise_key, x0)
        x_t = self.noised(x0, noise, t)
        pred = denoise(x_t, t, cond).astype(jnp.float32)
        return self.score(pred, x0, noise, t, mask)

    def score(
        self, pred: Array, x0: Array, noise: Array, t: Array, mask: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Per-example losses (b,) and scalars for the log.

        The mean over the batch is the weighted squared error summed over the unmasked elements
        of the whole batch, over their number; weights are not renormalised.
        """
        error = self._mean_per_example((pred - self.target(x0, noise, t)) ** 2, mask)
        x0_pred = self.to_x0(pred, self.noised(x0, noise, t), t)
        x0_error = self._mean_per_example((x0_pred - x0) ** 2, mask)
        return error * self.weight(t), {"mse": error.mean(), "x0_mse": x0_error.mean()}

    def _noise_fraction(self, u: Array) -> Array:
        if self.time_law == "uniform":
            return u
        if self.time_law == "logit_normal":
            return self._logit_normal(u)
        if self.time_law == "mode":
            return 1.0 - mode_law(u)
        halves = jnp.where(u < 0.5, 2.0 * u, 2.0 * u - 1.0)  # each half is uniform again
        halves = jnp.clip(halves, 1e-6, 1.0 - 1e-6)
        return jnp.where(u < 0.5, self._logit_normal(halves), halves)

    def _logit_normal(self, u: Array) -> Array:
        return jax.nn.sigmoid(self.logit_mean + self.logit_std * jax.scipy.special.ndtri(u))

    def _coeffs(self, t: Array, like: Array) -> tuple[Array, Array]:
        alpha, sigma = self.path.coeffs(t)
        shape = (*t.shape, *(1 for _ in range(like.ndim - t.ndim)))
        return alpha.reshape(shape), sigma.reshape(shape)

    @staticmethod
    def _mean_per_example(x: Array, mask: Array | None) -> Array:
        axes = tuple(range(1, x.ndim))
        if mask is None:
            return x.mean(axes)
        mask = mask.astype(x.dtype)
        kept = x.mean(-1) * mask  # (b, t, h, w)
        return kept.sum(axes[:-1]) * x.shape[0] / mask.sum()


def mode_law(u: Array, scale: float = _MODE_SCALE) -> Array:
    """Signal fraction of the "mode" time law for a uniform `u` (arXiv 2403.03206)."""
    return 1.0 - u - scale * (jnp.cos(jnp.pi * u / 2.0) ** 2 - 1.0 + u)


def _min_snr(prediction: str, alpha: Array, sigma: Array, gamma: float) -> Array:
    """min(SNR, gamma) on the x0 error, carried over to the error of the prediction.

    Products instead of ratios: no division by zero at a terminal SNR of zero.
    """
    signal, noise = alpha**2, sigma**2
    if prediction == "eps":
        return jnp.minimum(1.0, gamma * noise / signal)
    if prediction == "v":
        return jnp.minimum(signal, gamma * noise) / (signal + noise) ** 2
    if prediction == "flow":
        return jnp.minimum(signal, gamma * noise) / (alpha + sigma) ** 2
    return jnp.minimum(signal / noise, gamma)
