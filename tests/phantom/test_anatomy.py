import numpy as np
import pytest

from ffa_sora_jax.phantom.anatomy import FIELD_MM, Anatomy, Grid, sample_anatomy


@pytest.mark.parametrize("size", [64, 255, 256])
def test_grid_and_pixels_are_inverse(size):
    grid = Grid.over(Anatomy(), size)
    px = grid.to_px(np.stack([grid.x_dd, grid.y_dd], axis=-1))
    rows, cols = np.mgrid[:size, :size]
    np.testing.assert_allclose(px[..., 0], cols, atol=1e-4)
    np.testing.assert_allclose(px[..., 1], rows, atol=1e-4)


def test_nasal_is_right_and_superior_is_up():
    grid = Grid.over(Anatomy(), 64)
    assert grid.x_dd[0, -1] > grid.x_dd[0, 0]
    assert grid.y_dd[0, 0] > grid.y_dd[-1, 0]


def test_picture_is_55_degrees_wide():
    anatomy = Anatomy(dd_mm=1.6)
    grid = Grid.over(anatomy, 256)
    assert (256 / grid.px_per_dd) * anatomy.dd_mm == pytest.approx(FIELD_MM)


def test_sampled_eyes_lie_in_the_clinical_range():
    eyes = [sample_anatomy(np.random.default_rng(k)) for k in range(200)]
    disc_mm = np.array([np.array(e.disc_center_dd) * e.dd_mm for e in eyes])
    assert disc_mm[:, 0].min() >= 4.2 and disc_mm[:, 0].max() <= 5.2
    # the fovea lies below the middle of the disc
    assert (disc_mm[:, 1] > 0).all()
    heights = np.array([e.dd_mm for e in eyes])
    assert 1.48 <= heights.min() and heights.max() <= 2.04
    assert abs(heights.mean() - 1.76) < 0.03
    assert all(e.disc_radius_dd == 0.5 for e in eyes)


def test_distance_is_zero_at_the_fovea():
    grid = Grid.over(Anatomy(), 128)
    row, col = np.unravel_index(np.argmin(grid.distance((0.0, 0.0))), (128, 128))
    np.testing.assert_allclose([col, row], grid.to_px(np.zeros(2)), atol=0.51)
