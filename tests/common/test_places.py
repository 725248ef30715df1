"""Places spread over a sequence."""

import numpy as np
import pytest

from ffa_sora_jax.common.places import evenly


@pytest.mark.parametrize(("given", "wanted"), [(21, 16), (21, 7), (100, 60), (5, 2)])
def test_places_are_all_different_and_as_even_as_whole_numbers_allow(given, wanted):
    places = evenly(given, wanted)
    assert places[0] == 0 and places[-1] == given - 1 and len(places) == wanted
    gaps = np.diff(places)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_all_of_them_more_of_them_and_one_of_them():
    assert evenly(21, 21).tolist() == list(range(21))
    assert evenly(3, 5).tolist() == [0, 0, 1, 2, 2]
    assert evenly(9, 1).tolist() == [0]
