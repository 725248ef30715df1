import numpy as np
import pytest

from benchmarks import reading
from ffa_sora_jax.metrics.findings import FindingsSaid, said_row
from ffa_sora_jax.metrics.wording import Named


def says(*classes, eye="left"):
    return Named(eye, frozenset(classes), ())


def test_scores_by_hand():
    true = [says("leak", "stain"), says("delay", eye="right"), says()]
    said = [says("leak"), says("delay", "leak"), says("blocked", eye="right")]
    row = reading.scores(true, said)
    # Two hits; four classes said, three there.
    assert row["precision"] == 0.5 and row["recall"] == pytest.approx(2 / 3)
    assert row["f1"] == pytest.approx(4 / 7)
    assert row["laterality"] == pytest.approx(1 / 3) and row["same_set"] == 0.0
    assert row["by_class"]["leak"] == {"n": 1, "f1": pytest.approx(2 / 3)}
    assert row["by_class"]["cystoid"] == {"n": 0, "f1": 0.0}
    assert row["f1_interval"][0] <= row["f1"] <= row["f1_interval"][1]
    perfect = reading.scores(true, true)
    assert perfect["f1"] == perfect["same_set"] == perfect["laterality"] == 1.0


def test_the_best_fixed_set_beats_every_other():
    rng = np.random.default_rng(0)
    chance = np.linspace(0.05, 0.7, len(reading.CLASSES))
    prior = [says(*np.array(reading.CLASSES)[rng.random(len(chance)) < chance]) for _ in range(60)]
    best = reading.best_fixed_set(prior)

    def f1(fixed):
        rows = np.stack([said_row(report, says(*fixed)) for report in prior])
        return FindingsSaid().value(rows)["report_findings_f1"]

    assert all(f1(best ^ {name}) <= f1(best) for name in reading.CLASSES)
