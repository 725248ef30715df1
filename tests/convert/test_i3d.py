"""I3D from every form of its weights: they all give the same parameters."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert import i3d as converter
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.i3d import I3D
from tests.models.i3d_golden import state_dict, tiny_config

CFG = tiny_config()
BRANCH_NAMES = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}


def without_scale():
    """The reference weights as the released ones are: every batch norm has scale 1."""
    return {
        key: np.ones_like(value) if key.endswith("bn.weight") else value
        for key, value in state_dict().items()
    }


def units(state):
    return list(dict.fromkeys(key.rsplit(".", 2)[0] for key in ordered(state)))


def ordered(state):
    """Keys in the order in which the published class registers its modules."""
    stem = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
    rank = {name: n for n, name in enumerate(stem)}

    def place(key):
        head = key.split(".")[0]
        return (rank.get(head, 10 if head != "logits" else 99), key)

    return sorted(state, key=place)


@pytest.fixture(scope="module")
def expected():
    bundle = Bundle.create(I3D, CFG)
    return engine.to_params(converter.rules(CFG), without_scale(), bundle.abstract)


def check(params, expected, rtol=0.0):
    got, want = tree.flatten(params), tree.flatten(expected)
    assert set(got) == set(want)
    for path in want:
        np.testing.assert_allclose(got[path], want[path], rtol=rtol, err_msg=path)


def test_state_dict_with_and_without_counters(tmp_path, expected):
    state = without_scale()
    state |= {f"{unit}.bn.num_batches_tracked": np.array(3) for unit in units(state)[:5]}
    save_file(state, tmp_path / "i3d.safetensors")
    check(converter.load_i3d(tmp_path / "i3d.safetensors", CFG)[1], expected)


def test_way_back_gives_the_same_state_dict():
    bundle, state = Bundle.create(I3D, CFG), state_dict()
    params = engine.to_params(converter.rules(CFG), state, bundle.abstract)
    back = engine.to_state_dict(converter.rules(CFG), params)
    assert set(back) == set(state)
    assert all(np.array_equal(back[key], state[key]) for key in state)


def tfhub_variables(state, suffix=":0"):
    variables = {}
    for unit in units(state):
        block, _, branch = unit.partition(".")
        path = f"{block}/{BRANCH_NAMES[branch]}" if branch else block
        if unit == "Mixed_5b.b2b":  # the name that the graph really has
            path = "Mixed_5b/Branch_2/Conv3d_0a_3x3"
        if unit == "logits":
            path = "Logits/Conv3d_0c_1x1"
        prefix = f"RGB/inception_i3d/{path}"
        kernel = state[f"{unit}.conv3d.weight"].transpose(2, 3, 4, 1, 0)
        variables[f"{prefix}/conv_3d/w{suffix}"] = kernel
        if unit == "logits":
            variables[f"{prefix}/conv_3d/b{suffix}"] = state["logits.conv3d.bias"]
            continue
        for theirs, ours in converter._TF_NORM.items():
            value = state[f"{unit}.bn.{ours}"].reshape(1, 1, 1, 1, -1)
            variables[f"{prefix}/batch_norm/{theirs}{suffix}"] = value
    return variables


@pytest.mark.parametrize("suffix", ["", ":0"])
def test_tfhub_variables(tmp_path, expected, suffix):
    variables = tfhub_variables(without_scale(), suffix)
    assert len(variables) == 230
    np.savez(tmp_path / "i3d_tfhub.npz", **variables)
    check(converter.load_i3d(tmp_path / "i3d_tfhub.npz", CFG)[1], expected)


def test_an_archive_cut_short_is_called_corrupt(tmp_path):
    path = tmp_path / "i3d_tfhub.npz"
    np.savez(path, strange=np.zeros(300))
    for length in (1000, 4, 0):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"i3d_tfhub\.npz is corrupt"):
            converter.load_i3d(path, CFG)


def test_unknown_tfhub_variable_is_named():
    with pytest.raises(ValueError, match="Flow"):
        converter.from_tfhub({"Flow/inception_i3d/Conv3d_1a_7x7/conv_3d/w": np.zeros((1,) * 5)})
    with pytest.raises(ValueError, match="gamma"):
        converter.from_tfhub({"Conv3d_1a_7x7/batch_norm/gamma": np.zeros(3)})


def renamed(state, rename):
    """The tensors in registration order under other names."""
    return {rename(key): state[key] for key in ordered(state)}


SPELLINGS = {
    "lower": str.lower,
    "long": lambda key: key.replace(".b0.", ".branch_0.").replace(".b1a.", ".branch_1.0."),
    "numbers": lambda key: f"trunk.{key}".replace("Mixed_", "block").replace("Conv3d_", "c"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_tensors_under_other_names(spelling, expected):
    bundle = Bundle.create(I3D, CFG)
    tensors = renamed(without_scale(), SPELLINGS[spelling])
    state = converter.discover(tensors, bundle)
    check(engine.to_params(converter.rules(CFG), state, bundle.abstract), expected)


def test_names_win_over_order(expected):
    bundle = Bundle.create(I3D, CFG)
    tensors = dict(reversed(without_scale().items()))
    state = converter.discover(tensors, bundle)
    check(engine.to_params(converter.rules(CFG), state, bundle.abstract), expected)


def test_folded_batch_norms_give_the_same_function():
    """A bias in place of each batch norm: factor 1 and that bias remain, whatever epsilon."""
    bundle, state = Bundle.create(I3D, CFG), state_dict()
    folded = {}
    for unit in units(state):
        kernel = state[f"{unit}.conv3d.weight"]
        if unit == "logits":
            folded["x.58.weight"], folded["x.58.bias"] = kernel, state["logits.conv3d.bias"]
            continue
        norm = {k: state[f"{unit}.bn.{k}"] for k in ("weight", "bias")}
        mean, var = state[f"{unit}.bn.running_mean"], state[f"{unit}.bn.running_var"]
        factor = norm["weight"] / np.sqrt(var + CFG.epsilon)
        index = f"x.{len(folded) // 2}"
        folded[f"{index}.weight"] = kernel * factor.reshape(-1, 1, 1, 1, 1)
        folded[f"{index}.bias"] = norm["bias"] - mean * factor
    params = engine.to_params(
        converter.rules(CFG), converter.discover(folded, bundle), bundle.abstract
    )
    unit = params["mixed"]["0"]["b1b"] if "0" in params["mixed"] else params["mixed"][0]["b1b"]
    np.testing.assert_array_equal(unit["variance"] + np.float32(CFG.epsilon), 1.0)
    np.testing.assert_array_equal(unit["scale"], 1.0)
    np.testing.assert_array_equal(unit["mean"], 0.0)
    own = [key for key in folded if key.endswith("weight")][5]
    np.testing.assert_array_equal(unit["kernel"], folded[own].transpose(2, 3, 4, 1, 0))
    np.testing.assert_array_equal(unit["bias"], folded[own.replace("weight", "bias")])


def test_other_networks_are_refused():
    bundle, state = Bundle.create(I3D, CFG), without_scale()
    tensors = renamed(state, SPELLINGS["numbers"])
    first = next(key for key, value in tensors.items() if value.ndim == 5)
    with pytest.raises(ValueError, match="57 convolutions"):
        converter.discover({k: v for k, v in tensors.items() if k != first}, bundle)
    shuffled = dict(reversed(tensors.items()))
    with pytest.raises(ValueError, match="stored in another order"):
        converter.discover(shuffled, bundle)


def test_a_scaled_batch_norm_is_pointed_out(tmp_path, caplog):
    save_file(state_dict(), tmp_path / "i3d.safetensors")
    converter.load_i3d(tmp_path / "i3d.safetensors", CFG)
    assert "scales its batch norms" in caplog.text


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="own"):
        converter.load_i3d(tmp_path / "own.pt")


def test_torchscript_file(tmp_path, expected):
    torch = pytest.importorskip("torch")

    class Leaf(torch.nn.Module):
        def forward(self, x):
            return x

    root = Leaf()
    for key in ordered(without_scale()):
        *path, name = key.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, Leaf())
            module = getattr(module, part)
        module.register_buffer(name, torch.from_numpy(np.array(without_scale()[key])))
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(root).save(str(path))
    assert converter.is_torchscript(path)
    check(converter.load_i3d(path, CFG)[1], expected)
    torch.save(state_dict(), tmp_path / "plain.pt")
    assert not converter.is_torchscript(tmp_path / "plain.pt")


def test_all_parameters_are_float32(expected):
    assert {leaf.dtype for leaf in jax.tree.leaves(expected)} == {np.dtype(np.float32)}
