import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.convert import engine, t5
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.t5 import T5Config, T5Encoder, relative_buckets
from tests.models import dit_golden
from tests.tolerances import TOL

CASES = dit_golden.tensors("t5/mt5_tiny_cases")


@pytest.fixture(scope="module")
def tiny():
    cfg = T5Config.tiny()
    bundle = Bundle.create(T5Encoder, cfg)
    state = dit_golden.tensors("t5/mt5_tiny_state")
    return jax.jit(bundle.apply), engine.to_params(t5.rules(cfg), state, bundle.abstract)


@pytest.mark.parametrize(
    ("mask", "key"),
    [(CASES["attention_mask"], "last_hidden_state"), (None, "last_hidden_state_nomask"),
     (CASES["attention_mask"].astype(bool), "last_hidden_state")],
)  # fmt: skip
def test_matches_the_reference(tiny, mask, key):
    encode, params = tiny
    hidden = encode(params, CASES["input_ids"], mask)
    np.testing.assert_allclose(hidden, CASES[key], atol=TOL["model"])


def test_each_layer_matches_the_reference(tiny):
    encode, params = tiny
    for layers in (1, 2):
        cut = {**params, "layers": jax.tree.map(lambda x, n=layers: x[:n], params["layers"])}
        cut["final_norm"] = {"scale": np.ones(32, np.float32)}
        hidden = encode(cut, CASES["input_ids"], CASES["attention_mask"])
        raw = CASES[f"hidden_{layers}"]
        normed = raw / np.sqrt(np.square(raw).mean(-1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(hidden, normed, atol=TOL["unit"])


def test_buckets_match_the_reference():
    np.testing.assert_array_equal(relative_buckets(CASES["rel_pos"]), CASES["rel_bucket"])


def test_padding_does_not_change_the_real_tokens(tiny):
    encode, params = tiny
    ids, mask = CASES["input_ids"][1:], CASES["attention_mask"][1:]
    length = int(mask.sum())
    whole = encode(params, ids, mask)[:, :length]
    short = encode(params, ids[:, :length], mask[:, :length])
    np.testing.assert_allclose(whole, short, atol=TOL["unit"])


def test_a_fully_masked_row_is_finite(tiny):
    encode, params = tiny
    hidden = encode(params, CASES["input_ids"], np.zeros((2, 40), bool))
    assert np.isfinite(hidden).all()


def test_version_1_0_has_a_plain_relu_feed_forward():
    """One layer without attention, computed by hand."""
    cfg = T5Config.tiny(num_layers=1, feed_forward_proj="relu")
    bundle = Bundle.create(T5Encoder, cfg)
    params = jax.jit(bundle.init)(jax.random.key(0))
    params["layers"]["attention"]["o"]["kernel"] *= 0.0
    ids = np.arange(6)[None]
    x = np.asarray(params["shared"]["embedding"], np.float64)[ids]

    def norm(x):
        return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)

    wi, wo = (np.asarray(params["layers"]["ff"][k]["kernel"][0], np.float64) for k in ("wi", "wo"))
    expected = norm(x + np.maximum(norm(x) @ wi, 0.0) @ wo)
    np.testing.assert_allclose(jax.jit(bundle.apply)(params, ids, None), expected, atol=TOL["unit"])


def test_bfloat16_products_stay_close(tiny):
    _, params = tiny
    half = Bundle.create(T5Encoder, T5Config.tiny(dtype="bfloat16"))
    hidden = jax.jit(half.apply)(params, CASES["input_ids"], CASES["attention_mask"])
    assert hidden.dtype == jnp.float32
    error = np.abs(hidden - CASES["last_hidden_state"]).max()
    assert TOL["model"] < error < 0.1  # differs, so the option does something


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (np.zeros((2, 4), np.float32), None, "ids have dtype float32"),
        (np.zeros((4,), np.int32), None, "2 axes"),
        (np.zeros((2, 4), np.int32), np.ones((2, 5)), "mask has shape"),
    ],
)
def test_wrong_inputs_are_refused(tiny, ids, mask, message):
    encode, params = tiny
    with pytest.raises(ValueError, match=message):
        encode(params, ids, mask)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="gated-gelu"):
        T5Config.tiny(feed_forward_proj="gated-gelou")
