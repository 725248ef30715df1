"""Noise schedules: how much signal and noise x_t = alpha_t x0 + sigma_t noise holds at time t.

Two families share one interface. `Discrete` is the DDPM chain (Ho et al. 2020, arXiv 2006.11239)
with 1,000 integer times and the optional zero terminal SNR of Lin et al. (arXiv 2305.08891);
`Flow` is the straight path of rectified flow (Liu et al., arXiv 2209.03003) with real times in
(0, 1000]. Tables are computed in float64 on the host and cast to float32 once.
"""

import dataclasses
import functools
from fractions import Fraction
from typing import Protocol, TypeAlias

import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Array

SPACINGS = ("trailing", "leading")


class Schedule(Protocol):
    """What objectives and samplers ask of a schedule."""

    @property
    def num_train_steps(self) -> int:
        """Upper end of the time axis; times run in 0..num_train_steps."""

    def coeffs(self, t: Array) -> tuple[Array, Array]:
        """alpha_t and sigma_t, float32, of the shape of `t`."""

    def time(self, u: Array) -> Array:
        """Times, of the shape of `u`, for noise fractions `u` in (0, 1)."""

    def grid(self, num_steps: int, spacing: str) -> np.ndarray:
        """(num_steps,) float64 descending times of a sampler."""


@dataclasses.dataclass(frozen=True)
class Discrete:
    """DDPM chain.

    Attributes:
      betas: "linear" (betas equally spaced) or "scaled_linear" (their square roots are).
      beta_start: first beta; None takes the usual value of the table (1e-4 or 8.5e-4).
      beta_end: last beta; None takes the usual value of the table (2e-2 or 1.2e-2).
      zero_snr: shift and scale sqrt(alpha_bar) so that its last value is exactly 0.
      num_train_steps: length of the chain.
    """

    betas: str = "linear"
    beta_start: float | None = None
    beta_end: float | None = None
    zero_snr: bool = False
    num_train_steps: int = 1000

    def __post_init__(self):
        if self.betas not in _BETA_RANGES:
            raise ValueError(unknown_name("beta table", self.betas, _BETA_RANGES))

    @functools.cached_property
    def alpha_bar(self) -> np.ndarray:
        """(num_train_steps,) float64 squared signal coefficients."""
        start, end = _BETA_RANGES[self.betas]
        start = start if self.beta_start is None else self.beta_start
        end = end if self.beta_end is None else self.beta_end
        if self.betas == "linear":
            betas = np.linspace(start, end, self.num_train_steps)
        else:
            betas = np.linspace(start**0.5, end**0.5, self.num_train_steps) ** 2
        root = np.sqrt(np.cumprod(1.0 - betas))
        if self.zero_snr:
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        alpha_bar = root**2
        alpha_bar.setflags(write=False)
        return alpha_bar

    def coeffs(self, t: Array) -> tuple[Array, Array]:
        """alpha_t and sigma_t at integer times (floats are truncated)."""
        index = jnp.asarray(t).astype(jnp.int32)
        alpha = np.sqrt(self.alpha_bar).astype(np.float32)
        sigma = np.sqrt(1.0 - self.alpha_bar).astype(np.float32)
        return jnp.asarray(alpha)[index], jnp.asarray(sigma)[index]

    def time(self, u: Array) -> Array:
        """Integer times floor(num_train_steps u), int32."""
        t = jnp.floor(u * self.num_train_steps).astype(jnp.int32)
        return jnp.clip(t, 0, self.num_train_steps - 1)

    def grid(self, num_steps: int, spacing: str) -> np.ndarray:
        """Integer times: "trailing" ends the list at the noisiest one, "leading" at 0.

        Trailing times are rounded half to even from exact fractions: the usual floating-point
        range yields one time too many for some step counts.
        """
        check_num_steps(num_steps, self.num_train_steps)
        total = self.num_train_steps
        if spacing == "trailing":
            times = [round(Fraction(total * (num_steps - i), num_steps)) - 1
                     for i in range(num_steps)]  # fmt: skip
        elif spacing == "leading":
            times = [(num_steps - 1 - i) * (total // num_steps) for i in range(num_steps)]
        else:
            raise ValueError(unknown_name("spacing", spacing, SPACINGS))
        return np.asarray(times, np.float64)


@dataclasses.dataclass(frozen=True)
class Flow:
    """Straight path x_t = (1 - s) x0 + s noise with s = t / num_train_steps.

    Attributes:
      shift: a > 1 spends more time at high noise, s' = a s / (1 + (a - 1) s); sqrt(dims / 4096)
        is a common choice. Applies to training times and to the sampler's grid alike.
      num_train_steps: scale of the times shown to the network.
    """

    shift: float = 1.0
    num_train_steps: int = 1000

    def coeffs(self, t: Array) -> tuple[Array, Array]:
        """alpha_t = 1 - s and sigma_t = s at real times."""
        sigma = jnp.asarray(t, jnp.float32) / self.num_train_steps
        return 1.0 - sigma, sigma

    def time(self, u: Array) -> Array:
        """Real times num_train_steps * shifted(u), float32."""
        return (self.num_train_steps * self._shifted(jnp.asarray(u))).astype(jnp.float32)

    def grid(self, num_steps: int, spacing: str) -> np.ndarray:
        """Real times from pure noise down.

        "trailing" and "leading" both give the reference's grid, equally spaced from s = 1 to
        s = 1 / num_train_steps: a flow has no other start. "even" stops one full step before 0,
        which does not spend the last step on a thousandth of the path.
        """
        check_num_steps(num_steps, self.num_train_steps)
        if spacing == "even":
            s = np.arange(num_steps, 0, -1) / num_steps
        elif spacing in SPACINGS:
            s = np.linspace(1.0, 1.0 / self.num_train_steps, num_steps)
        else:
            raise ValueError(unknown_name("spacing", spacing, (*SPACINGS, "even")))
        return self.num_train_steps * self._shifted(s)

    def _shifted(self, s):
        return self.shift * s / (1.0 + (self.shift - 1.0) * s)


_BETA_RANGES = {"linear": (1e-4, 2e-2), "scaled_linear": (8.5e-4, 1.2e-2)}

ScheduleLike: TypeAlias = str | Discrete | Flow

SCHEDULES: dict[str, Discrete | Flow] = {
    "linear": Discrete("linear"),
    "linear_zero_snr": Discrete("linear", zero_snr=True),
    "scaled_linear": Discrete("scaled_linear"),
    "scaled_linear_zero_snr": Discrete("scaled_linear", zero_snr=True),
    "flow": Flow(),
}


def get_schedule(schedule: ScheduleLike) -> Discrete | Flow:
    """A schedule by its name in `SCHEDULES`, or the object itself."""
    if not isinstance(schedule, str):
        return schedule
    if schedule not in SCHEDULES:
        raise ValueError(unknown_name("schedule", schedule, SCHEDULES))
    return SCHEDULES[schedule]


def check_num_steps(num_steps: int, num_train_steps: int) -> None:
    """Raises ValueError unless 1 <= num_steps <= num_train_steps."""
    if not 1 <= num_steps <= num_train_steps:
        raise ValueError(f"num_steps is {num_steps}; expected 1 to {num_train_steps}.")
