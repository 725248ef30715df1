import dataclasses

import cv2
import numpy as np
import pytest

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid
from ffa_sora_jax.phantom.diseases import DISEASES, sample_exam
from ffa_sora_jax.phantom.lesions import RECIPES, shapes
from ffa_sora_jax.phantom.primitives import (
    LAYERS,
    Add,
    Delay,
    Grow,
    Mul,
    Pool,
    Slow,
    Stain,
    Vessel,
    Window,
)
from ffa_sora_jax.phantom.record import Finding

EYE = Anatomy()
GRID = Grid.over(EYE, 256)


def draw(finding, grid=GRID, seed=0):
    return RECIPES[finding.kind](finding, EYE, grid, np.random.default_rng(seed))


def masked(primitives, kinds):
    found = [p.mask for p in primitives if isinstance(p, kinds)]
    return np.max(found, axis=0)


@pytest.mark.parametrize("disease", sorted(DISEASES))
def test_every_primitive_is_well_formed(disease):
    for seed in range(3):
        exam = sample_exam(np.random.default_rng(seed), disease=disease)
        for finding in exam.findings:
            primitives = draw(finding, seed=seed)
            assert primitives
            for p in primitives:
                check(p)


def check(p):
    if hasattr(p, "mask"):
        assert p.mask.shape == (256, 256) and p.mask.dtype == np.float32
        assert p.mask.min() >= 0 and p.mask.max() <= 1 + 1e-6
    if isinstance(p, Grow):
        assert np.isfinite(p.centers).all() and p.centers.shape[1] == 2 and p.sigma0 > 0
    if isinstance(p, Add):
        curve = p.curve(np.linspace(-5, 900, 50))
        assert curve.min() >= 0 and curve.max() <= 1
    if isinstance(p, Mul):
        assert set(p.factors) <= {*LAYERS, "all"}
        assert all(0 <= f <= 1 for f in p.factors.values())
    if isinstance(p, Delay | Slow):
        assert set(p.layers) <= set(LAYERS) - {"disc"}
    if isinstance(p, Vessel):
        assert p.inside(np.zeros((3, 2))).shape == (3,)


def test_lesions_do_not_depend_on_the_picture_size():
    big, small = Grid.over(EYE, 256), Grid.over(EYE, 64)
    for disease in ("brvo", "csc", "cmo", "geographic_atrophy", "namd_occult", "laser_scars"):
        exam = sample_exam(np.random.default_rng(4), disease=disease)
        for finding in exam.findings:
            pairs = zip(draw(finding, big), draw(finding, small), strict=True)
            for a, b in pairs:
                if hasattr(a, "mask"):
                    mean = cv2.resize(a.mask, (64, 64), interpolation=cv2.INTER_AREA)
                    assert np.abs(mean - b.mask).mean() < 0.02, (finding.kind, type(a))
                if isinstance(a, Grow):
                    np.testing.assert_allclose(a.centers, b.centers)


def test_disk_has_the_area_of_its_radius():
    area = shapes.disk(GRID, (0.5, 0.2), 0.8, 0.1).sum() / GRID.px_per_dd**2
    assert area == pytest.approx(np.pi * 0.8**2, rel=0.02)


def test_wide_spots_keep_their_peak_and_narrow_ones_their_mass():
    spot = np.array([[0.4, -0.3]])
    assert shapes.splat(GRID, spot, 0.3, 0.7).max() == pytest.approx(0.7, rel=0.02)
    masses = [
        shapes.splat(g, spot, 0.04).sum() / g.px_per_dd**2
        for g in (Grid.over(EYE, 512), Grid.over(EYE, 128), Grid.over(EYE, 64))
    ]
    np.testing.assert_allclose(masses, 2 * np.pi * 0.04**2, rtol=0.05)


def test_noise_has_unit_variance_and_its_grain():
    field = shapes.noise(Grid.over(EYE, 256), 0.3, np.random.default_rng(0))
    assert field.std() == pytest.approx(1.0, abs=0.2)
    lag = round(0.15 * GRID.px_per_dd)
    near = np.corrcoef(field[:, :-lag].ravel(), field[:, lag:].ravel())[0, 1]
    far_lag = round(0.9 * GRID.px_per_dd)
    far = np.corrcoef(field[:, :-far_lag].ravel(), field[:, far_lag:].ravel())[0, 1]
    assert near > 0.6 and abs(far) < 0.2


@pytest.mark.parametrize("quadrant", ["superotemporal", "inferonasal"])
def test_scatter_keeps_to_its_quadrant_and_its_distances(quadrant):
    rng = np.random.default_rng(1)
    xy = shapes.scatter(f"{quadrant} quadrant", 12, EYE, rng, clear_dd=0.5, gap_dd=0.4)
    disc_x, disc_y = EYE.disc_center_dd
    raphe = np.clip(xy[:, 0] / disc_x, 0, 1) * disc_y
    assert len(xy) == 12
    assert ((xy[:, 1] > raphe) == quadrant.startswith("supero")).all()
    assert ((xy[:, 0] < disc_x) == quadrant.endswith("temporal")).all()
    assert np.hypot(*xy.T).min() > 0.5
    assert np.hypot(*(xy - EYE.disc_center_dd).T).min() > EYE.disc_radius_dd
    gaps = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) + 9 * np.eye(12)
    assert gaps.min() >= 0.4


def test_branch_lesions_stay_in_the_territory():
    for kind in ("nonperfusion", "haemorrhage_flame"):
        finding = Finding(kind, "inferotemporal quadrant", (0, -1), 0.22, count=3)
        mask = masked(draw(finding), Mul)
        outside = (GRID.y_dd > 0.5) | (GRID.x_dd > 3.2)
        assert mask.max() > 0.5
        assert mask[outside].sum() < 0.02 * mask.sum()


def test_closure_is_grey_not_black():
    primitives = draw(Finding("nonperfusion", "all quadrants", (0, 0), 1.0, count=3))
    block = next(p for p in primitives if isinstance(p, Mul))
    choroid, capillary = 0.2, 0.095  # healthy levels
    left = choroid * block.factors["choroid"] + capillary * block.factors["capillary"]
    assert 0.29 < left / (choroid + capillary) < 0.83  # real interquartile range


def test_closure_grows_with_severity():
    def share(severity):
        finding = Finding("nonperfusion", "all quadrants", (0, 0), 1, count=3, severity=severity)
        return np.mean([masked(draw(finding, seed=s), Mul).mean() for s in range(6)])

    assert share("mild") < share("moderate") < share("severe")


def test_cystoid_oedema_has_petals_round_a_dark_centre():
    angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    for petals in (6, 9):
        finding = Finding("oedema_cystoid", "fovea", (0, 0), 0.6, values={"petals": petals})
        power = np.zeros(129)
        for seed in range(8):
            mask = masked(draw(finding, seed=seed), Pool)
            ring = np.stack([0.36 * np.cos(angle), 0.36 * np.sin(angle)], axis=-1)
            px = np.rint(GRID.to_px(ring)).astype(int)
            power += np.abs(np.fft.rfft(mask[px[:, 1], px[:, 0]])) ** 2
            centre = np.rint(GRID.to_px(np.zeros(2))).astype(int)
            assert mask[centre[1], centre[0]] < 0.2 * mask.max()
        assert 3 + int(power[3:13].argmax()) == petals


def test_smokestack_climbs_at_its_speed_and_then_spreads():
    values = {"detachment": 1.2, "height": 1.0, "speed_dd_s": 0.01}
    finding = Finding(
        "csc_smokestack", "superonasal macula", (0.3, 0.2), 0.6, 1, onset_s=8, values=values
    )
    pools = [p for p in draw(finding) if isinstance(p, Pool)][1:]  # the first is the detachment
    heights = [float((GRID.y_dd * p.mask).sum() / p.mask.sum()) for p in pools]
    onsets = [p.onset_s for p in pools]
    speed = (heights[6] - heights[0]) / (onsets[6] - onsets[0])
    assert speed == pytest.approx(0.01, rel=0.05)
    assert max(heights) < 0.2 + 1.0 + 0.2
    widths = [np.ptp(GRID.x_dd[0][p.mask.max(axis=0) > 0.3]) for p in pools]
    assert widths[-1] > 4 * widths[0]


def test_ink_blot_spreads_to_half_a_disc_or_more_in_ten_minutes():
    exam = sample_exam(np.random.default_rng(2), disease="csc")
    leak = next(p for f in exam.findings for p in draw(f) if isinstance(p, Grow))
    sigma = np.sqrt(leak.sigma0**2 + 2 * leak.diffusivity * (600 - leak.onset_s))
    assert leak.sigma0 < 0.06
    assert 0.5 <= 2.355 * sigma <= 1.1  # full width at half height, DD


def test_windows_only_touch_the_choroid_and_do_not_grow():
    finding = Finding("atrophy", "macula", (0, 0), 0.7)
    primitives = draw(finding)
    assert any(isinstance(p, Window) and p.factor > 1 for p in primitives)
    assert not any(isinstance(p, Grow | Pool | Add) for p in primitives)


def test_flames_lie_along_the_nerve_fibres():
    finding = Finding("haemorrhage_flame", "superotemporal quadrant", (0, 1.5), 0.4, count=1)
    agree = []
    for seed in range(12):
        mask = masked(draw(finding, seed=seed), Mul)
        x = (GRID.x_dd * mask).sum() / mask.sum()
        y = (GRID.y_dd * mask).sum() / mask.sum()
        dx, dy = GRID.x_dd - x, GRID.y_dd - y
        angle = 0.5 * np.arctan2(2 * (dx * dy * mask).sum(), ((dx**2 - dy**2) * mask).sum())
        fibre = shapes.fibre_angle(EYE, np.array([[x, y]]))[0]
        agree.append(np.cos(2 * (angle - fibre)))
    assert np.mean(agree) > 0.8


def test_fibres_run_straight_out_nasal_to_the_disc_and_flat_above_the_fovea():
    x, y = EYE.disc_center_dd
    nasal = shapes.fibre_angle(EYE, np.array([[x + 1.5, y + 1.5]]))[0]
    above = shapes.fibre_angle(EYE, np.array([[0.45 * x, 2.0]]))[0]
    assert nasal == pytest.approx(np.pi / 4, abs=0.05)
    assert abs(np.sin(above)) < 0.1


def test_vein_occlusion_edits_its_quadrant_beyond_the_disc_only():
    values = {"delay_s": 8.0, "stretch": 1.5, "width": 1.4, "tortuosity": 1.0, "wall_stain": 0.4}
    finding = Finding("vein_occlusion", "superotemporal quadrant", (0, 1.5), 0, values=values)
    primitives = draw(finding)
    delay = next(p for p in primitives if isinstance(p, Delay) and p.layers == ("vein",))
    assert delay.delay_s == 8.0
    edits = [p for p in primitives if isinstance(p, Vessel)]
    points = np.array([[0.0, 1.5], [0.0, -1.5], [4.0, 1.5], [2.6, 0.5]])
    assert edits[0].inside(points).tolist() == [True, False, False, False]
    assert edits[0].radius_factor == 1.4 and edits[0].wall_stain == 0
    assert edits[1].wall_stain == 0.4 and not edits[1].inside(points[1:]).any()


def test_disc_stain_keeps_inside_and_disc_leak_passes_the_border():
    stain = draw(Finding("disc_stain", "optic disc", (2.67, 0.2), 0.5))
    mask = masked(stain, Stain)
    far = GRID.distance(EYE.disc_center_dd) > EYE.disc_radius_dd + 0.1
    assert mask[far].max() == 0
    leak = [
        p for p in draw(Finding("disc_leak", "optic disc", (2.67, 0.2), 0.5)) if isinstance(p, Grow)
    ]
    assert np.sqrt(leak[0].sigma0 ** 2 + 2 * leak[0].diffusivity * 580) * 1.177 < 1.0
    assert leak[0].sigma0 * 2 > EYE.disc_radius_dd


def test_hand_written_arterial_narrowing_thins_arteries_everywhere():
    (edit,) = draw(Finding("arterial_narrowing", "all quadrants", (0, 0), 0, values={"width": 0.6}))
    assert (edit.kind, edit.radius_factor) == ("artery", 0.6)
    assert edit.inside(np.random.default_rng(0).normal(0, 3, (50, 2))).all()


def test_same_chance_same_lesion():
    exam = sample_exam(np.random.default_rng(8), disease="pdr")
    for finding in exam.findings:
        for a, b in zip(draw(finding, seed=3), draw(finding, seed=3), strict=True):
            for field in dataclasses.fields(a):
                left, right = getattr(a, field.name), getattr(b, field.name)
                if isinstance(left, np.ndarray):
                    np.testing.assert_array_equal(left, right)
