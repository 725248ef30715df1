import dataclasses

import numpy as np
import pytest

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid, sample_anatomy
from ffa_sora_jax.phantom.dye import Dye
from ffa_sora_jax.phantom.primitives import Add, Delay, Grow, Mul, Pool, Slow, Stain, Vessel, Window
from ffa_sora_jax.phantom.render import (
    add_lesions,
    build_scene,
    field_mask,
    grow_sigma,
    light,
    smooth_noise,
)
from ffa_sora_jax.phantom.vessels import grow_trees

SIZE = 128
GRID = Grid.over(Anatomy(), SIZE)
ONES = np.ones((SIZE, SIZE), np.float32)
TIMES = np.array([5.0, 30.0, 100.0, 400.0])
DISK = (GRID.distance((0.0, 1.0)) < 0.8).astype(np.float32)


def frames(*lesions, times=TIMES):
    out = np.zeros((len(times), SIZE, SIZE), np.float32)
    add_lesions(out, lesions, GRID, times, Dye())
    return out


def scene(*primitives):
    anatomy = sample_anatomy(np.random.default_rng(3))
    trees = grow_trees(np.random.default_rng(4), anatomy)
    grid = Grid.over(anatomy, SIZE)
    return build_scene(np.random.default_rng(5), anatomy, grid, trees, primitives)


@pytest.fixture(scope="module")
def healthy():
    return scene()


def half_rise(series, times):
    """First time at which a pixel reaches half of its largest value."""
    return times[np.argmax(series > 0.5 * series.max(axis=0), axis=0)]


def test_grow_follows_its_sigma_law_and_amplitude():
    leak = Grow(np.array([[0.0, 0.0]]), 0.25, 4e-4, onset_s=10.0, tau_s=40.0, amplitude=0.8)
    np.testing.assert_allclose(
        grow_sigma(leak, TIMES), np.sqrt(0.0625 + 8e-4 * np.array([0, 20, 90, 390]))
    )
    light_of = frames(leak)
    r2 = GRID.distance((0.0, 0.0)) ** 2
    assert light_of[0].max() == 0
    for frame, t in zip(light_of[1:], TIMES[1:], strict=True):
        # second moment of a 2-D Gaussian is 2 sigma^2
        sigma2 = 0.5 * (frame * r2).sum() / frame.sum()
        assert sigma2 == pytest.approx(0.0625 + 8e-4 * (t - 10), rel=0.03)
        assert frame.max() == pytest.approx(0.8 * (1 - np.exp(-(t - 10) / 40)), rel=0.03)


def test_pool_keeps_its_area_and_stain_its_place():
    for lesion in (Pool(DISK, 20.0, 60.0, 0.7), Stain(DISK, 0.4, 20.0)):
        light_of = frames(lesion)
        assert light_of[0].max() == 0
        areas = [(f > 0.5 * f.max()).sum() for f in light_of[1:]]
        assert areas == [int(DISK.sum())] * 3
        expected = lesion.amplitude * (1 - np.exp(-80.0 / lesion.tau_s))
        assert light_of[2].max() == pytest.approx(expected, rel=1e-5)
        assert (np.diff(light_of.max(axis=(1, 2))) > 0).all()


def test_add_follows_its_curve():
    light_of = frames(Add(DISK, lambda t: t / 400.0, 0.5))
    np.testing.assert_allclose(light_of.max(axis=(1, 2)), 0.5 * TIMES / 400, rtol=1e-5)
    assert light_of[:, DISK == 0].max() == 0


def test_mul_all_hides_what_lies_under_it():
    light_of = frames(Add(ONES, np.ones_like, 1.0), Mul(DISK, {"all": 0.2}))
    np.testing.assert_allclose(light_of[:, DISK > 0], 0.2, rtol=1e-5)
    np.testing.assert_allclose(light_of[:, DISK == 0], 1.0, rtol=1e-5)


def test_mul_scales_one_layer_and_drops_thin_vessels(healthy):
    blocked = scene(Mul(ONES, {"choroid": 0.5, "capillary": 0.25}, drop_vessels_below_um=25.0))
    np.testing.assert_allclose(blocked.choroid, 0.5 * healthy.choroid, rtol=1e-5)
    np.testing.assert_allclose(blocked.capillary, 0.25 * healthy.capillary, rtol=1e-5)
    np.testing.assert_array_equal(blocked.disc_early, healthy.disc_early)
    thin = (healthy.vein.coverage > 0) & (healthy.vein.radius_um < 25)
    wide = (healthy.vein.coverage > 0) & (healthy.vein.radius_um >= 25)
    assert thin.sum() > 500 and wide.sum() > 500
    assert blocked.vein.coverage[thin].max() == 0
    np.testing.assert_array_equal(blocked.vein.coverage[wide], healthy.vein.coverage[wide])


def test_unknown_layers_are_named():
    with pytest.raises(ValueError, match="choroid"):
        scene(Mul(ONES, {"sclera": 0.5}))
    with pytest.raises(ValueError, match="no arrival time"):
        scene(Delay(ONES, 3.0, ("disc",)))


def test_window_brightens_the_choroid_only(healthy):
    window = scene(Window(ONES, 2.0))
    np.testing.assert_allclose(window.choroid, 2 * healthy.choroid, rtol=1e-5)
    np.testing.assert_array_equal(window.capillary, healthy.capillary)


def test_arteries_fill_before_veins(healthy):
    times = np.arange(0.0, 30.0, 0.25)
    video = light(healthy, Dye(), times)
    only_a = (healthy.artery.coverage > 0.9) & (healthy.vein.coverage == 0)
    only_v = (healthy.vein.coverage > 0.9) & (healthy.artery.coverage == 0)
    field = field_mask(SIZE)
    artery = np.median(half_rise(video[:, only_a & field], times))
    vein = np.median(half_rise(video[:, only_v & field], times))
    assert vein > artery + 1.5
    # veins are darker than their surround at first, and as bright as arteries at the peak
    assert video[8][only_v & field].mean() < 0.6 * video[8][only_a & field].mean()
    late = video[times == 20.0][0]
    assert late[only_v & field].mean() > 0.85 * late[only_a & field].mean()


def test_delay_shifts_the_half_rise_by_its_seconds(healthy):
    times = np.arange(0.0, 60.0, 0.25)
    slow = scene(Delay(ONES, 9.0, ("vein",)))
    veins = (healthy.vein.coverage > 0.9) & (healthy.artery.coverage == 0) & field_mask(SIZE)
    dye = Dye()
    before = dye(times[:, None] - healthy.vein.arrival_s[veins])
    after = dye(times[:, None] - slow.vein.arrival_s[veins])
    shift = half_rise(after, times) - half_rise(before, times)
    np.testing.assert_allclose(shift, 9.0, atol=0.3)
    seen = half_rise(light(slow, dye, times)[:, veins], times)
    assert np.median(seen - half_rise(light(healthy, dye, times)[:, veins], times)) > 5
    np.testing.assert_array_equal(slow.artery.arrival_s, healthy.artery.arrival_s)


def test_slow_stretches_the_time_axis(healthy):
    slow = scene(Slow(ONES, 2.0, ("capillary",)))
    slow.choroid[:] = 0
    slow.disc_early[:], slow.disc_late[:] = 0, 0
    slow.artery.coverage[:], slow.vein.coverage[:] = 0, 0
    at = np.unravel_index(np.argmax(slow.capillary * field_mask(SIZE)), slow.capillary.shape)
    start = slow.capillary_arrival_s[at]
    fast = dataclasses.replace(slow, stretch={})
    late = light(slow, Dye(), np.array([start + 6.0]))[0][at]
    early = light(fast, Dye(), np.array([start + 3.0]))[0][at]
    assert late == pytest.approx(early, rel=1e-2)


def test_wider_and_wavier_veins_show(healthy):
    everywhere = lambda xy: np.ones(len(xy), bool)  # noqa: E731
    wide = scene(Vessel("vein", everywhere, radius_factor=1.5))
    assert wide.vein.coverage.sum() > 1.15 * healthy.vein.coverage.sum()
    wavy = scene(Vessel("vein", everywhere, tortuosity_widths=1.5))
    moved = (wavy.vein.coverage > 0.5) != (healthy.vein.coverage > 0.5)
    assert moved.sum() > 0.3 * (healthy.vein.coverage > 0.5).sum()
    stained = scene(Vessel("vein", everywhere, wall_stain=0.5))
    gain = light(stained, Dye(), np.array([600.0])) - light(healthy, Dye(), np.array([600.0]))
    assert gain[0][healthy.vein.coverage > 0.9].mean() > 0.1


def test_fovea_is_dark_and_disc_rim_stains_late(healthy):
    video = light(healthy, Dye(), np.array([15.0, 620.0]))
    fovea = healthy.grid.distance((0.0, 0.0)) < 0.15
    around = np.abs(healthy.grid.distance((0.0, 0.0)) - 1.2) < 0.2
    assert video[0][fovea].mean() < 0.5 * video[0][around].mean()
    disc = healthy.grid.distance(healthy.anatomy.disc_center_dd) < 0.5
    inside = disc & field_mask(SIZE)
    assert video[1][inside].mean() > 1.3 * video[1][around].mean()


def test_noise_is_the_same_picture_at_every_size():
    small, large = (smooth_noise(np.random.default_rng(0), size, 10) for size in (64, 256))
    reduced = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.97
    assert small.std() == pytest.approx(1.0, abs=1e-3)
