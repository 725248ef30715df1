"""The train verb from the command line, with a toy task in place of the models and the data."""

import json
import os
import signal
from types import SimpleNamespace

import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.common.checkpoint import MANIFEST
from ffa_sora_jax.jobs import train
from ffa_sora_jax.tasks import base
from ffa_sora_jax.train.writer import read_metrics
from tests.train import toy

CONFIG = """
from tests.train.toy import toy_config

def get_config(arg=""):
    config = toy_config(total_steps=6, ckpt_steps=3)
    config.mesh.axes = (("data", 8),)
    return config
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    (tmp_path / "cfg.py").write_text(CONFIG)
    monkeypatch.setitem(base.TASKS, "toy", "tests.train.toy")
    monkeypatch.setattr(train, "_open_data", lambda config: (toy.ToySource(), toy.ToySource(1)))
    return ["train", "--config", str(tmp_path / "cfg.py"), "--workdir", str(tmp_path / "run")]


def test_trains_resumes_and_tells_what_it_does(command, tmp_path, capsys):
    assert cli.main(command) == 0
    told = capsys.readouterr().err
    for part in (
        "jax 0.", "8 device(s)", "'data': 8", "config.optim.lr = 0.01", "8,448 trainable",
        "model/blocks/0/kernel", "step 2/6", "steps/s", f"Results are in {tmp_path / 'run'}",
    ):  # fmt: skip
        assert part in told
    assert "CheckpointManager" not in told  # libraries keep quiet
    assert json.loads((tmp_path / "run" / "config.json").read_text())["optim"]["lr"] == 0.01
    assert cli.main([*command, "--config.train.total_steps=8", "--quiet"]) == 0
    told = capsys.readouterr().err
    assert "Resumed from checkpoint 6" in told and "model/blocks/0/kernel" not in told
    steps = [m["step"] for m in read_metrics(tmp_path / "run") if "train/loss" in m]
    assert steps == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--config.optim.ler=1"], "Did you mean 'lr'"),
        (["--confg.optim.lr=1"], "Overrides look like"),
        (["--config.train.batch_size=9"], "multiple of 8"),
        (["--config.mesh.axes=(('data', 3),)"], "does not fit 8 devices"),
        (["--config.task=ty"], "Allowed: "),
        (["--config.train.keep=1"], "at least 2"),
        (["--config.train.log_steps=-1"], "config.train.log_steps is -1; it must be at least 0"),
        (["--config.ema.decay=2"], "must be below 1"),
        (
            ["--config.eval.metrics=psnr,simm"],
            "Unknown metric of a video 'simm'. Did you mean 'ssim'",
        ),
        (["--config.mesh.rules=(('(', 'fsdp'),)"], "mesh.rules: '(' is no regular expression"),
        (["--config.train.init_from=x"], "ToyTask cannot start from x"),
    ],
)
def test_bad_input_is_named_and_exits_with_2(command, capsys, tmp_path, extra, message):
    assert cli.main([*command, *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_errors_stand_alone(command, capsys, monkeypatch):
    """What is refused is refused before the tables of config and parameters."""
    latents = SimpleNamespace(folder="data/latents")
    source = SimpleNamespace(latents=latents)
    monkeypatch.setattr(train, "_open_data", lambda config: (source, None))
    assert cli.main(command) == 2
    assert capsys.readouterr().err.strip() == (
        "ffa-sora train: This task trains on video, not on the latents in data/latents; leave "
        "data.latents empty: --config.data.latents="
    )


def test_a_workdir_that_is_a_file_is_refused(command, capsys, tmp_path):
    (tmp_path / "run").write_text("")
    assert cli.main(command) == 2
    assert "is a file; give a folder" in capsys.readouterr().err


def test_a_workdir_of_another_run_is_refused(command, capsys):
    assert cli.main([*command, "--config.train.total_steps=3"]) == 0
    assert cli.main([*command, "--config.optim.lr=0.5"]) == 2
    assert "optim/lr: 0.01 stored, 0.5 given" in capsys.readouterr().err


def test_a_first_checkpoint_that_was_never_finished_does_not_hold_the_workdir(command, tmp_path):
    assert cli.main([*command, "--config.train.total_steps=3"]) == 0
    saved = tmp_path / "run" / "checkpoints" / "3"
    (saved / MANIFEST).unlink()
    saved.rename(saved.with_name("3.orbax-checkpoint-tmp"))
    assert cli.main([*command, "--config.optim.lr=0.5"]) == 0


def test_time_limit_exits_with_75(command):
    assert cli.main([*command, "--config.train.max_seconds=1e-9"]) == train.EXIT_STOPPED
    assert cli.main(command) == 0  # the limit may change; the run goes on


def test_not_finite_exits_with_1(command, capsys, monkeypatch):
    monkeypatch.setattr(toy.ToyTask, "frozen", lambda self: {"scale": float("inf")})
    assert cli.main(command) == train.EXIT_FAILED
    assert "Step 1 (model) gave" in capsys.readouterr().err


def test_status(command, capsys, tmp_path):
    workdir = str(tmp_path / "run")
    assert cli.main(["status", "--workdir", workdir]) == 2
    assert "no run was started" in capsys.readouterr().err
    cli.main(command)
    capsys.readouterr()
    assert cli.main(["status", "--workdir", workdir, "--verify"]) == 0
    told = capsys.readouterr().out
    for part in ("step: 6 of 6", "finished", "train at step 6: grad_norm", "eval at step 6",
                 "checkpoints: 3, 6, verified"):  # fmt: skip
        assert part in told
    file = max((tmp_path / "run/checkpoints/6").rglob("*"), key=lambda p: p.stat().st_size)
    file.write_bytes(b"")
    assert cli.main(["status", "--workdir", workdir, "--verify"]) == 1
    assert "6 (has" in capsys.readouterr().out


def test_signals_ask_to_stop_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with train.StopSignals() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is before
