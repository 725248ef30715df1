import dataclasses
import json

import numpy as np
import pytest

from ffa_sora_jax.privacy import disturb, membership, page, verdict
from ffa_sora_jax.privacy.audit import NoMemory, Options, Subject, gather, num_steps
from tests.privacy.eyes import changed, subject, subjects

TRAIN, OTHER, MADE = 71, 72, 73  # populations
OPTIONS = Options(controls=12)


@pytest.fixture(scope="module")
def sides():
    train = [*subjects(TRAIN, 20), *(subject(TRAIN, i, visit=1) for i in range(3))]
    return train, subjects(OTHER, 16)


@pytest.fixture(scope="module")
def memory():
    """Traces and scores are shared between the audits of this file, as on disk."""

    class Shared(NoMemory):
        def __init__(self):
            self.kept = {}

        def trace(self, key, make):
            if key not in self.kept:
                self.kept[key] = make()
            return self.kept[key]

        scores = trace

    return Shared()


@pytest.fixture(scope="module")
def clean(sides, memory):
    """Clips that are like the training data and copy nothing."""
    made = subjects(MADE, 12)
    steps = []
    evidence = gather(made, *sides, OPTIONS, memory, lambda: steps.append(1))
    expected = num_steps(made, *sides, OPTIONS)
    assert abs(len(steps) - expected) <= 5
    return evidence


def test_clean_clips_are_at_chance(clean):
    report = verdict.conclude(clean, OPTIONS)
    assert report["verdict"] == verdict.CLEAN, report["reasons"]
    assert report["counts"]["match"] == 0 and report["counts"]["clean"] == 12
    for share in report["nearness"]["grey+vessels"]["train_share"]:
        assert share["low"] <= share["value"] <= share["high"]
        assert share["chance"] == pytest.approx(20 / 36, abs=0.01)  # of patients
    ratio = report["nearness"]["grey+vessels"]["distance_ratio"]
    assert ratio["chance_interval"][0] < ratio["value"] < ratio["chance_interval"][1]
    low, high = ratio["nearer_chance_interval"]
    assert low < 0.5 < high and low < ratio["nearer_to_train"] < high
    json.dumps(report)


def test_planted_copies_of_every_kind_are_controls(clean):
    controls = verdict.conclude(clean, OPTIONS)["controls"]
    assert set(controls["by_disturbance"]) == set(disturb.DISTURBANCES)
    assert controls["planted_copies"]["hits"] == controls["planted_copies"]["count"] == 12
    assert controls["planted_copies"]["interval"] == pytest.approx([0.7354, 1.0], abs=1e-3)
    assert controls["holdout_called_match"]["hits"] == 0
    assert controls["other_visits"]["hits"] == controls["other_visits"]["count"] == 3


def test_copies_among_generated_clips_are_found_and_named(sides, memory):
    kinds = list(disturb.DISTURBANCES)
    planted = [
        changed(TRAIN, 5 + i, disturb.DISTURBANCES[kind], np.random.default_rng(i), f"x{i}")
        for i, kind in enumerate(kinds)
    ]
    made = [*subjects(MADE, 12), *planted]
    evidence = gather(made, *sides, OPTIONS, memory)
    found = {one.name: one for one in evidence.judged if one.verdict == "match"}
    assert set(found) == {one.name for one in planted}
    for i, one in enumerate(planted):
        judged = found[one.name]
        assert all(judged.scores[name].index == 5 + i for name in judged.fired)
    report = verdict.conclude(evidence, OPTIONS)
    assert report["verdict"] == verdict.FOUND
    assert "6 of 18" in report["reasons"][0]


def test_one_copy_is_enough(sides, memory):
    made = [*subjects(MADE, 12), changed(TRAIN, 7, disturb.several, np.random.default_rng(0), "x")]
    report = verdict.conclude(gather(made, *sides, OPTIONS, memory), OPTIONS)
    assert report["verdict"] == verdict.FOUND
    assert [s["name"] for s in report["samples"] if s["verdict"] == "match"] == ["x"]


def test_another_visit_of_a_training_eye_is_found_by_its_vessels(sides, memory):
    made = [*subjects(MADE, 12), subject(TRAIN, 9, visit=2, patient=None)]
    judged = gather(made, *sides, OPTIONS, memory).judged[-1]
    assert judged.verdict == "match" and "vessels" in judged.fired
    assert judged.scores["vessels"].index == 9 and "print" not in judged.fired


def test_patients_of_the_training_data_are_left_out_of_the_hold_out(sides, memory):
    train, holdout = sides
    leaking = [*holdout, *(subject(TRAIN, i, visit=3) for i in range(2))]
    evidence = gather(subjects(MADE, 12), train, leaking, OPTIONS, memory)
    assert evidence.shared_patients == 2
    assert len(evidence.holdout) == len(holdout)


def test_clips_that_cannot_be_judged_are_not_called_clean(sides, memory):
    def broken():
        raise ValueError("cut short")

    dark = Subject("dark", "dark", lambda: np.zeros((21, 64, 64), np.uint8))
    smooth = Subject("smooth", "smooth", lambda: np.full((21, 64, 64), 90, np.uint8))
    made = [*subjects(MADE, 3), dark, smooth, Subject("broken", "broken", broken)]
    evidence = gather(made, *sides, OPTIONS, memory)
    verdicts = {one.name: one for one in evidence.judged}
    assert verdicts["dark"].verdict == verdicts["smooth"].verdict == "undecided"
    assert verdicts["broken"].verdict == "unreadable" and verdicts["broken"].reason == "cut short"


def test_training_clips_are_numbered_as_they_were_given(sides, memory):
    def broken():
        raise ValueError("cut short")

    train, holdout = sides
    train = [Subject("torn", "torn", broken), *train]
    made = [*subjects(MADE, 3), changed(TRAIN, 7, disturb.blur, np.random.default_rng(0), "x")]
    evidence = gather(made, train, holdout, OPTIONS, memory)
    assert evidence.num_unreadable == 1
    sample = verdict.conclude(evidence, OPTIONS)["samples"][-1]
    assert sample["detectors"]["vessels"]["training_clip"] == 8


def test_an_audit_that_could_not_see_copies_says_so(clean):
    blind = dataclasses.replace(
        clean,
        controls=tuple(
            dataclasses.replace(c, found=i > 0 and c.found) for i, c in enumerate(clean.controls)
        ),
    )
    report = verdict.conclude(blind, OPTIONS)
    assert (
        report["verdict"] == verdict.INCONCLUSIVE and "only 11 were found" in report["reasons"][0]
    )
    few = verdict.conclude(dataclasses.replace(clean, controls=clean.controls[:4]), OPTIONS)
    assert few["verdict"] == verdict.INCONCLUSIVE


def test_a_lean_to_the_training_data_is_suspicious(clean):
    """Features of the generated clips near those of training clips, without any copy."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(len(clean.train), 40))
    holdout = rng.normal(size=(len(clean.holdout), 40))
    leaning = train[: len(clean.generated)] + rng.normal(0, 1.0, (len(clean.generated), 40))
    report = verdict.conclude(clean, OPTIONS, features={"net": (leaning, train, holdout)})
    assert report["verdict"] == verdict.SUSPECTED and "net" in report["reasons"][0]
    assert report["nearness"]["net"]["distance_ratio"]["nearer_to_train"] > 0.8


def test_reports_shared_with_real_clips_give_a_paired_recall(sides, memory):
    train, holdout = sides
    train = [dataclasses.replace(s, report=f"report {i}") for i, s in enumerate(train)]
    made = [dataclasses.replace(s, report=f"report {i} ") for i, s in enumerate(subjects(MADE, 12))]
    report = verdict.conclude(gather(made, train, holdout, OPTIONS, memory), OPTIONS)
    paired = report["nearness"]["grey+vessels"]["by_report"]
    assert set(paired) == {"train"} and paired["train"]["queries"] == 12
    ten = paired["train"]["recall"]["10"]
    assert ten["chance"] == pytest.approx(10 / 23)
    assert ten["chance_interval"][0] <= ten["value"] <= ten["chance_interval"][1]


def test_a_model_that_knows_its_clips_is_told_apart(clean):
    rng = np.random.default_rng(0)
    members, others = rng.normal(-3, 1, (30, 5)), rng.normal(0, 1, (30, 5))
    leaking = verdict.conclude(clean, OPTIONS, membership.infer(members, others))
    assert leaking["model"]["verdict"] == "leaks membership"
    assert leaking["verdict"] == verdict.CLEAN  # of the clips; the weights are another matter
    guessing = verdict.conclude(clean, OPTIONS, membership.infer(rng.normal(0, 1, (30, 5)), others))
    assert guessing["model"]["verdict"] == "no leak found"
    few = verdict.conclude(clean, OPTIONS, membership.infer(others[:15], others[15:]))
    assert few["model"]["verdict"] == verdict.INCONCLUSIVE
    assert verdict.conclude(clean, OPTIONS)["model"]["verdict"] == "not tested"
    assert "leaks membership" in page.render(leaking) and "AUC of 1.00" in page.render(leaking)


def test_empty_and_small_sets_are_refused(sides):
    train, holdout = sides
    with pytest.raises(ValueError, match="no generated clip"):
        gather([], train, holdout)
    with pytest.raises(ValueError, match="at least 8"):
        gather(subjects(MADE, 1), train[:3], holdout[:4])


def test_clips_of_unknown_patients_may_have_the_same_names_on_both_sides(sides, memory):
    """As in two folders of 0001.mp4, 0002.mp4, ... without a word on whose they are."""

    def nameless(side):
        return [
            dataclasses.replace(one, name=f"{i:04d}", patient=None) for i, one in enumerate(side)
        ]

    train, holdout = nameless(sides[0]), nameless(sides[1])
    evidence = gather(subjects(MADE, 12), train, holdout, OPTIONS, memory)
    report = verdict.conclude(evidence, OPTIONS)
    assert report["verdict"] == verdict.CLEAN, report["reasons"]
    for share in report["nearness"]["grey+vessels"]["train_share"]:
        assert share["chance"] == pytest.approx(23 / 39, abs=0.01)
    counts = report["counts"]
    assert counts["train_patients"] == 0 and counts["train_of_unknown_patient"] == 23
    shown = page.render(report)
    assert "0 known patients (23 clips do not say of whom)" in shown


def test_training_clips_among_the_hold_out_are_left_out(sides, memory):
    train, holdout = sides
    again = [dataclasses.replace(one, name=f"x{one.name}", patient=None) for one in train[:5]]
    evidence = gather(subjects(MADE, 12), train, [*holdout, *again], OPTIONS, memory)
    assert evidence.shared_patients == 5 and len(evidence.holdout) == len(holdout)
    with pytest.raises(ValueError, match="All 5 hold-out clips"):
        gather(subjects(MADE, 12), train, again, OPTIONS, memory)


def test_an_accidental_match_is_not_called_fit_to_share(clean):
    """One match of 12, no rarer than accident makes it: no copies found, but not for sharing."""
    first = dataclasses.replace(clean.judged[0], verdict="match", fired=("copy",), chance=0.003)
    evidence = dataclasses.replace(clean, judged=(first, *clean.judged[1:]))
    result, reasons = verdict._overall(evidence, OPTIONS, {})
    assert result == verdict.CLEAN
    assert "must not be shared" in reasons[0]
    assert "at most 38.5 %" in reasons[0]  # Clopper-Pearson of 1 among 12, not of 0


def test_copies_found_by_a_blunt_audit_clear_nothing(clean):
    """As when many hold-out clips are of training eyes: only the plainest copies are found."""
    first = dataclasses.replace(clean.judged[0], verdict="match", fired=("copy",), chance=1e-9)
    missed = tuple(dataclasses.replace(one, found=False) for one in clean.controls)
    evidence = dataclasses.replace(clean, judged=(first, *clean.judged[1:]), controls=missed)
    report = verdict.conclude(evidence, OPTIONS)
    assert report["verdict"] == verdict.FOUND and not report["clears"]
    assert "not cleared" in report["reasons"][-1]
    assert verdict.conclude(clean, OPTIONS)["clears"]
