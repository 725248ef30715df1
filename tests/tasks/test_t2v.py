"""The text-to-video task: what it feeds the DiT, what it drops, what it samples."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
import optax
import pytest

from ffa_sora_jax.common.types import Clip, Text
from ffa_sora_jax.data.text_cache import TextCache
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.tasks import base, t2v

LENGTH = 6
VAE = WFVAEConfig(
    latent_dim=4, base_channels=4, encoder_num_resblocks=1, decoder_num_resblocks=1,
    encoder_energy_flow_hidden_size=4, decoder_energy_flow_hidden_size=4, use_attention=False,
    norm_type="layernorm", in_channels=1, scale=(2.0,), shift=(0.5,),
)  # fmt: skip


def make_config(**diffusion):
    return mlc.ConfigDict(
        dict(
            task="t2v",
            model=dict(
                num_layers=2, num_attention_heads=2, attention_head_dim=12, in_channels=4,
                caption_channels=16, sparse1d=False, qk_norm=True, pooled_text=True,
            ),
            vae=dict(dir=""),
            text_encoder=dict(
                kind="t5", vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
            ),
            data=dict(text_embeddings=None),
            diffusion={"schedule": "flow", "prediction": "flow", **diffusion},
            sample=dict(sampler="flow_euler", num_steps=2, spacing="even", guidance_scale=2.0),
        )
    )  # fmt: skip


def random_like(abstract):
    """Small random parameters, without compiling an initialiser for every shape."""
    rng = np.random.default_rng(np.random.SeedSequence(7))
    leaf = lambda a: jnp.asarray(0.1 * rng.standard_normal(a.shape), a.dtype)  # noqa: E731
    return jax.tree.map(leaf, abstract)


def params_of(task):
    return random_like(jax.eval_shape(task.init, jax.random.key(0)))


@pytest.fixture(scope="module")
def vae():
    bundle = Bundle.create(WFVAE, VAE)
    return SimpleNamespace(bundle=bundle, params=random_like(bundle.abstract))


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(np.random.SeedSequence(0))
    ids = np.array([[5, 6, 1, 0, 0, 0], [7, 8, 9, 10, 1, 0]], np.int32)
    return Clip(
        video=rng.uniform(-1, 1, (2, 5, 16, 16, 1)).astype(np.float32),
        frame_mask=np.ones((2, 5), bool),
        text=Text(ids=ids, mask=ids > 0),
        latent=rng.normal(size=(2, 2, 2, 2, 8)).astype(np.float32),
    )


def make_task(vae, **diffusion):
    task = t2v.create(make_config(**diffusion))
    task.__dict__["vae"] = vae  # in place of a model folder
    return task


def spy_on_dit(task):
    """Replaces the DiT by zero, and records what it is called with."""
    calls = []

    def apply(params, x_t, t, text, mask):
        calls.append((x_t, t, text, mask))
        return jnp.zeros_like(x_t)

    object.__setattr__(task, "dit", SimpleNamespace(apply=apply))
    return calls


def stored_task(vae, folder, **diffusion):
    """A task with stored embeddings of 4 in the data and of 9 for the empty report."""
    cache = TextCache.create(folder, "encoder", "tokenizer", LENGTH, "float32")
    mask = np.arange(LENGTH)[None] < 1
    cache.write([""], np.where(mask, 1, 0), mask, np.full((1, LENGTH, 16), 9.0, np.float32))
    config = make_config(**diffusion)
    config.text_encoder = dict(kind="stored")
    config.data.text_embeddings = str(folder)
    task = t2v.create(config)
    task.__dict__["vae"] = vae
    return task


def with_embedding(clip, repeats=1):
    clip = jax.tree.map(lambda x: np.repeat(x, repeats, axis=0), clip)
    embedding = np.full((2 * repeats, LENGTH, 16), 4.0, np.float32)
    return clip.replace(text=clip.text.replace(embedding=embedding))


def loss_of(task, clip, params):
    return task.loss("model", params, task.frozen(), jax.random.key(0), clip, jnp.asarray(0))


def test_registry_builds_the_task_and_its_two_networks():
    task = base.create(make_config())
    params = jax.eval_shape(task.init, jax.random.key(0))
    assert isinstance(task, t2v.T2V) and task.players == ("model",)
    assert set(params["model"]) == {"dit", "text_encoder"}


def test_loss_of_a_zero_prediction_is_the_power_of_its_target(vae, clip, tmp_path):
    """The target of a flow is noise - x0, of power 1 + E[x0^2] on average."""
    task = stored_task(vae, tmp_path, sample_posterior=False)
    spy_on_dit(task)
    loss, scalars = loss_of(task, with_embedding(clip, 64), {"model": {"dit": {}}})
    x0 = (clip.latent[..., :4] - 0.5) * 2.0  # the VAE's shift and scale
    assert float(loss) == pytest.approx(1 + float((x0**2).mean()), rel=0.05)
    assert float(scalars["mse"]) == pytest.approx(float(loss))


def test_posterior_is_sampled_before_normalisation(vae, clip):
    moments = np.zeros((512, 2, 2, 2, 8), np.float32)
    moments[..., 4:] = np.log(0.25)
    text = jax.tree.map(lambda x: np.repeat(x[:1], 512, axis=0), clip.text)
    task = make_task(vae)
    latent = task._latent(task.frozen(), jax.random.key(0), Clip(None, text=text, latent=moments))
    assert float(latent.mean()) == pytest.approx(-1.0, abs=0.02)  # (0 - 0.5) * 2
    assert float(latent.std()) == pytest.approx(1.0, rel=0.02)  # sqrt(0.25) * 2
    mean = make_task(vae, sample_posterior=False)
    latent = mean._latent(task.frozen(), jax.random.key(0), Clip(None, text=text, latent=moments))
    np.testing.assert_allclose(latent, -1.0)


def test_video_is_encoded_when_no_latents_are_stored(vae, clip):
    task = make_task(vae, sample_posterior=False)
    fresh = clip.replace(latent=None)
    expected = jax.jit(lambda: vae.bundle.apply(vae.params, clip.video, method="encode")[0])()
    latent = jax.jit(lambda: task._latent(task.frozen(), jax.random.key(0), fresh))()
    np.testing.assert_allclose(latent, (expected - 0.5) * 2.0, atol=1e-5)


def test_dropped_reports_become_the_empty_report(vae, clip):
    task = make_task(vae)
    model = params_of(task)["model"]
    drop = jnp.asarray([True, False])
    cond = jax.jit(lambda: task._condition(model, {}, clip.text, drop))()
    ids = np.stack([np.array([1, 0, 0, 0, 0, 0], np.int32), clip.text.ids[1]])
    np.testing.assert_array_equal(cond["mask"], ids > 0)
    encode = jax.jit(lambda: task.text_encoder.apply(model["text_encoder"], ids, ids > 0))
    np.testing.assert_allclose(cond["text"], encode(), atol=1e-5)


def test_dropout_hits_its_share_of_rows(vae, clip, tmp_path):
    task = stored_task(vae, tmp_path, text_dropout=0.25)
    calls = spy_on_dit(task)
    loss_of(task, with_embedding(clip, 256), {"model": {"dit": {}}})
    _, _, text, mask = calls[0]
    dropped = np.asarray(text)[:, 0, 0] == 9.0
    assert dropped.mean() == pytest.approx(0.25, abs=0.06)
    np.testing.assert_array_equal(np.asarray(mask).sum(1) == 1, dropped)


def test_loss_falls_when_both_networks_are_trained(vae, clip):
    task = make_task(vae, text_dropout=0.0, sample_posterior=False)
    params = params_of(task)
    optimizer = optax.adam(3e-3)
    frozen = task.frozen()

    @jax.jit
    def step(params, state, key):
        loss = lambda p: task.loss("model", p, frozen, key, clip, 0)[0]  # noqa: E731
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, value, grads

    state, values = optimizer.init(params), []
    for i in range(120):
        params, state, value, grads = step(params, state, jax.random.key(i))
        values.append(float(value))
    assert np.mean(values[-20:]) < 0.7 * np.mean(values[:10])
    for name in ("dit", "text_encoder"):
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads["model"][name]))
        assert optax.global_norm(grads["model"][name]) > 0


def test_sample_has_the_size_of_the_batch_and_depends_on_the_report(vae, clip):
    task = make_task(vae)
    params, frozen = params_of(task), task.frozen()
    sample = jax.jit(lambda clip: task.sample(params, frozen, jax.random.key(2), clip))
    made = sample(clip)
    assert made.video.shape == clip.video.shape and made.latent is None
    assert float(jnp.abs(made.video).max()) <= 1.0
    np.testing.assert_array_equal(sample(clip).video, made.video)
    other = clip.replace(text=clip.text.replace(ids=clip.text.ids[::-1], mask=clip.text.mask[::-1]))
    assert float(jnp.abs(sample(other).video - made.video).max()) > 1e-6


@pytest.mark.parametrize("cached", [True, False])
def test_sampling_denormalises_before_decoding(vae, clip, tmp_path, cached):
    """A DiT that always says x0 = 3 must show the decoded latent 3 / 2 + 0.5."""
    task = stored_task(vae, tmp_path, prediction="x0")
    calls = []

    def apply(params, x, t, text, mask):
        calls.append(text)
        return jnp.full_like(x, 3)

    object.__setattr__(task, "dit", SimpleNamespace(apply=apply))
    clip = with_embedding(clip if cached else clip.replace(latent=None))
    frozen = task.frozen()
    made = jax.jit(lambda: task.sample({"model": {"dit": {}}}, frozen, jax.random.key(2), clip))()
    raw = jnp.full((2, 2, 2, 2, 4), 2.0)
    expected = jax.jit(lambda: vae.bundle.apply(vae.params, raw, method="decode"))()
    np.testing.assert_allclose(made.video, jnp.clip(expected, -1, 1), atol=1e-4)
    assert calls[0].shape[0] == 4  # reports, then empty reports


def test_stored_embeddings_need_no_encoder(vae, clip, tmp_path):
    task = stored_task(vae, tmp_path)
    assert set(jax.eval_shape(task.init, jax.random.key(0))["model"]) == {"dit"}
    text = with_embedding(clip).text
    cond = task._condition({}, task.frozen(), text, jnp.asarray([False, True]))
    np.testing.assert_array_equal(cond["text"][:, 0, 0], [4.0, 9.0])
    np.testing.assert_array_equal(cond["mask"].sum(1), [text.mask[0].sum(), 1])


def test_missing_embeddings_are_named(vae, clip, tmp_path):
    task = stored_task(vae, tmp_path)
    with pytest.raises(ValueError, match="no stored text embeddings"):
        loss_of(task, clip, {"model": {"dit": {}}})


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"num_layer": 2}, "Did you mean 'num_layers'"),
        ("text_encoder", {"kind": "t6"}, "Did you mean 't5'"),
        ("text_encoder", {"d_modl": 8}, "Did you mean 'd_model'"),
        ("text_encoder", {"d_model": 24}, "they must be equal"),
        ("text_encoder", {"kind": "stored"}, "has no settings"),
        ("diffusion", {"predicton": "v"}, "Did you mean 'prediction'"),
        ("sample", {"sampler": "flow_eulr"}, "Did you mean 'flow_euler'"),
        ("sample", {"steps": 3}, "Did you mean"),
        ("vae", {"path": "x"}, "key of config.vae"),
        ("data", {"num_frames": 20}, r"num_frames 20 .*4k\+1.*17 or 21"),
        ("data", {"res": 60}, "height is 60.*56 or 64"),
    ],
)
def test_bad_settings_are_refused(section, change, message):
    config = make_config()
    config[section] = {**config[section], **change}
    with pytest.raises(ValueError, match=message):
        t2v.create(config)


def test_vae_of_another_width_is_refused(monkeypatch):
    task = t2v.create(make_config())
    object.__setattr__(task, "vae_dir", "some/vae")
    other = SimpleNamespace(cfg=SimpleNamespace(latent_dim=16), params={})
    monkeypatch.setattr(t2v, "from_pretrained", lambda folder: other)
    with pytest.raises(ValueError, match="16 channels"):
        task.frozen()


def test_vae_folder_is_needed_only_when_weights_are(clip):
    task = t2v.create(make_config())
    with pytest.raises(ValueError, match=r"config\.vae\.dir"):
        task.frozen()
