"""The words of the phantom's reports and of the paper's register."""

import numpy as np
import pytest

from ffa_sora_jax.metrics.wording import affirmed, named
from ffa_sora_jax.phantom.diseases import DISEASES, sample_exam
from ffa_sora_jax.phantom.oracle_rules import classes_of
from ffa_sora_jax.phantom.record import QUADRANTS
from ffa_sora_jax.phantom.report import write_report


@pytest.mark.parametrize("disease", DISEASES)
def test_reports_of_phantoms_name_exactly_what_is_there(disease):
    for i in range(12):
        rng = np.random.default_rng((811, i))
        exam = sample_exam(rng, disease=disease)
        report = write_report(exam, rng)
        read = named(report)
        assert read.classes == classes_of(exam.findings), report
        assert read.eye in (exam.eye, None)


def test_quadrant_of_an_occlusion_is_named():
    for i in range(20):
        rng = np.random.default_rng((812, i))
        exam = sample_exam(rng, disease="brvo")
        region = next(f.region for f in exam.findings if f.kind == "vein_occlusion")
        assert named(write_report(exam, rng)).delayed == (region.removesuffix(" quadrant"),)


PAPER = {
    "Right eye FFA: 1. Normal filling time of retinal arteries and prolonged return time of "
    "retinal veins. 2. Late-stage staining of the optic disc with unclear borders.": {
        "delay",
        "stain",
    },
    "Left eye FFA: 1. Small patchy capillary occlusion in the posterior pole was observed, but no "
    "obvious neovascularization was found. 2. Scattered hemorrhagic spots in the retina.": {
        "nonperfusion",
        "blocked",
    },
    "Diffuse capillary leakage in the posterior pole, and no obvious macular edema.": {"leak"},
    "1. Several microaneurysms without leakage. 2. Laser spots": {"microaneurysms", "stain"},
    "No leakage, hemorrhage or non-perfusion is seen. Drusen are visible.": {"stain", "window"},
    "Microaneurysms were not observed.": set(),
    "Arterial filling is delayed and venous return is normal.": set(),
    "Faint masking by hard exudates.": set(),
    "Petal-like pooling around the fovea in the late phase.": {
        "macular_oedema",
        "cystoid",
        "leak",
    },
    "A serous detachment fills at 1.5 disc diameters temporal to the disc.": {"pooling"},
}


@pytest.mark.parametrize("report", PAPER)
def test_register_of_the_paper(report):
    assert named(report).classes == PAPER[report]


def test_branch_without_height_means_both_halves():
    read = named("Left eye FFA: slow flow of temporal branch venous reflux")
    assert read.delayed == ("superotemporal", "inferotemporal") and read.eye == "left"
    assert named("The venous return is prolonged.").delayed == QUADRANTS
    assert named("A normal eye.").delayed == ()


def test_decimals_do_not_end_sentences():
    assert affirmed("1. A leak 1.5 disc diameters away. 2. No stain.") == [
        "a leak 1.5 disc diameters away"
    ]
