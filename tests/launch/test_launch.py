"""Launchers only set the environment and start the verb: dry runs show the very command."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


def call(script, *args, **knobs):
    done = subprocess.run(
        [LAUNCH / script, *args], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/home/me", **knobs},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_every_script_parses_stops_at_errors_and_explains_itself(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert "set -euo pipefail" in script.read_text()
    assert any("Usage:" in line for line in call(script.name, "--help"))


def test_slurm():
    assert call("slurm.sh", "--dry-run", "train", "--config", "c", VENV="v") == [
        "srun --kill-on-bad-exit=1 v/bin/python -m ffa_sora_jax train --distributed --config c"
    ]
    assert call("slurm.sh", "--dry-run", "sample", "--report", "r", VENV="v") == [
        "srun --kill-on-bad-exit=1 v/bin/python -m ffa_sora_jax sample --report r"
    ]


def test_tpu_vm():
    tpu = "gcloud compute tpus tpu-vm"
    assert call("tpu_vm.sh", "--dry-run", "create", NAME="n", ZONE="z", SPOT="1") == [
        f"{tpu} create n --zone=z --accelerator-type=v5litepod-8 "
        "--version=v2-alpha-tpuv5-lite --spot",
        f"{tpu} scp --recurse --zone=z --worker=all . n:ffa-sora-jax",
    ]
    assert call("tpu_vm.sh", "--dry-run", "run", "train", "--config", "a b", NAME="n") == [
        f"{tpu} ssh n --worker=all --command=cd ffa-sora-jax && "
        "launch/tpu_pod.sh train --config a\\ b"
    ]
    assert call("tpu_vm.sh", "--dry-run", "delete", NAME="n") == [f"{tpu} delete n --quiet"]


def test_tpu_pod():
    last = call("tpu_pod.sh", "--dry-run", "train", "--config", "c", VENV="v")[-1]
    assert last == "exec v/bin/python -m ffa_sora_jax train --distributed --config c"


def test_a_stopped_run_is_started_again_and_bad_input_is_not(tmp_path):
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(
        '#!/bin/sh\necho x >> "$LOG"\nexit $(head -n 1 "$CODES"; sed -i 1d "$CODES")\n'
    )
    gcloud.chmod(0o755)
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "sleep").chmod(0o755)
    for codes, starts, final in (("75\n1\n0\n", 3, 0), ("2\n", 1, 2)):
        log, left = tmp_path / f"log{final}", tmp_path / "codes"
        left.write_text(codes)
        done = subprocess.run(
            [LAUNCH / "tpu_vm.sh", "run", "train"], capture_output=True, check=False,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "CODES": str(left)},
        )  # fmt: skip
        assert (done.returncode, len(log.read_text().splitlines())) == (final, starts)


def test_jobset_starts_training_on_every_host():
    jobset = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    assert jobset["kind"] == "JobSet"
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    chips = job["completions"] * container["resources"]["limits"]["google.com/tpu"]
    topology = job["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    width, height = map(int, topology.split("x"))
    assert job["parallelism"] == job["completions"] and chips == width * height
    assert container["args"][:2] == ["train", "--distributed"]
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    config = next(a.split("=")[1] for a in container["args"] if a.startswith("--config="))
    assert (LAUNCH.parent / config).is_file()


def test_image_copies_what_the_package_needs():
    copied = (LAUNCH / "Dockerfile").read_text()
    for name in ("setup.py", "pyproject.toml", "README.md", "ffa_sora_jax", "tfds_ffa", "configs"):
        assert f" {name}" in copied and (LAUNCH.parent / name).exists()
