"""What the network predicts (eps, v, x0 or flow), and how each is turned into the clean latent.

With x_t = alpha x0 + sigma noise:

    eps   noise                      x0 = (x_t - sigma p) / alpha
    v     alpha noise - sigma x0     x0 = (alpha x_t - sigma p) / (alpha^2 + sigma^2)
    x0    x0                         x0 = p
    flow  noise - x0                 x0 = (x_t - sigma p) / (alpha + sigma)

Each rule is written out on its own: a detour through eps divides by zero at a terminal SNR of
zero. The rules hold for the DDPM chain and for the straight path alike.
"""

from collections.abc import Callable, Mapping

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.diffusion.schedule import Discrete, Flow

_TARGET: Mapping[str, Callable[..., Array]] = {
    "eps": lambda x0, noise, alpha, sigma: noise,
    "v": lambda x0, noise, alpha, sigma: alpha * noise - sigma * x0,
    "x0": lambda x0, noise, alpha, sigma: x0,
    "flow": lambda x0, noise, alpha, sigma: noise - x0,
}

_TO_X0: Mapping[str, Callable[..., Array]] = {
    "eps": lambda pred, x_t, alpha, sigma: (x_t - sigma * pred) / alpha,
    "v": lambda pred, x_t, alpha, sigma: (alpha * x_t - sigma * pred) / (alpha**2 + sigma**2),
    "x0": lambda pred, x_t, alpha, sigma: pred,
    "flow": lambda pred, x_t, alpha, sigma: (x_t - sigma * pred) / (alpha + sigma),
}

PREDICTIONS = tuple(_TARGET)


def check_prediction(prediction: str, schedule: Discrete | Flow) -> None:
    """Raises ValueError for an unknown type, or for one that the schedule makes meaningless."""
    if prediction not in PREDICTIONS:
        raise ValueError(unknown_name("prediction", prediction, PREDICTIONS))
    ends_in_noise = isinstance(schedule, Flow) or schedule.zero_snr
    if prediction == "eps" and ends_in_noise:
        raise ValueError(
            "Prediction 'eps' says nothing about x0 where the signal is exactly zero, and this "
            f"schedule ends there ({schedule}). Use 'v', 'x0' or 'flow', or zero_snr=False."
        )


def target(prediction: str, x0: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
    """What the network should output; coefficients broadcast against `x0`."""
    return _TARGET[prediction](x0, noise, alpha, sigma)


def to_x0(prediction: str, pred: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
    """The clean latent implied by a prediction."""
    return _TO_X0[prediction](pred, x_t, alpha, sigma)
