"""Laws of the loop: resuming changes nothing, the number of devices changes nothing."""

import jax
import numpy as np
import pytest

from ffa_sora_jax.common.mesh import make_mesh
from ffa_sora_jax.train import loop
from ffa_sora_jax.train.writer import read_metrics
from tests.tolerances import TOL
from tests.train.toy import ToySource, ToyTask, TwoPlayers, toy_config

ONE = (("data", 1),)


def one_device():
    return make_mesh(ONE, jax.devices()[:1])


def run(workdir, task=None, mesh=None, eval_source=None, **train):
    return loop.train(
        task or ToyTask(), toy_config(**train), workdir, ToySource(), eval_source,
        mesh=mesh or one_device(),
    )  # fmt: skip


def losses(workdir):
    return {m["step"]: m["train/loss"] for m in read_metrics(workdir) if "train/loss" in m}


def same(a, b):
    leaves_a, leaves_b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(leaves_a) == len(leaves_b)
    return all(np.array_equal(x, y) for x, y in zip(leaves_a, leaves_b, strict=True))


def test_learns(tmp_path):
    run(tmp_path, total_steps=60)
    curve = losses(tmp_path)
    assert curve[60] < 0.8 * curve[2]


@pytest.mark.parametrize("task", [ToyTask(), TwoPlayers()])
def test_k_plus_k_steps_are_2k_steps(tmp_path, task):
    straight = run(tmp_path / "straight", task)
    run(tmp_path / "halves", task, total_steps=4)
    resumed = run(tmp_path / "halves", task)
    assert int(resumed.step) == 8
    assert same(straight, resumed)
    assert losses(tmp_path / "straight") == losses(tmp_path / "halves")
