import jax
import numpy as np
import pytest

from ffa_sora_jax.models import bert
from ffa_sora_jax.models.bert import Bert, BertConfig
from ffa_sora_jax.models.bundle import Bundle
from tests.tolerances import TOL

IDS = np.random.default_rng(0).integers(0, 96, (2, 12))


@pytest.fixture(scope="module")
def tiny():
    bundle = Bundle.create(Bert, BertConfig.tiny())
    return bundle, jax.jit(bundle.init)(jax.random.key(0))


def test_padding_does_not_change_the_real_tokens(tiny):
    bundle, params = tiny
    mask = np.arange(12)[None] < np.array([[12], [7]])
    whole = bundle.apply(params, IDS, mask)[1:, :7]
    np.testing.assert_allclose(whole, bundle.apply(params, IDS[1:, :7]), atol=TOL["unit"])


def test_rows_come_out_of_a_norm(tiny):
    bundle, params = tiny
    for layer in range(4):
        x = np.asarray(bundle.apply(params, IDS, layer=layer))
        np.testing.assert_allclose(x.mean(-1), 0.0, atol=TOL["unit"])
        np.testing.assert_allclose(x.std(-1), 1.0, atol=TOL["model"])


def test_a_layer_with_a_context_sees_all_of_it_and_no_later_token():
    """Changing token 4 changes rows 4 and on; changing the context changes all rows."""
    cfg = BertConfig.tiny(context_width=20, type_vocab_size=0)
    layer = Bundle.create(bert.Layer, cfg)
    params = layer.init(jax.random.key(1))
    rng = np.random.default_rng(0)
    x, context = rng.normal(size=(1, 7, 32)), rng.normal(size=(1, 5, 20))

    def run(x, context):
        return np.asarray(layer.apply(params, x, bert.causal_bias(7), context))

    y, moved = run(x, context), run(x + np.eye(7)[4][None, :, None], context)
    np.testing.assert_array_equal(y[:, :4], moved[:, :4])
    assert (np.abs(y - moved).max(-1)[:, 4:] > TOL["model"]).all()
    other = run(x, context + np.eye(5)[3][None, :, None])
    assert (np.abs(y - other).max(-1) > TOL["unit"]).all()


def test_kept_keys_and_values_give_the_same_rows():
    cfg = BertConfig.tiny()
    attention = Bundle.create(bert.Attention, cfg)
    params = attention.init(jax.random.key(2))
    x = np.random.default_rng(1).normal(size=(2, 6, 32)).astype(np.float32)
    whole = attention.apply(params, x, bert.causal_bias(6))
    k, v = attention.apply(params, x, method="keys_values")
    last = attention.apply(params, x[:, 5:], k, v, method="attend")
    np.testing.assert_allclose(whole[:, 5:], last, atol=TOL["unit"])


def test_embeddings_can_start_later():
    cfg = BertConfig.tiny(type_vocab_size=0)
    table = Bundle.create(bert.Embeddings, cfg)
    params = table.init(jax.random.key(3))
    whole, last = table.apply(params, IDS), table.apply(params, IDS[:, 11:], None, 11)
    np.testing.assert_allclose(whole[:, 11:], last, atol=TOL["unit"])


def test_bfloat16_products_stay_close(tiny):
    bundle, params = tiny
    half = Bundle.create(Bert, BertConfig.tiny(dtype="bfloat16"))
    error = np.abs(half.apply(params, IDS) - bundle.apply(params, IDS)).max()
    assert TOL["model"] < error < 0.1  # differs, so the option does something


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (IDS.astype(np.float32), {}, "ids have dtype float32"),
        (IDS, dict(mask=np.ones((2, 5))), "mask has shape"),
        (IDS, dict(layer=4), "layers 0 .. 3"),
        (np.zeros((1, 41), int), {}, "41 tokens are more than the 40"),
    ],
)
def test_wrong_inputs_are_refused(tiny, ids, options, message):
    bundle, params = tiny
    with pytest.raises(ValueError, match=message):
        bundle.apply(params, ids, **options)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="bfloat16"):
        BertConfig.tiny(dtype="bfloat61")
