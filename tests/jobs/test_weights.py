"""The list of weight files: what is there, what is missing, what is not what it says."""

import hashlib

import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.convert import safetensors_io
from ffa_sora_jax.metrics import registry, weights


def test_all_metrics_are_served_by_the_list(capsys):
    assert cli.main(["weights"]) == 0
    text = capsys.readouterr().out
    for key, entry in weights.WEIGHTS.items():
        assert f"{key}: {entry.title}" in text and entry.licence in text
    for entry in registry.METRICS.values():
        assert set(entry.needs) <= set(weights.WEIGHTS)
    assert "No weights are needed for: PSNR" in text and "missing" not in text
    assert "no metric of this version" not in text


def test_a_folder_says_found_or_missing(tmp_path, capsys):
    (tmp_path / "alexnet.pth").write_bytes(b"x")
    assert cli.main(["weights", str(tmp_path), "--metric", "lpips"]) == 0
    assert f"found    {tmp_path / 'alexnet.pth'}" in capsys.readouterr().out
    assert cli.main(["weights", str(tmp_path), "--metric", "fvd"]) == 0
    assert "missing" in capsys.readouterr().out
    assert cli.main(["weights", "--metric", "psnr"]) == 0
    assert "psnr needs no weights" in capsys.readouterr().out


def test_a_published_name_with_another_hash_is_wrong(tmp_path, capsys):
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"cut short")
    argv = ["weights", str(tmp_path), "--metric", "lpips", "--verify"]
    assert cli.main(argv) == 3
    found = hashlib.sha256(b"cut short").hexdigest()
    text = capsys.readouterr().out
    assert f"sha256 {found}" in text and "the published file's with 7be5be79" in text
    with pytest.raises(ValueError, match="damaged, cut short"):
        registry.load("lpips", tmp_path)


def test_a_file_that_its_metric_cannot_open_is_wrong(tmp_path, capsys):
    (tmp_path / "alexnet.safetensors").write_bytes(b"nothing of the kind")
    argv = ["weights", str(tmp_path), "--metric", "lpips", "--verify"]
    assert cli.main(argv) == 3
    text = capsys.readouterr().out
    assert "no published hash" in text and "WRONG: lpips cannot use it" in text


@pytest.mark.parametrize(
    ("metric", "name"),
    [("lpips", "alexnet.safetensors"), ("lpips", "alexnet.pth"), ("fvd", "i3d_tfhub.npz")],
)
def test_an_empty_file_is_called_empty(tmp_path, capsys, metric, name):
    (tmp_path / name).touch()
    for what in (["--verify"], ["--convert", str(tmp_path / "out")]):
        code = cli.main(["weights", str(tmp_path), "--metric", metric, *what])
        skipped = "--convert" in what and name.endswith(".safetensors")  # nothing to convert
        assert code == (0 if skipped else 3)
        assert skipped or "WRONG: it is empty" in capsys.readouterr().out
    with pytest.raises(ValueError, match=f"{name}: it is empty"):
        registry.load(metric, tmp_path)


def test_conversion_keeps_every_value(tmp_path, capsys):
    """TF-Hub's variables are numpy: no torch is needed to read them."""
    rng = np.random.default_rng(0)
    name = "RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w:0"
    kernel = rng.standard_normal((7, 7, 7, 3, 64)).astype(np.float32)
    np.savez(tmp_path / "i3d_tfhub.npz", **{name: kernel})
    argv = ["weights", str(tmp_path), "--metric", "fvd", "--convert", str(tmp_path / "out")]
    assert cli.main(argv) == 0
    assert "converted to" in capsys.readouterr().out
    found = safetensors_io.open_weights(tmp_path / "out" / "i3d.safetensors")
    assert list(found) == ["Conv3d_1a_7x7.conv3d.weight"]
    np.testing.assert_array_equal(np.moveaxis(found[next(iter(found))], (0, 1), (4, 3)), kernel)
    assert weights.WEIGHTS["i3d"].find(tmp_path / "out").name == "i3d.safetensors"


def test_what_cannot_be_converted_is_wrong(tmp_path, capsys):
    np.savez(tmp_path / "i3d_tfhub.npz", strange=np.zeros(3))
    argv = ["weights", str(tmp_path), "--metric", "fvd", "--convert", str(tmp_path / "out")]
    assert cli.main(argv) == 3
    assert "WRONG" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_missing_weights_name_the_file_and_its_source(tmp_path):
    with pytest.raises(FileNotFoundError, match="no --weights folder was given") as error:
        registry.load("fvd")
    assert "i3d_pretrained_400.pt" in str(error.value) and "VideoGPT" in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"alexnet\.safetensors is missing"):
        registry.load("lpips", tmp_path)


def test_fingerprints_follow_the_bytes_of_a_folder(tmp_path):
    folder = tmp_path / "roberta-large"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = weights.fingerprint(folder)
    (folder / "notes.md").write_text("x")
    assert weights.fingerprint(folder) == before
    (folder / "config.json").write_text('{"a": 1}')
    assert weights.fingerprint(folder) != before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--verify"], "need the folder"),
        (["nowhere"], "No folder nowhere"),
        (["--metric", "lpip"], "Did you mean 'lpips'"),
    ],
)
def test_bad_usage(argv, message, capsys):
    assert cli.main(["weights", *argv]) == 2
    assert message in capsys.readouterr().err
