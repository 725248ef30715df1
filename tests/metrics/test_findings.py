"""Named and read findings: constructed rows, and a few phantoms end to end."""

import numpy as np
import pytest

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.metrics.findings import FindingsRead, FindingsSaid, row
from ffa_sora_jax.metrics.gray import nominal_times
from ffa_sora_jax.metrics.wording import named
from ffa_sora_jax.phantom import generate, oracle
from ffa_sora_jax.phantom.oracle_rules import CLASSES

METRIC = FindingsRead()
DISEASES = ("brvo", "npdr_severe", "csc", "normal", "crvo", "cmo")


@pytest.fixture(scope="module")
def batch():
    exams = [generate(741, i, 128, "full", disease=d) for i, d in enumerate(DISEASES)]
    video = np.stack([e.video for e in exams])[..., None].astype(np.float32) / 127.5 - 1
    return [e.report for e in exams], Clip(video=video)


def rows_of(*pairs):
    """Rows from (classes named, classes read, eye named, eye read), at 256 px."""
    return np.array(
        [
            [*(float(c in said) for c in CLASSES), *(float(c in seen) for c in CLASSES), *eyes, 256]
            for said, seen, *eyes in pairs
        ],
        np.float32,
    )


def test_value_counts_hits_misses_and_inventions():
    rows = rows_of(
        ({"leak", "delay"}, {"leak"}, 1, 1),
        ({"leak"}, {"leak", "window"}, 0, 1),
        (set(), {"window"}, -1, 0),
    )
    value = METRIC.value(rows)
    assert value["precision"] == pytest.approx(2 / 4)
    assert value["recall"] == pytest.approx(2 / 3)
    assert value["findings_f1"] == pytest.approx(4 / 7)
    assert value["f1.leak"] == 1 and value["f1.delay"] == 0 and value["f1.window"] == 0
    assert "f1.pooling" not in value
    assert value["laterality"] == 0.5
    assert 0.9 < value["ceiling"] <= 1
    small = METRIC.value(np.where(np.arange(rows.shape[1]) == rows.shape[1] - 1, 64, rows))
    assert small["ceiling"] < value["ceiling"]  # small pictures show less


def test_two_reports_are_compared_by_what_they_name():
    metric = FindingsSaid()
    true = ["Right eye: leakage, microaneurysms.", "Left eye. No leakage.", "window defect"]
    said = ["right eye. leakage; no microaneurysms", "right eye: haemorrhage", "Left eye: drusen"]
    state = metric.update(metric.init(), dict(enumerate(said)), dict(enumerate(true)))
    value = metric.compute(state)
    # Named: leak, microaneurysms | | window; written: leak | blocked | window, stain (drusen).
    assert value["recall"] == pytest.approx(2 / 3) and value["precision"] == pytest.approx(2 / 4)
    assert value["report_findings_f1"] == pytest.approx(4 / 7)
    assert value["f1.leak"] == 1 and value["f1.microaneurysms"] == 0 == value["f1.blocked"]
    assert value["laterality"] == 0.5  # of the two references that name an eye
    assert "pooling" not in str(value)
    same = metric.value(metric.measure(true, true))
    assert same["report_findings_f1"] == same["laterality"] == 1
    with pytest.raises(ValueError, match="3 reports, 2 references"):
        metric.measure(said, true[:2])


def test_phantoms_score_near_the_ceiling_and_strangers_far_below(batch):
    reports, clips = batch
    own = METRIC.value(METRIC.measure(reports, clips))
    others = METRIC.value(METRIC.measure(reports[1:] + reports[:1], clips))
    assert own["findings_f1"] > 0.8 and own["laterality"] == 1
    assert others["findings_f1"] < own["findings_f1"] - 0.2


def test_noise_shows_less_of_the_report(batch):
    reports, clips = batch
    rng = np.random.default_rng(0)
    noise = Clip(video=rng.uniform(-1, 1, clips.video.shape).astype(np.float32))
    assert METRIC.value(METRIC.measure(reports, noise))["findings_f1"] < 0.7


def test_states_merge_to_the_whole(batch):
    reports, clips = batch
    texts = dict(zip("abcdef", reports, strict=True))
    whole = METRIC.update(METRIC.init(), texts, clips)
    half = METRIC.init()
    for part in (slice(0, 2), slice(2, 6)):
        some = dict(list(texts.items())[part])
        half = METRIC.merge(METRIC.update(METRIC.init(), some, Clip(clips.video[part])), half)
    assert METRIC.compute(whole) == METRIC.compute(half)
    assert METRIC.compute(METRIC.merge(METRIC.init(), whole)) == METRIC.compute(whole)


def test_row_says_who_named_what():
    exam = generate(742, 0, 128, "full", disease="brvo", eye="left")
    reading = oracle.read_findings(exam.video, exam.times_s)
    made = row(named("No leakage is seen. Microaneurysms."), reading, 128)
    k = len(CLASSES)
    assert made[CLASSES.index("microaneurysms")] == 1 and made[CLASSES.index("leak")] == 0
    assert made[2 * k] == -1 and made[2 * k + 1] == float(reading.eye == "right")
    assert made[2 * k + 2] == 128 and len(made) == 2 * k + 3
    assert list(made[k : 2 * k]) == [float(reading.findings[c]) for c in CLASSES]


def test_times_of_the_clip_are_used(batch):
    reports, clips = batch
    one = Clip(video=clips.video[:1])
    usual = METRIC.measure(reports[:1], one)
    same = METRIC.measure(reports[:1], one.replace(times_s=nominal_times(21)[None]))
    late = METRIC.measure(reports[:1], one.replace(times_s=nominal_times(21)[None] + 400))
    np.testing.assert_array_equal(usual, same)
    assert (late != usual).any()


def test_what_is_missing_is_said(batch):
    reports, clips = batch
    with pytest.raises(ValueError, match="none were given"):
        METRIC.measure(reports, None)
    with pytest.raises(ValueError, match="2 prompts for 6 clips"):
        METRIC.measure(reports[:2], clips)
