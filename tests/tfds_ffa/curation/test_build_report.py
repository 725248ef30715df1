"""The build report: counts that add up, one page that loads nothing, nothing that identifies."""

import base64
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from tfds_ffa.curation import build_report
from tfds_ffa.curation.ledger import Outcome

VOID = ("meta", "img", "br", "rect")
HOSTILE = '"><script>alert(1)</script>'


def frame(kind="ffa", ratio=0.05):
    return {"kind": kind, "used": kind == "ffa", "vessel_ratio": ratio}


def kept(key, **facts):
    facts = {"source_frames": 30, "width": 768, "height": 768, "eye": "right", **facts}
    return Outcome(key, "kept", facts=facts)


def clip(key):
    video = np.full((21, 64, 64, 1), int(key, 16), np.uint8)
    return video, np.arange(21) % 2 == 0


OUTCOMES = (
    kept("0a", patient_id="p1", report_hash="r1", frames=[frame(), frame("black", None)]),
    kept("0b", patient_id="p1", report_hash="r2", eye="left", remarks=["mixed_sizes"]),
    kept("0c", patient_id="p2", report_hash="r3", removed=["PatientName", "StudyDate"]),
    kept(
        "0d",
        patient_id="p3",
        has_patient_id=False,
        report_hash="r4",
        removed=["PatientName"],
        eye=None,
    ),
    Outcome("0e", "dropped", "truncated", {"where": "line 7", "kind": "video"}),
    Outcome("0f", "dropped", "row_without_exam", {"where": "line 8"}),
    Outcome("1a", "quarantined", "burned_in_text", {"where": "line 9", "source_frames": 5}),
)
SPLITS = {"0a": "train", "0b": "train", "0c": "validation", "0d": "test"}


class Page(HTMLParser):
    """Tags with their attributes; fails where tags are not balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and tag not in ("tr", "th", "td"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in ("tr", "th", "td"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def write(folder, outcomes=OUTCOMES, **options):
    options = {"splits": SPLITS, "dataset": "hospital_exams/64", **options}
    report = build_report.write_report(folder, outcomes, **options)
    return report, (folder / build_report.HTML_NAME).read_text(encoding="utf-8")


def test_every_input_is_counted_once(tmp_path):
    report, page = write(tmp_path, inputs=7)
    assert report["inputs"] == 7
    assert report["counts"] == {"kept": 4, "dropped": 2, "quarantined": 1}
    assert {(r["code"], r["count"]) for r in report["reasons"]} == {
        ("", 4), ("truncated", 1), ("row_without_exam", 1), ("burned_in_text", 1),
    }  # fmt: skip
    assert json.loads((tmp_path / "build_report.json").read_text()) == report
    assert "line 7" in page and "Export it again." in page and "7 inputs" in page


def test_inputs_that_do_not_add_up_are_refused(tmp_path):
    with pytest.raises(ValueError, match="8 inputs but 7 outcomes"):
        write(tmp_path, inputs=8)
    with pytest.raises(ValueError, match="come twice"):
        write(tmp_path, [*OUTCOMES, kept("0a")])
    with pytest.raises(ValueError, match="near_duplicate"):
        write(tmp_path, [Outcome("a", "dropped", "near_duplicates")])
    assert not list(tmp_path.iterdir())


def test_same_bytes_in_any_order_and_nothing_else_left(tmp_path):
    texts = []
    for outcomes in (OUTCOMES, OUTCOMES[::-1]):
        write(tmp_path, outcomes, load_clip=clip)
        texts.append([path.read_bytes() for path in sorted(tmp_path.iterdir())])
    assert texts[0] == texts[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build_report.html", "build_report.json"]


def test_splits_count_exams_patients_reports_and_eyes(tmp_path):
    report, _ = write(tmp_path)
    assert list(report["splits"]) == ["train", "validation", "test"]
    assert report["splits"]["train"] == {
        "exams": 2, "patients": 1, "without patient id": 0, "reports": 2,
        "right": 1, "left": 1, "unknown": 0,
    }  # fmt: skip
    assert report["splits"]["test"]["unknown"] == 1
    assert report["splits"]["test"]["without patient id"] == 1


def test_histograms(tmp_path):
    counts = (1, 2, 5, 6, 20, 21, 22, 1000, 1001)
    outcomes = [kept(f"k{n}", source_frames=n, frames=[frame(ratio=n / 1e4)]) for n in counts]
    report, _ = write(tmp_path, outcomes)
    frames = report["histograms"]["frames per exam"]
    assert frames == {
        "< 2": 1, "2-5": 2, "6-10": 1, "11-20": 1, "21": 1, "22-30": 1, "31-60": 0, "61-120": 0,
        "121-1000": 1, ">= 1001": 1,
    }  # fmt: skip
    ratios = report["histograms"]["lowest vessel ratio of an exam"]
    assert (ratios["< 0.005"], ratios["0.08-0.12"]) == (7, 2)
    assert report["histograms"]["size of the source (px)"] == {"768 x 768": len(counts)}


def test_frame_kinds_removed_elements_and_remarks(tmp_path):
    report, page = write(tmp_path)
    assert report["histograms"]["frame kinds"] == {"black": 1, "ffa": 1}
    removed = report["deidentification"]["DICOM elements dropped"]
    assert removed == {"PatientName": 2, "StudyDate": 1}
    assert [(r["code"], r["count"]) for r in report["remarks"]] == [("mixed_sizes", 1)]
    assert "PatientName" in page and "mixed_sizes" in page
    line = next(e for e in report["exams"] if e["key"] == "0a")
    assert line["vessel_ratio"] == {"min": 0.05, "median": 0.05, "max": 0.05}


def test_only_named_facts_are_carried(tmp_path):
    write(tmp_path, [kept("0a", path="exams/Nightingale.mp4", fingerprint=[1, 2])])
    for path in tmp_path.iterdir():
        assert b"Nightingale" not in path.read_bytes()
        assert b"fingerprint" not in path.read_bytes()


def test_the_page_gives_advice_on_a_row_and_says_that_it_shows_patients(tmp_path):
    general = build_report.reasons.reason("bad_row").what_to_do
    rows = [
        Outcome("0a", "dropped", "bad_row", {"where": "line 3", "what_to_do": f"Odd. {general}"}),
        Outcome("0b", "dropped", "bad_row", {"where": "line 4", "what_to_do": general}),
    ]
    words = "".join(Page(write(tmp_path, rows, splits={})[1]).texts)
    assert "line 3: Odd." in words and "line 4:" not in words and words.count(general) == 1
    assert "PATIENT DATA" in words


def test_the_page_escapes_and_loads_nothing(tmp_path):
    outcomes = [
        kept("0a", kind=HOSTILE, language=HOSTILE, removed=[HOSTILE]),
        Outcome("0b", "dropped", "truncated", {"where": HOSTILE}),
    ]
    _, text = write(
        tmp_path, outcomes, dataset=HOSTILE, settings={HOSTILE: HOSTILE},
        problems=[{"reason": HOSTILE, "where": HOSTILE}], splits={"0a": HOSTILE},
        leakage=[{"kind": HOSTILE}], load_clip=clip,
    )  # fmt: skip
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "a"}
    assert all(a["src"].startswith("data:image/") for t, a in page.tags if t == "img")
    assert not re.search(r"https?://|url\(|@import", text)
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert HOSTILE in "".join(page.texts)


def test_sheets_show_kept_exams_only_and_not_too_many(tmp_path):
    asked = []

    def load(key):
        asked.append(key)
        return clip("0f")

    outcomes = [kept(f"{n:03d}") for n in range(100)]
    outcomes += [Outcome("x", "quarantined", "burned_in_text")]
    _, text = write(tmp_path, outcomes, load_clip=load)
    images = [a["src"] for tag, a in Page(text).tags if tag == "img"]
    assert len(images) == len(asked) == build_report.SHEETS
    assert asked[0] == "000" and asked[-1] == "099" and "x" not in asked
    data = np.frombuffer(base64.b64decode(images[0].split(",")[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).shape == (3 * 76, 7 * 76)


def test_interpolated_frames_are_marked():
    video = np.full((21, 64, 64), 9, np.uint8)
    is_original = np.ones(21, bool)
    plain = build_report.contact_sheet(video, is_original)
    is_original[8] = False
    marked = build_report.contact_sheet(video, is_original)
    rows, columns = np.nonzero(plain != marked)
    assert (rows.min(), columns.min()) == (76 + 73, 76)
    assert rows.max() < 2 * 76 and columns.max() < 2 * 76


def test_an_empty_build_has_a_page_too(tmp_path):
    report, text = write(tmp_path, [], splits={})
    assert report["counts"] == {"kept": 0, "dropped": 0, "quarantined": 0}
    Page(text)
