"""One step of both players against the reference recipe, and the task's options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ffa_sora_jax.common import tree
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.convert import engine, wfvae
from ffa_sora_jax.models.discriminators import DiscriminatorConfig
from ffa_sora_jax.models.wfvae import WFVAEConfig
from ffa_sora_jax.tasks import base
from ffa_sora_jax.tasks.vae import VAELossConfig, VAETask
from tests.compiling import quick_compile
from tests.models import test_discriminators
from tests.models.wfvae_golden import last, load, meta, tiny_model
from tests.tolerances import TOL


@pytest.fixture(autouse=True, scope="module")
def quick():
    with quick_compile():
        yield


def frame_mse(params, video, recon):
    """Stands in for the perceptual network, as in the golden vectors."""
    return jnp.mean(jnp.square(video - recon), axis=(2, 3, 4))


class Step:
    """A generator and a discriminator step of one of the two published recipes."""

    def __init__(self, which):
        self.golden, self.video = load(f"train_{which}"), last(load("train_osp")["x"])
        self.info = meta()["files"][f"train_{which}.safetensors"]
        self.scalars, self.dropout = self.info["scalars"], which == "main"
        loss = VAELossConfig(
            kl_weight=self.info["kl_weight"], wavelet_weight=self.info["wavelet_weight"],
            adversarial_weight=self.info["disc_weight"],
            adaptive_eps=self.info["adaptive"]["eps"],
            adaptive_max=self.info["adaptive"]["clamp"],
        )  # fmt: skip
        self.task = VAETask(WFVAEConfig.tiny(), loss, DiscriminatorConfig.tiny(), (frame_mse, {}))
        self.params = {
            "model": tiny_model()[1], "discriminator": test_discriminators.golden_model()[1]
        }  # fmt: skip

    def run(self, player, params):
        name = {"model": "gen", "discriminator": "disc"}[player]
        noise = last(self.golden[f"noise.{name}_step"])

        def loss(own):
            return self.task.objective(
                player, {**params, player: own}, self.task.frozen(), self.video, noise, 0
            )

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params[player])

    def model_state(self, params):
        return engine.to_state_dict(wfvae.rules(self.task.bundle.cfg), params)

    def discriminator_state(self, params):
        rules = wfvae.discriminator_rules(dropout=self.dropout)
        return engine.to_state_dict(rules, params)

    def compare(self, prefix, state, tolerance):
        keys = [key for key in self.golden if key.startswith(f"{prefix}.")]
        assert keys
        for key in keys:
            got, want = state[key.removeprefix(f"{prefix}.")], self.golden[key]
            error = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-12)
            assert error < tolerance, f"{key}: {error}"


def update(params, grads, weight_decay, clip_norm):
    chain = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    optimizer = optax.chain(*chain, optax.adamw(1e-5, weight_decay=weight_decay))
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


@pytest.fixture(scope="module", params=["osp", "main"])
def steps(request):
    """Results of a generator step, and of a discriminator step with the updated generator."""
    step = Step(request.param)
    generator = step.run("model", step.params)
    updated = update(step.params["model"], generator[1], step.info["gen_weight_decay"], None)
    discriminator = step.run("discriminator", {**step.params, "model": updated})
    return step, generator, updated, discriminator


def test_the_generator_loss_and_its_terms_equal_the_reference(steps):
    step, ((total, terms), _), _, _ = steps
    want, rel = step.scalars, TOL["model"]
    assert terms["kl"] == pytest.approx(want["gen.kl_loss"], rel=rel)
    nll = terms["pixel"] + terms["perceptual"]
    assert nll == pytest.approx(want["gen.nll_loss"], rel=rel)
    assert terms["adversarial"] == pytest.approx(want["gen.g_loss"], rel=rel)
    assert terms["adaptive_weight"] == pytest.approx(want["gen.d_weight"], rel=TOL["gradient_rel"])
    if step.dropout:
        assert terms["wavelet"] == pytest.approx(want["gen.wl_loss"], rel=rel)
    else:
        assert "wavelet" not in terms
    assert total == pytest.approx(want["gen.total_loss"], rel=rel)


def test_the_generator_gradients_equal_the_reference(steps):
    step, (_, grads), updated, _ = steps
    norm = float(optax.global_norm(grads))
    assert norm == pytest.approx(step.scalars["gen.grad_norm_total"], rel=TOL["gradient_rel"])
    step.compare("gen.grad", step.model_state(grads), TOL["gradient_rel"])
    step.compare("gen.updated", step.model_state(updated), TOL["unit"])


def test_the_discriminator_step_equals_the_reference(steps):
    step, _, _, ((loss, terms), grads) = steps
    want, rel = step.scalars, TOL["gradient_rel"]
    assert loss == pytest.approx(want["disc.disc_loss"], rel=rel)
    assert terms["logits_real"] == pytest.approx(want["disc.logits_real"], rel=rel)
    assert terms["logits_fake"] == pytest.approx(want["disc.logits_fake"], rel=rel)
    norm = float(optax.global_norm(grads))
    assert norm == pytest.approx(want["disc.grad_norm_total"], rel=rel)
    step.compare("disc.grad", step.discriminator_state(grads), rel)
    updated = update(
        step.params["discriminator"], grads, step.info["disc_weight_decay"],
        step.info["disc_clip_grad_norm"],
    )  # fmt: skip
    step.compare("disc.updated", step.discriminator_state(updated), TOL["unit"])


# --- Options ---

SMALL = dict(
    in_channels=1, latent_dim=4, base_channels=4, encoder_num_resblocks=1, decoder_num_resblocks=1,
    encoder_energy_flow_hidden_size=4, decoder_energy_flow_hidden_size=4, use_attention=False,
    norm_type="layernorm", linear_path=True, scale=(1.0,), conv_form="native",
)  # fmt: skip
PLAIN = dict(adversarial_weight=0.0, wavelet_weight=0.0, mse_weight=2.0, detail_weight=0.5)


def clips(count=4, size=16):
    rng = np.random.default_rng(0)
    low = rng.standard_normal((count, 3, 2, 2, 1))
    video = jax.image.resize(low, (count, 5, size, size, 1), "linear") / 2
    return np.clip(np.asarray(video, np.float32), -1, 1)


def create(model=SMALL, **vae):
    return base.create({"task": "vae", "model": model, "vae": {**PLAIN, **vae}})


def test_without_an_adversarial_term_there_is_one_player_and_no_discriminator():
    task = create()
    assert task.players == ("model",)
    assert set(jax.eval_shape(task.init, jax.random.key(0))) == {"model"}
    both = create(adversarial_weight=0.5, adversarial_start=3)
    assert [both.player(step) for step in range(6)] == [*["model"] * 3, "discriminator", "model",
                                                        "discriminator"]  # fmt: skip


def test_calibration_makes_the_first_reconstruction_a_good_one():
    task, video = create(), clips()
    params = task.init(jax.random.key(0))
    fitted = task.calibrate(params, iter([Clip(video=video)]))

    def error(params):
        sample = task.sample(params, {}, jax.random.key(1), Clip(video=jnp.asarray(video)))
        assert sample.video.shape == video.shape
        return float(jnp.mean(jnp.square(sample.video - video)))

    assert error(fitted) < 0.2 * error(params)
    plain = create({**SMALL, "linear_path": False})
    assert plain.calibrate(params, iter(())) is params


@functools.cache
def options_step(**vae):
    task, video = create(**vae), jnp.asarray(clips())
    params = jax.tree.map(
        lambda p: p + 0.02 * jnp.cos(jnp.arange(p.size, dtype=jnp.float32)).reshape(p.shape),
        task.init(jax.random.key(0)),
    )

    def loss(own):
        return task.loss(
            "model", {**params, "model": own}, {}, jax.random.key(1), Clip(video=video), 0
        )

    (total, terms), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params["model"])
    return task, total, terms, grads


def test_the_total_is_the_weighted_sum_of_the_terms():
    _, total, terms, _ = options_step()
    assert set(terms) == {"pixel", "mse", "detail", "kl"}
    expected = terms["pixel"] + 2 * terms["mse"] + 0.5 * terms["detail"] + 1e-6 * terms["kl"]
    assert total == pytest.approx(float(expected), rel=1e-6)


def test_a_fixed_encoder_gets_no_gradient_and_the_decoder_the_same_one():
    _, total, _, grads = options_step()
    _, fixed_total, _, fixed = options_step(train_encoder=False)
    assert fixed_total == pytest.approx(float(total), rel=1e-6)
    assert float(optax.global_norm(fixed["encoder"])) == 0.0
    assert float(optax.global_norm(grads["encoder"])) > 0.0
    for path, leaf in tree.flatten(fixed["decoder"]).items():
        np.testing.assert_allclose(
            leaf, tree.flatten(grads["decoder"])[path], rtol=1e-3, atol=1e-3, err_msg=path
        )


def test_before_the_start_the_adversarial_term_has_no_weight():
    _, _, terms, _ = options_step(adversarial_weight=0.5, adversarial_start=1)
    assert terms["adaptive_weight"] == 0.0
    _, _, terms, _ = options_step(adversarial_weight=0.5)
    assert terms["adaptive_weight"] > 0.0


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"Unknown key of config.vae 'kl_wieght'.*'kl_weight'"):
        create(kl_wieght=1.0)
    with pytest.raises(ValueError, match="Unknown pixel loss 'huber'"):
        create(pixel="huber")
    with pytest.raises(ValueError, match=r"num_frames 20 .*4k\+1.*17 or 21"):
        base.create({"task": "vae", "model": SMALL, "vae": PLAIN, "data": {"num_frames": 20}})
    with pytest.raises(ValueError, match=r"config.model 'latent_dims'.*'latent_dim'"):
        create({**SMALL, "latent_dims": 4})
    with pytest.raises(ValueError, match=r"leave data\.latents"):
        create().loss("model", {}, {}, jax.random.key(0), Clip(video=None), 0)
