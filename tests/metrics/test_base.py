"""Tables of rows, and the three bases that keep them."""

import dataclasses

import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics.base import OfTexts, PerClip, Sets, Table
from tests.metrics.toys import Shift


@dataclasses.dataclass(frozen=True)
class Brightness(PerClip):
    name, higher_is_better, value_range = "brightness", True, (-2.0, 2.0)

    def measure(self, sample, reference, params):
        assert reference is not None
        return (sample.video - reference.video).mean((1, 2, 3, 4))

    def value(self, rows):
        return {self.name: float(rows.mean(dtype=np.float64))}


@dataclasses.dataclass(frozen=True)
class SameLength(OfTexts):
    name, higher_is_better, value_range, against = "same_length", True, (0.0, 1.0), "text"

    def measure(self, texts, against, params):
        return np.array([len(a) == len(b) for a, b in zip(texts, against, strict=True)])

    def value(self, rows):
        return {self.name: float(rows.mean())}


def clip(numbers, offset=0.0):
    video = np.stack([np.full((2, 4, 4, 1), 0.1 * n + offset, np.float32) for n in numbers])
    return Clip(video=video, exam=np.array(numbers))


def test_a_table_is_read_in_the_order_of_its_keys():
    table = Table.empty().add(["b", "a"], [[2.0], [1.0]]).add(["c"], [[3.0]])
    assert table.keys == ("a", "b", "c") and table.rows[:, 0].tolist() == [1, 2, 3]
    assert table.rows.dtype == np.float32 and len(table) == 3


def test_the_same_row_twice_counts_once_and_a_contradiction_is_an_error():
    table = Table.of(["a", "b"], [1.0, np.nan])
    assert len(table.merge(table)) == 2
    with pytest.raises(ValueError, match="'a' has two different rows"):
        table.add(["a"], [5.0])


def test_tables_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="2 keys for rows"):
        Table.of(["a", "b"], [[1.0]])
    with pytest.raises(ValueError, match="cannot be merged"):
        Table.of(["a"], [[1.0]]).add(["b"], [[1.0, 2.0]])


def test_pairs():
    metric = Brightness()
    state = metric.update(metric.init(), clip([1, 5]), clip([1, 5], offset=-0.25))
    assert state.keys == ("1", "5")
    assert metric.compute(state)["brightness"] == pytest.approx(0.25)


def test_sides_of_a_set_metric_may_come_apart():
    metric = Shift()
    state = metric.update(metric.init(), clip([1, 2]))
    state = metric.merge(metric.update(Sets(), None, clip([4, 5])), state)
    assert state.sample.keys == ("1", "2") and state.reference.keys == ("4", "5")
    assert metric.compute(state)["shift"] == pytest.approx(0.3, abs=1e-6)


def test_texts_are_paired_by_key():
    metric = SameLength()
    state = metric.update(metric.init(), {"a": "xy", "b": "x"}, {"b": "y", "a": "z"})
    assert state.keys == ("a", "b") and metric.compute(state)["same_length"] == 0.5
    with pytest.raises(ValueError, match="compares a text with a text"):
        metric.update(state, {"a": "x"})


@pytest.mark.parametrize("metric", [Brightness(), Shift(), SameLength()], ids=lambda m: m.name)
def test_nothing_seen_is_not_a_number(metric):
    assert np.isnan(metric.compute(metric.init())[metric.name])


def test_clips_without_a_number_are_refused():
    with pytest.raises(ValueError, match=r"Clip\.exam is None"):
        Brightness().update(Table.empty(), clip([1]).replace(exam=None), clip([1]))


def test_large_numbers_stay_whole():
    """Hashes of exams have 63 bits; a device would cut them to 32."""
    number = 2**62 + 12345
    state = Brightness().update(Table.empty(), clip([number]).replace(video=clip([1]).video),
                                clip([1]))  # fmt: skip
    assert state.keys == (str(number),)
