"""The task of the phantom features: its loss by hand, its read-outs, that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ffa_sora_jax.common.types import Clip, Labels
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.phantom_features import PhantomFeatures, PhantomFeaturesConfig
from ffa_sora_jax.phantom.diseases import DISEASES
from ffa_sora_jax.tasks import base
from ffa_sora_jax.tasks.phantom_features import FeatureTask, mean_area, reorder
from ffa_sora_jax.train import config as config_lib
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL

CFG = PhantomFeaturesConfig(
    diseases=("a", "b"), size=16, frames=5, widths=(2, 2, 2, 2), frame_width=8, features=8
)


def task(gain=0.0):
    return FeatureTask(Bundle.create(PhantomFeatures, CFG), gain)


def clip(size=6):
    """Clips that brighten; where disease "a" is and which eye it is can be seen."""
    rng = np.random.default_rng(0)
    labels = Labels(
        diseases=rng.integers(0, 2, (size, 2)).astype(np.float32),
        left=(np.arange(size) % 2).astype(np.float32),
    )
    video = np.zeros((size, 5, 16, 16, 1), np.float32)
    video += np.linspace(-0.8, 0.2, 5)[:, None, None, None]
    video[:, :, :8] += 0.5 * labels.diseases[:, 0, None, None, None, None]
    video[:, :, :, :8] += 0.5 * labels.left[:, None, None, None, None]
    return Clip(video=video, labels=labels)


@pytest.fixture(scope="module")
def params():
    return random_params(Bundle.create(PhantomFeatures, CFG).abstract, 0)


def loss(task, params, clip, seed=0):
    def compiled(params, key, clip):
        return task.loss("model", {"model": params}, {}, key, clip, jnp.zeros(()))

    return jax.jit(compiled)(params, jax.random.key(seed), clip)


def test_loss_is_the_sum_of_three_cross_entropies(params):
    """With equal frames, so that their order changes nothing but its own label."""
    given = clip(48)
    given = given.replace(video=np.repeat(given.video[:, :1], 5, axis=1))
    value, scalars = loss(task(), params, given)
    bundle = Bundle.create(PhantomFeatures, CFG)

    @jax.jit
    def run(video):
        return bundle.apply(params, bundle.apply(params, video), method="read_out")

    diseases, left, orders = (np.asarray(x, np.float64) for x in run(given.video))

    def binary(logit, label):
        return np.log1p(np.exp(-logit)) + (1 - label) * logit

    log_p = orders - np.log(np.exp(orders).sum(-1, keepdims=True))
    known = binary(diseases, given.labels.diseases).sum(-1) + binary(left, given.labels.left)
    _, order = reorder(given.video, jax.random.split(jax.random.key(0))[0])
    own = -log_p[np.arange(48), np.asarray(order)]
    assert float(value) == pytest.approx((known + own).mean(), abs=TOL["model"])
    assert float(scalars["eye_accuracy"]) == np.float32(
        np.mean((left > 0) == (given.labels.left > 0))
    )
    assert float(scalars["order_accuracy"]) == np.float32(
        np.mean(orders.argmax(-1) == np.asarray(order))
    )


def test_clips_are_labelled_as_their_frames_come():
    video = np.broadcast_to(np.arange(6.0)[:, None, None, None], (90, 6, 2, 2, 1))
    made, order = jax.jit(reorder)(jnp.asarray(video), jax.random.key(0))
    steps = np.diff(np.asarray(made)[:, :, 0, 0, 0])
    order = np.asarray(order)
    assert (steps[order == 0] == 1).all() and (steps[order == 1] == -1).all()
    shuffled = np.asarray(made)[order == 2, :, 0, 0, 0]
    np.testing.assert_array_equal(np.sort(shuffled), np.tile(np.arange(6.0), (len(shuffled), 1)))
    assert len({tuple(row) for row in shuffled}) > 0.8 * len(shuffled)
    counts = np.bincount(order, minlength=3)
    assert counts.min() > 18 and counts.sum() == 90


def test_area_under_the_curve_by_hand():
    scores = np.array([[0.1, 5.0], [0.4, 1.0], [0.4, 1.0], [0.9, 1.0]])
    labels = np.array([[0, 0], [0, 0], [1, 0], [1, 0]])
    first = (1 + 0.5 + 1 + 1) / 4
    assert float(mean_area(scores, labels)) == pytest.approx(first)  # the second has no case
    labels[0, 1] = 1
    assert float(mean_area(scores, labels)) == pytest.approx((first + 1) / 2)
    assert float(mean_area(scores, np.ones((4, 2)))) == 0.5


def test_it_learns_what_can_be_seen(params):
    learner, given = task(gain=0.1), clip(32)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state, key):
        def value(own):
            return learner.loss("model", {"model": own}, {}, key, given, jnp.zeros(()))[0]

        updates, state = optimizer.update(jax.grad(value)(params), state)
        return optax.apply_updates(params, updates), state

    state, root = optimizer.init(params), jax.random.key(1)
    for number in range(200):
        params, state = step(params, state, jax.random.fold_in(root, number))
    _, scalars = loss(learner, params, given, seed=2)
    assert float(scalars["eye_accuracy"]) > 0.9
    assert float(scalars["order_accuracy"]) > 0.7  # a shuffle of five may look like an order
    assert float(scalars["diseases_auc"]) > 0.7  # "b" cannot be seen


def test_gain_changes_the_light(params):
    plain, lit = (float(loss(task(gain), params, clip())[0]) for gain in (0.0, 0.5))
    assert plain != lit


def config(*overrides):
    return config_lib.load("configs/phantom_features.py:runlocal", overrides)


def test_config_gives_the_task_of_the_shipped_network():
    made = base.create(config())
    assert isinstance(made, FeatureTask) and made.gain == 0.15
    assert made.bundle.cfg == PhantomFeaturesConfig(diseases=tuple(DISEASES))


@pytest.mark.parametrize(
    ("override", "match"),
    [("model.wdths=(1,2,3,4)", "widths"), ("model.size=32", "size"), ("model.gain=1.0", "gain"),
     ("data.diseases=()", "data.diseases"), ("data.res=72", "multiple of 16"),
     ("data.channels=3", "channels"), ("eval.num_samples=2", "num_samples"),
     ("sample.num_steps=3", "num_steps")],
)  # fmt: skip
def test_bad_configs_are_refused(override, match):
    with pytest.raises(ValueError, match=match):
        base.create(config(f"--config.{override}"))


@pytest.mark.parametrize("missing", ["video", "labels"])
def test_clips_without_what_is_needed_are_refused(params, missing):
    with pytest.raises(ValueError, match="video and labels"):
        task().loss(
            "model", {"model": params}, {}, jax.random.key(0), clip().replace(**{missing: None}),
            jnp.zeros(()),
        )  # fmt: skip
