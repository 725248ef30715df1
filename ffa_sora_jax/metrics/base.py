"""The contract of all metrics: `init`, `update`, `merge`, `compute`.

A metric is a frozen dataclass; what it has seen is a state apart from it. `merge` is associative
and commutative with `init()` as identity, so a metric can run in parts (batches, devices, hosts)
in any order, and go on where it stopped:

    state = metric.init()
    for sample, reference in batches:
        state = metric.update(state, sample, reference)
    scores = metric.compute(state)

The state is a `Table`: one row per clip, kept by key and read in the order of the keys, so the laws
hold bit for bit, and the rows can be stored, resumed and resampled. Three bases share it. They
differ in what a row is made of: a pair of clips (`PerClip`), one clip (`OfSets`: the value compares
two sets of rows), or a text beside a clip or another text (`OfTexts`).
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from ffa_sora_jax.common.types import AnyArray, Clip


@dataclasses.dataclass(frozen=True)
class Table:
    """One row per clip, on the host, always in the order of the keys.

    Attributes:
      keys: n different keys, sorted.
      rows: (n, ...) float32, one row per key.
    """

    keys: tuple[str, ...] = ()
    rows: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))

    @classmethod
    def empty(cls) -> "Table":
        """The table that has seen nothing."""
        return cls()

    @classmethod
    def of(cls, keys: Iterable[str], rows: Any) -> "Table":
        """The table of these rows, in any order.

        Raises:
          ValueError: numbers of keys and rows differ, or a key comes twice with other values.
        """
        keys, rows = tuple(keys), np.asarray(rows, np.float32)
        if rows.ndim < 1 or len(keys) != len(rows):
            raise ValueError(f"{len(keys)} keys for rows of shape {rows.shape}; expected one each.")
        place: dict[str, int] = {}
        for index, key in enumerate(keys):
            first = place.setdefault(key, index)
            if not np.array_equal(rows[first], rows[index], equal_nan=True):
                raise ValueError(
                    f"Clip {key!r} has two different rows. Keys name clips: give every clip its "
                    "own, and measure it with one set of weights and settings."
                )
        order = [place[key] for key in sorted(place)]
        return cls(tuple(sorted(place)), rows[order])

    def add(self, keys: Iterable[str], rows: Any) -> "Table":
        """The table with `rows` (b, ...) of `keys` besides."""
        return self.merge(Table.of(keys, rows))

    def merge(self, other: "Table") -> "Table":
        """The rows of both; a key in both must have the same row.

        Raises:
          ValueError: shapes of rows differ, or a key has two different rows.
        """
        if not self.keys or not other.keys:
            return self if self.keys else other
        if self.rows.shape[1:] != other.rows.shape[1:]:
            raise ValueError(
                f"Rows of shape {self.rows.shape[1:]} and {other.rows.shape[1:]} are of different "
                "metrics, or of clips of different length; they cannot be merged."
            )
        return Table.of(self.keys + other.keys, np.concatenate([self.rows, other.rows]))

    def __len__(self) -> int:
        return len(self.keys)


@dataclasses.dataclass(frozen=True)
class Sets:
    """The state of a metric that compares two sets.

    Attributes:
      sample: rows of the samples.
      reference: rows of the references.
    """

    sample: Table = dataclasses.field(default_factory=Table)
    reference: Table = dataclasses.field(default_factory=Table)


class Metric(abc.ABC):
    """What evaluation asks of a metric; subclasses are frozen dataclasses and set these.

    Attributes:
      name: key of its main value.
      higher_is_better: direction.
      value_range: (lowest, highest) possible value.
      host: the rows are computed by numpy and the like: not jitted, clip by clip.
      of_sample: the main value is of the sample alone, the reference only stands beside it.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    value_range: ClassVar[tuple[float, float]]
    host: ClassVar[bool] = False
    of_sample: ClassVar[bool] = False

    @abc.abstractmethod
    def init(self) -> Any:
        """The state that has seen nothing."""

    @abc.abstractmethod
    def update(self, state: Any, sample: Any, reference: Any = None, params: Any = None) -> Any:
        """The state after one batch; `params` are those of a feature network, if it has one."""

    @abc.abstractmethod
    def merge(self, a: Any, b: Any) -> Any:
        """The state that has seen what `a` and `b` have seen."""

    @abc.abstractmethod
    def compute(self, state: Any) -> dict[str, float]:
        """Values by name, on the host."""


class _OfRows(Metric):
    """What the bases with one row per sample have in common."""

    @abc.abstractmethod
    def value(self, rows: np.ndarray) -> dict[str, float]:
        """Values of rows (n, ...), computed in float64, whatever their order; n at least 1."""

    def init(self) -> Table:
        """The state that has seen nothing."""
        return Table.empty()

    def merge(self, a: Table, b: Table) -> Table:
        """The state that has seen both."""
        return a.merge(b)

    def compute(self, state: Table) -> dict[str, float]:
        """Values by name; NaN under `name` if nothing was seen."""
        return self.value(state.rows) if state.keys else {self.name: float("nan")}


class PerClip(_OfRows):
    """Base of metrics with one row per (sample, reference) pair, such as PSNR and LPIPS.

    `Clip.exam` of the sample is the key of a row.
    """

    @abc.abstractmethod
    def measure(self, sample: Clip, reference: Clip | None, params: Any) -> AnyArray:
        """Rows (b, ...) float32 of clips in [-1, 1]; pure, jit-compatible, b in order."""

    def update(
        self, state: Table, sample: Clip, reference: Clip | None = None, params: Any = None
    ) -> Table:
        """The state after a batch (b, t, h, w, c) in [-1, 1] with `exam` (b,); runs jitted."""
        keys = clip_keys(sample)
        measure = self.measure if self.host else jitted(self, "measure")
        return state.add(keys, measure(sample, reference, params))


class OfSets(Metric):
    """Base of metrics that compare the features of two sets, such as FVD and Recall@K.

    `Clip.exam` of either clip is the key of its row.

    Attributes:
      paired: row i of the samples belongs to row i of the references.
    """

    paired: ClassVar[bool] = False

    @abc.abstractmethod
    def features(self, clip: Clip, params: Any) -> AnyArray:
        """Rows (b, ...) float32 of clips in [-1, 1]; pure, jit-compatible."""

    @abc.abstractmethod
    def value(self, sample: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """Values of two sets of features (n, ...) and (m, ...), computed in float64.

        Metrics that pair the rows take them in the order given and need n = m.
        """

    def per_sample(self, sample: np.ndarray, reference: np.ndarray) -> np.ndarray | None:
        """(n,) shares of the samples in the value, whose mean it is; None where it has none."""
        return None

    def init(self) -> Sets:
        """The state that has seen nothing."""
        return Sets()

    def update(
        self,
        state: Sets,
        sample: Clip | None,
        reference: Clip | None = None,
        params: Any = None,
    ) -> Sets:
        """The state after batches (b, t, h, w, c) in [-1, 1], either of which may be None."""
        features = self.features if self.host else jitted(self, "features")
        sides = [
            table if clip is None else table.add(clip_keys(clip), features(clip, params))
            for table, clip in ((state.sample, sample), (state.reference, reference))
        ]
        return Sets(*sides)

    def merge(self, a: Sets, b: Sets) -> Sets:
        """The state that has seen both."""
        return Sets(a.sample.merge(b.sample), a.reference.merge(b.reference))

    def compute(self, state: Sets) -> dict[str, float]:
        """Values by name; NaN under `name` if either set is empty."""
        if not state.sample.keys or not state.reference.keys:
            return {self.name: float("nan")}
        return self.value(state.sample.rows, state.reference.rows)


class OfTexts(_OfRows):
    """Base of metrics of a text beside another text (BERTScore) or a clip (CLIPScore, VQAScore).

    Attributes:
      against: "text" or "clip", what `measure` takes beside the texts.
    """

    against: ClassVar[str]

    def setup(self, params: Any, references: Sequence[str]) -> Any:
        """Parameters that also hold what depends on all references, such as idf weights."""
        return params

    @abc.abstractmethod
    def measure(self, texts: Sequence[str], against: Sequence[str] | Clip, params: Any) -> Any:
        """Rows (b, ...) float32; tokenises on the host, runs its network jitted.

        Args:
          texts: b candidate reports (against "text"), or the b prompts (against "clip").
          against: the b reference reports, or a Clip (b, t, h, w, c) in [-1, 1].
          params: what the registry loaded: networks, tokenizers, and what `setup` added.
        """

    def update(
        self,
        state: Table,
        sample: dict[str, str],
        reference: dict[str, str] | Clip | None = None,
        params: Any = None,
    ) -> Table:
        """The state after a batch.

        Args:
          state: the state before.
          sample: texts by key.
          reference: reference texts by the same keys, or a Clip in the order of `sample`.
          params: see `measure`.
        """
        if reference is None:
            raise ValueError(f"{self.name} compares a text with a {self.against}; none was given.")
        against = reference if isinstance(reference, Clip) else [reference[k] for k in sample]
        return state.add(sample, self.measure(list(sample.values()), against, params))


def clip_keys(clip: Clip) -> tuple[str, ...]:
    """Keys of the clips of a batch, from `exam`.

    Raises:
      ValueError: the batch has no `exam`.
    """
    if clip.exam is None:
        raise ValueError(
            "Clip.exam is None. Metrics keep one row per clip: give every clip a number of its own "
            "in exam (b,) int64."
        )
    return tuple(str(int(number)) for number in np.asarray(clip.exam))


@functools.cache
def jitted(metric: Any, method: str) -> Callable[..., Any]:
    """A method of a metric, compiled once; `exam` (int64) stays on the host."""
    compiled = jax.jit(getattr(metric, method))

    def call(*args: Any) -> Any:
        return compiled(*(a.replace(exam=None) if isinstance(a, Clip) else a for a in args))

    return call
