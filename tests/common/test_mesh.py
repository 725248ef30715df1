import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from ffa_sora_jax.common import mesh as mesh_lib


def mesh_of(**axes):
    return mesh_lib.make_mesh(tuple(axes.items()))


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_axes_fill_what_is_left():
    mesh = mesh_of(data=-1, fsdp=2)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 1, "sequence": 1}


@pytest.mark.parametrize("axes", [{"data": 3}, {"data": -1, "fsdp": 3}, {"data": -1, "fsdp": -1}])
def test_axes_that_do_not_fit(axes):
    with pytest.raises(ValueError, match="does not fit 8 devices"):
        mesh_of(**axes)


def test_unknown_axis_names_the_near_one():
    with pytest.raises(ValueError, match="Did you mean 'tensor'"):
        mesh_of(tensors=8)


def test_rules_first_match_wins_and_tactics_resolve():
    params = {"up": {"kernel": leaf(256, 512), "bias": leaf(512)}, "out": {0: leaf(512, 256)}}
    rules = (("out/0", (None, "tensor")), (".*", "fsdp"))
    shardings = mesh_lib.infer_shardings(params, rules, mesh_of(fsdp=4, tensor=2))
    assert shardings["out"][0].spec == P(None, "tensor")
    assert shardings["up"]["kernel"].spec == P(None, "fsdp")  # the larger axis
    assert shardings["up"]["bias"].spec == P()  # small


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (((".*", "fsdp"), ("up", "replicate")), "decides nothing"),
        ((("upp", "fsdp"), (".*", "fsdp")), "decides nothing"),
        ((("up", "fsdp"),), "No mesh rule matches 'down'"),
        (((".*", "fsd"),), "Did you mean 'fsdp'"),
        (((".*", ("tensr",)),), "Did you mean 'tensor'"),
        (((".*", ("data", None, None)),), "more entries"),
        (((".*", ("data",)),), "does not split"),
    ],
)
def test_bad_rules(rules, message):
    with pytest.raises(ValueError, match=message):
        mesh_lib.infer_shardings({"up": leaf(6, 4), "down": leaf(6, 4)}, rules, mesh_of(data=8))


def test_large_leaf_that_cannot_be_split_is_an_error():
    params = {"table": leaf(1025, 1027)}
    with pytest.raises(ValueError, match="no axis that divides"):
        mesh_lib.infer_shardings(params, ((".*", "fsdp"),), mesh_of(fsdp=8))
    whole = mesh_lib.infer_shardings(params, ((".*", "replicate"),), mesh_of(fsdp=8))
    assert whole["table"].spec == P()


def test_optimizer_state_follows_parameters():
    mesh = mesh_of(fsdp=8)
    params = {"a": {"kernel": leaf(64, 128)}, "b": {0: {"kernel": leaf(128, 64)}}}
    shardings = mesh_lib.infer_shardings(params, ((".*", "fsdp"),), mesh)
    abstract = jax.eval_shape(optax.adamw(1e-3).init, params)
    found = mesh_lib.like_params(abstract, shardings, mesh_lib.replicated(mesh))
    assert found[0].mu["a"]["kernel"].spec == P(None, "fsdp")
    assert found[0].nu["b"][0]["kernel"].spec == P("fsdp")
    assert found[0].count.spec == P()


def test_batches_are_split_and_constrained():
    mesh = mesh_of(data=4, fsdp=2)
    batch = mesh_lib.put_batch({"x": np.arange(16.0, dtype=np.float32).reshape(8, 2)}, mesh)
    assert batch["x"].sharding.shard_shape((8, 2)) == (1, 2)
    with jax.set_mesh(mesh):
        y = jax.jit(lambda x: mesh_lib.constrain(2 * x, None, None))(batch["x"])
    assert y.sharding.is_fully_replicated
    np.testing.assert_array_equal(y, 2 * np.arange(16.0).reshape(8, 2))
    x = jnp.ones(3)
    assert mesh_lib.constrain(x, "data") is x  # no mesh is set here


def test_batch_size_must_divide():
    with pytest.raises(ValueError, match="multiple of 8"):
        mesh_lib.check_batch_size(12, mesh_of(data=8))


def test_table_counts_bytes_per_device():
    params = {"kernel": leaf(128, 128), "bias": leaf(128)}
    shardings = mesh_lib.infer_shardings(params, ((".*", "fsdp"),), mesh_of(fsdp=8))
    table = mesh_lib.sharding_table(params, shardings)
    assert "66,048 B, 8,704 B on each device" in table  # 4 * (16384 + 128), 4 * (2048 + 128)
