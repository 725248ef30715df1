from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ffa_sora_jax.privacy import membership
from ffa_sora_jax.privacy.denoising import denoising_loss
from tests.tolerances import TOL


def test_auc_and_hits_of_small_sets_counted_out():
    members, others = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    # pairs: 3>2, 3>0, 1<2, 1>0, 2=2, 2>0
    assert membership.auc(members, others) == pytest.approx(4.5 / 6)
    assert membership.hits_at(members, others, rate=0.01) == (1 / 3, 0.0)
    assert membership.hits_at(members, others, rate=0.5) == (1.0, 0.5)


def test_attack_on_gaussian_losses_has_the_known_auc():
    rng = np.random.default_rng(0)
    levels = (0.2, 0.8)
    members = rng.normal(-1, 1, (800, 2)) * [1, 50]
    others = rng.normal(0, 1, (800, 2)) * [1, 50]
    attack = membership.infer(members, others, levels)
    # the mean of two levels, each one sd apart: sqrt(2) sd apart
    expected = stats.norm.cdf(np.sqrt(2) / np.sqrt(2))
    assert attack.auc == pytest.approx(expected, abs=0.02)
    assert attack.auc_interval[0] < attack.auc < attack.auc_interval[1]
    assert attack.auc_by_level[0.2] == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.03)
    hits = stats.norm.sf(stats.norm.isf(0.01) - np.sqrt(2))
    assert attack.hits == pytest.approx(hits, abs=0.06) and attack.rate <= 0.01
    assert attack.beyond_chance


def test_without_memory_the_attack_guesses():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(20):
        found = membership.infer(rng.normal(size=(40, 5)), rng.normal(size=(40, 5)))
        covered += found.auc_interval[0] <= 0.5 <= found.auc_interval[1]
    assert covered >= 16


def test_a_few_clips_known_by_heart_are_a_leak():
    """One in eight: the AUC does not tell, what is named with hardly a false alarm does."""
    rng = np.random.default_rng(3)
    members, others = rng.normal(size=(100, 5)), rng.normal(size=(100, 5))
    members[:12] -= 6
    members[12:] += 0.1
    found = membership.infer(members, others)
    assert found.auc_interval[0] < 0.5 and found.hits_p_value < 0.01 and found.beyond_chance


def test_hits_of_a_model_that_knows_nobody_are_chance():
    rng = np.random.default_rng(4)
    found = [
        membership.infer(rng.normal(size=(30, 2)), rng.normal(size=(30, 2)), (0.3, 0.6))
        for _ in range(30)
    ]
    values = [one.hits_p_value for one in found]
    assert min(values) > 0 and np.mean(np.array(values) < 0.2) < 0.4


def test_patients_are_drawn_as_wholes():
    """Ten copies of each clip say no more than one: the interval must not shrink."""
    rng = np.random.default_rng(2)
    members, others = rng.normal(size=(12, 1)), rng.normal(size=(12, 1))
    once = membership.infer(members, others, (0.5,))
    groups = [str(i) for i in np.repeat(np.arange(12), 10)]
    many = membership.infer(
        np.repeat(members, 10, axis=0), np.repeat(others, 10, axis=0), (0.5,), (groups, groups)
    )
    width = [high - low for low, high in (once.auc_interval, many.auc_interval)]
    assert width[1] > 0.8 * width[0]


def test_bad_losses_are_named():
    with pytest.raises(ValueError, match="not finite"):
        membership.infer(np.full((3, 1), np.nan), np.zeros((3, 1)), (0.5,))
    with pytest.raises(ValueError, match="n >= 2"):
        membership.infer(np.zeros((1, 1)), np.zeros((3, 1)), (0.5,))


def fake_pipeline(denoise):
    """A pipeline whose VAE halves the video and whose network is `denoise(x_t, t)`."""

    def vae(params, x, method):
        return (0.5 * x, jnp.zeros_like(x)) if method == "encode" else x

    def part(apply):
        return SimpleNamespace(params={}, bundle=SimpleNamespace(apply=apply))

    tokenizer = SimpleNamespace(
        encode=lambda texts, length: (np.ones((1, length), np.int32), np.ones((1, length), bool)),
        lengths=lambda texts: np.array([len(t.split()) for t in texts]),
    )
    return SimpleNamespace(
        parts={
            "vae": part(vae),
            "text_encoder": part(lambda params, ids, mask: jnp.zeros((1, 4, 2))),
            "transformer": part(lambda params, x_t, t, text, mask: denoise(x_t, t)),
        },
        tokenizer=tokenizer,
        sampling=SimpleNamespace(
            schedule="flow", prediction="x0", num_frames=2, size=4, channels=1, text_length=4
        ),
    )


def test_denoising_loss_is_the_error_of_the_predicted_latent():
    video = np.full((2, 4, 4, 1), 255, np.uint8)  # 1 on the model's scale, 0.5 as latent
    report = "many more words than the four that fit"
    constant = denoising_loss(fake_pipeline(lambda x_t, t: jnp.full_like(x_t, 0.2)))
    assert constant((video, report), 0.3) == pytest.approx(0.09, abs=TOL["unit"])
    # a network that does nothing errs by level^2 (noise - x0)^2, with noise that stays the same
    idle = denoising_loss(fake_pipeline(lambda x_t, t: x_t), draws=64)
    errors = {level: idle((video, report), level) for level in (0.1, 0.4)}
    assert errors[0.4] == pytest.approx(0.16 * 1.25, rel=0.1)
    assert errors[0.1] == pytest.approx(0.01 * 1.25, rel=0.1)
    assert idle((video, report), 0.4) == errors[0.4]
    with pytest.raises(ValueError, match="the model takes"):
        idle((video[:1], report), 0.4)
