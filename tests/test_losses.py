"""Losses by hand-computed values; the whole recipe is checked in tests/tasks/test_vae.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax import losses
from tests.tolerances import TOL

VIDEO = jnp.zeros((2, 3, 4, 5, 1))


def test_pixel_losses_sum_over_a_frame_and_average_over_frames():
    other = VIDEO.at[0, 0].set(0.5)  # one of six frames is off by 0.5 in 20 pixels
    assert losses.l1(VIDEO, other) == pytest.approx(0.5 * 20 / 6)
    assert losses.l2(VIDEO, other) == pytest.approx(0.25 * 20 / 6)


def test_detail_counts_edges_and_not_levels():
    assert losses.detail(VIDEO, VIDEO + 0.7) == pytest.approx(0.0, abs=TOL["unit"])
    spot = VIDEO.at[1, 2, 1, 1].set(1.0)  # four edges of height one
    assert losses.detail(VIDEO, spot) == pytest.approx(4.0 / 6.0)


def test_perceptual_distances_count_once_per_pixel():
    assert losses.perceptual(jnp.array([[0.1, 0.3]]), 20) == pytest.approx(4.0)


def test_kl_of_a_gaussian():
    mean, logvar = jnp.full((2, 1, 1, 1, 3), 2.0), jnp.full((2, 1, 1, 1, 3), np.log(4.0))
    # per value: (2^2 + 4 - 1 - log 4) / 2, three values per clip
    assert losses.kl(mean, logvar) == pytest.approx(3 * (7 - np.log(4.0)) / 2, rel=1e-6)
    assert losses.kl(jnp.zeros((1, 2)), jnp.zeros((1, 2))) == 0.0


def test_wavelet_loss_adds_the_levels():
    zero, one = jnp.zeros((2, 3)), jnp.ones((2, 3))
    assert losses.wavelet((zero, one), (one, 3 * one)) == pytest.approx(3.0 + 6.0)


def test_hinge_losses():
    real, fake = jnp.array([2.0, 0.0]), jnp.array([-2.0, 1.0])
    assert losses.discriminator_hinge(real, fake) == pytest.approx(0.5 * (0.5 + 1.0))
    assert losses.generator_hinge(fake) == pytest.approx(0.5)


def test_adaptive_weight_is_the_ratio_of_norms_within_its_limit():
    pixel, adversarial = jnp.array([3.0, 4.0]), jnp.array([0.0, 2.0])
    assert losses.adaptive_weight(pixel, adversarial) == pytest.approx(2.5, rel=1e-5)
    assert losses.adaptive_weight(pixel, 0 * adversarial, limit=7.0) == 7.0
    assert losses.adaptive_weight(pixel, 0 * adversarial, eps=0.1) == pytest.approx(50.0)
