import cv2
import numpy as np
import pytest

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.video import field
from ffa_sora_jax.video.quality import vessel_area_ratio


def disk(level, size=256):
    c = np.arange(size) + 0.5 - size / 2
    return np.where(np.hypot(c[:, None], c[None]) < 0.51 * size, level, 0).astype(np.float32)


def noisy(level, size=256, sd=8.0):
    rng = np.random.default_rng(0)
    frame = disk(level, size)
    return np.clip(frame + (frame > 0) * rng.normal(0, sd, frame.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [256, 512])
def test_frames_without_vessels_give_zero(size):
    black = np.zeros((size, size), np.uint8)
    noise = np.random.default_rng(0).integers(0, 8, (size, size)).astype(np.uint8)
    blob = disk(50, size) + 150 * np.exp(
        -((np.indices((size, size)) - size / 2) ** 2).sum(axis=0) / (0.1 * size) ** 2
    )
    saturated = np.full((size, size), 255, np.uint8)
    for frame in (black, noise, saturated, noisy(20, size), noisy(60, size), blob.astype(np.uint8)):
        assert vessel_area_ratio(frame) == 0.0


def test_bright_lines_count_with_their_area_and_dark_ones_do_not():
    bright, dark = disk(50), disk(120)
    for k in range(8):
        cv2.line(bright, (40, 60 + 18 * k), (210, 70 + 18 * k), 200.0, 2)
        cv2.line(dark, (40, 60 + 18 * k), (210, 70 + 18 * k), 30.0, 2)
    inside = field.inner((disk(1) > 0).astype(np.uint8)) > 0
    true_share = (bright == 200)[inside].sum() / inside.sum()
    assert vessel_area_ratio(bright.astype(np.uint8)) == pytest.approx(true_share, rel=0.6)
    assert vessel_area_ratio(dark.astype(np.uint8)) < 0.002


def test_phantom_frames_pass_and_channels_do_not_matter():
    video = generate(1, 0, 256, "full", disease="normal").video
    ratios = [vessel_area_ratio(frame) for frame in video]
    assert ratios[0] == 0.0  # before the dye
    assert max(ratios[:2]) < 0.005  # choroidal flush
    assert min(ratios[5:]) > 0.005
    assert np.argmax(ratios) >= 8  # most when the veins are full
    three = np.repeat(video[10][..., None], 3, axis=2)
    assert vessel_area_ratio(three) == ratios[10]


def test_inverted_frames_fail():
    frame = generate(1, 0, 256, disease="normal").video[10]
    assert vessel_area_ratio(np.where(frame > 0, 255 - frame, 0).astype(np.uint8)) < 0.02


def test_sizes_agree():
    frame = generate(1, 3, 512, disease="normal").video[10]
    small = cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA)
    assert vessel_area_ratio(small) == pytest.approx(vessel_area_ratio(frame), rel=0.35)
    assert vessel_area_ratio(cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA)) > 0.005


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="float32"):
        vessel_area_ratio(np.zeros((64, 64), np.float32))
    with pytest.raises(ValueError, match="shape"):
        vessel_area_ratio(np.zeros((64, 64, 4), np.uint8))
