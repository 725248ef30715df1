"""The corruption matrix: damage is found, named and survived; nothing is restored wrong."""

import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ffa_sora_jax.common import checkpoint
from ffa_sora_jax.common.checkpoint import Checkpoints
from ffa_sora_jax.common.mesh import make_mesh


def state(value):
    return {
        "w": jnp.arange(4096, dtype=jnp.float32).reshape(64, 64) + value,
        "half": jnp.full((8,), value, jnp.bfloat16),
        "blocks": {0: {"n": jnp.asarray(value, jnp.int32)}},
    }


def target(mesh=None, spec=()):
    mesh = mesh or make_mesh((("data", 1),), jax.devices()[:1])
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding if x.ndim == 2 else
                                       NamedSharding(mesh, PartitionSpec())),
        state(0),
    )  # fmt: skip


def saved(tmp_path, steps=(1, 2)):
    checkpoints = Checkpoints(tmp_path / "ckpt")
    for step in steps:
        checkpoints.save(step, state(step), {"note": f"step {step}"})
    checkpoints.close()
    return checkpoints


def assert_is(restored, step):
    assert restored.step == step
    assert restored.meta == {"note": f"step {step}"}
    for a, b in zip(jax.tree.leaves(restored.state), jax.tree.leaves(state(step)), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_restores_onto_another_mesh(tmp_path):
    checkpoints = saved(tmp_path)
    mesh = make_mesh((("fsdp", 4), ("data", 2)))
    restored = checkpoints.restore(target(mesh, ("fsdp",)))
    assert_is(restored, 2)
    assert restored.state["w"].sharding.shard_shape((64, 64)) == (16, 64)


def test_nothing_to_restore(tmp_path):
    assert Checkpoints(tmp_path / "ckpt").restore(target()) is None


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "flip": (flip, "SHA-256 differs"),
    "truncate": (lambda f: os.truncate(f, f.stat().st_size // 2), "bytes instead of"),
    "empty": (lambda f: os.truncate(f, 0), "with 0 bytes"),
    "delete": (lambda f: f.unlink(), "lacks the file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_falls_back_and_says_why(tmp_path, caplog, kind):
    damage, reason = DAMAGE[kind]
    checkpoints = saved(tmp_path)
    damage(largest_file(checkpoints.directory / "2"))
    with caplog.at_level("WARNING"):
        assert_is(checkpoints.restore(target()), 1)
    assert "CHECKPOINT 2" in caplog.text and reason in caplog.text
    assert (checkpoints.directory / "damaged" / "2").exists()
    checkpoints.save(2, state(2), {"note": "step 2"})  # the run comes by again
    checkpoints.close()
    assert_is(checkpoints.restore(target()), 2)


def test_damaged_manifest_and_unfinished_step(tmp_path):
    checkpoints = saved(tmp_path, (1, 2, 3))
    (checkpoints.directory / "3" / "manifest.json").unlink()
    (checkpoints.directory / "2" / "manifest.json").write_text("{")
    assert checkpoints.steps() == [1, 2]
    assert_is(checkpoints.restore(target(), set_aside=False), 1)
    assert (checkpoints.directory / "3").exists()


def test_all_damaged_is_an_error(tmp_path):
    checkpoints = saved(tmp_path)
    for step in (1, 2):
        flip(largest_file(checkpoints.directory / str(step)))
    with pytest.raises(ValueError, match=r"No intact checkpoint.*step 2 has.*step 1 has"):
        checkpoints.restore(target())


def test_another_tree_shape_or_dtype_is_an_error(tmp_path):
    checkpoints = saved(tmp_path)
    wrong = target()
    wrong["w"] = jax.ShapeDtypeStruct((64, 64), jnp.bfloat16, sharding=wrong["w"].sharding)
    with pytest.raises(ValueError, match=r"w is bfloat16 .* but float32"):
        checkpoints.restore(wrong)
    wrong = target()
    wrong["extra"] = wrong.pop("half")
    with pytest.raises(ValueError, match=r"(?s)\+ extra.*- half"):
        checkpoints.restore(wrong)


def test_part_of_a_checkpoint(tmp_path):
    checkpoints = saved(tmp_path)
    part = {"blocks": target()["blocks"]}
    restored = checkpoints.restore_part(part)
    assert int(restored.state["blocks"][0]["n"]) == 2
    with pytest.raises(ValueError, match=r"\+ other"):
        checkpoints.restore_part({"other": part["blocks"][0]["n"]})
    with pytest.raises(FileNotFoundError, match="No intact checkpoint"):
        Checkpoints(tmp_path / "none").restore_part(part)


def test_keeps_the_newest_and_saves_a_step_once(tmp_path):
    checkpoints = Checkpoints(tmp_path / "ckpt", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step), {})
    checkpoints.save(3, state(99), {})
    checkpoints.close()
    assert checkpoints.steps() == [2, 3]
    assert int(checkpoints.restore(target()).state["blocks"][0]["n"]) == 3
    with pytest.raises(ValueError, match="at least 2"):
        Checkpoints(tmp_path, keep=1)


def test_full_disk_is_reported_and_earlier_steps_survive(tmp_path):
    """A limit on file sizes stands in for a full disk; it needs a process of its own."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        import jax, numpy as np
        from ffa_sora_jax.common.checkpoint import Checkpoints
        c = Checkpoints(Path(sys.argv[1]))
        small, big = {"w": jax.numpy.ones(8)}, {"w": jax.random.normal(jax.random.key(0), (2**20,))}
        c.save(1, small, {}); c.wait()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        try:
            c.save(2, big, {}); c.wait()
        except OSError as error:
            print("REPORTED", error)
        print("STEPS", Checkpoints(Path(sys.argv[1])).steps())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "ckpt")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "REPORTED Could not write checkpoint 2" in done.stdout, done.stderr
    assert "The last good one is step 1" in done.stdout
    assert "STEPS [1]" in done.stdout


def test_manifest_lists_every_file(tmp_path):
    folder = saved(tmp_path).directory / "2"
    listed = set(json.loads((folder / "manifest.json").read_text())["files"])
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found - listed == {"manifest.json"}
    assert checkpoint.verify(folder) is None
