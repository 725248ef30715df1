import json
import shutil

import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.common import interrupts
from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.jobs import audit
from ffa_sora_jax.jobs.clips import ClipItem
from ffa_sora_jax.privacy import disturb
from ffa_sora_jax.video import io
from tests.privacy.eyes import clip

TRAIN, OTHER, MADE = 71, 72, 73
NUM_TRAIN, NUM_HOLDOUT, NUM_MADE = 14, 10, 6


def write(folder, name, video, **facts):
    io.save_video(folder / f"{name}.gif", video)
    (folder / f"{name}.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("audit")
    for name, seed, count in (("train", TRAIN, NUM_TRAIN), ("holdout", OTHER, NUM_HOLDOUT)):
        (root / name).mkdir()
        for i in range(count):
            facts = {"patient": f"secret-{name}-{i}", "report": f"{name} {i}", "eye": "right"}
            write(root / name, f"private{i:02d}", clip(seed, i), **facts)
    (root / "made").mkdir()
    for i in range(NUM_MADE):
        write(root / "made", f"new{i}", clip(MADE, i), synthetic=True, report=f"train {i}")
    copy = disturb.several(clip(TRAIN, 5), np.random.default_rng(0))
    write(root / "made", "copied", copy, synthetic=True)
    return root


def command(root, output, *more):
    return [
        "audit", "--generated", str(root / "made"), "--train", str(root / "train"),
        "--holdout", str(root / "holdout"), "--output", str(output), "--controls", "12", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(folders):
    output = folders / "audit"
    code = cli.main(command(folders, output, "--release", str(folders / "share"), "--keep-work"))
    return code, output


def test_a_copy_is_named_and_the_rest_released(folders, done, capsys):
    code, output = done
    report = json.loads((output / "audit.json").read_text())
    assert code == audit.FOUND and report["verdict"] == "copies found"
    bad = [s for s in report["samples"] if s["verdict"] != "clean"]
    assert [s["name"] for s in bad] == ["copied"] and bad[0]["verdict"] == "match"
    assert {d["training_clip"] for n, d in bad[0]["detectors"].items() if n != "print"} == {5}
    shared = {p.name for p in (folders / "share").iterdir()}
    names = {f"new{i}.{end}" for i in range(NUM_MADE) for end in ("gif", "json")}
    assert shared == names | {"release.json"}
    manifest = json.loads((folders / "share" / "release.json").read_text())
    assert manifest["clips"] == NUM_MADE and set(manifest["sha256"]) == names
    assert "copied" not in json.dumps(manifest)
    assert (folders / "made" / "copied.gif").exists()  # nothing is deleted


def test_outputs_name_nobody(folders, done):
    _, output = done
    for name in ("audit.json", "audit.html"):
        text = (output / name).read_text()
        for secret in ("secret", "private", str(folders), "train 3"):
            assert secret not in text, (name, secret)
    page = (output / "audit.html").read_text()
    assert "Copies of training data were found" in page and "copied" in page
    assert "What cannot be concluded" in page and "<img" not in page


def test_an_audit_that_was_stopped_goes_on_to_the_same_report(folders, done, monkeypatch):
    _, output = done
    advance, steps = Progress.advance, []

    def stop(self, count=1):
        steps.append(1)
        if len(steps) == 40:
            raise KeyboardInterrupt
        advance(self, count)

    again = folders / "again"
    monkeypatch.setattr(Progress, "advance", stop)
    assert cli.main(command(folders, again)) == interrupts.STOPPED
    assert not (again / "audit.json").exists()
    kept = sorted((again / "work" / "traces").iterdir())
    assert kept
    kept[0].write_bytes(b"damaged")
    monkeypatch.setattr(Progress, "advance", advance)
    assert cli.main(command(folders, again)) == audit.FOUND
    for name in ("audit.json", "audit.html"):
        assert (again / name).read_bytes() == (output / name).read_bytes()
    assert not (again / "work").exists()  # maps of real eyes do not stay


def test_bad_clips_are_withheld_and_counted(folders, done, capsys):
    _, output = done
    made = folders / "made"
    (made / "torn.gif").write_bytes((made / "new0.gif").read_bytes()[:500])
    write(made, "black", np.zeros((21, 64, 64), np.uint8))
    try:
        code = cli.main(
            command(folders, output, "--release", str(folders / "share2"), "--keep-work")
        )
    finally:
        for name in ("torn.gif", "black.gif", "black.json"):
            (made / name).unlink()
    text = capsys.readouterr().out
    assert code == audit.FOUND and "unreadable: torn" in text and "undecided: black" in text
    for name in ("audit.json", "audit.html"):
        assert str(made) not in (output / name).read_text()
    assert not {"torn.gif", "black.gif"} & {p.name for p in (folders / "share2").iterdir()}


def test_features_of_another_network_are_tested_too(folders, done, tmp_path, capsys):
    _, output = done
    rng = np.random.default_rng(0)
    arrays = {
        "generated": rng.normal(size=(NUM_MADE + 1, 8)),
        "train": rng.normal(size=(NUM_TRAIN, 8)),
        "holdout": rng.normal(size=(NUM_HOLDOUT, 8)),
    }
    np.savez(tmp_path / "clipnet.npz", **arrays)
    shutil.copytree(output / "work", tmp_path / "out" / "work")
    features = ["--features", str(tmp_path / "clipnet.npz")]
    cli.main(command(folders, tmp_path / "out", *features))
    report = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert set(report["nearness"]) == {"grey+vessels", "clipnet"}
    assert report["nearness"]["grey+vessels"]["by_report"]["train"]["queries"] == NUM_MADE
    np.savez(tmp_path / "clipnet.npz", **{**arrays, "train": arrays["train"][:3]})
    assert cli.main(command(folders, tmp_path / "out", *features)) == 2
    assert "train has shape (3, 8)" in capsys.readouterr().err


def test_bad_usage_is_named(folders, done, tmp_path, capsys):
    made = str(folders / "made")
    cases = [
        (["--release", made], "separate folders"),
        (["--false-positive-rate", "2"], "between 0 and 1"),
        (["--controls", "1"], "2 or more"),
        (["--holdout", str(folders / "train")], "the same clips"),
        (["--train", str(tmp_path / "nowhere")], "is no folder"),
        (["--features", str(folders / "made" / "new0.json")], "cannot be read"),
    ]
    for more, message in cases:
        assert cli.main(command(folders, tmp_path / "out", *more)) == 2, more
        assert message in capsys.readouterr().err, more
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "old.gif").write_bytes(b"x")
    shutil.copytree(done[1] / "work", tmp_path / "out" / "work")
    assert cli.main(command(folders, tmp_path / "out", "--release", str(tmp_path / "share"))) == 2
    assert "old.gif" in capsys.readouterr().err
    assert not (tmp_path / "out" / "audit.json").exists()  # known before the long work


def test_training_clips_that_would_not_be_seen_stop_it(folders, tmp_path, capsys):
    train = tmp_path / "train"
    shutil.copytree(folders / "train", train)
    sidecar = train / "private00.json"
    sidecar.write_text("{")
    assert cli.main(command(folders, tmp_path / "out", "--train", str(train))) == 2
    said = capsys.readouterr().err
    assert f"such as {sidecar.stem}" in said and "An audit must see all of them" in said


def test_only_files_that_were_examined_are_released(folders, done, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    shutil.copy(folders / "made" / "new0.gif", made / "new0.gif")
    io.save_video(made / "new1", clip(MADE, 1))  # a folder of frames
    io.save_video(made / "copy", clip(TRAIN, 5))
    (made / "copy").rename(made / "new0.v2")  # starts like the name of a clean clip
    for name in ("new0.dcm", "new0.png", "new1/original.dcm"):
        (made / name).write_bytes(b"never examined")
    output, share = tmp_path / "out", tmp_path / "share"
    shutil.copytree(done[1] / "work", output / "work")
    more = ["--generated", str(made), "--release", str(share)]
    assert cli.main(command(folders, output, *more)) == audit.FOUND
    shared = {p.relative_to(share).as_posix() for p in share.rglob("*") if p.is_file()}
    frames = {p.relative_to(made).as_posix() for p in (made / "new1").glob("*.png")}
    assert frames and shared == {"new0.gif", "release.json"} | frames


def test_a_clip_that_changed_after_its_examination_is_not_released(tmp_path):
    (tmp_path / "new.gif").write_bytes(b"other")
    with pytest.raises(ValueError, match="has changed"):
        audit._files_of(tmp_path, "new", "digest of what was examined")


def test_a_blank_patient_is_an_unknown_one():
    def patient(value):
        return audit._subject(ClipItem("a", "b", lambda: None, patient=value)).patient

    assert [patient(value) for value in ("17 ", " ", "", None)] == ["17", None, None, None]
