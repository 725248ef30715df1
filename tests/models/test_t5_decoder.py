import jax
import numpy as np
import pytest

from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.t5 import relative_buckets
from ffa_sora_jax.models.t5_decoder import T5, T5DecoderConfig
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL

RNG = np.random.default_rng(0)
IDS, AFTER = RNG.integers(1, 96, (2, 9)), RNG.integers(1, 96, (2, 6))


@pytest.fixture(scope="module")
def tiny():
    bundle = Bundle.create(T5, T5DecoderConfig.tiny())
    return jax.jit(bundle.apply), random_params(bundle.abstract, 0)


def test_no_token_sees_a_later_one_and_all_see_the_encoder(tiny):
    apply, params = tiny
    logits = apply(params, IDS, None, AFTER)
    changed = AFTER.copy()
    changed[:, 3] = 95
    moved = apply(params, IDS, None, changed)
    np.testing.assert_array_equal(logits[:, :3], moved[:, :3])
    assert (np.abs(logits - moved).max(-1)[:, 3:] > TOL["model"]).all()
    other = apply(params, IDS[:, ::-1], None, AFTER)
    assert (np.abs(logits - other).max(-1) > TOL["model"]).all()


def test_padding_of_the_encoder_does_not_matter(tiny):
    apply, params = tiny
    mask = np.arange(9)[None] < np.array([[9], [5]])
    whole = apply(params, IDS, mask, AFTER)[1:]
    short = apply(params, IDS[1:, :5], None, AFTER[1:])
    np.testing.assert_allclose(whole, short, atol=TOL["model"])


def test_decoder_buckets_count_backwards_only():
    distance = np.array([3, 1, 0, -1, -15, -16, -127, -1000])  # key minus query
    expected = [0, 0, 0, 1, 15, 16, 31, 31]
    np.testing.assert_array_equal(relative_buckets(distance, bidirectional=False), expected)


def test_a_tied_head_scores_the_embeddings_themselves():
    """Two models that differ in the scaling only differ by the factor sqrt(d)."""
    plain = T5DecoderConfig.tiny(tied_head=True)
    scaled = T5DecoderConfig.tiny(tied_head=True, scale_decoder_outputs=True)
    first, second = (Bundle.create(T5, cfg) for cfg in (plain, scaled))
    params = random_params(first.abstract, 1)
    assert "head" not in params
    a, b = (jax.jit(x.apply)(params, IDS, None, AFTER) for x in (first, second))
    np.testing.assert_allclose(a / 32**0.5, b, atol=TOL["model"])


def test_wrong_batches_are_refused(tiny):
    apply, params = tiny
    with pytest.raises(ValueError, match="decoder_ids has shape"):
        apply(params, IDS, None, AFTER[:1])
