import numpy as np
import pytest

from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert.engine import Rule

RULES = (
    Rule("norm.weight", "norm/scale"),
    Rule("table.weight", "table/embedding", "embed", aliases=("tied.weight",)),
    Rule("blocks.*.fc.weight", "even/fc/kernel", "linear", layers=(0, 2)),
    Rule("blocks.*.fc.bias", "even/fc/bias", layers=(0, 2)),
    Rule("blocks.*.fc.weight", "odd/fc/kernel", "linear", layers=(1,)),
    Rule("blocks.*.fc.bias", "odd/fc/bias", layers=(1,)),
    Rule("list.*.deep.{path}.weight", "list/*/{path}/kernel", "kernel"),
    Rule("attention.proj.weight", "attention/proj/kernel", "pointwise3d"),
)
SHAPES = {
    "norm.weight": (5,), "table.weight": (7, 3),
    **{f"blocks.{i}.fc.weight": (4, 3) for i in range(3)},
    **{f"blocks.{i}.fc.bias": (4,) for i in range(3)},
    "list.0.deep.a.b.weight": (4, 3, 2, 5), "list.1.deep.a.b.weight": (4, 3, 2, 5, 6),
    "attention.proj.weight": (4, 3, 1, 1, 1),
}  # fmt: skip
PARAMS = {
    "norm": {"scale": (5,)}, "table": {"embedding": (7, 3)},
    "even": {"fc": {"kernel": (2, 3, 4), "bias": (2, 4)}},
    "odd": {"fc": {"kernel": (1, 3, 4), "bias": (1, 4)}},
    "list": {
        0: {"a": {"b": {"kernel": (2, 5, 3, 4)}}}, 1: {"a": {"b": {"kernel": (2, 5, 6, 3, 4)}}},
    },
    "attention": {"proj": {"kernel": (3, 4)}},
}  # fmt: skip


def empty(tree):
    if isinstance(tree, dict):
        return {key: empty(value) for key, value in tree.items()}
    return np.zeros(tree, np.float32)


def state_dict(dtype=np.float32):
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(dtype) for key, shape in SHAPES.items()}


def load(state, rules=RULES, **options):
    return engine.to_params(rules, state, empty(PARAMS), **options)


def test_kernels_turn_and_layers_stack_in_the_order_named():
    state = state_dict()
    params = load(state)
    np.testing.assert_array_equal(params["even"]["fc"]["kernel"][1], state["blocks.2.fc.weight"].T)
    np.testing.assert_array_equal(params["odd"]["fc"]["bias"][0], state["blocks.1.fc.bias"])
    source = state["list.0.deep.a.b.weight"]
    kernel = params["list"][0]["a"]["b"]["kernel"]
    assert kernel[1, 4, 2, 3] == source[3, 2, 1, 4]  # (h w i o) from (o i h w)
    source = state["list.1.deep.a.b.weight"]
    kernel = params["list"][1]["a"]["b"]["kernel"]
    assert kernel[1, 4, 5, 2, 3] == source[3, 2, 1, 4, 5]
    np.testing.assert_array_equal(
        params["attention"]["proj"]["kernel"], state["attention.proj.weight"][:, :, 0, 0, 0].T
    )


def test_the_way_back_is_bit_equal():
    state = state_dict()
    back = engine.to_state_dict(RULES, load(state))
    assert back.keys() == state.keys()
    for key, array in state.items():
        assert back[key].dtype == array.dtype and back[key].flags.c_contiguous
        np.testing.assert_array_equal(back[key], array)


@pytest.mark.parametrize("stored", ["float16", "float64"])
def test_any_stored_precision_becomes_float32_unless_asked_otherwise(stored):
    state = state_dict(stored)
    params = load(state)
    assert params["norm"]["scale"].dtype == np.float32
    np.testing.assert_array_equal(params["norm"]["scale"], state["norm.weight"].astype(np.float32))
    assert load(state, dtype="float16")["norm"]["scale"].dtype == np.float16


def test_left_over_and_missing_weights_are_listed_on_both_sides():
    state = state_dict()
    state["blocks.3.fc.weight"] = state.pop("blocks.2.fc.weight")
    state["extra.bias"] = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match="do not fit") as error:
        load(state)
    lines = str(error.value).splitlines()
    assert lines[1:] == [
        "unused source keys (2):", "  + blocks.3.fc.weight", "  + extra.bias",
        "unfilled parameters (1):", "  - even/fc/kernel (from blocks.2.fc.weight)",
    ]  # fmt: skip


def test_long_lists_are_cut():
    state = {f"extra.{i}": np.zeros(1, np.float32) for i in range(50)} | state_dict()
    with pytest.raises(ValueError, match=r"unused source keys \(50\)") as error:
        load(state)
    assert "... and 30 more" in str(error.value) and "(none)" in str(error.value)


def test_ignored_prefixes_are_left_unread():
    state = state_dict() | {"decoder.x": np.full(1, np.nan, np.float32)}
    assert load(state, ignored=("decoder.",)).keys() == PARAMS.keys()


def test_tied_weights_may_be_stored_under_either_name_or_both():
    state = state_dict()
    both = state | {"tied.weight": state["table.weight"].copy()}
    other = dict(both)
    del other["table.weight"]
    for given in (both, other):
        np.testing.assert_array_equal(load(given)["table"]["embedding"], state["table.weight"])
    with pytest.raises(ValueError, match="must hold the same values"):
        load(state | {"tied.weight": state["table.weight"] + 1})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("norm.weight", np.zeros(6, np.float32), r"\(6,\).*'norm/scale' needs \(5,\)"),
        ("blocks.0.fc.weight", np.zeros((3, 4), np.float32), r"needs \(4, 3\)"),
        ("norm.weight", np.zeros(5, np.int32), "must be floating point"),
        ("norm.weight", np.array([0, 1, np.nan, 0, 0], np.float32), "corrupt"),
        ("table.weight", np.full((7, 3), np.inf, np.float32), "corrupt"),
    ],
)
def test_wrong_arrays_are_named(key, value, message):
    with pytest.raises(ValueError, match=message) as error:
        load(state_dict() | {key: value})
    assert key in str(error.value)


def test_a_table_that_does_not_cover_the_model_is_an_error():
    with pytest.raises(ValueError, match="No rule of the table fills the parameter 'norm/scale'"):
        load(state_dict(), RULES[1:])
    with pytest.raises(ValueError, match="fills both"):
        engine.plan([Rule("a", "{x}")], {"p": (1,), "q": (1,)})
    with pytest.raises(ValueError, match="stacks 3 layers, its rule names 2"):
        engine.plan([Rule("b.*", "b", layers=(0, 1))], {"b": (3, 4)})
    with pytest.raises(ValueError, match="Did you mean 'linear'"):
        Rule("a", "b", "lineal")
