"""The contract of all metrics: `init`, `update`, `merge`, `compute`.

A metric is a frozen dataclass; what it has seen is a state apart from it. `merge` is associative
and commutative with `init()` as identity, so a metric can run in parts (batches, devices, hosts)
in any order, and go on where it stopped:

    state = metric.init()
    for sample, reference in batches:
        state = metric.update(state, sample, reference)
    scores = metric.compute(state)
"""

from typing import Any, Protocol

import flax.struct
import jax.numpy as jnp

from ffa_sora_jax.common.types import Array, Clip


class Metric(Protocol):
    """What evaluation asks of a metric.

    Attributes:
      name: key of its main value.
      higher_is_better: direction.
      value_range: (lowest, highest) possible value.
    """

    @property
    def name(self) -> str:
        """Key of the main value."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Direction."""
        ...

    @property
    def value_range(self) -> tuple[float, float]:
        """Lowest and highest possible value."""
        ...

    def init(self) -> Any:
        """The state that has seen nothing."""
        ...

    def update(
        self, state: Any, sample: Clip, reference: Clip | None = None, params: Any = None
    ) -> Any:
        """The state after one batch; `params` are those of a feature network, if it has one."""
        ...

    def merge(self, a: Any, b: Any) -> Any:
        """The state that has seen what `a` and `b` have seen."""
        ...

    def compute(self, state: Any) -> dict[str, float]:
        """Values by name, on the host."""
        ...


@flax.struct.dataclass
class MeanState:
    """Sum and number of the values seen.

    Attributes:
      total: () float32 sum.
      count: () float32 number of values.
    """

    total: Array
    count: Array

    @classmethod
    def empty(cls) -> "MeanState":
        """The state that has seen nothing."""
        return cls(total=jnp.zeros((), jnp.float32), count=jnp.zeros((), jnp.float32))

    def add(self, values: Array, where: Array | bool = True) -> "MeanState":
        """Adds those `values` for which `where` is True."""
        keep = jnp.broadcast_to(jnp.asarray(where), values.shape)
        return MeanState(
            total=self.total + jnp.where(keep, values, 0.0).sum(dtype=jnp.float32),
            count=self.count + keep.sum(dtype=jnp.float32),
        )

    def merge(self, other: "MeanState") -> "MeanState":
        """Sums of both."""
        return MeanState(total=self.total + other.total, count=self.count + other.count)

    def mean(self) -> float:
        """Mean of the values seen; NaN if there were none."""
        count = float(self.count)
        return float(self.total) / count if count else float("nan")
