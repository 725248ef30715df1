"""The weights that ship: small, intact, and they follow the report."""

import json
from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax.jobs.rows import read_table
from ffa_sora_jax.phantom import oracle
from ffa_sora_jax.pipelines import TextToVideo
from ffa_sora_jax.pipelines.text_to_video import SHIPPED

ROOT = Path(__file__).parents[2]
PROMPTS = ROOT / "tests" / "golden" / "text" / "figure2_prompts.json"


@pytest.fixture(scope="module")
def shipped():
    return TextToVideo.from_pretrained()


def test_they_are_small_and_named_by_their_fingerprint(shipped):
    size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    assert size < 30e6
    index = json.loads((SHIPPED / "model_index.json").read_text(encoding="utf-8"))
    assert shipped.fingerprint == index["fingerprint"]
    assert (shipped.sampling.size, shipped.sampling.num_frames) == (64, 21)
    assert (np.diff(shipped.sampling.times_s) > 0).all()


def test_the_reports_of_figure_2_fit(shipped):
    prompts = json.loads(PROMPTS.read_text(encoding="utf-8"))["prompts"]
    rows = read_table(ROOT / "docs" / "figure2.csv")
    assert sorted(row.report for row in rows) == sorted(prompts.values()) and len(rows) == 8
    for row in rows:
        shipped.check_report(row.report)


def test_samples_show_the_eye_and_the_phases_of_their_report(shipped):
    finding = "1. The arterial filling and venous return time were basically normal."
    reports = [f"{side} eye FFA: {finding}" for side in ("Right", "Left")] * 2
    results = shipped(reports, seed=[0, 0, 1, 1], num_steps=10)
    sides = [oracle.laterality(result.video) for result in results]
    assert sides == ["right", "left"] * 2
    for result in results:
        frames = result.video.astype(float).mean(axis=(1, 2))
        assert frames[0] < 0.25 * frames.max()  # dark before the dye
        assert frames[-1] < 0.8 * frames.max()  # fading at the end
