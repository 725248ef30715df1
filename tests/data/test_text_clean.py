import importlib.util
import json
from pathlib import Path

import pytest

from ffa_sora_jax.data.text_clean import text_preprocessing

GOLDEN = Path(__file__).parents[1] / "golden" / "text" / "text_clean.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
HAS_FTFY = importlib.util.find_spec("ftfy") is not None


@pytest.mark.parametrize(
    "repair",
    [False, pytest.param(True, marks=pytest.mark.skipif(not HAS_FTFY, reason="needs ftfy"))],
)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c["raw"][:20] or "empty")
def test_reference_captions(case, repair):
    raw = case["raw"]
    assert text_preprocessing(raw, repair_unicode=repair) == case["str_zh"]
    assert text_preprocessing(raw, keep_chinese=False, repair_unicode=repair) == case["str_nozh"]
    assert text_preprocessing(raw, as_list=True, repair_unicode=repair) == case["list_zh"]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A/V ratio", "a v ratio"),
        ("leakage (temporal), OD", "leakage temporal , od"),
        ("non-perfusion", "non-perfusion"),
        ("a-b c-d e-f g-h", "a b c d e f g h"),  # more than three hyphens: all go
        ("<b>macular</b> edema", "macular edema"),
        ("late&nbsp;phase,disc", "late phase, disc"),
        ("patient 1234567 seen", "patient seen"),
    ],
)
def test_effects_on_reports(raw, clean):
    assert text_preprocessing(raw) == clean


def test_cleaning_a_phantom_report_keeps_its_facts():
    raw = "drusen,Left eye FFA: 1. Drusen in the macula; no leakage. 2. The disc appears normal."
    clean = text_preprocessing(raw)
    assert clean == raw.lower().replace(",left", ", left")


@pytest.mark.skipif(HAS_FTFY, reason="ftfy is installed")
def test_repair_without_ftfy_says_what_to_install():
    with pytest.raises(ModuleNotFoundError, match="ffa-sora-jax\\[text\\]"):
        text_preprocessing("left eye", repair_unicode=True)
