"""Evaluation end to end: the numbers, resuming, sharding, devices, and what is refused."""

import csv
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.jobs import evaluate_results, evaluate_rows
from ffa_sora_jax.jobs.manifest import Manifest
from ffa_sora_jax.metrics import registry
from ffa_sora_jax.metrics.bootstrap import Interval
from ffa_sora_jax.metrics.pixel import psnr
from ffa_sora_jax.video import io
from tests.metrics import toys

COUNT, FRAMES, SIDE = 9, 3, 16
WRITTEN = ("results.json", "results.md", "index.html", "per_clip.csv")
REPORTS = [f"Right eye: {'leak ' * (i // 2 + 1)}" for i in range(COUNT)]  # pairs share a report


def video(seed, level):
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    return rng.integers(0, 40, (FRAMES, SIDE, SIDE)).astype(np.uint8) + np.uint8(level)


def write(folder, name, frames, **facts):
    io.save_video(folder / f"{name}.webp", frames)
    (folder / f"{name}.json").write_text(json.dumps({"synthetic": True, **facts}))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Nine references of five reports, and a generated clip for each."""
    root = tmp_path_factory.mktemp("clips")
    (root / "real").mkdir(), (root / "made").mkdir()
    for i in range(COUNT):
        facts = {"report": REPORTS[i], "patient": f"p{i // 3}", "times_s": [0.0, 1.0, 2.0]}
        write(root / "real", f"eye{i}", video(i, 20 * i), **facts)
        write(root / "made", f"eye{i}-s5", video(100 + i, 20 * i + 10), report=REPORTS[i])
    return root


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for entry in toys.ENTRIES:
        monkeypatch.setitem(registry.METRICS, entry.name, entry)


def argv(clips, output, *more, metrics="psnr"):
    return [
        "evaluate", "--generated", str(clips / "made"), "--reference", str(clips / "real"),
        "--output", str(output), "--metrics", metrics, "--frames", str(FRAMES),
        "--replicates", "200", *more,
    ]  # fmt: skip


def results(output):
    return json.loads((output / "results.json").read_text("utf-8"))


def contents(output):
    return {name: (output / name).read_bytes() for name in WRITTEN}


@pytest.fixture(scope="module")
def done(clips, tmp_path_factory):
    """One evaluation from beginning to end."""
    output = tmp_path_factory.mktemp("done") / "out"
    assert cli.main(argv(clips, output)) == 0
    return output


def test_the_numbers(clips, done):
    expected = [
        float(psnr(*(v[..., None] / 255.0 for v in (video(100 + i, 20 * i + 10), video(i, 20 * i))))
              .mean())
        for i in range(COUNT)
    ]  # fmt: skip
    found = results(done)
    record = found["metrics"]["psnr"]
    assert record["value"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert record["n"] == COUNT and record["frames"] == FRAMES and record["size"] == [SIDE, SIDE]
    interval = record["interval"]
    assert interval["low"] < record["value"] < interval["high"]
    assert interval["clusters"] == 3 and interval["clustered_by"] == "patient"
    assert record["paper"]["value"] == "11.81" and record["paper"]["caveat"]
    order = np.argsort(expected)
    assert record["cases"]["worst"] == f"eye{order[0]}-s5"
    assert record["cases"]["best"] == f"eye{order[-1]}-s5"
    assert found["pairing"]["rule"] == "name" and not found["failed"]
    rows = list(csv.DictReader((done / "per_clip.csv").open()))
    assert [float(row["psnr"]) for row in rows] == pytest.approx(expected, rel=1e-5)
    assert rows[3]["clip"] == "eye3-s5" and rows[3]["reference"] == "eye3"


def test_the_floor_of_pairs_is_another_real_clip_of_the_same_report(clips, done):
    """Eight of nine references share a report with their neighbour."""
    floor = results(done)["metrics"]["psnr"]["floor"]
    pairs = [(2 * k, 2 * k + 1) for k in range(4)]
    expected = np.mean(
        [float(psnr(*(video(i, 20 * i)[..., None] / 255.0 for i in p)).mean()) for p in pairs]
    )
    assert "same report" in floor["what"] and floor["n"] == 8
    assert floor["value"] == pytest.approx(expected, rel=1e-5)


def test_the_page_shows_best_median_and_worst(done):
    text = (done / "index.html").read_text("utf-8")
    assert text.count("data:image/webp;base64,") == 3 and "://" not in text
    for word in ("best: eye", "median: eye", "worst: eye", "SYNTHETIC", "95 % interval", "11.81"):
        assert word in text
    table = (done / "results.md").read_text("utf-8")
    assert "| PSNR |" in table and "never a target" not in table and "fundus photo" in table


def test_a_stopped_evaluation_goes_on_and_writes_the_same(clips, done, tmp_path, monkeypatch):
    put, seen = evaluate_rows.Rows.put, []

    def put_three(self, case, row):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(case)
        put(self, case, row)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_rows.Rows, "put", put_three)
        assert cli.main(argv(clips, tmp_path)) == 1
    assert not (tmp_path / "results.json").exists()
    rows = list((tmp_path / "rows").rglob("*.npy"))
    assert len(rows) == 3
    rows[0].write_bytes(rows[0].read_bytes()[:50])  # and a damaged row is measured again
    counted = []
    monkeypatch.setattr(
        evaluate_rows.Rows, "put", lambda s, c, r: (counted.append(c), put(s, c, r))
    )
    assert cli.main(argv(clips, tmp_path)) == 0
    assert len(counted) == COUNT + 8 - 2
    assert contents(tmp_path) == contents(done)


def test_one_device_and_eight_give_the_same_bytes(clips, done, tmp_path, monkeypatch):
    assert len(jax.local_devices()) == 8
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    assert cli.main(argv(clips, tmp_path)) == 0
    one, eight = (
        {path.name: path.read_bytes() for path in folder.rglob("*.npy")}
        for folder in (tmp_path, done)
    )
    assert one == eight and contents(tmp_path) == contents(done)


def test_shards_do_the_work_and_one_call_writes_the_results(clips, done, tmp_path, capsys):
    for shard in ("0/3", "2/3"):
        assert cli.main(argv(clips, tmp_path, "--shard", shard)) == 0
    assert "cases are left to other processes" in capsys.readouterr().out
    assert not (tmp_path / "results.json").exists()
    assert cli.main(argv(clips, tmp_path, "--shard", "1/3")) == 0
    assert contents(tmp_path) == contents(done)


def test_distances_of_sets(clips, tmp_path):
    metrics = "shift,spread,hits"
    toys.CALLS.clear()
    assert cli.main(argv(clips, tmp_path, metrics=metrics)) == 0
    made = np.array([video(100 + i, 20 * i + 10).mean() for i in range(COUNT)]) / 127.5 - 1
    real = np.array([video(i, 20 * i).mean() for i in range(COUNT)]) / 127.5 - 1
    found = results(tmp_path)["metrics"]
    assert found["shift"]["value"] == pytest.approx(abs(made.mean() - real.mean()), rel=1e-4)
    assert found["spread"]["value"] == pytest.approx(abs(made.std() - real.std()), abs=1e-5)
    floor = found["shift"]["floor"]
    assert 3 <= floor["n"] <= 4 and floor["value"] > 0 and floor["generated_at_this_n"] > 0
    # 10 levels brighter, and within 0.1 (12.75 levels) where the noise does not add to it
    near = (np.abs(made - real) < 0.1).mean()
    assert found["hits"]["value"] == pytest.approx(near) and found["hits"]["floor"] is None
    assert len(toys.CALLS) == 2 * COUNT
    stores = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "rows").iterdir())
    assert stores == ["hits", "means"]  # two values of one set of features


def test_bounds_end_where_the_metric_does():
    plan, distance = SimpleNamespace(clustered_by=str), SimpleNamespace(value_range=(0.0, np.inf))
    bounds = evaluate_results._interval(Interval(-3.0, 4.0, 5, "half-samples"), plan, distance)
    assert (bounds["low"], bounds["high"]) == (0.0, 4.0)
    nothing = evaluate_results._interval(Interval(np.nan, np.nan, 1, "x"), plan, distance)
    assert nothing["low"] is None and nothing["high"] is None


def test_texts(clips, tmp_path):
    table = tmp_path / "read.csv"
    table.write_text("id,report\n" + "".join(f"eye{i}-s5,{REPORTS[i]} x\n" for i in range(COUNT)))
    more = ("--candidate-reports", str(table))
    output = tmp_path / "out"
    assert cli.main(argv(clips, output, *more, metrics="letters,prompted")) == 0
    found = results(output)["metrics"]
    # every candidate is two letters longer; `setup` saw five different reports
    assert found["letters"]["value"] == pytest.approx(2 / 5, rel=1e-6)
    assert "reference reports" in found["letters"]["weights"]
    assert "chance" in found["letters"]["floor"]["what"] and found["letters"]["floor"]["value"] > 1
    bright = [video(100 + i, 20 * i + 10).mean() / 127.5 - 1 for i in range(COUNT)]
    expected = np.mean([len(r) * b for r, b in zip(REPORTS, bright, strict=True)])
    assert found["prompted"]["value"] == pytest.approx(expected, abs=1e-3)
    assert found["prompted"]["floor"]["n"] == COUNT


def test_reports_of_other_programs_are_found_by_file_and_may_be_empty(clips, tmp_path, capsys):
    table = tmp_path / "read.jsonl"
    rows = [{"video": f"made/eye{i}-s5.webp", "caption": REPORTS[i]} for i in range(COUNT)]
    rows[0]["caption"] = ""
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ("--candidate-reports", str(table))
    assert cli.main(argv(clips, tmp_path / "out", *more, metrics="letters")) == 0
    found = results(tmp_path / "out")["metrics"]["letters"]
    assert (found["n"], found["unmeasured"]) == (COUNT, 0)
    letters = len(REPORTS[0]) + COUNT - 1  # the others lack the blank at their end only
    assert found["value"] == pytest.approx(letters / 5 / COUNT, rel=1e-6)
    assert "1 candidate reports are empty" in capsys.readouterr().err


def test_clips_whose_report_nobody_read_are_named(clips, tmp_path):
    table = tmp_path / "few.csv"
    table.write_text("id,report\n" + "".join(f"eye{i}-s5,{REPORTS[i]}\n" for i in range(3)))
    given = argv(clips, tmp_path, "--candidate-reports", str(table), metrics="report_findings")
    assert cli.main(given) == 3
    found = results(tmp_path)
    assert found["metrics"]["report_findings"]["n"] == 3
    assert found["metrics"]["report_findings"]["unmeasured"] == COUNT - 3
    assert [entry["clip"] for entry in found["failed"]] == [f"eye{i}-s5" for i in range(3, COUNT)]


def test_clips_that_cannot_be_measured_are_named(clips, tmp_path, capsys):
    made = tmp_path / "made"
    made.mkdir()
    for path in (clips / "made").iterdir():
        (made / path.name).write_bytes(path.read_bytes())
    whole = (made / "eye8-s5.webp").read_bytes()
    (made / "eye8-s5.webp").write_bytes(whole[: len(whole) // 2])
    write(made, "stranger", video(1, 5))
    write(made, "torn", video(1, 5))
    (made / "torn.json").write_text("{")
    given = argv(clips, tmp_path / "out", "--pair", "name", metrics="psnr,bad")
    given[given.index("--generated") + 1] = str(made)
    assert cli.main(given) == 3
    found = results(tmp_path / "out")
    reasons = {entry["clip"]: entry["reason"] for entry in found["failed"]}
    assert "no reference has its name" in reasons["stranger"]
    assert "is no JSON" in reasons["torn"]
    assert "cannot be read" in reasons["eye8-s5"]
    assert "not finite" in reasons["eye0-s5"]  # the dark ones
    assert found["metrics"]["psnr"]["n"] == COUNT - 1
    assert found["metrics"]["psnr"]["unmeasured"] == 1
    assert "failed: stranger" in capsys.readouterr().err


def test_outputs_of_sample_are_read_through_their_manifest(clips, tmp_path, capsys):
    made = tmp_path / "made"
    made.mkdir()
    manifest = Manifest(made)
    for i in range(4):
        big = np.repeat(np.repeat(video(i, 20 * i), 2, 1), 2, 2)
        write(
            made, f"eye{i}", big, report=REPORTS[i], height=SIDE, width=SIDE, shown_px=2 * SIDE,
            marked=True, weights_fingerprint="abc", settings={"num_steps": 5},
        )  # fmt: skip
        manifest.add_done(f"eye{i}", "k", [made / f"eye{i}.webp", made / f"eye{i}.json"])
    manifest.add_failed("eye4", "the model gave values that are not finite")
    write(made, "eye5", video(5, 100))  # not in the manifest
    (made / "eye3.webp").write_bytes(b"changed since")
    given = argv(clips, tmp_path / "out")
    given[given.index("--generated") + 1] = str(made / "manifest.jsonl")
    assert cli.main(given) == 3
    found = results(tmp_path / "out")
    assert found["metrics"]["psnr"]["value"] == pytest.approx(100.0)  # brought back to its pixels
    assert found["metrics"]["psnr"]["n"] == 3
    assert sorted(entry["clip"] for entry in found["failed"]) == ["eye3", "eye4"]
    assert found["generated"]["weights"] == "abc"
    assert found["generated"]["sampling"] == {"num_steps": 5}
    assert any("SYNTHETIC" in remark for remark in found["remarks"])
    assert any("enlarged" in remark for remark in found["remarks"])


def test_against_a_prepared_dataset(data_dir, tmp_path):
    from ffa_sora_jax.data import prepared

    folder = prepared.dataset_folder(data_dir, "phantom/64")
    split = prepared.read_split(folder, "validation")
    made = tmp_path / "made"
    made.mkdir()
    for index in range(len(split)):
        record = split.read([index])[0]
        info = split.info(record, index)
        write(made, f"clip{index}", np.asarray(record["video"])[..., 0], report=info.report)
    given = [
        "evaluate", "--generated", str(made), "--reference", "phantom/64", "--split", "validation",
        "--data-dir", str(data_dir), "--output", str(tmp_path / "out"), "--metrics", "psnr",
    ]  # fmt: skip
    assert cli.main(given) == 0
    found = results(tmp_path / "out")
    assert found["pairing"]["rule"] == "report"
    assert found["metrics"]["psnr"]["value"] == pytest.approx(100.0)
    assert found["reference"]["where"].endswith("validation")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--metrics", "pnsr"], "Did you mean 'psnr'"),
        (["--metrics", ","], "give names such as"),
        (["--metrics", "fvd"], "i3d_pretrained_400.pt"),
        (["--metrics", "letters"], "--candidate-reports"),
        (["--generated", "nowhere"], "--generated nowhere is no folder"),
        (["--reference", "nowhere"], "--reference nowhere is no folder"),
        (["--weights", "nowhere"], "--weights nowhere is no folder"),
        (["--pair", "names"], "Did you mean 'name'"),
        (["--size", "8"], "must lie in 16"),
        (["--frames", "0"], "must lie in 1"),
        (["--seed", "-1"], "0 or more"),
        (["--replicates", "10"], "at least 100"),
        (["--shard", "3/3"], "I runs from 0"),
        (["--output", "FILE"], "must be a folder"),
        (["--candidate-reports", "nowhere.csv"], "No table"),
    ],
)
def test_bad_usage(clips, tmp_path, capsys, more, message):
    (tmp_path / "file").write_text("x")
    more = [str(tmp_path / "file") if word == "FILE" else word for word in more]
    assert cli.main([*argv(clips, tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written_is_bad_usage(clips, tmp_path, capsys):
    (tmp_path / "out" / ".lock-00000-of-00001").mkdir(parents=True)
    assert cli.main(argv(clips, tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "out") in said and "safe" not in said


def test_sizes_that_differ_need_a_decision(clips, tmp_path, capsys):
    made = tmp_path / "made"
    made.mkdir()
    for i in range(COUNT):
        write(made, f"eye{i}", np.repeat(np.repeat(video(i, 20 * i), 2, 1), 2, 2))
    given = argv(clips, tmp_path / "out")
    given[given.index("--generated") + 1] = str(made)
    assert cli.main(given) == 2
    assert "32 x 32 px, the references 16 x 16" in capsys.readouterr().err
    assert cli.main([*given, "--size", "16"]) == 0
    assert results(tmp_path / "out")["metrics"]["psnr"]["value"] == pytest.approx(100.0)


def test_one_pair_that_a_metric_refuses_stops_no_other(tmp_path, capsys):
    """The times of one clip come after all times of its reference: no dye curve there."""
    for side in ("real", "made"):
        (tmp_path / side).mkdir()
        for i in range(3):
            times = [90.0, 95.0, 99.0] if (side, i) == ("made", 1) else [5.0, 10.0, 40.0]
            write(tmp_path / side, f"eye{i}", video(i, 60), times_s=times)
    assert cli.main(argv(tmp_path, tmp_path / "out", metrics="dye,psnr")) == 3
    found = results(tmp_path / "out")["metrics"]
    assert (found["dye"]["n"], found["dye"]["unmeasured"], found["psnr"]["n"]) == (2, 1, 3)
    assert "failed: eye1: dye: The clips share no time" in capsys.readouterr().err


def test_what_clips_are_too_few_for_is_said(clips, tmp_path, capsys):
    (tmp_path / "made").mkdir()
    for i in (0, 2, 4, 6, 8):
        for path in (clips / "made").glob(f"eye{i}-*"):
            (tmp_path / "made" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "real").symlink_to(clips / "real")
    assert cli.main(argv(tmp_path, tmp_path / "out", metrics="recall,vessels")) == 0
    out, err = capsys.readouterr()
    assert "K = 10, 50 is more than the references" in err and "chance: " in out
    floor = results(tmp_path / "out")["metrics"]["vessels"]["floor"]
    assert floor["what"] == "real clips by themselves"  # says nothing of chance
    given = argv(tmp_path, tmp_path / "one", metrics="shift")
    for path in (tmp_path / "made").glob("eye[2468]*"):
        path.unlink()
    assert cli.main(given) == 3
    record = results(tmp_path / "one")["metrics"]["shift"]
    assert record["value"] is None and (record["n"], record["n_reference"]) == (1, COUNT)
    assert "has no value: too few clips" in capsys.readouterr().err


def test_a_table_cut_short_is_named(clips, tmp_path, capsys):
    (tmp_path / "q.csv").write_text('id,report\neye0-s5,"Right eye\n')
    assert cli.main(argv(clips, tmp_path, "--candidate-reports", str(tmp_path / "q.csv"))) == 2
    assert "q.csv, line" in capsys.readouterr().err
