"""The loader benchmark runs, counts clips, and says when they come too slowly."""

import json
import time

import numpy as np

from benchmarks import loader
from ffa_sora_jax.common.types import Clip
from tests.data.conftest import data_dir

__all__ = ["data_dir"]


class Steady:
    """Batches of four clips, every 20 ms."""

    def iterate(self, start_step):
        while True:
            time.sleep(0.02)
            yield Clip(video=None, frame_mask=np.ones((4, 21), bool))


def test_clips_per_second_are_those_of_the_source():
    measured = loader.measure(Steady(), 0.3)
    assert 60 < measured["clips_per_s"] <= 200 and measured["cpu_s"] < 0.02


def test_a_prepared_dataset_is_measured(data_dir, tmp_path, capsys):
    argv = ["--dataset", "phantom/64", "--data-dir", str(data_dir), "--seconds", "0.1"]
    assert loader.main([*argv, "--output", str(tmp_path / "a.json")]) == 0
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["what"] for row in rows] == ["video", "latents"]
    said = capsys.readouterr().out
    assert "phantom/64, 2 threads" in said and "x needed" in said


def test_too_slow_a_loader_fails(data_dir, capsys, monkeypatch):
    monkeypatch.setattr(loader, "measure", lambda *a: {"clips_per_s": 1.0, "cpu_s": 1.0})
    assert loader.main(["--dataset", "phantom/64", "--data-dir", str(data_dir)]) == 1
    assert "0.7 x needed" in capsys.readouterr().out
