"""Samplers: from noise to a clean latent in a fixed number of network calls.

Every sampler here is linear in what it knows: the state, the clean latent x0 that the network
implies now, the one it implied a step before, and fresh noise,

    x <- keep x + new x0 + old x0_before + noise n.

So a sampler is a table with one row per step, computed in float64 on the host, and all of them
run through the same `lax.scan`. The network sees `scale x`, which has unit variance whatever the
sampler's own scaling of the state.

| name | source | state | schedule |
|---|---|---|---|
| ddim | arXiv 2010.02502, eta 0 | alpha x0 + sigma n | discrete |
| ddpm | arXiv 2006.11239 | alpha x0 + sigma n | discrete |
| euler, euler_ancestral | arXiv 2206.00364, section 4 | x0 + (sigma/alpha) n | discrete |
| dpmpp_2m | arXiv 2211.01095, order 2, first order at both ends | alpha x0 + sigma n | both |
| flow_euler | arXiv 2209.03003 | (1 - s) x0 + s n | flow |
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.diffusion import prediction as predictions
from ffa_sora_jax.diffusion.guidance import NO_GUIDANCE, Guidance, guided
from ffa_sora_jax.diffusion.objective import DenoiseFn
from ffa_sora_jax.diffusion.schedule import Discrete, Flow, ScheduleLike, get_schedule

Rows: TypeAlias = dict[str, np.ndarray]

_SMALLEST_ALPHA_BAR = 2.0**-24  # stands in for a terminal alpha_bar of 0 where sigma/alpha is used


@flax.struct.dataclass
class State:
    """What a sampler carries: its state `x`, and the clean latent implied one step before."""

    x: Array
    x0: Array


@dataclasses.dataclass(frozen=True)
class Sampler:
    """One sampler with everything that fixes its table; hashable, so it can be a static argument.

    Attributes:
      name: one of `SAMPLERS`.
      num_steps: network calls (pairs of calls with guidance).
      schedule: schedule object or its name.
      prediction: what the network predicts.
      spacing: "trailing" or "leading"; flows also know "even".
      guidance: classifier-free guidance.
    """

    name: str
    num_steps: int
    schedule: ScheduleLike = "linear_zero_snr"
    prediction: str = "v"
    spacing: str = "trailing"
    guidance: Guidance = NO_GUIDANCE

    def __post_init__(self):
        if self.name not in SAMPLERS:
            raise ValueError(unknown_name("sampler", self.name, SAMPLERS))
        object.__setattr__(self, "schedule", get_schedule(self.schedule))
        predictions.check_prediction(self.prediction, self._path)
        allowed = SAMPLERS[self.name].schedules
        if not isinstance(self._path, allowed):
            fitting = [n for n, m in SAMPLERS.items() if isinstance(self._path, m.schedules)]
            raise ValueError(
                f"Sampler {self.name!r} does not run on {self._path}; it needs a schedule of type "
                f"{' or '.join(kind.__name__ for kind in allowed)}. Samplers that run on this "
                f"schedule: {', '.join(fitting)}."
            )
        self.rows()

    @property
    def stochastic(self) -> bool:
        """Whether the sampler draws noise at its steps."""
        return SAMPLERS[self.name].stochastic

    def rows(self) -> Rows:
        """The table: (num_steps,) float64 columns t, alpha, sigma, scale, keep, new, old, noise."""
        return SAMPLERS[self.name].rows(self._path, self.num_steps, self.spacing)

    def init(self, noise: Array) -> State:
        """The state at the first step, from standard normal noise."""
        init = SAMPLERS[self.name].init_scale(self.rows(), self.spacing)
        x = jnp.asarray(noise, jnp.float32) * np.float32(init)
        return State(x=x, x0=jnp.zeros_like(x))

    def step(self, state: State, pred: Array, row: dict[str, Array], noise: Array) -> State:
        """One step, from the prediction at `row["scale"] * state.x` and `row["t"]`."""
        x_t = row["scale"] * state.x
        pred = pred.astype(jnp.float32)
        x0 = predictions.to_x0(self.prediction, pred, x_t, row["alpha"], row["sigma"])
        x = row["keep"] * state.x + row["new"] * x0 + row["old"] * state.x0
        return State(x=x + row["noise"] * noise, x0=x0)

    def __call__(
        self,
        denoise: DenoiseFn,
        rng: jax.Array | None,
        noise: Array,
        cond: Any = None,
        uncond: Any = None,
        *,
        step_noise: Array | None = None,
        with_trajectory: bool = False,
    ) -> Array | tuple[Array, Array]:
        """Runs the sampler.

        Args:
          denoise: network, called as `denoise(x_t, t, cond)` with `t` (b,) float32.
          rng: key of the step noise; None for samplers that draw none.
          noise: (b, ...) standard normal noise to start from.
          cond: condition, any pytree of arrays with leading batch axis.
          uncond: empty condition of the same structure, for guidance.
          step_noise: (num_steps, b, ...) noise to use in place of draws.
          with_trajectory: also return the states, (num_steps + 1, b, ...).
        """
        if self.stochastic and rng is None and step_noise is None:
            raise ValueError(f"Sampler {self.name!r} draws noise at every step: pass `rng`.")
        model = guided(denoise, cond, uncond, self.guidance, self._path.num_train_steps)
        rows = {name: jnp.asarray(col, jnp.float32) for name, col in self.rows().items()}
        batch = noise.shape[0]

        def body(state: State, step: tuple) -> tuple[State, Array | None]:
            index, row, extra = step
            pred = model(row["scale"] * state.x, jnp.full((batch,), row["t"]))
            if extra is None:
                extra = self._draw(rng, index, state.x)
            state = self.step(state, pred, row, extra)
            return state, state.x if with_trajectory else None

        first = self.init(noise)
        last, states = jax.lax.scan(body, first, (jnp.arange(self.num_steps), rows, step_noise))
        if states is None:
            return last.x
        return last.x, jnp.concatenate([first.x[None], states])

    def _draw(self, rng: jax.Array | None, index: Array, like: Array) -> Array:
        if not self.stochastic or rng is None:
            return jnp.zeros((), jnp.float32)
        return jax.random.normal(jax.random.fold_in(rng, index), like.shape, jnp.float32)

    @property
    def _path(self) -> Discrete | Flow:
        return get_schedule(self.schedule)


def sample(
    name: str,
    denoise: Callable[..., Array],
    noise: Array,
    *,
    num_steps: int,
    schedule: ScheduleLike,
    prediction: str,
    spacing: str,
    rng: jax.Array | None = None,
    step_noise: Array | None = None,
) -> Array:
    """Samples once with a condition already bound; the stable entry point.

    Args:
      name: "ddim", "ddpm", "euler", "euler_ancestral", "dpmpp_2m" or "flow_euler".
      denoise: `denoise(x_t, t)`, with the unit-variance input x_t (b, ...) float32 and t (b,)
        float32; a function that requires a third argument is given None as its condition.
      noise: (b, ...) standard normal noise to start from, any layout.
      num_steps: network calls, 1 to 1,000.
      schedule: a `Schedule`, or "linear", "linear_zero_snr", "scaled_linear",
        "scaled_linear_zero_snr", "flow".
      prediction: "eps", "v", "x0" or "flow".
      spacing: "trailing" or "leading".
      rng: key for the noise of "ddpm" and "euler_ancestral".
      step_noise: (num_steps, b, ...) noise to use in place of draws from `rng`.

    Returns:
      The clean latent, float32, of the shape of `noise`.

    Raises:
      ValueError: an unknown name, a combination that has no meaning, or no `rng` where needed.
    """
    sampler = Sampler(name, num_steps, schedule, prediction, spacing)
    takes_cond = _num_required(denoise) >= 3
    call = denoise if takes_cond else lambda x, t, cond: denoise(x, t)
    return sampler(call, rng, noise, step_noise=step_noise)  # type: ignore[return-value]


def _num_required(fn: Callable[..., Any]) -> int:
    """Number of positional arguments without default; 2 where Python cannot tell."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except ValueError:
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


# --- Tables ---


def _ddim_rows(schedule: Discrete, num_steps: int, spacing: str) -> Rows:
    """x <- a' x0 + b' (x - a x0) / b, with a', b' at t - 1000 // N, not at the next listed time."""
    t, alpha_bar, before = _chain(schedule, num_steps, spacing)
    alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)
    keep = np.sqrt(1.0 - before) / sigma
    return _rows(t, alpha, sigma, keep=keep, new=np.sqrt(before) - keep * alpha)


def _ddpm_rows(schedule: Discrete, num_steps: int, spacing: str) -> Rows:
    """Mean and standard deviation of q(x' | x, x0), over the stride 1000 // N."""
    t, alpha_bar, before = _chain(schedule, num_steps, spacing)
    ratio = alpha_bar / before
    keep = np.sqrt(ratio) * (1.0 - before) / (1.0 - alpha_bar)
    new = np.sqrt(before) * (1.0 - ratio) / (1.0 - alpha_bar)
    variance = np.maximum((1.0 - before) / (1.0 - alpha_bar) * (1.0 - ratio), 1e-20)
    noise = np.where(t > 0, np.sqrt(variance), 0.0)
    return _rows(t, np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), keep=keep, new=new, noise=noise)


def _euler_rows(
    schedule: Discrete, num_steps: int, spacing: str, *, ancestral: bool = False
) -> Rows:
    """x <- x + (x - x0) / s (down - s) [+ up n], with s = sigma / alpha; plain: down = s'."""
    t, ratio = _ratios(schedule, schedule.grid(num_steps, spacing))
    now, following = ratio, np.append(ratio[1:], 0.0)
    up = np.sqrt(following**2 * (now**2 - following**2) / now**2) if ancestral else 0.0 * now
    keep = np.sqrt(following**2 - up**2) / now
    alpha = 1.0 / np.sqrt(now**2 + 1.0)
    return _rows(t, alpha, now * alpha, scale=alpha, keep=keep, new=1.0 - keep, noise=up)


def _dpmpp_2m_rows(schedule: Discrete | Flow, num_steps: int, spacing: str) -> Rows:
    """Second order in log(alpha / sigma); the first step and the last one are of first order."""
    if isinstance(schedule, Flow):
        t = schedule.grid(num_steps, spacing)
        sigma = t / schedule.num_train_steps
        alpha = 1.0 - sigma
    else:
        t, ratio = _ratios(schedule, _dpm_grid(schedule, num_steps, spacing))
        alpha = 1.0 / np.sqrt(ratio**2 + 1.0)
        sigma = ratio * alpha
    alpha_next, sigma_next = np.append(alpha[1:], 1.0), np.append(sigma[1:], 0.0)
    keep = sigma_next / sigma
    new = alpha_next - keep * alpha
    with np.errstate(divide="ignore"):
        log_snr = np.log(alpha) - np.log(sigma)
    half = np.zeros(num_steps)  # 0.5 / r, with r the ratio of the last step to this one
    if num_steps > 2:
        steps = np.diff(log_snr)  # (n - 1,), from row i to row i + 1
        half[1:-1] = 0.5 * steps[1:] / steps[:-1]
    return _rows(t, alpha, sigma, keep=keep, new=new * (1.0 + half), old=-new * half)


def _flow_rows(schedule: Flow, num_steps: int, spacing: str) -> Rows:
    """x <- x + (s' - s) (noise - x0), written with noise - x0 = (x - x0) / s."""
    t = schedule.grid(num_steps, spacing)
    s = t / schedule.num_train_steps
    keep = np.append(s[1:], 0.0) / s
    return _rows(t, 1.0 - s, s, keep=keep, new=1.0 - keep)


def _rows(t: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, **columns: np.ndarray) -> Rows:
    defaults = {"scale": np.ones(len(t)), "old": np.zeros(len(t)), "noise": np.zeros(len(t))}
    return {"t": t, "alpha": alpha, "sigma": sigma, **defaults, **columns}


def _chain(
    schedule: Discrete, num_steps: int, spacing: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = schedule.grid(num_steps, spacing)
    before = t.astype(int) - schedule.num_train_steps // num_steps
    table = schedule.alpha_bar
    return t, table[t.astype(int)], np.where(before >= 0, table[np.maximum(before, 0)], 1.0)


def _ratios(schedule: Discrete, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times, and sigma / alpha there."""
    alpha_bar = np.maximum(schedule.alpha_bar[t.astype(int)], _SMALLEST_ALPHA_BAR)
    return t, np.sqrt((1.0 - alpha_bar) / alpha_bar)


def _dpm_grid(schedule: Discrete, num_steps: int, spacing: str) -> np.ndarray:
    """The schedule's grid, but "leading" drops time 0 and spreads over N + 1 strides instead."""
    if spacing != "leading":
        return schedule.grid(num_steps, spacing)
    grid = schedule.grid(num_steps, spacing)
    stride = schedule.num_train_steps // (num_steps + 1)
    if stride == 0:
        raise ValueError(f"num_steps is {num_steps}; leading dpmpp_2m allows at most 999.")
    return (np.arange(len(grid), 0, -1) * stride).astype(np.float64)


def _unit_init(rows: Rows, spacing: str) -> float:
    return 1.0


def _euler_init(rows: Rows, spacing: str) -> float:
    """Largest sigma / alpha; "leading" grids start below full noise and count the data as well."""
    largest = float((rows["sigma"] / rows["alpha"]).max())
    return largest if spacing == "trailing" else (largest**2 + 1.0) ** 0.5


@dataclasses.dataclass(frozen=True)
class Method:
    """Entry of `SAMPLERS`: how to make the table and the first state."""

    rows: Callable[..., Rows]
    schedules: tuple[type, ...]
    stochastic: bool = False
    init_scale: Callable[[Rows, str], float] = _unit_init


SAMPLERS: dict[str, Method] = {
    "ddim": Method(_ddim_rows, (Discrete,)),
    "ddpm": Method(_ddpm_rows, (Discrete,), stochastic=True),
    "euler": Method(_euler_rows, (Discrete,), init_scale=_euler_init),
    "euler_ancestral": Method(
        functools.partial(_euler_rows, ancestral=True), (Discrete,), stochastic=True,
        init_scale=_euler_init,
    ),
    "dpmpp_2m": Method(_dpmpp_2m_rows, (Discrete, Flow)),
    "flow_euler": Method(_flow_rows, (Flow,)),
}  # fmt: skip
