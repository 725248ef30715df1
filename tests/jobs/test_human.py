"""Readings: choosing and blinding cases, and the statistics of their scores."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.video import io

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "human.npz"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("reading")
    for side, suffix in (("real", ""), ("made", "-s0")):
        (root / side).mkdir()
        for i in range(6):
            io.save_video(root / side / f"eye{i}{suffix}.webp", np.full((3, 16, 16), 9 * i, "u1"))
            facts = {"synthetic": side == "made", "report": f"report {i}"}
            (root / side / f"eye{i}{suffix}.json").write_text(json.dumps(facts))
    return root


def choose(clips, output, *more):
    return cli.main([
        "human", "cases", "--generated", str(clips / "made"), "--reference", str(clips / "real"),
        "--cases", "4", "--output", str(output), *more,
    ])  # fmt: skip


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_cases_are_blinded_and_the_key_finds_them(clips, tmp_path):
    assert choose(clips, tmp_path / "a") == 0
    key, cases = read(tmp_path / "a/key.csv"), read(tmp_path / "a/readers/cases.csv")
    assert len({row["generated"] for row in key}) == 4
    shown = sorted(path.name for path in (tmp_path / "a/readers").iterdir())
    assert not any("eye" in name for name in shown) and "key.csv" not in shown
    for row, case in zip(key, cases, strict=True):
        number = int(row["reference"][3:])
        assert row["generated"] == f"eye{number}-s0" and case["report"] == f"report {number}"
        made, _ = io.load_video(tmp_path / f"a/readers/{row['case']}.webp")
        real, _ = io.load_video(tmp_path / f"a/readers/{row['case']}.reference.webp")
        assert abs(int(made.mean()) - 9 * number) <= 1 and made.shape == real.shape


def test_clips_whose_facts_cannot_be_read_are_named(clips, tmp_path, capsys):
    shutil.copytree(clips, tmp_path / "clips")
    (tmp_path / "clips/made/eye3-s0.json").write_text("{")
    assert choose(tmp_path / "clips", tmp_path / "a") == 0
    assert "left out: eye3-s0: " in capsys.readouterr().err
    assert "eye3-s0" not in {row["generated"] for row in read(tmp_path / "a/key.csv")}


def test_copies_of_real_clips_are_not_called_synthetic(clips, tmp_path):
    assert choose(clips, tmp_path / "a") == 0
    made = io.read_note(tmp_path / "a/readers/case-001.webp")
    real = io.read_note(tmp_path / "a/readers/case-001.reference.webp")
    assert made["notice"].startswith("SYNTHETIC") and real["notice"].startswith("PATIENT DATA")


def test_the_seed_decides(clips, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert choose(clips, tmp_path / name, "--seed", seed, "--no-show-reference") == 0
    a, b, c = (read(tmp_path / name / "key.csv") for name in "abc")
    assert a == b and [row["reference"] for row in a] != [row["reference"] for row in c]
    assert not list((tmp_path / "a").rglob("*reference*"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--cases", "7"], "there are 6 references"),
        (["--cases", "0"], "there are 6 references"),
        (["--readers", "a,a"], "different names"),
        (["--format", "avi"], "Unknown video format"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_bad_choices(clips, tmp_path, capsys, more, message):
    assert choose(clips, tmp_path / "a", *more) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_a_clip_that_cannot_be_shown_leaves_no_half_folder(clips, tmp_path, capsys):
    made = tmp_path / "made"
    made.mkdir()
    for path in (clips / "made").iterdir():
        (made / path.name).write_bytes(path.read_bytes()[: 90 if path.suffix == ".webp" else None])
    assert choose(clips, tmp_path / "out", "--generated", str(made)) == 2
    assert "cannot be shown" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_with_scores_is_not_written_to(clips, tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("x")
    assert choose(clips, tmp_path) == 2
    assert "is not empty" in capsys.readouterr().err


def wide(path, ratings):
    lines = ["case,ann,bob,eva"]
    lines += [f"case-{i:03d},{','.join(map(str, row))}" for i, row in enumerate(ratings)]
    path.write_text("\n".join(lines) + "\n")
    return path


def score(path, tmp_path, *more):
    output = tmp_path / "out.json"
    assert cli.main(["human", "scores", str(path), "--output", str(output), *more]) == 0
    return json.loads(output.read_text())


def test_the_paper_protocol(tmp_path, capsys):
    golden = np.load(GOLDEN)
    found = score(wide(tmp_path / "s.csv", golden["ratings"].tolist()), tmp_path)
    assert found["cases_read_by_all"] == 50
    assert found["readers"]["bob"]["sd"] == pytest.approx(float(golden["rater_sd"][1]))
    agreement = found["agreement"]
    assert agreement["icc"]["ICC(A,1)"] == pytest.approx(float(golden["icc"][1]))
    assert agreement["weighted_kappa"]["ann, eva"] == pytest.approx(float(golden["qwk_pairs"][1]))
    text = capsys.readouterr().out
    assert "Fleiss' kappa 0.403" in text and "ann: 1.580 (SD 0.758)" in text


def test_long_and_wide_tables_say_the_same(tmp_path):
    ratings = [[1, 2, 2], [3, 3, 4], [5, 4, 5], [2, 2, 1]]
    rows, names = ["score,case,reader"], ("ann", "bob", "eva")
    for i, row in enumerate(ratings):
        rows += [f"{v},case-{i:03d},{name}" for v, name in zip(row, names, strict=True)]
    (tmp_path / "long.csv").write_text("\n".join(rows) + "\n")
    assert score(tmp_path / "long.csv", tmp_path) == score(
        wide(tmp_path / "s.csv", ratings), tmp_path
    )


def test_missing_scores_count_where_they_can(tmp_path):
    found = score(wide(tmp_path / "s.csv", [[1, 2, 2], [3, "", 4], [5, 4, 5]]), tmp_path)
    assert found["readers"]["bob"] == {"n": 2, "mean": 3.0, "sd": pytest.approx(2**0.5)}
    assert found["readers"]["ann"]["n"] == 3 and found["cases_read_by_all"] == 2


def test_the_interval_is_of_the_mean_that_is_printed(tmp_path):
    """Four of five cases have one reader only: the cases that both read say 1, the mean 4.2."""
    ratings = ["a,1,1", *(f"{case},5," for case in "bcdefghij")]
    (tmp_path / "s.csv").write_text("\n".join(["case,ann,bob", *ratings, "k,1,1"]) + "\n")
    found = score(tmp_path / "s.csv", tmp_path)
    bounds = found["agreement"]["mean_interval"]
    assert bounds["low"] < found["mean_of_readers"] < bounds["high"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--replicates", "0"], "needs at least 100"),
        (["--seed", "-1"], "must be 0 or more"),
        (["--output", "."], "is a folder"),
    ],
)
def test_bad_options(tmp_path, capsys, more, message):
    (tmp_path / "s.csv").write_text("case,ann\na,2\n")
    assert cli.main(["human", "scores", str(tmp_path / "s.csv"), *more]) == 2
    assert message in capsys.readouterr().err


def test_one_reader_has_a_mean_and_no_agreement(tmp_path, capsys):
    (tmp_path / "s.csv").write_text("case,ann\na,2\nb,3\n")
    assert score(tmp_path / "s.csv", tmp_path)["agreement"] is None
    assert "needs two readers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exam,ann\na,2\n", "expected case, reader, score"),
        ("case,ann,bob\na,2,x\n", "'x' is no score"),
        ("case,ann,bob\na,2,7\nb,1,1\n", "Score 7 is not on the scale"),
        ("case,reader,score\na,ann,2\na,ann,3\n", "has scored case 'a' before"),
        ("case,ann\n,2\n", "has no case"),
        ("case,ann,bob\na,nan,1\nb,1,1\n", "row 2: Score nan is not on the scale"),
        ("case,reader,score\na,ann,7\nb,ann,1\n", "row 2: Score 7 is not on the scale"),
        ("case,reader,score\na,ann,1,5\n", "Row 2 has more cells"),
        ("case,reader,score\na,,1\n", "the score '1' has no reader"),
        ("case,ann\n", "has no scores"),
    ],
)
def test_bad_tables(tmp_path, capsys, text, message):
    (tmp_path / "s.csv").write_text(text)
    assert cli.main(["human", "scores", str(tmp_path / "s.csv")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["1", "1,x", "3,2,1"])
def test_bad_scales(tmp_path, capsys, scale):
    (tmp_path / "s.csv").write_text("case,ann\na,2\n")
    assert cli.main(["human", "scores", str(tmp_path / "s.csv"), "--scale", scale]) == 2
    assert "--scale is" in capsys.readouterr().err
