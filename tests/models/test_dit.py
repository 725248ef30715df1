import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from flax import nnx

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import dit as table
from ffa_sora_jax.convert import engine
from ffa_sora_jax.models import dit, embeddings, rope
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.dit import DiT, DiTConfig, segments
from tests.models import dit_golden
from tests.tolerances import TOL

NAMES = {False: "dit/t2v_tiny", True: "dit/inpaint_tiny"}
T2V_CASES = tuple(dit_golden.meta("dit/t2v_tiny_cases")["cases"])


@functools.cache
def model(inpaint: bool = False, **changes):
    """The golden weights in a config that may leave the reference's sparse settings."""
    name = NAMES[inpaint]
    stored = {"_class_name": table.INPAINT if inpaint else table.T2V}
    stored |= dit_golden.meta(f"{name}_state")["config"]
    cfg = dataclasses.replace(table.read_config(stored, {}), **changes)
    bundle = Bundle.create(DiT, cfg)
    state = dit_golden.tensors(f"{name}_state")
    return bundle, engine.to_params(table.rules(cfg), state, bundle.abstract)


def sparse(case: str) -> dict:
    config = dit_golden.meta("dit/t2v_tiny_cases")["cases"][case]["config"]
    return {key: config[key] for key in ("sparse1d", "sparse_n")}


# --- Parity with the reference ---


@pytest.mark.parametrize("case", T2V_CASES)
def test_matches_the_reference(case):
    golden = dit_golden.case("dit/t2v_tiny_cases", case)
    bundle, params = model(**sparse(case))
    y = jax.jit(bundle.apply)(params, *dit_golden.inputs(golden))
    np.testing.assert_allclose(y, dit_golden.last(golden["out"]), atol=TOL["model"])


def test_the_inpaint_variant_matches_the_reference():
    golden = dit_golden.case("dit/inpaint_tiny_cases", "sparse4")
    bundle, params = model(inpaint=True)
    y = jax.jit(bundle.apply)(params, *dit_golden.inputs(golden))
    np.testing.assert_allclose(y, dit_golden.last(golden["out"]), atol=TOL["model"])


def test_every_stage_matches_the_reference():
    """Each stage on the reference's own input, so that no error adds up."""
    golden = dit_golden.case("dit/t2v_tiny_cases", "sparse4")
    bundle, params = model(sparse1d=True, sparse_n=4)
    x_t, t, text, text_mask, _ = dit_golden.inputs(golden)
    inter = {k.removeprefix("inter/"): v for k, v in golden.items() if k.startswith("inter/")}
    inter = {k: rearrange(v, "n b d -> b n d") if "_sbd" in k else v for k, v in inter.items()}

    @jax.jit
    def stages(params):
        net = nnx.merge(bundle.graphdef, params)
        embedded, rows = net.adaln_single(t)
        aux = {"adaln_emb": embedded, "adaln_6d": rows.reshape(2, -1)}
        aux["patch_tokens"] = net.pos_embed(x_t)
        aux["caption_tokens"] = net.caption_projection(text)
        rows = inter["adaln_6d"].reshape(rows.shape)
        bias = (1.0 - text_mask) * dit.MASKED_BIAS
        angles = rope.tables((6, 4, 4), bundle.cfg.attention_head_dim)
        context = dit.Context(rows, inter["caption_tokens"][:, 0], bias, None, angles)
        layers = [
            (s, m, turn)
            for s, segment in enumerate(segments(bundle.cfg))
            for turn in range(len(segment.layers[0]))
            for m in range(len(segment.kinds))
        ]
        for i, (s, m, turn) in enumerate(layers):  # fmt: skip
            block = jax.tree.map(lambda p, turn=turn: p[turn], net.blocks[s][m])
            x = inter[f"block{i - 1}_out_sbd" if i else "patch_tokens"]
            aux[f"block{i}_out_sbd"] = block(x, context, segments(bundle.cfg)[s].kinds[m])
        return aux

    for name, value in stages(params).items():
        expected = inter[name].reshape(value.shape)
        np.testing.assert_allclose(value, expected, atol=TOL["unit"], err_msg=name)


def test_gradients_match_the_reference():
    golden = dit_golden.case("dit/t2v_tiny_cases", "sparse4")
    info = dit_golden.meta("dit/t2v_tiny_cases")["cases"]["sparse4"]
    bundle, params = model(sparse1d=True, sparse_n=4)
    target = dit_golden.last(golden["grad_target"])

    def loss(params):
        y = bundle.apply(params, *dit_golden.inputs(golden))
        return jnp.mean(jnp.square(y - target))

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, info["grad_loss_mse"], rtol=TOL["gradient_rel"])
    grads = engine.to_state_dict(table.rules(bundle.cfg), grads)
    assert grads.keys() == info["grad_l2"].keys()
    for key, norm in info["grad_l2"].items():
        ours = np.linalg.norm(grads[key])
        # Keys' biases have no effect, so their gradients are rounding noise: absolute there.
        np.testing.assert_allclose(ours, norm, rtol=TOL["gradient_rel"], atol=1e-6, err_msg=key)
    full = {key: value for key, value in golden.items() if key.startswith("grad/")}
    assert full
    for key, expected in full.items():
        error = np.linalg.norm(grads[key.removeprefix("grad/")] - expected)
        assert error <= TOL["gradient_rel"] * np.linalg.norm(expected), key


def test_sinusoid_matches_the_reference():
    golden = dit_golden.case("dit/units", "time")
    features = jax.jit(embeddings.sinusoid)(golden["t"])
    for t, ours, theirs in zip(golden["t"], features, golden["sinusoid256"], strict=True):
        # Two of 128 frequencies differ in the last bit from those of the reference's exponential.
        np.testing.assert_allclose(ours, theirs, atol=max(TOL["unit"], t * TOL["last_bit"]))


def test_absolute_positions_tell_all_tokens_apart_axis_by_axis():
    features = embeddings.grid_sinusoid((3, 4, 5), 48).reshape(3, 4, 5, 3, 16)
    for axis in range(3):
        third = np.moveaxis(features[..., axis, :], axis, 0)  # depends on its own axis only
        assert (third == third[:, :1, :1]).all()
        line = third[:, 0, 0]
        apart = np.linalg.norm(line[:, None] - line[None], axis=-1) + 9 * np.eye(len(line))
        assert apart.min() > 0.5
    np.testing.assert_allclose(features[0, 0, 2, 2, 0], np.sin(2.0), atol=TOL["unit"])
    with pytest.raises(ValueError, match="multiple of 6, not 32"):
        embeddings.grid_sinusoid((1, 1, 1), 32)


# --- Layers and loops ---


def layout(**changes) -> list[tuple]:
    return [(s.kinds, s.layers) for s in segments(DiTConfig.tiny(**changes))]


def test_the_released_model_is_two_pairs_of_dense_layers_around_fourteen_sparse_pairs():
    first, middle, final = segments(DiTConfig())
    assert first == dit.Segment(("dense",), ((0, 1),))
    assert middle.kinds == ("single", "group")
    assert middle.layers == (tuple(range(2, 30, 2)), tuple(range(3, 30, 2)))
    assert final == dit.Segment(("dense",), ((30, 31),))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(num_layers=6, sparse1d=False), [(("dense",), ((0, 1, 2, 3, 4, 5),))]),
        (dict(num_layers=6, sparse_n=1), [(("dense",), ((0, 1, 2, 3, 4, 5),))]),
        (dict(num_layers=1), [(("dense",), ((0,),))]),
        (dict(num_layers=3), [(("dense",), ((0, 1),)), (("single",), ((2,),))]),
        (dict(num_layers=7, sparse_first=1, sparse_last=6),
         [(("dense",), ((0,),)), (("group", "single"), ((1, 3), (2, 4))), (("group",), ((5,),)),
          (("dense",), ((6,),))]),
        (dict(sparse_first=0, sparse_last=4), [(("single", "group"), ((0, 2), (1, 3)))]),
    ],
)  # fmt: skip
def test_any_depth_is_cut_into_runs(changes, expected):
    assert layout(**changes) == expected


@pytest.mark.parametrize("depth", [1, 31, 33, 40])
def test_every_layer_is_in_exactly_one_run(depth):
    layers = [i for s in segments(DiTConfig(num_layers=depth)) for m in s.layers for i in m]
    assert sorted(layers) == list(range(depth))


def test_a_scan_equals_its_layers_written_out(monkeypatch):
    """Six dense layers in one loop, against six runs of one layer."""
    cfg = DiTConfig.tiny(num_layers=6, sparse1d=False)
    bundle = Bundle.create(DiT, cfg)
    params, arguments = random_params(bundle), random_inputs(cfg)
    scanned = jax.jit(bundle.apply)(params, *arguments)
    alone = tuple(dit.Segment(("dense",), ((i,),)) for i in range(6))
    stack = params["blocks"][0][0]
    monkeypatch.setattr(dit, "segments", lambda cfg: alone)
    split = Bundle.create(DiT, cfg)
    blocks = {i: {0: jax.tree.map(lambda p, i=i: p[i : i + 1], stack)} for i in range(6)}
    written_out = jax.jit(split.apply)({**params, "blocks": blocks}, *arguments)
    np.testing.assert_allclose(scanned, written_out, atol=TOL["unit"])


@functools.cache
def gradients(remat: str):
    cfg = DiTConfig.tiny(num_layers=3, sparse1d=False, remat=remat)
    bundle = Bundle.create(DiT, cfg)
    params, arguments = random_params(bundle), random_inputs(cfg)
    loss = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(bundle.apply(p, *arguments)))))
    return tree.flatten(loss(params))


@pytest.mark.parametrize("remat", ["dots", "block"])
def test_rematerialisation_changes_no_gradient(remat):
    plain = gradients("none")
    for path, grad in gradients(remat).items():
        error = np.linalg.norm(grad - plain[path])
        assert error <= TOL["gradient_rel"] * np.linalg.norm(plain[path]) + 1e-4, path


# --- Options and masks ---


def random_inputs(cfg: DiTConfig):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(2, 5, cfg.caption_channels)).astype(np.float32)
    x_t = rng.normal(size=(2, 2, 4, 6, cfg.input_channels)).astype(np.float32)
    mask = np.arange(5)[None] < np.array([[5], [2]])
    return x_t, np.array([10.0, 900.0], np.float32), text, mask


def random_params(bundle: Bundle):
    """By path, so that configs share the parameters that they have in common."""

    def draw(path, leaf):
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        return rng.normal(size=leaf.shape, scale=leaf.shape[-1] ** -0.5).astype(np.float32)

    return tree.map_with_path(draw, bundle.abstract)


@functools.cache
def plain_output(cfg: DiTConfig):
    return run(cfg)[1]


def run(cfg: DiTConfig, params=None, **changes):
    bundle = Bundle.create(DiT, cfg)
    params = random_params(bundle) if params is None else params
    x_t, t, text, mask = random_inputs(cfg)
    given = {"x_t": x_t, "t": t, "text": text, "text_mask": mask, **changes}
    return params, jax.jit(bundle.apply)(params, **given)


@pytest.mark.parametrize(
    "changes",
    [
        dict(absolute_position=True),
        dict(qk_norm=True), dict(norm="rmsnorm"), dict(pooled_text=True), dict(dtype="bfloat16"),
        dict(sparse_first=1), dict(sparse_last=2), dict(sparse_n=2), dict(sparse1d=False),
        dict(interpolation_scale_t=2.0), dict(interpolation_scale_h=2.0),
        dict(interpolation_scale_w=2.0), dict(norm_eps=0.1),
    ],
    ids=str,
)  # fmt: skip
def test_every_option_has_an_effect_and_stays_finite(changes):
    depth = 3 if any(name.startswith("sparse") for name in changes) else 1
    cfg = DiTConfig.tiny(num_layers=depth)
    plain = plain_output(cfg)
    _, y = run(dataclasses.replace(cfg, **changes))
    assert y.shape == plain.shape and y.dtype == jnp.float32 and np.isfinite(y).all()
    assert np.abs(y - plain).max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "shape"),
    [(dict(out_channels=3), 3), (dict(inpaint=True, mask_channels=2), 4), (dict(patch_size=1), 4)],
)
def test_sizes_follow_the_config(changes, shape):
    _, y = run(DiTConfig.tiny(num_layers=1, **changes))
    assert y.shape == (2, 2, 4, 6, shape)


@functools.cache
def init(cfg: DiTConfig):
    bundle = Bundle.create(DiT, cfg)
    return jax.jit(bundle.init)(jax.random.key(1))


def test_zero_init_starts_as_zero_and_learns_from_the_last_layer_on():
    cfg = DiTConfig.tiny(zero_init=True, num_layers=3)
    params, arguments = init(cfg), random_inputs(cfg)
    bundle = Bundle.create(DiT, cfg)

    def total(params):
        y = bundle.apply(params, *arguments)
        return jnp.sum(y), y

    grads, y = jax.jit(jax.grad(total, has_aux=True))(params)
    assert not np.any(y)
    assert np.abs(grads["proj_out"]["kernel"]).max() > 0


def test_zero_init_blocks_are_the_identity():
    """With a last layer that is not zero, depth has no say in the output."""
    shallow, deep = (DiTConfig.tiny(zero_init=True, num_layers=n) for n in (1, 3))
    params = dict(init(deep))
    params["proj_out"] = random_params(Bundle.create(DiT, shallow))["proj_out"]
    _, z = run(deep, params)
    first = jax.tree.map(lambda p: p[:1], params["blocks"][0][0])
    _, y = run(shallow, {**params, "blocks": {0: {0: first}}})
    assert np.abs(y).max() > 0.1
    np.testing.assert_allclose(y, z, atol=TOL["unit"])


def test_default_initialisation_is_that_of_pytorch():
    params = init(DiTConfig.tiny(num_layers=3))
    stack = params["blocks"][0][0]["ff"]["out"]
    for leaf in (stack["kernel"], stack["bias"]):
        bound = (4 * 48) ** -0.5
        assert bound * 0.95 < np.abs(leaf).max() <= bound
    assert np.abs(stack["kernel"][0] - stack["kernel"][1]).max() > 0  # layers differ
    table = params["blocks"][0][0]["scale_shift_table"]
    np.testing.assert_allclose(np.std(table), 48**-0.5, rtol=0.1)


def test_the_inpaint_variant_starts_as_the_plain_one():
    plain, inpaint = DiTConfig.tiny(num_layers=1), DiTConfig.tiny(num_layers=1, inpaint=True)
    params = init(inpaint)
    x_t, *_ = random_inputs(plain)
    rest = np.random.default_rng(1).normal(size=(*x_t.shape[:-1], 8)).astype(np.float32)
    _, z = run(inpaint, params, x_t=np.concatenate([x_t, rest], -1))
    extra = ("pos_embed_mask", "pos_embed_masked_hidden_states")
    _, y = run(plain, {k: v for k, v in params.items() if k not in extra})
    np.testing.assert_allclose(y, z, atol=TOL["unit"])


def test_masked_text_is_not_seen_whatever_it_holds():
    cfg = DiTConfig.tiny(pooled_text=True, num_layers=1)
    params, y = run(cfg)
    _, _, text, mask = random_inputs(cfg)
    _, z = run(cfg, params, text=np.where(mask[..., None], text, 9.0).astype(np.float32))
    np.testing.assert_allclose(y, z, atol=TOL["unit"])


def test_no_real_text_token_at_all_is_finite():
    cfg = DiTConfig.tiny(pooled_text=True, num_layers=1)
    _, y = run(cfg, text_mask=np.zeros((2, 5), bool))
    assert np.isfinite(y).all()


@pytest.mark.parametrize("changes", [dict(sparse1d=False), dict()], ids=["dense", "sparse"])
def test_no_mask_equals_a_mask_of_ones(changes):
    cfg = DiTConfig.tiny(num_layers=3, **changes)
    params, y = run(cfg, text_mask=None)
    ones = {"text_mask": np.ones((2, 5)), "video_mask": np.ones((2, 2, 4, 6))}
    _, z = run(cfg, params, **ones)
    np.testing.assert_allclose(y, z, atol=TOL["unit"])


# --- Errors ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(x_t=np.zeros((2, 2, 5, 6, 4))), "h=5 latent pixels.*patch size 2; use h=4 or 6"),
        (dict(x_t=np.zeros((2, 2, 4, 1, 4))), "w=1 latent pixels.*use w=2"),
        (dict(x_t=np.zeros((2, 2, 4, 6, 5))), "x_t has shape.*c=4"),
        (dict(t=np.zeros(3)), "t has shape"),
        (dict(text=np.zeros((2, 5, 8))), "text has shape.*d=40"),
        (dict(text_mask=np.zeros((2, 6))), "text_mask has shape"),
        (dict(video_mask=np.ones((2, 1, 4, 6))), "video_mask has shape"),
    ],
)
def test_illegal_inputs_name_the_legal_ones(changes, message):
    with pytest.raises(ValueError, match=message):
        run(DiTConfig.tiny(), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(attention_head_dim=64), "multiple of 6, such as 60 or 66"),
        (dict(norm="rmsnrom"), "Did you mean 'rmsnorm'"),
        (dict(remat="all"), "Allowed: block, dots, none"),
        (dict(num_layers=0), "num_layers=0 must be at least 1"),
    ],
)
def test_illegal_settings_name_the_legal_ones(changes, message):
    with pytest.raises(ValueError, match=message):
        DiTConfig.tiny(**changes)
