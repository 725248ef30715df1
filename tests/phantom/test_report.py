import re

import numpy as np
import pytest

from ffa_sora_jax.phantom import phrases, report
from ffa_sora_jax.phantom.diseases import DISEASES, sample_exam
from ffa_sora_jax.phantom.lesions import RECIPES
from ffa_sora_jax.phantom.record import Exam, Finding

HEAD = re.compile(r"(?:(Left|Right) eye(?: FFA)?|FFA of the (left|right) eye): ")


def pairs(n=400, disease=None):
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence((11, i)))
        exam = sample_exam(rng, disease=disease)
        yield exam, report.write_report(exam, rng)


def american(text):
    for word, british in phrases.BRITISH.items():
        text = text.replace(british, word)
    return text


def test_every_report_names_the_eye_of_its_picture_once():
    for exam, text in pairs():
        heads = HEAD.findall(text)
        assert len(heads) == 1, text
        assert "".join(heads[0]).lower() == exam.eye == report.named_eye(text)


def test_named_eye_is_none_when_unsaid_or_both():
    assert report.named_eye("macular hole,changes") is None
    assert report.named_eye("Right eye FFA: normal. The left eye was not examined.") is None


def test_form_is_keywords_then_numbered_items():
    numbered = 0
    for exam, text in pairs():
        head = HEAD.search(text)
        words, body = text[: head.start()], text[head.end() :]
        assert not words or (words.endswith(",") and ", " not in words)
        assert "\n" not in text and body.endswith(".") and ".." not in text and "{" not in text
        numbered += body.startswith("1. ")
        if exam.diseases == () and words:
            assert words.rstrip(",") in phrases.GENERIC_KEYWORDS
    assert numbered > 0.9 * 400


def test_every_finding_is_said_with_its_place():
    for name in DISEASES:
        for i in range(20):
            rng = np.random.default_rng((i, 5))
            exam = sample_exam(rng, disease=name)
            said = report.sentences(exam, rng)
            spoken = {s.finding for s in said}
            for index, finding in enumerate(exam.findings):
                if finding.kind == "filling_delay":
                    assert any(s.template == "timing" for s in said)
                    continue
                assert index in spoken, finding
                if finding.region.endswith("quadrant") and finding.kind != "vein_occlusion":
                    texts = [s.text for s in said if s.finding == index]
                    places = phrases.REGIONS[finding.region]
                    assert any(place in text for text in texts for place in places), texts


def test_a_quadrant_is_never_called_by_another_ones_name():
    names = {r: p for r, p in phrases.REGIONS.items() if r.endswith("quadrant")}
    every = [place for places in names.values() for place in places]
    assert len(every) == len(set(every))
    for exam, text in pairs(60, "brvo"):
        region = next(f.region for f in exam.findings if f.kind == "vein_occlusion")
        for other, places in names.items():
            if other != region:
                assert not any(place in text.lower() for place in places), text


def test_what_is_denied_is_absent():
    for exam, text in pairs(800):
        text, kinds = american(text.lower()), {f.kind for f in exam.findings}
        if re.search(r"no (obvious |definite )?neovascularization", text):
            assert not kinds & {"nve", "nvd", "cnv_classic", "cnv_occult"}
        if re.search(r"no (obvious |definite |capillary )*non-perfusion", text):
            assert "nonperfusion" not in kinds
        if re.search(r"no (obvious |definite )?dye accumulation|shows no late dye", text):
            assert not any(report.SECTIONS.get(k) == report.MACULA for k in kinds)
        if re.search(r"no (obvious |definite )?abnormal fluorescence of the (optic )?disc", text):
            assert not kinds & {"disc_stain", "disc_leak", "nvd"}
        if re.search(r"no (obvious |abnormal |definite )*dye leakage", text):
            assert kinds <= {"filling_delay"}


def test_slow_timing_is_always_said_and_never_made_up():
    for exam, text in pairs(600):
        slow = {exam.arterial_filling, exam.venous_return} - {"normal"}
        for word in ("slightly delayed", "markedly prolonged"):
            assert (word in text) == (word in slow)


def test_amount_words_follow_the_count():
    def said(count):
        finding = Finding("microaneurysms", "posterior pole", (0, 0), 0, count=count)
        texts = [
            report.sentences(Exam("left", (), (finding,)), np.random.default_rng(i))
            for i in range(40)
        ]
        return " ".join(s.text.lower() for group in texts for s in group if s.finding == 0)

    few, some, many = said(5), said(20), said(60)
    assert "a few" in few and "numerous" not in few and "scattered" not in few
    assert "scattered" in some and "numerous" not in some and "a few" not in some
    assert "numerous" in many and "a few" not in many and "scattered" not in many


def test_degree_words_follow_the_severity():
    words = {}
    for severity in ("mild", "moderate", "severe"):
        finding = Finding("disc_stain", "optic disc", (2.6, 0.2), 0.5, severity=severity)
        exam = Exam("left", (), (finding,))
        groups = [report.sentences(exam, np.random.default_rng(i)) for i in range(40)]
        texts = [s.text.lower() for group in groups for s in group if s.finding == 0]
        found = {w for text in texts for d in phrases.DEGREES.values() for w in d if w in text}
        words[severity] = found
    assert words["mild"] == set(phrases.DEGREES["mild"])
    assert words["severe"] == set(phrases.DEGREES["severe"])


def test_keywords_name_only_what_is_there():
    generic = set(phrases.GENERIC_KEYWORDS)
    complete = 0
    for i in range(300):
        rng = np.random.default_rng((i, 6))
        exam = sample_exam(rng)
        allowed = {w for d in exam.diseases for c in phrases.DISEASE_KEYWORDS[d] for w in c}
        allowed |= {w for f in exam.findings for w in phrases.FINDING_KEYWORDS.get(f.kind, ())}
        words = report.keywords(exam, rng)
        assert set(words) <= allowed | generic
        assert len(words) == len(set(words)) <= report.MAX_KEYWORDS + 1
        complete += bool(words)
    assert complete > 200


def test_every_recipe_has_words():
    for kind in RECIPES:
        if kind == "filling_delay":
            continue
        keys = [k for k in phrases.TEMPLATES if k == kind or k.startswith(f"{kind}_")]
        assert keys and kind in report.SECTIONS, kind
    for name in DISEASES:
        assert name == "normal" or name in phrases.DISEASE_KEYWORDS


def test_facts_do_not_depend_on_the_choice_of_words():
    exam = sample_exam(np.random.default_rng(1), disease="brvo", eye="left")
    texts = {report.write_report(exam, np.random.default_rng(i)) for i in range(20)}
    assert len(texts) == 20
    assert {report.named_eye(t) for t in texts} == {"left"}


def test_same_chance_same_words():
    exam = sample_exam(np.random.default_rng(1))
    first, second = (report.write_report(exam, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_length_and_vocabulary_are_those_of_clinical_reports():
    texts = [text for _, text in pairs(1500)]
    lengths = np.array([len(t.split()) for t in texts])
    assert 35 <= np.median(lengths) <= 110
    assert lengths.max() <= 140
    words = {w for t in texts for w in re.findall(r"[a-z]+", t.lower())}
    assert len(words) < 600
    assert len(set(texts)) > 0.97 * len(texts)


@pytest.mark.parametrize("kind", ["vein_occlusion"])
def test_branch_and_central_occlusion_are_worded_apart(kind):
    values = {"delay_s": 8.0}
    for region, word in (("superotemporal quadrant", "branch"), ("all quadrants", "quadrant")):
        exam = Exam("right", (), (Finding(kind, region, (0, 1), 0, values=values),))
        for i in range(10):
            said = report.sentences(exam, np.random.default_rng(i))
            (text,) = [s.text for s in said if s.finding == 0]
            assert word in text
