import dataclasses

import numpy as np
import pytest

from ffa_sora_jax.phantom.anatomy import sample_anatomy
from ffa_sora_jax.phantom.primitives import Vessel
from ffa_sora_jax.phantom.vessels import (
    EXPONENT,
    FLOOR_SPEED,
    edit_tree,
    from_root,
    grow_trees,
    leaf_counts,
    murray_radii,
    segment_lengths,
    travel_times,
)

# a root that forks into a tip and a vessel that forks again: 0 -> 1 -> {2, 3}, 3 -> {4, 5}
PARENT = np.array([-1, 0, 1, 1, 3, 3])


@pytest.fixture(scope="module")
def eye():
    rng = np.random.default_rng(7)
    anatomy = sample_anatomy(rng)
    return anatomy, *grow_trees(rng, anatomy)


def test_leaf_counts_and_murray_law_on_a_known_tree():
    np.testing.assert_array_equal(leaf_counts(PARENT), [3, 3, 1, 2, 1, 1])
    radii = murray_radii(PARENT, 3.0, 0.1)
    assert radii[0] == pytest.approx(0.1)
    assert radii[1] ** 3 == pytest.approx(radii[2] ** 3 + radii[3] ** 3)
    assert radii[2] == pytest.approx(0.1 / 3 ** (1 / 3))


def test_travel_time_is_length_over_speed_with_a_floor():
    xy = np.array([[0.0, 0], [1.4, 0], [1.4, 1], [2.4, 0], [2.4, 1], [3.4, 0]])
    radius = np.array([0.1, 0.1, 1e-4, 0.05, 1e-4, 1e-4])
    times = travel_times(xy, PARENT, radius, 14.0)
    assert times[1] == pytest.approx(0.1)
    assert times[2] == pytest.approx(1.0 / FLOOR_SPEED)
    assert times[3] == pytest.approx(1.0 / (14.0 * 0.5**0.7))
    assert from_root(times, PARENT)[4] == pytest.approx(times[[1, 3, 4]].sum())


def test_murray_law_holds_at_every_fork(eye):
    for tree in eye[1:]:
        power = tree.radius_mm ** EXPONENT[tree.kind]
        sums = np.bincount(
            tree.parent[tree.parent >= 0],
            power[tree.parent >= 0],
            minlength=len(power),
        )
        forks = np.bincount(tree.parent[tree.parent >= 0], minlength=len(power)) > 1
        assert forks.sum() > 100
        np.testing.assert_allclose(sums[forks], power[forks], rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_grows_in_the_avascular_zone_or_across_the_raphe(seed):
    rng = np.random.default_rng(seed)
    anatomy = sample_anatomy(rng)
    for tree in grow_trees(rng, anatomy):
        from_fovea = np.hypot(*tree.xy_mm.T) / anatomy.dd_mm
        assert from_fovea.min() > anatomy.faz_radius_dd
        up = np.maximum(tree.parent, 0)
        temporal = (tree.xy_mm[:, 0] < -1.0) & (tree.parent >= 0)
        crossing = tree.xy_mm[:, 1] * tree.xy_mm[up, 1] < 0
        assert not (temporal & crossing & (np.abs(tree.xy_mm[:, 1]) > 0.1)).any()


def test_trees_fill_the_field_with_parents_before_children(eye):
    for tree in eye[1:]:
        assert len(tree.parent) > 1000
        assert (tree.parent < np.arange(len(tree.parent))).all()
        for sx, sy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            inside = (sx * tree.xy_mm[:, 0] > 0) & (sy * tree.xy_mm[:, 1] > 0)
            assert inside.sum() > 100
        tips = leaf_counts(tree.parent) == 1
        assert tree.radius_mm[tips].max() < 0.3 * tree.radius_mm.max()


def test_dye_runs_outward_in_arteries_and_home_in_veins(eye):
    _, arteries, veins = eye
    child = arteries.parent >= 0
    assert (arteries.first_s[child] >= arteries.first_s[arteries.parent[child]]).all()
    assert 1.5 < arteries.first_s.max() < 3.5
    child = veins.parent >= 0
    # somewhere upstream of every venous node dye arrived earlier
    assert (veins.first_s[veins.parent[child]] <= veins.first_s[child] + 5.0).all()
    roots = veins.parent < 0
    assert veins.first_s[roots].min() > 1.2
    assert 3.0 < veins.mean_s[roots].mean() < 9.0
    assert (veins.mean_s >= veins.first_s - 1e-9).all()


def test_veins_cross_their_artery_but_are_another_tree(eye):
    _, arteries, veins = eye
    assert veins.radius_mm.max() > 1.15 * arteries.radius_mm.max()


def test_vessel_edits_touch_only_their_territory_and_kind(eye):
    anatomy, arteries, veins = eye

    def upper(xy_dd):
        return xy_dd[:, 1] > 0

    edit = Vessel("vein", upper, 1.4, tortuosity_widths=1.5, beading=0.3, wall_stain=0.4)
    assert edit_tree(arteries, edit, anatomy) is arteries
    plain = edit_tree(veins, dataclasses.replace(edit, beading=0.0), anatomy)
    inside = veins.xy_mm[:, 1] > 0
    np.testing.assert_allclose(plain.radius_mm[inside], 1.4 * veins.radius_mm[inside])
    np.testing.assert_array_equal(plain.radius_mm[~inside], veins.radius_mm[~inside])
    assert (plain.wave_mm[~inside] == 0).all() and plain.wave_mm[inside].max() > 0.1
    assert (plain.wall_stain[inside] == 0.4).all() and (plain.wall_stain[~inside] == 0).all()
    beaded = edit_tree(veins, edit, anatomy).radius_mm[inside] / plain.radius_mm[inside]
    assert beaded.max() == pytest.approx(1.3, abs=0.02)
    assert beaded.min() == pytest.approx(0.7, abs=0.02)


def test_lengths():
    xy = np.array([[0.0, 0], [3, 4]])
    np.testing.assert_allclose(segment_lengths(xy, np.array([-1, 0])), [0, 5])
