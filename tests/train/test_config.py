import json

import pytest

from configs import common
from ffa_sora_jax.train import config as config_lib

FILE = """
from configs import common

def get_config(arg=""):
    arg = common.parse_arg(arg, small=False, width=64)
    config = common.base()
    config.task = "t2v"
    config.model.width = 16 if arg.small else arg.width
    config.model.bounds = (2, 29)
    config.data.latents = None
    return config
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "cfg.py"
    file.write_text(FILE)
    return str(file)


def test_argument_after_the_colon(path):
    assert config_lib.load(path).model.width == 64
    assert config_lib.load(path + ":small").model.width == 16
    assert config_lib.load(path + ":width=8").model.width == 8
    for arg, message in (("smal", "Unknown config argument"), ("width", "needs a value"),
                         ("width=x", "must be int"), ("small=7", "true or false")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            config_lib.load(f"{path}:{arg}")


@pytest.mark.parametrize(
    ("item", "read", "value"),
    [
        ("optim.lr=3", lambda c: c.optim.lr, 3.0),
        ("optim.name=muon", lambda c: c.optim.name, "muon"),
        ("train.total_steps=7", lambda c: c.train.total_steps, 7),
        ("ema.warmup=False", lambda c: c.ema.warmup, False),
        ("eval.metrics=psnr", lambda c: c.eval.metrics, ("psnr",)),
        ("eval.metrics=psnr,ssim", lambda c: c.eval.metrics, ("psnr", "ssim")),
        ("mesh.axes=(('fsdp', 8),)", lambda c: c.mesh.axes, (("fsdp", 8),)),
        ("model.bounds=(1, 2)", lambda c: c.model.bounds, (1, 2)),
        ("data.latents=cache", lambda c: c.data.latents, "cache"),
        ("model.qk_norm=true", lambda c: c.model.qk_norm, True),  # not listed, but open
        ("sample.num_steps=20", lambda c: c.sample.num_steps, 20),
        ("seed=5", lambda c: c.seed, 5),
    ],
)
def test_overrides_are_typed(path, item, read, value):
    found = read(config_lib.load(path, ["--config." + item]))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("--config.optim.ler=3", "Did you mean 'lr'"),
        ("--config.optm.lr=3", "Did you mean 'optim'"),
        ("--config.train.total_step=3", "Did you mean 'total_steps'"),
        ("--config.optim.lr=fast", "optim.lr is float"),
        ("--config.train.total_steps=1.5", "train.total_steps is int"),
        ("--config.ema.warmup=maybe", "ema.warmup is bool"),
        ("--config.mesh.axes=8", "mesh.axes is tuple"),
        ("--config.optim=3", r"is a section; set its keys: --config.optim.b1=..., "),
        ("--config.optim.lr.x=3", "config.optim.lr is a value"),
        ("--config.optim.lr", "Overrides look like"),
        ("--confg.optim.lr=3", "Overrides look like"),
    ],
)
def test_bad_overrides(path, item, message):
    with pytest.raises(ValueError, match=message):
        config_lib.load(path, [item])


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"cfg\.py"):
        config_lib.load(path.replace("cfg", "other"))


def test_sections_and_keys_are_checked():
    config = common.base()
    config.optim.learning_rate = 1.0
    with pytest.raises(ValueError, match=r"Unknown key of config\.optim 'learning_rate'"):
        config_lib.check(config)
    config = common.base()
    del config.train.keep
    with pytest.raises(ValueError, match=r"Missing key of config.train: \['keep'\]"):
        config_lib.check(config)
    config = common.base()
    config.modl = {}
    with pytest.raises(ValueError, match="Did you mean 'model'"):
        config_lib.check(config)
    config = common.base()
    config.optim.players.generator = {"lrr": 1.0}
    with pytest.raises(ValueError, match="Did you mean 'lr'"):
        config_lib.check(config)


def test_base_has_every_section_and_key():
    config = common.base()
    assert common.SECTIONS == config_lib.SECTIONS
    assert set(config) == set(common.SECTIONS)
    for section, keys in config_lib.KEYS.items():
        assert set(config[section]) == set(keys)


def test_stored_config_round_trip(tmp_path):
    config = common.base()
    config_lib.write(config, tmp_path / "config.json")
    stored = config_lib.read(tmp_path / "config.json")
    config_lib.check_resumable(config, stored, "here")
    config.train.total_steps += 1
    config.eval.steps += 1
    config_lib.check_resumable(config, stored, "here")
    config.train.batch_size += 1
    config.data.extra = 1
    with pytest.raises(ValueError, match=r"(?s)data/extra: '\(absent\)'.*train/batch_size: 8") as e:
        config_lib.check_resumable(config, stored, "here")
    assert "eval/steps:" not in str(e.value)


def test_unreadable_stored_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run was started"):
        config_lib.read(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({})[:1])
    with pytest.raises(ValueError, match="not readable"):
        config_lib.read(tmp_path / "config.json")
