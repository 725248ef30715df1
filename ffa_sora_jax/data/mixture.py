"""Several datasets in one stream of training clips, by weight, as a function of the position.

Position p of the stream belongs to a dataset, and is that dataset's n-th clip so far; both follow
from (weights, seed, p) alone, so that resuming replays nothing. Positions come in blocks; in the
first m blocks a dataset with share s of the weights has s * m * block clips, give or take one,
and inside a block the datasets take turns in random order.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

MIN_SHARE = 1e-4  # of the weights
_MIN_BLOCK = 64
_TURNS = 7  # stream of random numbers; those of `data.pipeline` are smaller


def read_weights(value: Sequence[Any]) -> tuple[tuple[str, float], ...]:
    """`config.data.mixture`: pairs of a dataset's name and its weight.

    Raises:
      ValueError: malformed, a dataset named twice, or a weight that is too small.
    """
    wrong = ValueError(
        f"data.mixture is {value!r}; it must be pairs of a dataset and its weight, such as "
        "(('phantom/64', 1.0), ('hospital_exams/64', 3.0))."
    )
    pairs = []
    for item in value:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise wrong
        name, weight = item
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not isinstance(name, str) or not number or not math.isfinite(weight):
            raise wrong
        pairs.append((name, float(weight)))
    found = [name for name, _ in pairs]
    if len(set(found)) < len(found):
        raise ValueError(f"data.mixture names a dataset twice: {', '.join(found)}.")
    total = sum(weight for _, weight in pairs)
    for name, weight in pairs:
        if weight <= 0 or weight < MIN_SHARE * total:
            raise ValueError(
                f"The weight of {name} in data.mixture is {weight:g} of {total:g}; it must be "
                f"positive and at least {MIN_SHARE:g} of the sum. Leave the dataset out?"
            )
    return tuple(pairs)


class Mixture:
    """Which dataset every position of the stream belongs to."""

    def __init__(self, weights: Sequence[float], seed: int):
        """Takes positive weights; only their proportions count."""
        exact = [Fraction(weight) for weight in weights]
        total = sum(exact)
        self._bounds = [sum(exact[:k], Fraction(0)) / total for k in range(len(exact) + 1)]
        self._seed = seed
        # At least one clip per block is due to every dataset, so that no count ever falls.
        self._block = max(_MIN_BLOCK, math.ceil(1 / min(weight / total for weight in exact)))
        self._turns = functools.lru_cache(maxsize=8)(self._make_turns)

    def place(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The dataset of every position, and how many clips of it came before.

        Args:
          positions: (b,) int64 positions in the stream.

        Returns:
          part (b,) int64 and number (b,) int64.
        """
        blocks, offsets = np.divmod(positions, self._block)
        part, number = np.empty_like(positions), np.empty_like(positions)
        for block in np.unique(blocks):
            here = blocks == block
            parts, numbers = self._turns(int(block))
            part[here], number[here] = parts[offsets[here]], numbers[offsets[here]]
        return part, number

    def _make_turns(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        before, after = (self._counts((block + k) * self._block) for k in (0, 1))
        order = np.repeat(np.arange(len(before)), after - before)
        chance = np.random.default_rng(np.random.SeedSequence([self._seed, block, _TURNS]))
        order = chance.permutation(order)
        number = np.empty_like(order)
        for part, count in enumerate(before):
            mine = order == part
            number[mine] = count + np.arange(mine.sum())
        return order, number

    def _counts(self, position: int) -> np.ndarray:
        """(parts,) int64 clips of every dataset before a position; whole numbers, exactly."""
        edges = [math.floor(position * bound) for bound in self._bounds]
        return np.diff(np.array(edges, np.int64))
