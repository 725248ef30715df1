"""The files of a result: complete, readable, and plainly synthetic."""

import json

import numpy as np
import pytest
from PIL import Image

from ffa_sora_jax.pipelines.result import VideoResult, enlarge, stamp
from ffa_sora_jax.video import io


@pytest.fixture
def result():
    rng = np.random.default_rng(0)
    return VideoResult(
        video=rng.integers(0, 120, (21, 64, 64), dtype=np.uint8),
        times_s=np.geomspace(2, 600, 21).astype(np.float32),
        report="Left eye FFA: 1. Größe normal.",
        seed=7,
        settings={"sampler": "ddim", "num_steps": 4},
        fingerprint="0123456789abcdef",
    )


@pytest.mark.parametrize("ending", ["webp", "gif", "mp4"])
def test_three_files_that_say_synthetic(result, tmp_path, ending):
    if ending == "mp4":
        pytest.importorskip("av")
    video, sheet, sidecar = result.save(tmp_path / "new" / f"a.{ending}")
    assert {p.name for p in video.parent.iterdir()} == {f"a.{ending}", "a.sheet.png", "a.json"}
    frames, _ = io.load_video(video)
    assert frames.shape == (21, 256, 256)
    note = io.read_note(video)
    assert "SYNTHETIC" in note["notice"]
    assert json.loads(note["text"])["report"] == result.report
    facts = json.loads(sidecar.read_text(encoding="utf-8"))
    assert facts["synthetic"] is True
    assert (facts["report"], facts["seed"]) == (result.report, 7)
    assert facts["settings"] == {"sampler": "ddim", "num_steps": 4}
    assert facts["weights_fingerprint"] == "0123456789abcdef"
    assert len(facts["times_s"]) == 21 and facts["marked"] is True
    assert Image.open(sheet).size[0] > 7 * 64


def test_own_pixels_without_mark_are_exact(result, tmp_path):
    video, _, sidecar = result.save(tmp_path / "a.webp", min_px=0, mark=False)
    frames, _ = io.load_video(video)
    np.testing.assert_array_equal(frames, result.video)
    facts = json.loads(sidecar.read_text(encoding="utf-8"))
    assert facts["marked"] is False and facts["synthetic"] is True


def test_saving_twice_gives_the_same_bytes(result, tmp_path):
    first = result.save(tmp_path / "one" / "a.webp")
    second = result.save(tmp_path / "two" / "a.webp")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_the_mark_covers_a_corner_and_nothing_else(result):
    marked = stamp(enlarge(result.video, 256))
    changed = (marked != enlarge(result.video, 256)).any(axis=0)
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 200 and rows.min() > 220 and columns.max() < 140


def test_enlarging_is_by_a_whole_factor(result):
    assert enlarge(result.video, 200).shape == (21, 256, 256)
    assert enlarge(result.video, 64) is result.video
    assert enlarge(result.video, 0) is result.video


def test_an_unknown_ending_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match="Unknown video format 'avi'"):
        result.save(tmp_path / "a.avi")


def test_a_failed_write_leaves_no_half_file(result, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "a.webp")
    assert not list(tmp_path.iterdir())
