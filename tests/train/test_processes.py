"""Two processes of four devices each: the loss of one process, checkpoints included."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from ffa_sora_jax.common.mesh import make_mesh
from ffa_sora_jax.train import loop
from ffa_sora_jax.train.writer import read_metrics
from tests.tolerances import TOL
from tests.train.toy import ToySource, ToyTask, toy_config

AXES = (("data", 2), ("fsdp", 4))
SCRIPT = """
import dataclasses, sys
from pathlib import Path
import jax
jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
from ffa_sora_jax.train import loop
from tests.train.toy import ToySource, ToyTask, toy_config

class Share(ToySource):
    def batch(self, step):
        clip, part = super().batch(step), jax.process_index()
        return dataclasses.replace(clip, video=clip.video[4 * part : 4 * part + 4])

config = toy_config(total_steps=int(sys.argv[4]))
config.mesh.axes = (("data", 2), ("fsdp", 4))
config.eval.update(num_samples=8, metrics=("psnr",), num_sheets=0)
state = loop.train(ToyTask(), config, Path(sys.argv[1]), Share(), Share(1))
print("END", int(state.step))
"""


def run_pair(workdir, total_steps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=4"
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(workdir), address, str(rank), str(total_steps)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2], env={**os.environ, "XLA_FLAGS": flags},
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in pair:
        out, err = process.communicate(timeout=300)
        assert f"END {total_steps}" in out, err


def curves(workdir):
    lines = read_metrics(workdir)
    return {
        (name, m["step"]): m[name]
        for m in lines for name in ("train/loss", "eval/loss", "eval/psnr") if name in m
    }  # fmt: skip


def test_two_processes_train_save_and_resume_like_one(tmp_path):
    run_pair(tmp_path / "two", 4)
    run_pair(tmp_path / "two", 8)  # resumes
    config = toy_config(total_steps=8)
    config.eval.update(num_samples=8, metrics=("psnr",), num_sheets=0)
    loop.train(ToyTask(), config, tmp_path / "one", ToySource(), ToySource(1), mesh=make_mesh(AXES))
    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert one.keys() == two.keys() and ("eval/psnr", 8) in one
    for key, value in one.items():
        scale = 1.0 if key[0].endswith("loss") else 100.0  # decibels are logarithms
        assert abs(value - two[key]) <= scale * TOL["devices"]
