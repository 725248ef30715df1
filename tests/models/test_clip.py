import jax
import numpy as np
import pytest

from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.clip import CLIP, CLIPConfig, VisionConfig, VisionTower
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL

RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(2, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    bundle = Bundle.create(CLIP, CLIPConfig.tiny())
    call = jax.jit(bundle.apply, static_argnames="method")
    return call, random_params(bundle.abstract, 0)


def test_what_follows_the_end_of_a_text_does_not_matter(tiny):
    call, params = tiny
    short = np.array([[58, 4, 9, 59]])
    padded = np.array([[58, 4, 9, 59, 59, 0, 7]])
    a, b = (call(params, ids, method="encode_texts") for ids in (short, padded))
    np.testing.assert_allclose(a, b, atol=TOL["unit"])


def test_layers_are_counted_from_both_ends():
    tower = Bundle.create(VisionTower, CLIPConfig.tiny().vision)
    apply, params = jax.jit(tower.apply, static_argnames="layer"), random_params(tower.abstract, 1)
    first, second, last = (apply(params, PIXELS, layer=layer) for layer in (0, 2, None))
    assert first.shape == second.shape == (2, 17, 32)
    np.testing.assert_array_equal(second, apply(params, PIXELS, layer=-2))
    np.testing.assert_array_equal(last, apply(params, PIXELS, layer=-1))
    assert np.abs(second - last).max() > TOL["model"] < np.abs(first - second).max()


def test_cosines_are_scaled(tiny):
    call, params = tiny
    ids = np.array([[58, 4, 59], [58, 11, 59]])
    images, texts = (
        call(params, x, method=m) for x, m in ((PIXELS, "encode_images"), (ids, "encode_texts"))
    )
    cosine = images @ texts.T
    cosine = cosine / np.linalg.norm(images, axis=1)[:, None] / np.linalg.norm(texts, axis=1)
    expected = np.exp(params["logit_scale"]) * cosine
    np.testing.assert_allclose(call(params, PIXELS, ids), expected, atol=TOL["model"])


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("encode_images", PIXELS[:, :8], "pixels has shape"),
        ("encode_texts", np.zeros((1, 13), int), "13 tokens are more than the 12"),
        ("encode_texts", np.zeros((1, 3), np.float32), "ids have dtype float32"),
    ],
)
def test_wrong_inputs_are_refused(tiny, method, given, message):
    call, params = tiny
    with pytest.raises(ValueError, match=message):
        call(params, given, method=method)


def test_bfloat16_products_stay_close():
    cfg = dict(CLIPConfig.tiny().vision.__dict__)
    full = Bundle.create(VisionTower, VisionConfig(**cfg))
    half = Bundle.create(VisionTower, VisionConfig(**{**cfg, "dtype": "bfloat16"}))
    params = random_params(full.abstract, 1)
    error = np.abs(half.apply(params, PIXELS) - full.apply(params, PIXELS)).max()
    assert TOL["model"] < error < 0.1  # differs, so the option does something
