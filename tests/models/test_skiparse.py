import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models import dit, skiparse
from tests.models import dit_golden

CASES = [(f"skip{i}", kind) for i in range(3) for kind in skiparse.KINDS]


def numbered(info: dict) -> np.ndarray:
    """1 + token + 1000 * sample, (b, l)."""
    length = info["t"] * info["h"] * info["w"]
    return 1 + np.arange(length)[None] + 1000 * np.arange(info["batch"])[:, None]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_tokens_are_dealt_out_as_in_the_reference(name, kind):
    info = dit_golden.meta("dit/units")[f"{name}/{kind}"]
    expected = dit_golden.case("dit/units", name)[kind]  # (element, sub-sequence * batch)
    tokens = skiparse.split(jnp.asarray(numbered(info)), info["n"], kind)
    np.testing.assert_array_equal(tokens.T, expected)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_masks_become_the_biases_of_the_reference(name, kind):
    golden = dit_golden.case("dit/units", name)
    n = dit_golden.meta("dit/units")[f"{name}/{kind}"]["n"]
    bias = (1.0 - golden["mask_in"][:, 0]) * dit.MASKED_BIAS
    split = skiparse.split(jnp.asarray(bias), n, kind, fill=dit.PADDED_BIAS)
    np.testing.assert_array_equal(split, golden[f"mask_{kind}_bias"][:, 0, 0])


@pytest.mark.parametrize("kind", skiparse.KINDS)
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 16, 50, 144])
def test_join_undoes_split(kind, n, length):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, length, 3, 5)), jnp.float32)
    parts = skiparse.split(x, n, kind)
    assert parts.shape[0] == 2 * n and parts.shape[1] * n % n**2 == 0
    np.testing.assert_array_equal(skiparse.join(parts, n, kind, length), x)


@pytest.mark.parametrize("length", [64, 128])
def test_two_layers_connect_every_pair_of_tokens(length):
    """The reason for alternating the kinds."""
    linked = []
    for kind in skiparse.KINDS:
        parts = np.asarray(skiparse.split(jnp.arange(length)[None], 4, kind))
        group = np.empty(length, int)
        for index, tokens in enumerate(parts):
            group[tokens] = index
        linked.append(group[:, None] == group[None, :])
    one = linked[0].astype(int)
    assert (one @ linked[1].astype(int) > 0).all()
    assert not (one @ one > 0).all()


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="Did you mean 'single'"):
        skiparse.split(jnp.zeros((1, 16)), 4, "singel")
