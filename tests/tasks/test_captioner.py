"""The captioner's loss against numbers worked out by hand, its options, what it starts from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ffa_sora_jax.common.types import Clip, Text
from ffa_sora_jax.convert import pretrained
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.captioner import Blip, BlipConfig
from ffa_sora_jax.tasks import base
from ffa_sora_jax.tasks.captioner import Captioner, CaptionLossConfig
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL

CFG = BlipConfig.tiny()
IDS = np.array([[5, 9, 3, 0], [7, 8, 6, 3]], np.int32)
MASK = IDS != 0


def task(**options):
    return Captioner(Bundle.create(Blip, CFG), CaptionLossConfig(**options))


def clip(seed=0):
    video = np.random.default_rng(seed).uniform(-1, 1, (2, 5, 16, 16, 1)).astype(np.float32)
    return Clip(video=video, text=Text(ids=IDS, mask=MASK))


@pytest.fixture(scope="module")
def params():
    return random_params(Bundle.create(Blip, CFG).abstract, 0)


def loss(task, params, clip, seed=0):
    def compiled(params, key, clip):
        return task.loss("model", {"model": params}, {}, key, clip, jnp.zeros(()))

    return jax.jit(compiled)(params, jax.random.key(seed), clip)


def test_loss_is_the_cross_entropy_of_the_next_tokens(params):
    value, scalars = loss(task(), params, clip())
    shown = np.array([[62, 5, 9, 3], [62, 7, 8, 6]])
    apply = jax.jit(Bundle.create(Blip, CFG).apply)
    logits = np.asarray(apply(params, clip().video, shown), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    own = [-log_p[b, i, IDS[b, i]] for b in range(2) for i in range(4) if MASK[b, i]]
    right = [logits[b, i].argmax() == IDS[b, i] for b in range(2) for i in range(4) if MASK[b, i]]
    assert float(value) == pytest.approx(np.mean(own), abs=TOL["model"])
    assert float(scalars["nll"]) == pytest.approx(np.mean(own), abs=TOL["model"])
    assert float(scalars["accuracy"]) == pytest.approx(np.mean(right))


def test_smoothing_mixes_in_the_mean_over_the_vocabulary(params):
    plain = float(loss(task(), params, clip())[0])
    smooth, scalars = loss(task(label_smoothing=0.3), params, clip())
    shown = np.array([[62, 5, 9, 3], [62, 7, 8, 6]])
    logits = jax.jit(Bundle.create(Blip, CFG).apply)(params, clip().video, shown)
    uniform = float(-np.asarray(jax.nn.log_softmax(logits)).mean(-1)[MASK].mean())
    assert float(smooth) == pytest.approx(0.7 * plain + 0.3 * uniform, abs=TOL["model"])
    assert float(scalars["nll"]) == pytest.approx(plain, abs=TOL["unit"])


def test_emphasised_tokens_count_more(params):
    shown = np.array([[62, 5, 9, 3], [62, 7, 8, 6]])
    logits = jax.jit(Bundle.create(Blip, CFG).apply)(params, clip().video, shown)
    own = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), IDS[..., None], -1)[..., 0]
    weights = np.array([[1, 5, 1, 0], [5, 1, 1, 1]])
    value, scalars = loss(task(emphasised=(9, 7), emphasis=5.0), params, clip())
    assert float(value) == pytest.approx((own * weights).sum() / weights.sum(), abs=TOL["model"])
    assert float(scalars["nll"]) == pytest.approx(own[MASK].mean(), abs=TOL["model"])


def test_token_dropout_hides_inputs_and_no_targets():
    all_hidden = task(token_dropout=0.999)
    text = Text(ids=jnp.asarray(IDS), mask=jnp.asarray(MASK))
    inputs = np.asarray(all_hidden._inputs(jax.random.key(1), text))
    np.testing.assert_array_equal(inputs, [[62, 0, 0, 0]] * 2)
    some = np.asarray(
        task(token_dropout=0.5)._inputs(
            jax.random.key(0), Text(ids=np.full((64, 40), 9), mask=np.ones((64, 40), bool))
        )
    )
    assert 0.45 < (some[:, 1:] == 0).mean() < 0.55 and (some[:, 0] == 62).all()


def test_shift_and_gain_change_what_is_seen(params):
    plain, same = (float(loss(task(), params, clip(), seed)[0]) for seed in (0, 1))
    assert plain == same
    for option in ("shift", "gain"):
        a, b = (float(loss(task(**{option: 0.5}), params, clip(), seed)[0]) for seed in (0, 1))
        assert len({plain, a, b}) == 3


def test_it_learns_to_tell_two_clips_apart(params):
    """Then it writes each clip's own report."""
    learner, both = task(), clip(seed=3)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: loss(learner, p, both)[0])(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(40):
        params, state = step(params, state)
    written = jax.jit(learner.sample)({"model": params}, {}, jax.random.key(0), both)
    np.testing.assert_array_equal(written.text.ids, IDS)
    np.testing.assert_array_equal(written.text.mask, MASK)


def config(tmp_path, **model):
    from ffa_sora_jax.train import config as config_lib

    config = config_lib.load("configs/captioner.py:runlocal")
    config.model.update(model)
    config.train.init_from = str(tmp_path)
    return config


def test_config_gives_the_task_and_its_options(tmp_path):
    made = base.create(config(tmp_path))
    assert isinstance(made, Captioner)
    assert made.options == CaptionLossConfig(label_smoothing=0.1)
    assert made.bundle.cfg.num_frames == 7 and made.bundle.cfg.width == 48
    made.check_data(None)


@pytest.mark.parametrize(
    ("model", "match"),
    [({"widht": 3}, "width"), ({"token_dropout": 1.0}, "token_dropout"),
     ({"max_positions": 8}, "text_length")],
)  # fmt: skip
def test_bad_configs_are_refused(tmp_path, model, match):
    with pytest.raises(ValueError, match=match):
        base.create(config(tmp_path, **model))


def test_what_it_writes_is_read_with_the_tokenizer_of_the_data(tmp_path):
    made = base.create(config(tmp_path))
    ids, _ = Tokenizer.load().encode(["Left eye FFA", "Leakage."], 8)
    assert made.texts(ids) == ["left eye ffa", "leakage."] and made.makes == "report"


def test_another_tokenizer_is_refused(tmp_path):
    made = base.create(config(tmp_path, eos_id=2))
    with pytest.raises(ValueError, match="end 1"):
        made.check_data(None)


def test_starts_from_a_folder_of_one_picture(tmp_path):
    made = base.create(config(tmp_path))
    plain = dataclasses.replace(made.bundle.cfg, num_frames=1)
    bundle = Bundle.create(Blip, plain)
    stored = random_params(bundle.abstract, 5)
    pretrained.save_pretrained(
        pretrained.create("BlipForConditionalGeneration", plain, stored), tmp_path
    )
    started = made.warm_start(tmp_path)["model"]
    np.testing.assert_array_equal(started["frame_embedding"], np.zeros((7, 48)))
    np.testing.assert_array_equal(started["decoder"]["bias"], stored["decoder"]["bias"])


def test_a_folder_of_another_number_of_pictures_is_refused(tmp_path):
    made = base.create(config(tmp_path))
    other = dataclasses.replace(made.bundle.cfg, num_frames=3)
    bundle = Bundle.create(Blip, other)
    pretrained.save_pretrained(
        pretrained.create("BlipForConditionalGeneration", other, random_params(bundle.abstract, 5)),
        tmp_path,
    )
    with pytest.raises(ValueError, match="number of pictures"):
        made.warm_start(tmp_path)
