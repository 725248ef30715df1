"""What may identify a patient is found and removed; what the report says survives."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffa_sora_jax import phantom
from tfds_ffa.curation.report_text import KINDS, clean, scan

IDENTIFYING = {
    "Name: Jane Doe. Leakage.": "name",
    "Patient Name: O'Brien, Mary Leakage": "name",
    "Reported by: Smith": "name",
    "Seen by Dr. Li Wei in the clinic": "name",
    "姓名：张三丰，黄斑水肿": "name",
    "报告医师:欧阳建国": "name",
    "姓名张三 性别男": "name",
    "报告人：王五 审核人：赵六": "name",
    "医师签名：李四": "name",
    "Name:张三": "name",
    "MRN: A12345": "record number",
    "Patient ID 00-1234-9": "record number",
    "Accession number: 2021X77": "record number",
    "住院号：0012345": "record number",
    "身份证 11010519491231002X": "record number",
    "number 110105194912310021 in the text": "long number",
    "联系 13812345678": "telephone",
    "Tel: 010-6552 1234": "telephone",
    "call (020) 555-1234": "telephone",
    "mail a.b@c.org": "email",
    "Address: 12 Long Street": "address",
    "地址：北京市东城区": "address",
    "a 93-year-old woman": "age over 89",
    "患者95岁": "age over 89",
    "on 2021-03-04 leakage": "date",
    "on 4.3.2021 leakage": "date",
    "on 03/04/21 leakage": "date",
    "on 03.04.21 leakage": "date",
    "examined 4 March 2021": "date",
    "examined March 4th, 2021": "date",
    "in Mar 2021": "date",
    "2021年3月4日 10:22 造影": "date",
    "3月4日造影": "date",
    "20210304": "date",
    "于2021-03-04造影": "date",
    "患者MRN12345": "record number",
    "patient: jane doe": "name",
}
HARMLESS = [
    "Right eye FFA: 1. Arterial filling time is 12 s. 2. Leakage 0.5 DD temporal to the fovea.",
    "Lesion of 1/2 DD at 0:25, 3.5 x 2.5 mm, 1/3 of the quadrant, 65-year-old",
    "右眼：1、动脉期见渗漏点，距黄斑中心凹1.5PD；2、晚期着染。造影时间 0:25-10:30。",
    "Patient identified with CNV; name of the lesion unknown. Signs of ischaemia.",
    "Grade 2-3 leakage, 3 o'clock to 6 o'clock, area 12.5 mm2, 20 of 21 frames",
    "drusen in the macula may be seen in May; march of the dye",
    "grade 1.2.3, size 1.5.2, steps 0.10.20, 45.12.30",
    "签名：右眼渗漏",
    "the patient is stable; ID of the vessel: none; Drusen 2021 um wide",
]


@pytest.mark.parametrize("text", IDENTIFYING)
def test_what_identifies_is_found_and_removed(text):
    assert scan(text)[IDENTIFYING[text]] >= 1
    cleaned = clean(text, ("identifiers", "dates"))
    assert cleaned.removed == scan(text) and not scan(cleaned.text)
    secrets = (
        "Doe", "jane", "Mary", "Smith", "Wei", "三丰", "建国", "12345", "1234-9", "77", "1234",
        "5678", "b@c", "Long", "东城", "93", "95", "2021", "03/04", "3月4",
    )  # fmt: skip
    assert not [secret for secret in secrets if secret in cleaned.text]


@pytest.mark.parametrize("text", HARMLESS)
def test_findings_survive(text):
    assert not scan(text)
    assert clean(text, ("identifiers", "dates")).text == text


def test_words_around_what_was_removed_survive():
    text = "Name: Jane Doe. Leakage in the macula on 2021-03-04, MRN: A12345; late staining."
    assert clean(text, KINDS).text.endswith("staining.")
    assert "Leakage in the macula on" in clean(text, KINDS).text
    assert clean("姓名：张三右眼渗漏", KINDS).text == "右眼渗漏"
    assert clean("姓名：阿卜杜拉·买买提，左眼渗漏", KINDS).text == "左眼渗漏"
    assert clean("医师：欧阳建国", KINDS).text == ""
    text = "姓名：张三 右眼黄斑区渗漏，2021年3月4日复查；晚期着染。"
    assert clean(text, KINDS).text == "右眼黄斑区渗漏，复查；晚期着染。"


def test_only_what_was_asked_for_is_removed():
    text = "1. Seen on 2021-03-04. 2. MRN: A12345"
    assert clean(text, ()).text == text
    assert "2021" not in clean(text, ["dates"]).text and "A12345" in clean(text, ["dates"]).text
    assert "A12345" not in clean(text, ["identifiers"]).text
    assert clean(text, ["numbering"]).text == "Seen on 2021-03-04. MRN: A12345"
    with pytest.raises(ValueError, match="Did you mean 'dates'"):
        clean(text, ["date"])


@pytest.mark.parametrize(
    "text,cleaned",
    [
        ("Right eye FFA: 1. Normal. 2. Leakage.", "Right eye FFA: Normal. Leakage."),
        ("1. a.2. b;3. c", "a. b; c"),
        ("(1) first\n(2) second", "first\nsecond"),
        ("1、动脉期正常。2、晚期渗漏。", "动脉期正常。晚期渗漏。"),
        ("①正常②渗漏", "正常渗漏"),
        ("an area of 2. The rest", "an area of 2. The rest"),
        ("size: 2.5 DD. 1.5 DD", "size: 2.5 DD. 1.5 DD"),
        ("Leakage; 7. is no item", "Leakage; 7. is no item"),
    ],
)
def test_numbering(text, cleaned):
    assert clean(text, ["numbering"]).text == cleaned


@pytest.mark.parametrize("index", range(6))
def test_phantom_reports_hold_nothing_and_lose_nothing_but_numbers(index):
    report = phantom.generate(5, index, size=64).report
    assert not scan(report)
    cleaned = clean(report, KINDS)
    assert set(cleaned.removed) <= {"numbering"}
    words = [word for word in report.split() if not word.strip(".").isdigit()]
    assert len(cleaned.text.split()) >= len(words) - 1


@pytest.mark.parametrize("unit", ["黄斑", "12 ", "1-", "A b ", "a.", "姓名：", "Name: A ", "( "])
def test_long_texts_take_no_quadratic_time(unit):
    start = time.process_time()
    clean(unit * 20_000, KINDS)
    assert time.process_time() - start < 5


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="aZ09 .:;-/\n姓名右眼年月日、。:1A@", max_size=60))
def test_cleaning_twice_is_cleaning_once(text):
    once = clean(text, ("identifiers", "dates")).text
    assert not scan(once)
    assert clean(once, ("identifiers", "dates")).text == once
