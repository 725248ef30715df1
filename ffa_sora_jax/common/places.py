"""Places in a sequence."""

import numpy as np


def evenly(given: int, wanted: int) -> np.ndarray:
    """(wanted,) int64 places among `given`, nearest to even steps from the first to the last."""
    return np.rint(np.linspace(0, given - 1, wanted)).astype(np.int64)
