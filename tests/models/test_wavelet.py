"""Haar transforms against the reference, and the packet against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models import wavelet
from tests.models.wfvae_golden import last, load
from tests.tolerances import TOL

GAIN = 8 * 0.3536**2


@pytest.fixture(scope="module")
def golden():
    return load("wavelet")


@pytest.mark.parametrize("case", ["haar3d", "haar3d_1frame", "haar2d", "haar2d_oddhw"])
def test_analysis_equals_the_reference(golden, case):
    transform = wavelet.haar3d if case.startswith("haar3d") else wavelet.haar2d
    got = transform(last(golden[f"{case}.in"]))
    np.testing.assert_allclose(got, last(golden[f"{case}.out"]), atol=TOL["unit"])


def test_synthesis_equals_the_reference(golden):
    got = wavelet.inverse_haar3d(last(golden["ihaar3d.in"]))
    np.testing.assert_allclose(got, last(golden["ihaar3d.out"]), atol=TOL["unit"])
    got = wavelet.inverse_haar3d(last(golden["haar3d_1frame.out"]))
    np.testing.assert_allclose(got, last(golden["ihaar3d_1frame.out"]), atol=TOL["unit"])
    got = wavelet.inverse_haar2d(last(golden["ihaar2d.in"]))
    np.testing.assert_allclose(got, last(golden["ihaar2d.out"]), atol=TOL["unit"])


def test_synthesis_in_chunks_drops_only_the_first_frame(golden):
    x = last(golden["ihaar3d.in"])
    first = wavelet.inverse_haar3d(x[:, :1])
    rest = wavelet.inverse_haar3d(x[:, 1:], first=False)
    np.testing.assert_allclose(first, last(golden["ihaar3d_chunked.first"]), atol=TOL["unit"])
    np.testing.assert_allclose(rest, last(golden["ihaar3d_chunked.rest"]), atol=TOL["unit"])


def test_round_trips_have_the_stated_gain():
    x = np.random.default_rng(0).standard_normal((1, 5, 8, 16, 2)).astype(np.float32)
    np.testing.assert_allclose(
        wavelet.inverse_haar3d(wavelet.haar3d(x)), GAIN * x, atol=TOL["unit"]
    )
    np.testing.assert_allclose(wavelet.inverse_haar2d(wavelet.haar2d(x)), x, atol=TOL["unit"])
    packet = wavelet.packet(x)
    assert packet.shape == (1, 2, 1, 2, 512)
    np.testing.assert_allclose(wavelet.inverse_packet(packet), GAIN**2 * x, atol=TOL["unit"])


def test_a_still_clip_has_no_temporal_detail_and_one_value_per_patch():
    clip = jnp.full((1, 9, 8, 8, 1), 0.5)
    packet = wavelet.packet(clip)  # (1, 3, 1, 1, 256)
    expected = 0.5 * (8 * 0.3536) ** 2 * 2
    np.testing.assert_allclose(packet[..., 0], expected, atol=TOL["unit"])
    np.testing.assert_allclose(packet[..., 1:], 0.0, atol=TOL["unit"])


def test_the_transform_is_causal_in_blocks_of_two_frames():
    def energy(frame):
        clip = np.zeros((1, 5, 2, 2, 1), np.float32)
        clip[:, frame] = 1.0
        return np.asarray(jnp.abs(wavelet.haar3d(clip)).sum((0, 2, 3, 4)) > 0)

    for frame, expected in ((0, [1, 0, 0]), (1, [0, 1, 0]), (2, [0, 1, 0]), (4, [0, 0, 1])):
        np.testing.assert_array_equal(energy(frame), np.array(expected, bool))


def test_the_two_dimensional_transform_is_its_own_adjoint_inverse():
    x = np.random.default_rng(1).standard_normal((1, 1, 4, 4, 1)).astype(np.float32)
    y, pull = jax.vjp(wavelet.haar2d, x)
    np.testing.assert_allclose(pull(y)[0], x, atol=TOL["unit"])
