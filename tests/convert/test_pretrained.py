"""Model folders: files, precision, atomic writing, and what goes wrong."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import ffa_sora_jax
from ffa_sora_jax.convert import pretrained, safetensors_io
from ffa_sora_jax.convert.pretrained import from_pretrained, save_pretrained
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from tests.models import dit_golden
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL

WEIGHTS = "diffusion_pytorch_model.safetensors"
KEY = "transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture
def folder(tmp_path):
    return dit_golden.write_folder(tmp_path / "dit", "dit/inpaint_tiny")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "dit"
    return from_pretrained(dit_golden.write_folder(path, "dit/inpaint_tiny"))


def test_the_package_exports_both_calls():
    assert ffa_sora_jax.from_pretrained is from_pretrained
    assert ffa_sora_jax.save_pretrained is save_pretrained


def test_a_model_can_be_called_inside_another_program(tmp_path):
    cfg = dataclasses.replace(WFVAEConfig.tiny(), use_attention=False)
    params = random_params(Bundle.create(WFVAE, cfg).abstract, 0)
    vae = pretrained.create("WFVAEModel", cfg, params)
    latent = jax.random.normal(jax.random.key(1), (1, 2, 2, 2, cfg.latent_dim))
    outside = vae.decode(latent)
    inside = jax.jit(lambda z: vae.decode(z))(latent)
    np.testing.assert_allclose(inside, outside, atol=TOL["unit"])
    assert jax.eval_shape(jax.grad(lambda z: vae.decode(z).sum()), latent).shape == latent.shape


# --- Files ---


def test_shards_are_written_and_read(tmp_path, model, monkeypatch):
    monkeypatch.setattr(pretrained, "MAX_SHARD_BYTES", 50_000)
    save_pretrained(model, tmp_path / "dit")
    files = sorted(p.name for p in (tmp_path / "dit").iterdir())
    assert len(files) > 3 and f"{WEIGHTS}.index.json" in files and WEIGHTS not in files
    shards = [tmp_path / "dit" / name for name in files if name.endswith(".safetensors")]
    assert all(shard.stat().st_size < 60_000 for shard in shards)
    whole = {key: value for shard in shards for key, value in load_file(shard).items()}
    assert whole.keys() == dit_golden.tensors("dit/inpaint_tiny_state").keys()
    assert from_pretrained(tmp_path / "dit").fingerprint == model.fingerprint
    shards[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"shards that are not there.*00001-of"):
        from_pretrained(tmp_path / "dit")


def test_an_index_that_contradicts_its_shards_is_refused(tmp_path, model, monkeypatch):
    monkeypatch.setattr(pretrained, "MAX_SHARD_BYTES", 50_000)
    save_pretrained(model, tmp_path / "dit")
    path = tmp_path / "dit" / f"{WEIGHTS}.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["extra"] = index["weight_map"][KEY]
    del index["weight_map"][KEY]
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"Only in the index: \['extra'\]"):
        from_pretrained(tmp_path / "dit")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_pytorch_files_are_read(folder, model, suffix):
    torch = pytest.importorskip("torch")
    state = {k: torch.from_numpy(v) for k, v in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).unlink()
    torch.save({"state_dict": state, "epoch": 3}, folder / f"weights{suffix}")
    assert from_pretrained(folder).fingerprint == model.fingerprint


def test_a_pickle_that_runs_code_is_refused(folder, tmp_path):
    torch = pytest.importorskip("torch")
    (folder / WEIGHTS).unlink()
    torch.save({"x": Bomb(tmp_path / "exploded")}, folder / "weights.pt")
    with pytest.raises(ValueError, match="is corrupt"):
        from_pretrained(folder)
    assert not (tmp_path / "exploded").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def test_safetensors_need_no_torch(folder):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"import ffa_sora_jax; ffa_sora_jax.from_pretrained({str(folder)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_several_weight_files_are_ambiguous(folder):
    shutil.copy(folder / WEIGHTS, folder / "a.safetensors")
    (folder / WEIGHTS).rename(folder / "b.safetensors")
    with pytest.raises(ValueError, match=r"several weight files: \['a.safetensors', 'b"):
        from_pretrained(folder)


# --- Precision ---


def test_float32_is_the_default_whatever_is_stored(tmp_path, model):
    save_pretrained(model, tmp_path / "half", dtype="bfloat16")
    stored = safetensors_io.open_weights(tmp_path / "half" / WEIGHTS)
    assert {str(array.dtype) for array in stored.values()} == {"bfloat16"}
    loaded = from_pretrained(tmp_path / "half")
    kernel = loaded.params["proj_out"]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel.astype(jnp.bfloat16), kernel)
    np.testing.assert_allclose(kernel, model.params["proj_out"]["kernel"], rtol=2**-8)


def test_another_precision_is_taken_when_asked_for(folder):
    loaded = from_pretrained(folder, dtype="bfloat16")
    assert loaded.params["proj_out"]["kernel"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="Did you mean 'float32'"):
        from_pretrained(folder, dtype="float3")


def test_the_library_reads_what_we_write(tmp_path, model):
    """And the other way round in every other test."""
    save_pretrained(model, tmp_path / "dit")
    saved = load_file(tmp_path / "dit" / WEIGHTS)
    for key, array in dit_golden.tensors("dit/inpaint_tiny_state").items():
        np.testing.assert_array_equal(saved[key], array)


def test_the_fingerprint_follows_every_bit(folder, model):
    assert from_pretrained(folder).fingerprint == model.fingerprint
    params = dict(model.params)
    params["scale_shift_table"] = params["scale_shift_table"].at[0, 0].multiply(1 + 2**-23)
    changed = pretrained.create(model.class_name, model.cfg, params)
    assert changed.fingerprint != model.fingerprint


# --- Writing ---


def test_an_existing_model_is_replaced(tmp_path, model):
    target = tmp_path / "dit"
    save_pretrained(model, target)
    save_pretrained(model, target)
    assert sorted(p.name for p in target.iterdir()) == ["config.json", WEIGHTS]
    assert [p.name for p in tmp_path.iterdir()] == ["dit"]
    with pytest.raises(ValueError, match="is a file"):
        save_pretrained(model, target / WEIGHTS)


def test_other_files_stay_and_old_shards_go(tmp_path, model, monkeypatch):
    target = tmp_path / "dit"
    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "MAX_SHARD_BYTES", 50_000)
        save_pretrained(model, target)
    (target / "notes.txt").write_text("mine")
    save_pretrained(model, target)
    assert sorted(p.name for p in target.iterdir()) == ["config.json", WEIGHTS, "notes.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["dit"]
    assert from_pretrained(target).fingerprint == model.fingerprint


def test_a_failed_write_leaves_the_old_model_and_no_remains(tmp_path, model, monkeypatch):
    target = tmp_path / "dit"
    save_pretrained(model, target)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_io, "write_safetensors", full)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(model, target)
    assert [p.name for p in tmp_path.iterdir()] == ["dit"]
    assert from_pretrained(target).fingerprint == model.fingerprint


def test_parameters_that_do_not_fit_are_refused(model):
    params = {k: v for k, v in model.params.items() if k != "proj_out"}
    with pytest.raises(ValueError, match="proj_out/kernel"):
        pretrained.create(model.class_name, model.cfg, params)


# --- What goes wrong ---


def test_missing_parts_are_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere/config\.json is missing"):
        from_pretrained(tmp_path / "nowhere")
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"No weights in.*diffusion_pytorch_model"):
        from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "must hold a JSON object"),
        ("{}", r"must name one class.*found \[\].*WFVAEModel"),
        ('{"architectures": ["A", "B"]}', "must name one class"),
        ('{"_class_name": "OpenSoraT2V_v1_2"}', "Did you mean 'OpenSoraT2V_v1_3'"),
        ('{"_class_name": "UNet"}', "Unknown model class 'UNet'"),
    ],
)
def test_a_config_that_names_no_known_class(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


def damaged(data: bytes, how: str) -> bytes:
    place = int.from_bytes(data[:8], "little") + 58  # the 51st byte of the weights
    return {
        "empty": b"",
        "cut in the header": data[:100],
        "cut in the data": data[:-100],
        "header length": (2**40).to_bytes(8, "little") + data[8:],
        "header text": data[:8] + b"\xff" * 20 + data[28:],
        "header list": (2).to_bytes(8, "little") + b"[]",
        "text": b"<html>404 Not Found</html>" * 9,
        "one bit": data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :],
    }[how]


@pytest.mark.parametrize(
    "how",
    ["empty", "cut in the header", "cut in the data", "header length", "header text",
     "header list", "text", "one bit"],
)  # fmt: skip
def test_a_corrupt_file_is_called_so(tmp_path, model, how):
    save_pretrained(model, tmp_path / "dit")
    path = tmp_path / "dit" / WEIGHTS
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(ValueError, match=f"{WEIGHTS} is corrupt: .*again"):
        from_pretrained(tmp_path / "dit")


def test_a_network_without_a_method_says_so(model):
    with pytest.raises(TypeError, match="OpenSoraInpaint_v1_3 has no method 'encode'"):
        model.encode(np.zeros(1))
