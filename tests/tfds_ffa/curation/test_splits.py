"""No patient in two splits, nobody moves when exams are added."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfds_ffa.curation.deidentify import Hasher
from tfds_ffa.curation.splits import RATIOS, assign, group_of, has_disease, split_rows
from tfds_ffa.curation.table import ExamRow

HASHER = Hasher(bytes(range(32)))


def row(line, patient=None, report="r", diagnosis=None, split=None):
    return ExamRow(line, f"E{line}", patient, None, report, "en", diagnosis, split)


def archive(rng, first, count):
    """Rows of which a third have no patient id; patients and reports repeat."""
    return [
        row(line, rng.choice([None, f"P{rng.randrange(60)}", f"Q{rng.randrange(9)}"]),
            report=f"report {rng.randrange(60)}")
        for line in range(first, first + count)
    ]  # fmt: skip


def overlap(rows, splits):
    """Patients (reports where there is no patient id) in more than one split."""
    seen = {}
    for r in rows:
        key = ("p", r.patient_id) if r.patient_id else ("r", r.report)
        seen.setdefault(key, set()).add(splits.of_line[r.line])
    return {key for key, names in seen.items() if len(names) > 1}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 200), st.binary(min_size=32, max_size=32))
def test_adding_a_fifth_moves_none_and_no_patient_is_in_two_splits(seed, count, salt):
    rng, hasher = random.Random(seed), Hasher(salt)
    old = archive(rng, 2, count)
    before = split_rows(old, hasher)
    more = [*old, *archive(rng, 1000, max(1, count // 5))]
    rng.shuffle(more)
    after = split_rows(more, hasher)
    assert {line: after.of_line[line] for line in before.of_line} == before.of_line
    assert not before.problems and not after.problems
    assert not overlap(more, after)


def test_shares_are_80_10_10():
    groups = [HASHER.hashed("patient", str(i)) for i in range(20_000)]
    found = list(assign(groups, HASHER).values())
    for name, share in RATIOS.items():
        # five standard deviations of a fair draw
        assert abs(found.count(name) / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5
    assert set(assign(groups[:100], HASHER, {"test": 1.0}).values()) == {"test"}


def test_the_draw_is_pinned():
    """Another draw would move the patients of every dataset that is to grow."""
    found = assign([str(i) for i in range(60)], HASHER)
    assert [int(i) for i, split in found.items() if split == "validation"] == [13, 37, 42, 47]
    assert [int(i) for i, split in found.items() if split == "test"] == [24, 25, 28, 29, 33, 57]


def test_the_split_depends_on_the_salt():
    groups = [str(i) for i in range(100)]
    assert assign(groups, HASHER) != assign(groups, Hasher(bytes(32)))


def test_explicit_splits_hold_for_the_whole_patient():
    rows = [row(2, "A", split="test"), row(3, "A"), row(4, "B", split="train"), row(5, "C")]
    found = split_rows(rows, HASHER)
    assert [found.of_line[i] for i in (2, 3, 4)] == ["test", "test", "train"]


def test_a_patient_with_two_explicit_splits_is_refused():
    rows = [row(2, "A", split="test"), row(3, "A", split="train"), row(4, "A"), row(5, "B")]
    found = split_rows(rows, HASHER)
    assert set(found.of_line) == {5} == set(found.group_of_line)
    assert [(p.reason, p.where) for p in found.problems] == [
        ("split_conflict", f"line {i}") for i in (2, 3, 4)
    ]


def test_without_patients_every_row_keeps_its_explicit_split():
    rows = [
        row(2, report="Normal", split="train"), row(3, report="normal", split="test"),
        row(4, report="normal "), row(5, report="other", split="test"), row(6, report="other"),
    ]  # fmt: skip
    found = split_rows(rows, HASHER)
    assert found.of_line == {2: "train", 3: "test", 4: "test", 5: "test", 6: "test"}
    assert len({found.group_of_line[i] for i in (2, 3, 4)}) == 2
    assert {(p.reason, p.where) for p in found.problems} == {
        ("report_overlap", f"line {i}") for i in (2, 3, 4)
    }


def test_reports_group_rows_without_patient_whatever_their_case_and_blanks():
    rows = [row(2, report="Late  leakage\n"), row(3, report="late leakage"), row(4, report="other")]
    groups = [group_of(r, HASHER) for r in rows]
    assert groups[0] == groups[1] != groups[2]
    assert group_of(row(5, "late leakage"), HASHER) != groups[1]  # a patient of that name


@pytest.mark.parametrize(
    "spellings", [("P-001", "p001", "Ｐ００１"), ("00123", "123", "0123 "), ("0", "00")]
)
def test_spellings_of_one_patient_are_one_patient(spellings):
    assert len({group_of(row(2, name), HASHER) for name in spellings}) == 1
    assert group_of(row(2, spellings[0]), HASHER) != group_of(row(2, "P002"), HASHER)


def test_unseen_diseases_take_the_whole_patient():
    rows = [
        row(2, "A", diagnosis="Chronic central serous chorioretinopathy", split="train"),
        row(3, "A", diagnosis="normal"),
        row(4, "B", diagnosis="BRVO"),
        row(5, "C", report="Suspected central-serous chorioretinopathy."),
        row(6, "D", diagnosis="中心性浆液性脉络膜视网膜病变"),
        row(7, "E", diagnosis="BRVO with macular oedema"),
        row(8, "F", diagnosis="右眼PCV可能"),
    ]
    names = ["Central Serous  chorioretinopathy ", "中心性浆液性脉络膜视网膜病变", "pcv"]
    found = split_rows(rows, HASHER, unseen_diseases=names)
    assert {i for i, split in found.of_line.items() if split == "unseen"} == {2, 3, 5, 6, 8}
    assert found.table()["unseen"] == {"exams": 5, "groups": 4}
    with pytest.raises(ValueError, match="No row has the disease 'RVO'"):
        split_rows(rows, HASHER, unseen_diseases=["RVO"])  # words are whole: BRVO is not meant
    with pytest.raises(ValueError, match="empty"):
        split_rows(rows, HASHER, unseen_diseases=[" "])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9))
def test_with_unseen_diseases_only_their_patients_leave(seed):
    rng = random.Random(seed)
    rows = [
        row(i, f"P{rng.randrange(20)}", diagnosis=rng.choice(["AMD", "CSC", "BRVO", None]))
        for i in range(2, 60)
    ] + [row(60, "P0", diagnosis="CSC")]
    plain = split_rows(rows, HASHER)
    held = split_rows(rows, HASHER, unseen_diseases=["csc"])
    gone = {r.patient_id for r in rows if r.diagnosis == "CSC"}
    for r in rows:
        wanted = "unseen" if r.patient_id in gone else plain.of_line[r.line]
        assert held.of_line[r.line] == wanted
    assert not [r for r in rows if has_disease(r, "CSC") and held.of_line[r.line] != "unseen"]


def test_wrong_ratios():
    with pytest.raises(ValueError, match="add up to 1"):
        assign(["a"], HASHER, {"train": 0.5, "test": 0.4})
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        assign(["a"], HASHER, {"trane": 1.0})
