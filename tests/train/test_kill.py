"""A run that is killed at any moment, again and again, ends like one that never was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ffa_sora_jax.common.checkpoint import Checkpoints
from ffa_sora_jax.train.writer import read_metrics

TOTAL = 120
SCRIPT = f"""
import sys, time
from pathlib import Path
import jax
from ffa_sora_jax.common.mesh import make_mesh
from ffa_sora_jax.jobs.train import StopSignals
from ffa_sora_jax.train import loop
from tests.train.toy import ToySource, ToyTask, toy_config
class Slow(ToySource):
    def batch(self, step):
        time.sleep(0.005)
        return super().batch(step)
config = toy_config(total_steps={TOTAL}, log_steps=5, ckpt_steps=5, keep=2)
mesh = make_mesh((("data", 1),), jax.devices()[:1])
with StopSignals() as stop:
    state = loop.train(ToyTask(), config, Path(sys.argv[1]), Slow(), mesh=mesh, stop=stop)
print("END", int(state.step))
"""
ROUNDS = int(os.environ.get("FFA_SORA_KILL_ROUNDS", "3"))


def start(workdir):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(workdir)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip


def last_step(workdir):
    try:
        return read_metrics(workdir)[-1]["step"]
    except (FileNotFoundError, IndexError):
        return -1


def wait_for_progress(process, workdir, beyond):
    while last_step(workdir) <= beyond and process.poll() is None:
        time.sleep(0.02)


def finish(workdir):
    process = start(workdir)
    out, err = process.communicate(timeout=120)
    assert f"END {TOTAL}" in out, err


def outcome(workdir):
    sums = (workdir / "checkpoints" / str(TOTAL) / "state").rglob("*")
    assert any(sums)
    lines = [m for m in read_metrics(workdir) if "train/loss" in m]
    return [(m["step"], m["train/loss"], m["train/grad_norm"]) for m in lines]


def arrays(workdir):
    import jax

    from ffa_sora_jax.common.mesh import make_mesh
    from ffa_sora_jax.train import hooks, loop, state
    from tests.train.toy import ToyTask, toy_config

    config = toy_config(total_steps=TOTAL, log_steps=5, ckpt_steps=5, keep=2)
    run = loop.prepare(ToyTask(), config, make_mesh((("data", 1),), jax.devices()[:1]))
    target = hooks.as_tree(state.with_shardings(run.abstract, run.shardings))
    restored = Checkpoints(workdir / "checkpoints").restore(target, set_aside=False)
    assert restored.step == TOTAL and restored.meta["data"]["next_step"] == TOTAL
    return jax.tree.leaves(restored.state)


def test_killed_at_random_and_terminated(tmp_path):
    finish(tmp_path / "straight")
    hurt = tmp_path / "hurt"
    rng = np.random.default_rng(np.random.SeedSequence([os.getpid()]))
    for _ in range(ROUNDS):
        process = start(hurt)
        wait_for_progress(process, hurt, last_step(hurt))
        time.sleep(rng.uniform(0, 0.2))  # anywhere: within a step, a save, a manifest
        process.kill()
        process.wait()
    process = start(hurt)
    wait_for_progress(process, hurt, last_step(hurt))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert "END" in out, err
    finish(hurt)
    assert outcome(hurt) == outcome(tmp_path / "straight")
    for a, b in zip(arrays(hurt), arrays(tmp_path / "straight"), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
