"""The pipeline folder refuses what is missing, damaged or of another kind, and says which."""

import dataclasses
import json

import pytest

from ffa_sora_jax.pipelines import folder
from ffa_sora_jax.pipelines.folder import SamplingConfig

SAMPLING = SamplingConfig(
    schedule="linear_zero_snr", prediction="v", sampler="ddim", spacing="trailing", num_steps=10,
    guidance_scale=3.0, size=64, num_frames=5, channels=1, text_length=32,
    times_s=(1.5, 2, 3, 4, 5), guidance_rescale=0.5, guidance_interval=(0.1, 0.9),
)  # fmt: skip


@pytest.fixture
def root(tmp_path):
    for part in (*folder.PARTS, "tokenizer"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    folder.write_sampling(tmp_path, SAMPLING)
    folder.write_index(tmp_path, {"vae": "WFVAEModel"}, trained_on="phantoms")
    return tmp_path


def test_sampling_settings_survive_the_file(root):
    folder.check_folder(root)
    assert folder.read_sampling(root) == SAMPLING


def test_the_sampler_takes_the_defaults_and_what_the_caller_wants(root):
    method = SAMPLING.make_sampler()
    assert (method.name, method.num_steps, method.guidance.scale) == ("ddim", 10, 3.0)
    assert (method.guidance.rescale, method.guidance.interval) == (0.5, (0.1, 0.9))
    other = SAMPLING.make_sampler(sampler="dpmpp_2m", num_steps=4, guidance_scale=1.0)
    assert (other.name, other.num_steps, other.guidance.scale) == ("dpmpp_2m", 4, 1.0)


@pytest.mark.parametrize("name", ["tokenizer/config.json", "scheduler/scheduler_config.json"])
def test_a_changed_byte_is_found(root, name):
    path = root / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"{name} is corrupt"):
        folder.check_folder(root)


@pytest.mark.parametrize("part", ["vae", "transformer", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(root, part):
    (root / part).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=part):
        folder.check_folder(root)


def test_a_folder_of_another_kind_is_refused(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_index\.json"):
        folder.check_folder(tmp_path / "vae")
    (root / folder.INDEX).write_text('{"_class_name": "CogVideoXPipeline"}')
    with pytest.raises(ValueError, match="'CogVideoXPipeline'; expected 'TextToVideo'"):
        folder.check_folder(root)
    (root / folder.INDEX).write_text("{")
    with pytest.raises(ValueError, match="not readable as JSON"):
        folder.check_folder(root)


def test_unknown_and_missing_settings_are_named(root):
    path = root / folder.SAMPLING
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "num_step": 3}))
    with pytest.raises(ValueError, match="Did you mean 'num_steps'"):
        folder.read_sampling(root)
    del values["size"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="lacks size"):
        folder.read_sampling(root)


@pytest.mark.parametrize(
    ("change", "message"), [({"num_steps": -1}, "num_steps is -1"), ({"num_steps": None}, "None")]
)
def test_a_setting_without_meaning_is_reported_with_its_file(root, change, message):
    path = root / folder.SAMPLING
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=rf"scheduler_config\.json: .*{message}"):
        folder.read_sampling(root)


@pytest.mark.parametrize("key", ["_class_name", "architectures"])
def test_a_part_that_is_another_model_is_refused_by_its_class(root, key):
    name = "WFVAEModel"
    values = {key: name if key == "_class_name" else [name], "absolute_position": True}
    path = root / "transformer" / "config.json"
    path.write_text(json.dumps(values))
    folder.write_index(root, {"vae": name})
    with pytest.raises(ValueError, match="holds a WFVAEModel, where OpenSoraT2V_v1_3 is expected"):
        folder.check_folder(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times_s": (1, 2)}, "one time per frame"),
        ({"channels": 2}, "1 or 3"),
        ({"sampler": "ddmi"}, "Unknown sampler 'ddmi'"),
        ({"guidance_scale": -1.0}, "must not be negative"),
    ],
)
def test_settings_without_meaning_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SAMPLING, **change)
