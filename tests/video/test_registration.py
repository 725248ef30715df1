"""Known moves are found and undone."""

import cv2
import numpy as np
import pytest

from ffa_sora_jax.video.registration import register
from tests.video.scenes import phantom


def moved(frame, x, y, turn_deg):
    """Content to the right, down (shares of the width) and clockwise."""
    size = frame.shape[0]
    middle = ((size - 1) / 2, (size - 1) / 2)
    matrix = cv2.getRotationMatrix2D(middle, -turn_deg, 1.0)
    matrix[:, 2] += (x * size, y * size)
    return cv2.warpAffine(frame, matrix, (size, size))


@pytest.mark.parametrize(("x", "y", "turn"), [(0.03, -0.02, 0), (0, 0, 2.5), (-0.05, 0.04, -3)])
def test_a_move_is_found_and_undone(x, y, turn):
    video = phantom().video[[12, 13]]
    shaken = np.stack([video[0], moved(video[1], x, y, turn)])
    before, moves = register(video, 0)
    after, shaken_moves = register(shaken, 0)
    own, total = moves[1], shaken_moves[1]  # the phantom's eye moves a little, too
    assert total.applied
    assert total.x - own.x == pytest.approx(-x, abs=0.004)
    assert total.y - own.y == pytest.approx(-y, abs=0.004)
    assert total.turn_deg - own.turn_deg == pytest.approx(-turn, abs=0.2)
    middle = np.s_[48:-48, 48:-48]
    left = np.abs(after[1].astype(int) - before[1])[middle].mean()
    was = np.abs(shaken[1].astype(int) - video[1])[middle].mean()
    assert left < 0.35 * was
    np.testing.assert_array_equal(after[0], video[0])


def test_the_size_of_the_clip_does_not_matter():
    small = phantom().video[[12, 13]]
    large = np.stack([cv2.resize(f, (384, 384)) for f in small])
    a, b = (register(v, 0)[1][1] for v in (small, large))
    assert (a.x, a.y) == pytest.approx((b.x, b.y), abs=0.003)


def test_another_eye_or_a_black_frame_stays_as_it_is():
    video = np.stack([phantom().video[12], np.zeros((256, 256), np.uint8), phantom(3).video[12]])
    video[2] = moved(video[2], 0.3, 0.2, 0)
    after, moves = register(video, 0)
    assert [m.applied for m in moves] == [True, False, False]
    np.testing.assert_array_equal(after, video)
