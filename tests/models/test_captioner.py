"""What the golden folder of tests/convert/test_blip.py does not show: clips, beams, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.captioner import Blip, BlipConfig, pick_frames, sincos_positions
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL


def model(seed=0, **changes):
    cfg = BlipConfig.tiny(**changes)
    bundle = Bundle.create(Blip, cfg)
    return cfg, bundle, random_params(bundle.abstract, seed)


def call(bundle, *args, **options):
    """One compiled program per call; operation by operation would take far longer."""
    return jax.jit(functools.partial(bundle.apply, **options))(*args)


def clip(b=2, t=9, size=16, c=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (b, t, size, size, c)).astype(np.float32)


def test_frames_are_spread_over_the_clip():
    assert pick_frames(21, 1).tolist() == [10]
    assert pick_frames(21, 3).tolist() == [0, 10, 20]
    assert pick_frames(1, 1).tolist() == [0]
    assert pick_frames(2, 4).tolist() == [0, 0, 1, 1]


def test_fresh_positions_tell_rows_and_columns():
    table = sincos_positions(4, 18)
    assert table.shape == (17, 18) and not table[0].any() and not table[:, 16:].any()
    grid = table[1:].reshape(4, 4, 18)
    # The first half depends on the row alone, the second on the column alone.
    np.testing.assert_array_equal(grid[:, 0, :8], grid[:, 3, :8])
    np.testing.assert_array_equal(grid[0, :, 8:], grid[3, :, 8:])
    assert grid[1, 2, 0] == pytest.approx(np.sin(1)) and grid[1, 2, 12] == pytest.approx(np.cos(2))
    distances = np.linalg.norm(table[1:, None] - table[None, 1:], axis=-1)
    assert distances[~np.eye(16, dtype=bool)].min() > 0.5


def test_pictures_are_normalised_frames():
    _, bundle, params = model(num_frames=3)
    video = clip()
    pictures = call(bundle, params, video, method="pictures")
    mean, std = np.array(BlipConfig().image_mean), np.array(BlipConfig().image_std)
    grey = (video[:, [0, 4, 8]] + 1) / 2
    np.testing.assert_allclose(pictures, (grey - mean) / std, atol=TOL["unit"])


def test_a_stack_puts_frames_into_the_channels_of_one_picture():
    _, bundle, params = model(
        num_frames=2, stack=3, in_channels=3, image_mean=(0.5,), image_std=(0.5,)
    )
    video = clip(t=6)
    pictures = call(bundle, params, video, method="pictures")
    assert pictures.shape == (2, 2, 16, 16, 3)
    np.testing.assert_allclose(pictures[:, 1, ..., 2], video[:, 5, ..., 0], atol=TOL["unit"])
    np.testing.assert_allclose(pictures[:, 0, ..., 1], video[:, 1, ..., 0], atol=TOL["unit"])


def test_other_sizes_are_resized():
    _, bundle, params = model()
    flat = np.full((1, 1, 40, 24, 1), 0.5, np.float32)
    pictures = call(bundle, params, flat, method="pictures")
    assert pictures.shape == (1, 1, 16, 16, 3)
    exact = np.full((1, 1, 16, 16, 1), 0.5, np.float32)
    same = call(bundle, params, exact, method="pictures")
    np.testing.assert_allclose(pictures, same, atol=TOL["unit"])


def test_resized_edges_stay_within_black_and_white():
    """Cubic interpolation overshoots; image libraries cut that off."""
    _, bundle, params = model(image_mean=(0.0,), image_std=(1.0,))
    edge = np.ones((1, 1, 6, 6, 1), np.float32)
    edge[:, :, :, :3] = -1
    pictures = call(bundle, params, edge, method="pictures")
    assert (pictures.min(), pictures.max()) == (0.0, 1.0)


def test_several_pictures_start_as_plain_blip_on_each():
    """With zero frame embeddings the context is the tokens of every frame, one after the other."""
    _, plain, params = model()
    _, several, _ = model(num_frames=3)
    video = clip()
    more = {**params, "frame_embedding": np.zeros((3, 32), np.float32)}
    encode = jax.jit(functools.partial(several.apply, method="encode"))
    together = encode(more, video)
    one = jax.jit(functools.partial(plain.apply, method="encode"))
    for place, frame in enumerate((0, 4, 8)):
        alone = one(params, video[:, frame : frame + 1])
        np.testing.assert_allclose(
            together[:, 5 * place : 5 * (place + 1)], alone, atol=TOL["unit"]
        )
    more["frame_embedding"][1] = 2.0
    moved = encode(more, video) - together
    np.testing.assert_allclose(moved[:, 5:10], 2.0, atol=TOL["unit"])
    np.testing.assert_array_equal(moved[:, :5], 0.0)


def test_fresh_frame_embeddings_are_zero():
    _, several, _ = model(num_frames=2)
    fresh = jax.jit(lambda key: several.init(key)["frame_embedding"])
    np.testing.assert_array_equal(fresh(jax.random.key(0)), np.zeros((2, 32)))


def test_no_token_sees_a_later_one():
    _, bundle, params = model()
    ids = np.array([[62, 5, 6, 7, 8]])
    apply = jax.jit(bundle.apply)
    whole = apply(params, clip(b=1), ids)
    changed = apply(params, clip(b=1), np.array([[62, 5, 6, 30, 31]]))
    np.testing.assert_allclose(whole[:, :3], changed[:, :3], atol=TOL["unit"])
    assert np.abs(whole[:, 3] - changed[:, 3]).max() > 0.01


def test_writing_step_by_step_equals_reading_at_once():
    """The scores of a search are those of the texts under teacher forcing."""
    cfg, bundle, params = model(seed=3, bos_id=62)
    video = clip(seed=4)
    ids, scores = jax.jit(
        lambda p, v: bundle.apply(p, v, method="search", beams=3, length=8, length_penalty=0.0)
    )(params, video)
    assert ids.shape == (2, 3, 8)
    read = jax.jit(bundle.apply)
    for beam in range(3):
        text = np.asarray(ids[:, beam])
        shown = np.concatenate([np.full((2, 1), cfg.bos_id), text[:, :-1]], axis=1)
        log_p = jax.nn.log_softmax(read(params, video, shown))
        own = np.take_along_axis(np.asarray(log_p), text[..., None], axis=-1)[..., 0]
        ended = np.cumsum(text == cfg.eos_id, axis=1) - (text == cfg.eos_id)
        np.testing.assert_allclose(
            scores[:, beam], np.where(ended > 0, 0, own).sum(1), atol=TOL["model"]
        )


def test_samples_are_scored_as_read_at_once():
    cfg, bundle, params = model(seed=3)
    video = clip(seed=4)
    ids, total = jax.jit(
        lambda p, v, k: bundle.apply(p, v, k, method="sample", samples=2, length=6)
    )(params, video, jax.random.key(0))
    text = np.asarray(ids[:, 1])
    shown = np.concatenate([np.full((2, 1), cfg.bos_id), text[:, :-1]], axis=1)
    log_p = jax.nn.log_softmax(call(bundle, params, video, shown))
    own = np.take_along_axis(np.asarray(log_p), text[..., None], axis=-1)[..., 0]
    ended = np.cumsum(text == cfg.eos_id, axis=1) - (text == cfg.eos_id)
    np.testing.assert_allclose(total[:, 1], np.where(ended > 0, 0, own).sum(1), atol=TOL["model"])


def test_bfloat16_products_stay_close():
    _, bundle, params = model()
    _, half, _ = model(dtype="bfloat16")
    ids = np.array([[62, 5, 6]])
    whole, rough = (call(b, params, clip(b=1), ids) for b in (bundle, half))
    assert rough.dtype == jnp.float32
    error = np.abs(whole - rough).max()
    assert TOL["model"] < error < 0.1 * np.abs(whole).max()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"patch_size": 5}, "image_size=16"), ({"heads": 5}, "width=24"),
        ({"stack": 3, "in_channels": 2}, "in_channels"), ({"image_mean": (0.1, 0.2)}, "image_mean"),
        ({"bos_id": 64}, "bos_id=64"), ({"num_frames": 0}, "num_frames=0"),
        ({"dtype": "float64"}, "dtype"),
    ],
)  # fmt: skip
def test_bad_sizes_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        BlipConfig.tiny(**changes)


def test_bad_inputs_are_refused():
    _, bundle, params = model()
    with pytest.raises(ValueError, match="2 channels"):
        bundle.apply(params, clip(c=2), np.array([[62]] * 2))
    with pytest.raises(ValueError, match="dtype float32"):
        bundle.apply(params, clip(), np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="positions"):
        bundle.apply(params, clip(), np.ones((2, 21), np.int32))
