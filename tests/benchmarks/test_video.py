"""The programs behind the figures of docs/video.md run and tell good from bad."""

import cv2
import numpy as np

from benchmarks import fingerprints, frames
from ffa_sora_jax.video.fingerprint import NEAR
from tests.video.scenes import other_light, phantom


def test_frames_are_counted_by_kind(tmp_path, capsys):
    for name, picture in (("normal", phantom().video[10]), ("infrared", other_light("infrared"))):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), picture)
    options = ["--other", "infrared", "--pattern", "*.png", "--px", "256"]
    assert frames.main([str(tmp_path), *options]) == 0
    printed = capsys.readouterr().out
    assert "1 angiograms: {'ffa': 1}" in printed
    assert "1 other light: {'infrared': 1}" in printed


def test_distances_of_copies_are_small_and_of_eyes_large():
    eyes = [fingerprints.visits(index, 64, 2) for index in range(2)]
    rows = fingerprints.distances(eyes, 21)
    assert {name: len(values) for name, values in rows.items()} == {
        "copies": 2 * len(fingerprints.COPIES),
        "visits": 2,
        "eyes": 2,
    }
    assert np.median(rows["copies"]) < NEAR / 2 and min(rows["eyes"]) > NEAR
