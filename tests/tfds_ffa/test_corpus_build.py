"""A hospital's archive with everything that goes wrong in one, through `ffa-sora prepare`.

Every exam is accounted for with the reason that fits, nothing that identifies comes out, no
patient is in two splits, and a build that was killed ends with the same bytes.
"""

import collections
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax import cli
from tests.corpus import damage, good, hospital, kill
from tfds_ffa.curation import reasons, table

# Not in the corpus: they need another machine, another package or a limit that is asked for.
ELSEWHERE = {
    "disk_full", "time_limit", "worker_died", "internal_error", "needs_decoder",
    "too_many_frames", "identifier_suspected",
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    corpus: hospital.Corpus
    data_dir: Path
    staging: Path
    log: str

    @property
    def target(self) -> Path:
        (found,) = self.data_dir.glob("hospital_exams/64/1.*")
        return found

    @property
    def report(self) -> dict:
        (found,) = self.data_dir.rglob("build_report.json")
        return json.loads(found.read_text(encoding="utf-8"))

    def records(self) -> dict[str, list[dict]]:
        return records(self.target)


def records(target: Path) -> dict[str, list[dict]]:
    """Every example of a dataset by split."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(target)
    sources = {name: builder.as_data_source(split=name) for name in builder.info.splits}
    return {name: [source[i] for i in range(len(source))] for name, source in sources.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """The whole corpus, built in a process of its own with two workers."""
    root = tmp_path_factory.mktemp("hospital")
    corpus = hospital.build(root, [*hospital.all_cases(), damage.near_duplicate()])
    options = ["--workers", "2", "--clean-text", "--allow-duplicates", "--keep-staging"]
    argv = kill.argv(corpus, root / "data", *options, "--staging", str(root / "staging"))
    done = subprocess.run(
        [sys.executable, "-m", "ffa_sora_jax", *argv], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Built(corpus, root / "data", root / "staging", done.stdout + done.stderr)


def again(built: Built, data_dir: Path, *options: str, rows: Path | None = None) -> int:
    """Another build of the same exams, which are all finished in the staging folder."""
    argv = kill.argv(built.corpus, data_dir, "--workers", "1", "--keep-staging", *options)
    argv += ["--staging", str(built.staging)]
    if rows is not None:
        argv[argv.index("--table") + 1] = str(rows)
    return cli.main(argv)


# --- The corpus itself ---


def test_the_corpus_holds_every_format_and_every_reason():
    cases = hospital.all_cases()
    assert len(good.cases()) >= 60
    assert not [case.kind for case in good.cases() if case.reason or case.remarks]
    assert len({case.kind for case in cases}) == len(cases)
    found = {code for case in cases for code in (case.reason, case.extra, *case.expected)}
    found |= {code for case in [*cases, damage.near_duplicate()] for code in case.remarks}
    assert found - {""} == set(reasons.REASONS) - ELSEWHERE
    assert len({case.kind for case in damage.cases()}) >= 25


def test_every_table_format_holds_the_same_rows(tmp_path):
    cases = [case for case in hospital.all_cases() if case.write is None]
    cases += [good.cases()[14], good.cases()[20]] * 6
    found = {}
    for name in hospital.TABLES:
        corpus = hospital.build(tmp_path / name, cases, table=name)
        rows, problems = table.read_table(corpus.table)
        where = [row.where for row in corpus.rows]
        assert set(where) == {row.where for row in rows} | {p.where for p in problems}
        found[name] = [dataclass_without_line(row) for row in rows]
    assert found["csv"] == found["xlsx"] == found["json"] == found["jsonl"]
    assert {row["language"] for row in found["csv"]} == {"en", "zh"}


def dataclass_without_line(row: table.ExamRow) -> dict:
    return {name: value for name, value in vars(row).items() if name != "line"}


# --- The build ---


def test_every_input_is_accounted_for_with_its_reason(built):
    found = {exam["where"]: exam for exam in built.report["exams"]}
    assert len(found) == built.corpus.inputs == built.report["inputs"]
    wrong = []
    for row in built.corpus.rows:
        exam = found.pop(row.where)
        got = (exam["status"], exam["reason"])
        if got != (row.status, row.reason) or not set(row.remarks) <= noted(built, exam):
            wrong.append((row.kind, "expected", row.reason, row.remarks, "got", exam))
    assert not wrong, "\n".join(map(str, wrong))
    left = collections.Counter(exam["reason"] for exam in found.values())
    assert left == collections.Counter(built.corpus.leftovers)


def test_nothing_is_remarked_that_does_not_hold(built):
    found = {exam["where"]: exam for exam in built.report["exams"]}
    copied = {f"{hospital.EXAM}-000", f"{hospital.EXAM}-001"}  # of the patient with a duplicate
    for row in built.corpus.rows:
        if row.status == "kept" and row.exam_id not in copied:
            assert noted(built, found[row.where]) == set(row.remarks), row.kind


def noted(built: Built, exam: dict) -> set[str]:
    """Remarks on the exam itself and on its row."""
    problems = {p["reason"] for p in built.report["problems"] if p["where"] == exam["where"]}
    return {*exam.get("remarks", ()), *problems}


def test_counts_add_up_to_what_was_written(built):
    counts = built.report["counts"]
    assert sum(counts.values()) == built.corpus.inputs
    examples = built.records()
    assert {name: len(found) for name, found in examples.items()} == {
        name: split["exams"] for name, split in built.report["splits"].items()
    }
    assert sum(map(len, examples.values())) == counts["kept"]
    assert counts["kept"] >= 60 and {"train", "validation", "test"} <= set(examples)


def test_every_record_is_a_clip(built):
    for found in built.records().values():
        for record in found:
            assert record["video"].shape == (21, 64, 64, 1) and record["video"].dtype == np.uint8
            assert record["video"].max() > 60 and record["report"].strip()
            assert record["is_original"].any() and record["frame_mask"].all()
            assert (np.diff(record["times_s"]) >= 0).all()
            assert (np.isfinite(record["vessel_ratio"]) == record["is_original"]).all()


def test_eyes_languages_and_texts_come_from_the_table(built):
    by_key = {r["exam_id"].decode(): r for found in built.records().values() for r in found}
    eyes = {0: "right", 1: "left", 2: "unknown"}
    lines = {exam["key"]: exam for exam in built.report["exams"]}
    assert all(eyes[record["eye"]] == lines[key]["eye"] for key, record in by_key.items())
    languages = collections.Counter(r["language"] for r in by_key.values())
    assert languages[b"zh"] >= 5 and languages[b"en"] >= 40
    assert sum(bool(record["report_zh"]) for record in by_key.values()) > languages[b"zh"]


def test_no_patient_is_in_two_splits(built):
    patients = {
        name: {record["patient_id"] for record in found} for name, found in built.records().items()
    }
    assert len(set.union(*patients.values())) == sum(map(len, patients.values()))
    truth = {row.where: row.patient_id for row in built.corpus.rows}
    kept = [exam for exam in built.report["exams"] if exam["status"] == "kept"]
    kept = [exam for exam in kept if truth[exam["where"]]]  # else a hash of the report stands in
    assert len({(truth[e["where"]], e["patient_id"]) for e in kept}) == len(
        {truth[e["where"]] for e in kept}
    )


# --- Privacy ---


def test_nothing_identifying_comes_out(built):
    places = {"log": built.log.encode()}
    for root in (built.data_dir, built.staging):
        for path in root.rglob("*"):
            places[f"name of {path.name}"] = str(path.relative_to(root)).encode()
            if path.is_file():
                places[path.name] = path.read_bytes()
    for name, found in built.records().items():
        for number, record in enumerate(found):
            for feature, value in record.items():
                data = value if isinstance(value, bytes) else np.asarray(value).tobytes()
                places[f"{name} {number} {feature}"] = data
    leaks = [
        (place, secret)
        for place, data in places.items()
        for secret in hospital.SECRETS
        if secret.lower().encode() in data.lower()
    ]
    assert not leaks
    assert built.report["deidentification"]["DICOM elements dropped"]["PatientName"] >= 20


def test_every_secret_was_planted(built):
    """Else the test above would find nothing whatever came out."""
    root = built.corpus.table.parent
    paths = [built.corpus.table, *built.corpus.exams.rglob("*")]
    planted = b"".join(
        str(path.relative_to(root)).encode() + (path.read_bytes() if path.is_file() else b"")
        for path in paths
        if not path.is_symlink()
    )
    assert not [secret for secret in hospital.SECRETS if secret.encode() not in planted]


def test_removed_text_is_reported(built):
    where = {row.kind: row.where for row in built.corpus.rows}
    exam = next(
        e for e in built.report["exams"] if e["where"] == where["name and date in the report"]
    )
    assert exam["cleared"]


# --- Splits ---


def test_adding_exams_moves_none(built, tmp_path):
    text = built.corpus.table.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    earlier = tmp_path / "earlier.csv"
    with earlier.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, hospital.FIELDS)
        writer.writeheader()
        writer.writerows(rows[: len(rows) * 5 // 6])
    options = ("--clean-text", "--allow-duplicates")
    assert again(built, tmp_path / "data", *options, rows=earlier) == 0
    (target,) = (tmp_path / "data").glob("hospital_exams/64/1.*")
    before, after = splits(records(target)), splits(built.records())
    assert 40 < len(before) < len(after)
    assert before.items() <= after.items()


def splits(found: dict[str, list[dict]]) -> dict[bytes, str]:
    return {record["exam_id"]: name for name, group in found.items() for record in group}


# --- Refusing ---


def test_near_duplicates_of_another_patient_stop_the_build(built, tmp_path, capsys):
    assert again(built, tmp_path) == 2
    assert "--allow-duplicates" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.array_record*"))
    (leak,) = built.report["leakage"]
    where = {row.kind: row.where for row in built.corpus.rows}
    assert where["PNG, gray"] in leak["where"] and where["near duplicate"] in leak["where"]
    # This build was not asked to clean texts.
    (report,) = tmp_path.rglob("build_report.json")
    exams = json.loads(report.read_text(encoding="utf-8"))["exams"]
    suspected = [e["where"] for e in exams if "identifier_suspected" in e.get("remarks", ())]
    assert suspected == [where["name and date in the report"]]


def test_strict_makes_any_problem_fatal(built, tmp_path, capsys):
    assert again(built, tmp_path, "--clean-text", "--allow-duplicates", "--strict") == 2
    message = capsys.readouterr().err
    assert "truncated 7" in message and "mixed_sizes" in message
    assert not list(tmp_path.rglob("*.array_record*"))
    assert list(tmp_path.rglob("build_report.html"))


# --- Killing ---


def test_a_killed_build_ends_with_the_same_bytes(tmp_path):
    picks = ("truncated MP4", "one id twice", "text inside the field", "row without exam")
    cases = [*good.cases()[::6], *(case for case in damage.cases() if case.kind in picks)]
    corpus = hospital.build(tmp_path / "corpus", cases)
    whole = tmp_path / "whole"
    assert cli.main(kill.argv(corpus, whole, "--workers", "1")) == 0
    killed = tmp_path / "killed"
    arguments, points = kill.argv(corpus, killed, "--workers", "2"), kill.points(killed, exams=5)
    assert kill.killed(arguments, points["5 exams"], delay_s=0, group=True)
    assert kill.killed(arguments, points["writing"], delay_s=0, group=False)
    kill.finish(arguments)
    kill.compare(kill.tree(killed), kill.tree(whole))
