"""Model folders through the command line: read, checked, written, and refused when damaged."""

import json

import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.common import tree
from ffa_sora_jax.convert.pretrained import from_pretrained, save_pretrained
from tests.pipelines.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "t5"
    save_pretrained(tiny_pipeline().parts["text_encoder"], folder)
    return folder


def test_float32_is_kept_bit_for_bit(source, tmp_path, capsys):
    assert cli.main(["convert", str(source), "--output", str(tmp_path / "copy")]) == 0
    said = capsys.readouterr().out
    first, second = from_pretrained(source), from_pretrained(tmp_path / "copy")
    assert first.fingerprint == second.fingerprint and first.fingerprint in said
    assert "T5EncoderModel" in said and "written to" in said


def test_bfloat16_rounds_and_halves(source, tmp_path):
    argv = ["convert", str(source), "--output", str(tmp_path / "half"), "--dtype", "bfloat16"]
    assert cli.main(argv) == 0
    sizes = [next(p.glob("*.safetensors")).stat().st_size for p in (source, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    whole = tree.flatten(from_pretrained(source).params)
    half = tree.flatten(from_pretrained(tmp_path / "half").params)
    for path, leaf in whole.items():
        np.testing.assert_allclose(half[path], leaf, rtol=2**-8, atol=0)


def test_check_lists_every_parameter_and_writes_nothing(source, tmp_path, capsys):
    before = {p: p.stat().st_mtime_ns for p in source.iterdir()}
    assert cli.main(["convert", str(source), "--check"]) == 0
    said = capsys.readouterr().out
    paths = tree.flatten(from_pretrained(source).params)
    assert all(path in said for path in paths)
    count = sum(leaf.size for leaf in paths.values())
    assert f"{count:,} parameters" in said
    assert {p: p.stat().st_mtime_ns for p in source.iterdir()} == before


def test_a_wrong_class_is_named(source, tmp_path, capsys):
    config = json.loads((source / "config.json").read_text())
    config["architectures"] = ["T5EncodrModel"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert cli.main(["convert", str(tmp_path), "--check"]) == 2
    assert "Did you mean 'T5EncoderModel'" in capsys.readouterr().err


def test_output_or_check_is_needed(source):
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", str(source)])
    assert stop.value.code == 2
