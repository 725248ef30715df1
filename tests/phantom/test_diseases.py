import collections

import numpy as np
import pytest

from ffa_sora_jax.phantom.diseases import DISEASES, sample_exam
from ffa_sora_jax.phantom.lesions import RECIPES
from ffa_sora_jax.phantom.record import EYES, QUADRANTS

RETINAL_VASCULAR = {
    "microaneurysms",
    "capillary_leakage",
    "nonperfusion",
    "nve",
    "nvd",
    "irma",
    "vein_occlusion",
    "venous_beading",
    "collaterals",
}
EXPECTED = {  # the diseases that the issue lists, and three more of the paper's figure
    *("normal", "npdr_mild", "npdr_moderate", "npdr_severe", "pdr", "brvo", "crvo"),
    *("csc", "csc_smokestack", "csc_chronic", "namd_classic", "namd_occult", "pcv", "ped"),
    *("drusen", "dry_amd", "geographic_atrophy", "macular_hole", "cmo", "dme"),
    *("disc_leak", "laser_scars"),
}


def exams(disease: str, n: int = 60):
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence((3, i)))
        yield sample_exam(rng, disease=disease)


def kinds(exam):
    return {f.kind for f in exam.findings}


def test_every_disease_is_there_and_can_be_drawn():
    assert set(DISEASES) == EXPECTED
    used = {kind for name in DISEASES for exam in exams(name) for kind in kinds(exam)}
    assert used <= set(RECIPES)
    assert set(RECIPES) - used == {"arterial_narrowing"}  # only for records written by hand


def test_normal_eyes_have_no_lesion():
    assert all(kinds(e) <= {"filling_delay"} and e.diseases == () for e in exams("normal"))


def test_proliferative_retinopathy_always_has_new_vessels():
    assert all(kinds(e) & {"nve", "nvd"} for e in exams("pdr"))


def test_nonproliferative_retinopathy_never_has_new_vessels():
    for name in ("npdr_mild", "npdr_moderate", "npdr_severe"):
        assert not any(kinds(e) & {"nve", "nvd"} for e in exams(name))


def test_branch_occlusion_stays_in_one_quadrant():
    temporal = 0
    for exam in exams("brvo", 200):
        quadrants = {f.region for f in exam.findings if "quadrant" in f.region} - {"all quadrants"}
        assert len(quadrants) == 1
        regions = {f.region for f in exam.findings if f.kind != "filling_delay"}
        assert regions - quadrants <= {"macula", "fovea"}
        temporal += "temporal" in quadrants.pop()
    assert temporal / 200 > 0.8


def test_central_occlusion_lies_in_all_quadrants_and_drains_late():
    for exam in exams("crvo"):
        assert exam.venous_return in ("delayed", "markedly prolonged")
        assert any(
            f.kind == "vein_occlusion" and f.region == "all quadrants" for f in exam.findings
        )
        assert not any(f.region.removesuffix(" quadrant") in QUADRANTS for f in exam.findings)


@pytest.mark.parametrize(
    "name", ["csc", "csc_smokestack", "csc_chronic", "namd_classic", "namd_occult", "pcv", "ped"]
)
def test_chorioretinal_diseases_leave_retinal_vessels_alone(name):
    for exam in exams(name):
        assert not kinds(exam) & RETINAL_VASCULAR
        assert exam.venous_return == "normal"


def test_severity_orders_the_number_of_microaneurysms():
    def most(name):
        counts = [f.count for e in exams(name) for f in e.findings if f.kind == "microaneurysms"]
        return max(counts), min(counts)

    assert most("npdr_mild")[0] <= 10
    assert 10 < most("npdr_moderate")[1] and most("npdr_moderate")[0] <= 40
    assert most("npdr_severe")[1] > 40


def test_mix_follows_the_shares_and_both_eyes_are_equally_likely():
    drawn = [sample_exam(np.random.default_rng((9, i))) for i in range(4000)]
    counts = collections.Counter(e.diseases[0] if e.diseases else "normal" for e in drawn)
    total = sum(d.share for d in DISEASES.values())
    for name, disease in DISEASES.items():
        expected = disease.share / total
        sd = np.sqrt(expected * (1 - expected) / 4000)
        assert abs(counts[name] / 4000 - expected) < 4.5 * sd, name
    assert abs(sum(e.eye == "right" for e in drawn) / 4000 - 0.5) < 0.035


def test_eye_and_disease_can_be_forced_without_changing_the_rest():
    free = sample_exam(np.random.default_rng(5))
    name = free.diseases[0] if free.diseases else "normal"
    for eye in EYES:
        forced = sample_exam(np.random.default_rng(5), disease=name, eye=eye)
        assert forced.eye == eye
        assert forced.findings == free.findings


def test_unknown_names_are_refused_with_near_matches():
    with pytest.raises(ValueError, match="'brvo'"):
        sample_exam(np.random.default_rng(0), disease="brov")
    with pytest.raises(ValueError, match="right"):
        sample_exam(np.random.default_rng(0), eye="OD")
