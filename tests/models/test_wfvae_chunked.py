"""Chunks in time equal the whole; tiles in space stay within what is stated."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.models.wfvae_chunked import ChunkedVAE, decode_tiled, decoder_radius
from tests.compiling import quick_compile
from tests.models.wfvae_golden import last, load, tiny_model
from tests.tolerances import TOL

LATENT_FRAMES = range(1, 10)  # 1, 5, ..., 33 video frames
# Few operations per layer, and no compiler optimisation: the grid compiles some 60 programs.
GRID = dataclasses.replace(WFVAEConfig.tiny(), use_attention=False, conv_form="native")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compile():
        yield


@functools.cache
def grid_model(**changes):
    bundle = Bundle.create(WFVAE, dataclasses.replace(GRID, **changes))
    return bundle, bundle.init(jax.random.key(0))


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def disturbed(leaf):
    """Zero-initialised layers would hide mistakes."""
    return leaf + 0.01 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape)


def whole(bundle, method):
    return jax.jit(functools.partial(bundle.apply, method=method))


def test_decode_in_chunks_equals_the_whole_for_every_length_and_chunk_size():
    bundle, params = grid_model()
    decode, z = whole(bundle, "decode"), random(0, 1, 9, 1, 2, 4)
    expected = {n: np.asarray(decode(params, z[:, :n])) for n in LATENT_FRAMES}
    for size in LATENT_FRAMES:
        chunked = ChunkedVAE(bundle, size)
        for n in LATENT_FRAMES[size:]:  # a chunk that holds the clip is the whole
            video = chunked.decode(params, z[:, :n])
            assert video.shape == (1, 4 * n - 3, 8, 16, 3)
            np.testing.assert_allclose(
                video, expected[n], atol=TOL["chunk"], err_msg=f"{n} latents in chunks of {size}"
            )


def test_encode_in_chunks_equals_the_whole_for_every_length_and_chunk_size():
    bundle, params = grid_model()
    encode, x = whole(bundle, "encode"), random(0, 1, 33, 8, 16, 3)
    expected = {n: np.concatenate(encode(params, x[:, : 4 * n - 3]), -1) for n in LATENT_FRAMES}
    for size in LATENT_FRAMES:
        chunked = ChunkedVAE(bundle, size)
        for n in LATENT_FRAMES[size:]:
            moments = np.concatenate(chunked.encode(params, x[:, : 4 * n - 3]), -1)
            np.testing.assert_allclose(
                moments, expected[n], atol=TOL["chunk"], err_msg=f"{n} latents in chunks of {size}"
            )


@pytest.mark.parametrize("size", [1, 4])
def test_21_frames_with_attention_equal_the_reference_where_its_own_chunks_fail(size):
    bundle, params = tiny_model()
    io, chunked = load("tiny_io"), ChunkedVAE(bundle, size)
    mean, _ = chunked.encode(params, last(io["t21.x"]))
    np.testing.assert_allclose(mean, last(io["t21.mean"]), atol=TOL["chunk"])
    video = chunked.decode(params, last(io["t21.mean"]))
    np.testing.assert_allclose(video, last(io["t21.dec"]), atol=TOL["chunk"])


def test_nearest_interpolation_and_the_linear_path_stream_too():
    for changes in ({"t_interpolation": "nearest"}, {"linear_path": True}):
        bundle, params = grid_model(**changes)
        noisy = jax.tree.map(disturbed, params)
        z = random(1, 1, 6, 1, 2, 4)
        expected = whole(bundle, "decode")(noisy, z)
        assert float(jnp.abs(expected).max()) > 0.01
        for size in (1, 4):
            video = ChunkedVAE(bundle, size).decode(noisy, z)
            np.testing.assert_allclose(video, expected, atol=TOL["chunk"])


def test_chunks_of_a_groupnorm_model_are_refused():
    bundle = Bundle.create(WFVAE, WFVAEConfig(base_channels=32, encoder_energy_flow_hidden_size=32))
    with pytest.raises(ValueError, match="layernorm"):
        ChunkedVAE(bundle, 2)
    with pytest.raises(ValueError, match="at least 1"):
        ChunkedVAE(grid_model()[0], 0)


def test_tiles_with_the_full_halo_are_exact_and_smaller_halos_are_bounded():
    bundle, params = grid_model()
    decode = functools.partial(whole(bundle, "decode"), params)
    radius = decoder_radius(bundle.cfg)
    z = random(2, 1, 1, 3, 2 * radius + 9, 4)
    expected = np.asarray(decode(z))
    scale = np.abs(expected).max()

    def worst(**tiling):
        return np.abs(decode_tiled(decode, z, **tiling) - expected).max() / scale

    assert worst(tile=2 * radius + 4, halo=radius, blend=2) < TOL["chunk"]
    # The table of docs/wfvae.md.
    assert TOL["chunk"] < worst(tile=26, halo=9, blend=4) < 5e-4
    assert 1e-3 < worst(tile=18, halo=6, blend=4) < 0.03
    assert 0.1 < worst(tile=18, halo=0, blend=0)


def test_the_radius_is_no_smaller_than_what_a_cell_reaches():
    bundle, params = grid_model()
    decode = functools.partial(whole(bundle, "decode"), params)
    radius = decoder_radius(bundle.cfg)
    z = random(3, 1, 1, 1, 2 * radius + 5, 4)
    changed = z.copy()
    changed[:, :, :, 0] += 1.0
    reached = np.abs(np.asarray(decode(z)) - np.asarray(decode(changed))).max((0, 1, 2, 4))
    cells = int(np.nonzero(reached > 0)[0].max()) // 8
    assert radius - 2 <= cells <= radius


def test_a_tile_smaller_than_its_margins_is_refused():
    with pytest.raises(ValueError, match="must be larger than 16"):
        decode_tiled(lambda z: z, random(0, 1, 1, 4, 4, 1), tile=16, halo=6, blend=4)
