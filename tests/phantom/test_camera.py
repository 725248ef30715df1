import numpy as np
import pytest

from ffa_sora_jax.phantom.camera import Camera, expose, gain_of, sample_camera
from ffa_sora_jax.phantom.render import field_mask

SIZE = 128
STILL = Camera(blur=0.0, noise=0.0, vignette=0.0, shift=0.0, rotation_deg=0.0)
INSIDE = field_mask(SIZE)


def flat(level, count=2):
    return np.full((count, SIZE, SIZE), level, np.float32)


def rng():
    return np.random.default_rng(0)


def test_field_has_the_measured_share_of_the_picture():
    assert field_mask(512).mean() == pytest.approx(0.818, abs=0.004)
    video = expose(rng(), flat(0.5), STILL)
    lit = video[0] > 6
    assert lit.mean() == pytest.approx(0.818, abs=0.01)
    assert video[0][0, 0] == 0 and lit[0, SIZE // 2]


@pytest.mark.parametrize(("level", "gain"), [(0.5, 1.84), (0.05, 2.6), (2.0, 0.85), (0.92, 1.0)])
def test_gain_brings_the_brightest_to_092_within_limits(level, gain):
    assert gain_of(flat(level)[0], INSIDE) == pytest.approx(gain, rel=1e-3)


def test_a_small_leak_saturates_instead_of_dimming_the_rest():
    frame = flat(0.3)[0]
    frame[60:70, 60:70] = 1.2
    assert gain_of(frame, INSIDE) == pytest.approx(1.8 * 0.92 / 1.2, rel=1e-3)


def test_without_noise_and_vignette_a_flat_field_stays_flat():
    video = expose(rng(), flat(0.5), STILL)
    inner = field_mask(SIZE, margin=-0.02)
    assert np.ptp(video[0][inner].astype(int)) == 0
    assert video[0][SIZE // 2, SIZE // 2] == round(0.92 * 255)


def test_vignette_follows_its_formula():
    video = expose(rng(), flat(0.4), Camera(0.0, 0.0, 1.0, 0.0, 0.0))
    middle, edge = video[0][64, 64].astype(float), video[0][64, 96].astype(float)
    r = (96 + 0.5 - 64) / 64
    assert edge / middle == pytest.approx(1 - 0.28 * r**2 - 0.05 * r**6, abs=0.01)


def test_tilt_brightens_one_side_and_rim_draws_the_edge():
    tilted = expose(rng(), flat(0.4), Camera(0.0, 0.0, 0.0, 0.0, 0.0, tilt=(0.3, 0.0)))[0]
    assert tilted[64, 110] > 1.3 * tilted[64, 18]
    rimmed = expose(rng(), flat(0.0), Camera(0.0, 0.0, 0.0, 0.0, 0.0, rim=0.2))[0]
    assert rimmed.max() > 25 and rimmed[64, 64] == 0


def test_noise_grows_with_light_and_gain():
    loud = Camera(0.0, 1.0, 0.0, 0.0, 0.0)
    bright = expose(rng(), flat(0.5), loud)[0][INSIDE].astype(float)
    sd = np.sqrt(0.12 * 0.92 * 1.84 / 55 + (0.011 * 1.84) ** 2) * 255
    values = bright[(bright > 100) & (bright < 255)]
    assert np.std(values) == pytest.approx(sd, rel=0.25)
    quiet = expose(rng(), flat(0.5), Camera(0.0, 0.3, 0.0, 0.0, 0.0))[0][INSIDE].astype(float)
    core = field_mask(SIZE, margin=-0.02)[INSIDE]
    assert np.std(quiet[core]) < 0.5 * np.std(bright[core])


def test_jitter_moves_the_eye_but_not_the_field():
    light = flat(0.2, 6)
    light[:, 60:64, 60:64] = 1.0
    moving = expose(rng(), light, Camera(0.0, 0.0, 0.0, shift=0.02, rotation_deg=1.0))
    spots = [np.argwhere(f > 150).mean(axis=0) for f in moving]
    assert np.std(spots, axis=0).min() > 0.5
    np.testing.assert_allclose(spots[0], [61.5, 61.5], atol=0.01)
    fields = [(f > 6).sum() for f in moving]
    assert np.ptp(fields) < 0.01 * fields[0]


def test_blur_spreads_a_point():
    light = flat(0.1, 1)
    light[0, 64, 64] = 3.0
    sharp = expose(rng(), light, STILL)[0].astype(int)
    soft = expose(rng(), light, Camera(2.0, 0.0, 0.0, 0.0, 0.0))[0].astype(int)
    assert soft[64, 66] > sharp[64, 66] and soft[64, 66] > soft[64, 70]


def test_mirror_flips_left_and_right():
    light = flat(0.2, 3)
    light[:, 40, 30] = 1.0
    camera = sample_camera(rng())
    np.testing.assert_array_equal(
        expose(rng(), light, camera, mirror=True), expose(rng(), light, camera)[:, :, ::-1]
    )
