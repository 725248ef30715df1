import concurrent.futures
import hashlib

import numpy as np
import pytest

from ffa_sora_jax.phantom import generate
from ffa_sora_jax.phantom.generator import FULL_S, SCHEDULES, frame_times
from ffa_sora_jax.video.quality import vessel_area_ratio


def digest(seed, index):
    clip = generate(seed, index, size=64)
    return hashlib.sha256(clip.video.tobytes() + clip.report.encode()).hexdigest()


def test_a_clip_depends_on_seed_and_index_only():
    indices = [3, 0, 7, 1]
    alone = {k: digest(5, k) for k in sorted(indices)}
    assert {k: digest(5, k) for k in indices} == alone
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert dict(zip(indices, pool.map(lambda k: digest(5, k), indices), strict=True)) == alone
    assert len(set(alone.values())) == len(indices)
    assert digest(6, 3) != alone[3]


def test_shapes_types_and_contract():
    clip = generate(0, 1, size=64)
    assert clip.video.shape == (21, 64, 64) and clip.video.dtype == np.uint8
    assert clip.times_s.shape == (21,) and clip.times_s.dtype == np.float32
    assert clip.eye in ("right", "left") and clip.report
    assert clip.findings == clip.exam.findings
    assert len(clip.truth.findings) == len(clip.findings)


@pytest.mark.parametrize("index", range(4))
def test_disc_is_nasal(index):
    right, left = (generate(1, index, 64, eye=eye) for eye in ("right", "left"))
    assert right.truth.disc_px[0] > right.truth.fovea_px[0] + 10
    assert left.truth.disc_px[0] < left.truth.fovea_px[0] - 10
    # the left eye is the right eye in the mirror
    assert left.truth.disc_px[0] == pytest.approx(63 - right.truth.disc_px[0])
    np.testing.assert_array_equal(left.video, right.video[:, :, ::-1])
    np.testing.assert_array_equal(left.truth.vein, right.truth.vein[:, ::-1])


def test_late_disc_lies_where_the_truth_says():
    for eye in ("right", "left"):
        clip = generate(2, 0, 128, "full", disease="normal", eye=eye)
        rows, cols = np.mgrid[:128, :128]
        near = np.hypot(cols - clip.truth.disc_px[0], rows - clip.truth.disc_px[1])
        late = clip.video[-1].astype(float)
        ring = (near > 1.6 * clip.truth.disc_radius_px) & (near < 2.4 * clip.truth.disc_radius_px)
        assert late[near < clip.truth.disc_radius_px].mean() > 1.3 * late[ring & (late > 3)].mean()


def test_schedules():
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(frame_times("full", rng), FULL_S)
    lengths = set()
    for k in range(60):
        paper = frame_times("paper", np.random.default_rng(k))
        assert len(paper) == 21 and (np.diff(paper) >= 0).all()
        assert 1.6 <= paper[0] <= 4.0 and 240 <= paper[-1] <= 900
        raw = frame_times("raw", np.random.default_rng(k))
        lengths.add(len(raw))
        assert 6 <= len(raw) <= 60 and (np.diff(raw) > 0).all()
    assert len(lengths) > 15
    with pytest.raises(ValueError, match="Did you mean 'paper'"):
        frame_times("papper", rng)
    assert SCHEDULES == ("paper", "full", "raw")


def test_raw_exams_have_their_own_length():
    lengths = {len(generate(0, k, 32, "raw").video) for k in range(6)}
    assert len(lengths) > 2


def test_every_frame_of_the_paper_schedule_shows_vessels():
    ratios = [vessel_area_ratio(f) for k in range(3) for f in generate(3, k, 256).video]
    assert min(ratios) > 0.005
    full = generate(3, 0, 256, "full", disease="normal")
    assert vessel_area_ratio(full.video[0]) < 0.001  # before the dye
    assert vessel_area_ratio(full.video[10]) > 0.08  # venous peak


def test_arteries_come_before_veins_and_all_fades_late():
    clip = generate(4, 2, 256, "full", disease="normal")
    a = clip.truth.artery & ~clip.truth.vein
    v = clip.truth.vein & ~clip.truth.artery
    background = ~(clip.truth.artery | clip.truth.vein)
    rows, cols = np.mgrid[:256, :256]
    background &= np.hypot(rows - 127.5, cols - 127.5) < 100

    def contrast(mask, t):
        frame = clip.video[int(np.argmin(np.abs(clip.times_s - t)))].astype(float)
        return frame[mask].mean() - frame[background].mean()

    assert contrast(a, 3.3) > 15 > contrast(v, 3.3)
    assert contrast(v, 15) > 40
    assert contrast(v, 620) < 0.5 * contrast(v, 15)
    assert np.nanmedian(clip.truth.vein_s) > np.nanmedian(clip.truth.artery_s) + 1.0


def test_truth_masks_lie_where_the_picture_changes():
    sick = generate(8, 0, 128, "full", disease="ped", eye="right")
    healthy = generate(8, 0, 128, "full", disease="normal", eye="right")
    truth = sick.truth.findings[0]
    assert truth.kind == "ped" and truth.mask.dtype == bool
    change = sick.video[-1].astype(float) - healthy.video[-1]
    assert change[truth.mask].mean() > 60 + change[~truth.mask].mean()
    rows, cols = np.nonzero(truth.mask)
    assert truth.mask[round(truth.center_px[1]), round(truth.center_px[0])]
    assert np.hypot(cols.mean() - truth.center_px[0], rows.mean() - truth.center_px[1]) < 4


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="negative"):
        generate(-1, 0)
    with pytest.raises(ValueError, match="size is 16"):
        generate(0, 0, size=16)
    with pytest.raises(ValueError, match="schedule"):
        generate(0, 0, size=32, schedule="late")
    with pytest.raises(ValueError, match="disease"):
        generate(0, 0, size=32, disease="flu")


def test_sizes_show_the_same_eye():
    small, large = generate(9, 1, 64), generate(9, 1, 256)
    reduced = large.video[10].reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(reduced.ravel(), small.video[10].ravel())[0, 1] > 0.9
    assert small.report == large.report
