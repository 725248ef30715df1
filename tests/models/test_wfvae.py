"""WF-VAE and its layers against the reference's golden vectors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert.engine import Rule
from ffa_sora_jax.models import layers, wavelet
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.layers import LayerConfig
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.models.wfvae_pca import pca_init
from tests.compiling import quick_compile
from tests.models.wfvae_golden import last, load, tiny_model
from tests.tolerances import TOL

LAYER = LayerConfig()
BLOCKS = {
    "causal_k3": functools.partial(layers.CausalConv3D, LAYER, 8, 10),
    "causal_k1": functools.partial(layers.CausalConv3D, LAYER, 8, 8, kernel=1),
    "down3d": functools.partial(layers.Downsample3D, LAYER, 8),
    "down3d_odd": functools.partial(layers.Downsample3D, LAYER, 8),
    "down2d": functools.partial(layers.Downsample2D, LAYER, 8),
    "down2d_odd": functools.partial(layers.Downsample2D, LAYER, 8),
    "up3d_trilinear": functools.partial(layers.Upsample3D, LAYER, 8, t_interpolation="trilinear"),
    "up3d_trilinear_1frame": functools.partial(
        layers.Upsample3D, LAYER, 8, t_interpolation="trilinear"
    ),
    "up3d_trilinear_2frames": functools.partial(
        layers.Upsample3D, LAYER, 8, t_interpolation="trilinear"
    ),
    "up3d_nearest": functools.partial(layers.Upsample3D, LAYER, 8, t_interpolation="nearest"),
    "up2d": functools.partial(layers.Upsample2D, LAYER, 8),
    "res2d": functools.partial(layers.ResnetBlock2D, LAYER, 8),
    "res3d": functools.partial(layers.ResnetBlock3D, LAYER, 8, 8),
    "res3d_proj": functools.partial(layers.ResnetBlock3D, LAYER, 8, 12),
    "attn": functools.partial(layers.FrameAttention, LAYER, 8),
    "attn_groupnorm": functools.partial(layers.FrameAttention, LayerConfig("groupnorm"), 32),
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compile():
        yield


def block_rules(name):
    inner = ("",) if name == "attn_groupnorm" else (".norm",)
    rules = [Rule(f"{{path}}{inner[0]}.weight", "{path}/scale")]
    rules += [
        Rule(f"{n}{inner[0]}.bias", f"{n}/bias") for n in ("norm", "norm1", "norm2")
    ]  # fmt: skip
    if name in ("down2d", "down2d_odd", "up2d", "res2d"):
        pairs = [("{path}", "{path}/")]
    elif name.startswith("causal"):
        pairs = [("conv", "")]
    else:
        pairs = [("{path}.conv", "{path}/")]
    for source, target in pairs:
        rules += [Rule(f"{source}.weight", f"{target}kernel", "kernel")]
        rules += [Rule(f"{source}.bias", f"{target}bias")]
    return tuple(rules)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_equals_the_reference(name):
    golden = load("modules")
    prefix = f"sd.{name}."
    state = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    graph, params = nnx.split(BLOCKS[name](rngs=nnx.Rngs(0)))
    params = engine.to_params(block_rules(name), state, nnx.to_pure_dict(params))
    got = nnx.merge(graph, params)(last(golden[f"{name}.in"]))
    np.testing.assert_allclose(got, last(golden[f"{name}.out"]), atol=TOL["unit"])


@pytest.mark.parametrize("case", ["t1", "t5", "t9", "t17", "t21"])
def test_the_whole_model_equals_the_reference(case):
    bundle, params = tiny_model()
    io = load("tiny_io")

    @jax.jit
    def both(params, video, latent):
        moments = bundle.apply(params, video, method="encode")
        return jnp.concatenate(moments, -1), bundle.apply(params, latent, method="decode")

    moments, video = both(params, last(io[f"{case}.x"]), last(io[f"{case}.mean"]))
    np.testing.assert_allclose(moments, last(io[f"{case}.moments"]), atol=TOL["model"])
    np.testing.assert_allclose(video, last(io[f"{case}.dec"]), atol=TOL["model"])


def test_the_posterior_is_clamped_and_sampled_as_the_reference_does():
    from ffa_sora_jax import losses
    from ffa_sora_jax.models.wfvae import split_moments

    golden = load("modules")
    mean, logvar = split_moments(last(golden["gauss.moments"]))
    np.testing.assert_allclose(logvar, last(golden["gauss.logvar_clamped"]), atol=TOL["unit"])
    sample = mean + jnp.exp(0.5 * logvar) * last(golden["gauss.noise"])
    expected = last(golden["gauss.sample"])
    np.testing.assert_allclose(sample, expected, rtol=TOL["unit"], atol=TOL["unit"])
    total = golden["gauss.kl_sum_over_batch"]
    np.testing.assert_allclose(losses.kl(mean, logvar), total, rtol=TOL["unit"])


def test_normalize_is_the_wrapper_of_the_reference_and_denormalize_its_inverse():
    io = load("tiny_io")
    cfg = dataclasses.replace(
        WFVAEConfig.tiny(), scale=tuple(io["wrap.scale"]), shift=tuple(io["wrap.shift"])
    )
    bundle, params = Bundle.create(WFVAE, cfg), tiny_model()[1]
    latent = bundle.apply(params, last(io["t5.z"]), method="normalize")
    np.testing.assert_allclose(latent, last(io["wrap.latent_t5"]), atol=TOL["unit"])
    back = bundle.apply(params, latent, method="denormalize")
    np.testing.assert_allclose(back, last(io["t5.z"]), atol=TOL["unit"])


def test_presets_have_the_published_number_of_parameters():
    # Counts of the reference without its 64 trainable-looking wavelet constants.
    published = {
        "v1_3": (37_182_288, 110_165_436, WFVAEConfig.v1_3()),
        "small 4": (38_157_640, 108_339_132, WFVAEConfig.small(4)),
        "small 8": (38_268_240, 108_394_428, WFVAEConfig.small(8)),
    }
    for name, (encoder, decoder, cfg) in published.items():
        abstract = Bundle.create(WFVAE, cfg).abstract
        count = {
            part: sum(int(np.prod(leaf.shape)) for leaf in tree.flatten(abstract[part]).values())
            for part in ("encoder", "decoder")
        }
        assert count["encoder"] == encoder - 64, name
        assert count["decoder"] == decoder, name


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 7, 16, 16, 3), r"7 frames.*4k\+1.*Nearest: 5 or 9"),
        ((1, 5, 16, 20, 3), r"width is 20.*multiples of 8.*Nearest: 16 or 24"),
        ((1, 5, 4, 16, 3), r"height is 4.*Nearest: 8 or 16"),
        ((1, 5, 16, 16, 1), r"1 channels; this model takes 3"),
        ((5, 16, 16, 3), r"expected \(b, t, h, w, c\)"),
    ],
)
def test_illegal_sizes_raise_and_name_the_legal_ones(shape, message):
    bundle, params = tiny_model()
    with pytest.raises(ValueError, match=message):
        bundle.apply(params, jnp.zeros(shape), method="encode")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_type": "batchnorm"}, "Unknown norm_type 'batchnorm'"),
        ({"t_interpolation": "trilinaer"}, "Did you mean 'trilinear'"),
        ({"conv_form": "fast"}, "Unknown conv_form"),
        ({"scale": (1.0, 2.0)}, "scale has 2 values; give 1 or latent_dim=4"),
        ({"norm_type": "groupnorm"}, "multiple of 32 channels, got 8"),
    ],
)
def test_config_values_that_cannot_work_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Bundle.create(WFVAE, dataclasses.replace(WFVAEConfig.tiny(), **change))


# --- The linear path ---

LINEAR = dataclasses.replace(
    WFVAEConfig.tiny(), in_channels=1, latent_dim=6, use_attention=False, linear_path=True,
    scale=(1.0,),
)  # fmt: skip


def smooth_clips(count, frames=9, size=16):
    """Clips that are sums of six separable waves: their packets have rank at most six."""
    rng = np.random.default_rng(5)
    t, y, x = np.mgrid[0:frames, 0:size, 0:size] / size
    waves = [np.cos(3 * t + 2 * a) * np.sin(2 * y + a) * np.cos(5 * x - a) for a in range(6)]
    weights = rng.standard_normal((count, 6)) * 0.1
    return np.einsum("nk,kthw->nthw", weights, waves)[..., None].astype(np.float32)


@pytest.fixture(scope="module")
def pca():
    bundle = Bundle.create(WFVAE, LINEAR)
    clips = smooth_clips(24)
    return bundle, pca_init(bundle, bundle.init(jax.random.key(0)), [clips[:16], clips[16:]]), clips


def test_pca_gives_whitened_latents_and_the_best_linear_reconstruction(pca):
    bundle, params, clips = pca
    mean, logvar = bundle.apply(params, clips, method="encode")
    flat = np.asarray(mean).reshape(-1, 6)
    np.testing.assert_allclose(flat.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(flat.T, bias=True), np.eye(6), atol=1e-2)
    np.testing.assert_allclose(logvar, -6.0, atol=TOL["unit"])
    rows = np.asarray(wavelet.packet(clips)).reshape(-1, 256)
    left, values, right = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    best = rows.mean(0) + (left[:, :6] * values[:6]) @ right[:6]
    expected = wavelet.inverse_packet(best.reshape(*mean.shape[:-1], 256))
    decoded = np.asarray(bundle.apply(params, mean, method="decode"))
    np.testing.assert_allclose(decoded, expected, atol=1e-3)
    assert np.abs(decoded - clips).mean() < 0.2 * np.abs(clips).mean()


def test_pca_accepts_bytes_and_refuses_what_it_cannot_use(pca):
    bundle, _, clips = pca
    params = bundle.init(jax.random.key(0))
    as_bytes = np.round((clips + 1.0) * 127.5).astype(np.uint8)
    first = pca_init(bundle, params, [clips])["decoder"]["linear"]["bias"]
    second = pca_init(bundle, params, [as_bytes])["decoder"]["linear"]["bias"]
    np.testing.assert_allclose(first, second, atol=0.05)
    with pytest.raises(ValueError, match="at least as many latent positions"):
        pca_init(bundle, params, [clips[:1, :1, :8, :8]])
    plain = Bundle.create(WFVAE, dataclasses.replace(LINEAR, linear_path=False))
    with pytest.raises(ValueError, match="linear_path=True"):
        pca_init(plain, params, [clips])


def test_half_precision_decoding_stays_close_and_keeps_float32_outside():
    io = load("tiny_io")
    _, params = tiny_model()
    bundle, _ = tiny_model(decoder_dtype="bfloat16", encoder_dtype="bfloat16")
    z = last(io["t5.mean"])
    video = jax.jit(lambda p: bundle.apply(p, z, method="decode"))(params)
    mean, _ = jax.jit(lambda p: bundle.apply(p, last(io["t5.x"]), method="encode"))(params)
    assert video.dtype == mean.dtype == jnp.float32
    error = np.std(np.asarray(video) - last(io["t5.dec"])) / np.std(last(io["t5.dec"]))
    assert 1e-3 < error < 0.1


def test_no_attention_and_groupnorm_build_and_run():
    cfg = WFVAEConfig(
        latent_dim=16, base_channels=32, encoder_num_resblocks=1, decoder_num_resblocks=1,
        encoder_energy_flow_hidden_size=32, decoder_energy_flow_hidden_size=32,
        use_attention=False,
    )  # fmt: skip
    bundle = Bundle.create(WFVAE, cfg)
    video = jax.eval_shape(
        lambda p, z: bundle.apply(p, z, method="decode"), bundle.abstract,
        jax.ShapeDtypeStruct((2, 2, 3, 4, 16), jnp.float32),
    )  # fmt: skip
    assert video.shape == (2, 5, 24, 32, 3)
    assert len(bundle.abstract["decoder"]["mid"]) == 2


def test_group_norm_of_a_frame_does_not_see_other_frames():
    norm = layers.Norm(LayerConfig("groupnorm"), 32)
    x = np.random.default_rng(0).standard_normal((1, 3, 2, 2, 32)).astype(np.float32)
    changed = x.copy()
    changed[:, 1] *= 5.0
    apart = norm(x, per_frame=True) - norm(changed, per_frame=True)
    joint = norm(x) - norm(changed)
    assert float(jnp.abs(apart[:, 0]).max()) == 0.0
    assert float(jnp.abs(joint[:, 0]).max()) > 0.01
