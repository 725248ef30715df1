"""Which eye a report is about, and what is done when sources disagree."""

import itertools

import pytest

from ffa_sora_jax import phantom
from ffa_sora_jax.data.transforms import swap_sides
from tfds_ffa.curation.laterality import resolve, side_of_text


@pytest.mark.parametrize(
    "text,side",
    [
        ("Right eye FFA: 1. Normal.", "right"),
        ("microaneurysm,leakage,Left eye FFA: 1. Arterial filling is normal", "left"),
        ("FFA of the right eye: late leakage. Left eye normal.", "right"),
        ("Fluorescein angiography of the left eye shows leakage; right eye not examined.", "left"),
        ("OS: staining of the disc", "left"),
        ("Leakage O.D.", "right"),
        ("Rt eye: late staining", "right"),
        ("Right Eye FFA: late staining. The LEFT EYE is normal", "right"),
        ("Left Eye: leakage", "left"),
        ("RIGHT Eye leaks, the IS/OS line is broken", "right"),
        ("The IS/OS and IS-OS lines are broken", None),
        ("Leakage in the Lt. eye", "left"),
        ("R/E leaks, L eye is normal", "both"),
        ("bright spot to the right of the disc, left of the fovea", None),
        ("os and od in small letters mean nothing", None),
        ("Both eyes FFA: normal", "both"),
        ("Bilateral macular oedema", "both"),
        ("The right eye leaks. The left eye is normal.", "both"),
        ("OU normal", "both"),
        ("右眼视网膜动脉充盈时间正常", "right"),
        ("左眼荧光血管造影：黄斑区渗漏。右眼未见异常。", "left"),
        ("双眼视盘未见异常", "both"),
        ("患者OD黄斑区渗漏", "right"),
        ("左右眼均正常", "both"),
        ("左眼：渗漏；右眼：正常", "both"),
        ("视网膜静脉回流延迟", None),
        ("", None),
    ],
)
def test_side_of_text(text, side):
    assert side_of_text(text) == side


@pytest.mark.parametrize(
    "text",
    ["Right eye", "right eyes", "RIGHT EYE", "Right-eye", "R eye", "R. eye", "R  Eyes", "Rt eye",
     "rt. eye", "Rt.eye", "RT EYE", "R/E: leak", "OD leaks", "O.D. leaks", "at the O.D", "右眼渗漏",
     "FFA of the right eye: normal", "患者OD黄斑区渗漏"],
)  # fmt: skip
def test_a_side_that_is_read_is_also_mirrored(text):
    """Else a clip would be flipped, and its report not."""
    assert side_of_text(text) == "right" and side_of_text(swap_sides(text)) == "left"
    assert swap_sides(swap_sides(text)) == text


@pytest.mark.parametrize("index", range(8))
def test_side_of_phantom_reports(index):
    exam = phantom.generate(3, index, size=64)
    assert side_of_text(exam.report) in (exam.eye, None)


def test_all_combinations_of_sources():
    texts = {"right": "Right eye FFA.", "left": "左眼造影", "both": "Both eyes.", None: "No side."}
    for table, dicom, text in itertools.product(
        ["right", "left", "both", None], ["right", "left", None], texts
    ):
        eye = resolve(table, dicom, texts[text])
        named = {table, dicom, text} & {"right", "left"}
        assert eye.is_conflict == (len(named) == 2)
        assert eye.value == (named.pop() if len(named) == 1 else "unknown")
        said = {"table": table, "dicom": dicom, "report": text}
        assert eye.sources == {name: side for name, side in said.items() if side}


def test_reports_in_two_languages_may_contradict():
    eye = resolve(None, None, "Right eye FFA.", "左眼造影")
    assert eye.is_conflict and eye.sources == {"report": "right", "report 2": "left"}
