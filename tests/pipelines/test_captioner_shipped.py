"""The captioner that ships: small, and it names what is there more often than guessing does."""

import numpy as np
import pytest

from ffa_sora_jax import phantom
from ffa_sora_jax.metrics.wording import named
from ffa_sora_jax.phantom.oracle_rules import CLASSES
from ffa_sora_jax.pipelines.video_to_report import SHIPPED, VideoToReport

SEED, COUNT = 902, 24  # a population that nothing was trained or measured on


@pytest.fixture(scope="module")
def read():
    """What the true reports name, and what is named in those that were written."""
    exams = [phantom.generate(SEED, i, size=64, schedule="full") for i in range(COUNT)]
    written = VideoToReport.from_pretrained()([exam.video for exam in exams], batch_size=COUNT)
    return [named(exam.report) for exam in exams], [named(text) for text in written]


def test_they_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 6e6


def test_findings_are_recovered(read):
    """Better than the best answer that does not look, see docs/captioner.md."""
    there, said = (np.array([[c in r.classes for c in CLASSES] for r in side]) for side in read)
    fixed = np.tile([c in ("leak", "blocked", "microaneurysms") for c in CLASSES], (COUNT, 1))
    f1, floor = (2 * (there & x).sum() / (there.sum() + x.sum()) for x in (said, fixed))
    assert f1 > floor + 0.05


def test_it_tells_left_from_right(read):
    there, said = ([report.eye for report in side] for side in read)
    assert sum(a == b for a, b in zip(there, said, strict=True)) >= COUNT - 1
