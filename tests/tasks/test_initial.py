"""Starting from trained weights: what is read from which folder, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import pretrained
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.discriminators import DiscriminatorConfig
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.tasks import base, t2v
from ffa_sora_jax.tasks.vae import VAELossConfig, VAETask
from tests.tasks.test_t2v import VAE, make_config, random_like


def save(class_name, bundle, folder):
    """Writes random weights; returns what was written."""
    params = random_like(bundle.abstract)
    pretrained.save_pretrained(pretrained.create(class_name, bundle.cfg, params), folder)
    return params


def same(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    assert a.keys() == b.keys()
    return all(np.array_equal(a[path], b[path]) for path in a)


def vae_task(cfg=VAE, **loss):
    return VAETask(cfg, VAELossConfig(**loss), DiscriminatorConfig.tiny())


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder with the parts of a pipeline, and their parameters by part."""
    folder, task = tmp_path_factory.mktemp("model"), t2v.create(make_config())
    parts = {
        "vae": ("WFVAEModel", Bundle.create(WFVAE, VAE)),
        "transformer": ("OpenSoraT2V_v1_3", task.dit),
        "text_encoder": ("T5EncoderModel", task.text_encoder),
    }
    return folder, {name: save(*part, folder / name) for name, part in parts.items()}


@pytest.mark.parametrize("part", ["", "vae"])
def test_vae_from_a_pipeline_or_its_own_folder(pipeline, part):
    folder, params = pipeline
    loaded = vae_task().warm_start(folder / part)
    assert list(loaded) == ["model"]  # a folder has no discriminator
    assert same(loaded["model"], params["vae"])
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded))


def test_t2v_takes_both_networks_of_a_pipeline_and_one_of_a_transformer(pipeline):
    folder, params = pipeline
    task = t2v.create(make_config())
    loaded = task.warm_start(folder)["model"]
    assert same(loaded["dit"], params["transformer"])
    assert same(loaded["text_encoder"], params["text_encoder"])
    loaded = task.warm_start(folder / "transformer")["model"]
    assert list(loaded) == ["dit"] and same(loaded["dit"], params["transformer"])


def test_stored_embeddings_take_no_text_encoder(pipeline):
    config = make_config()
    config.text_encoder = dict(kind="stored")
    config.data.text_embeddings = "somewhere"
    assert list(t2v.create(config).warm_start(pipeline[0])["model"]) == ["dit"]


def test_another_model_is_refused_and_every_difference_named(pipeline):
    cfg = dataclasses.replace(VAE, base_channels=8, t_interpolation="trilinear", scale=(9.0,))
    with pytest.raises(ValueError, match="base_channels: 4 there, 8 in the config") as error:
        vae_task(cfg).warm_start(pipeline[0])
    assert "t_interpolation: 'nearest' there" in str(error.value)
    assert "scale" not in str(error.value)  # describes the data, not the parameters
    config = make_config()
    config.model.qk_norm = False
    with pytest.raises(ValueError, match=r"config.model describes:\n  qk_norm: True there"):
        t2v.create(config).warm_start(pipeline[0])
    config = make_config()
    config.text_encoder.d_ff = 32
    with pytest.raises(ValueError, match=r"config.text_encoder describes:\n  d_ff: 16 there"):
        t2v.create(config).warm_start(pipeline[0])


def test_another_class_is_refused(pipeline):
    with pytest.raises(ValueError, match=r"holds a OpenSoraT2V_v1_3; config.model describes a WFV"):
        vae_task().warm_start(pipeline[0] / "transformer")


def test_folders_without_a_model_are_named(pipeline, tmp_path):
    with pytest.raises(FileNotFoundError, match="'nowhere', which is no folder"):
        vae_task().warm_start(tmp_path.relative_to(tmp_path) / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"neither config.json .* nor a part transformer/"):
        t2v.create(make_config()).warm_start(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"folder of a training run. Export it first: ffa-sora exp"
    ):
        vae_task().warm_start(tmp_path)


class Cache:
    folder = "data/latents64"

    def check_vae(self, fingerprint):
        raise ValueError(f"made by others than {fingerprint}")


def test_cached_latents_are_refused_by_the_vae_and_checked_by_t2v(pipeline):
    vae_task().check_data(None)
    with pytest.raises(ValueError, match=r"not on the latents in data/latents64; leave data"):
        vae_task().check_data(Cache())
    task = t2v.create(make_config())
    task.check_data(None)  # opens no VAE
    task.__dict__["vae"] = pretrained.from_pretrained(pipeline[0] / "vae")
    with pytest.raises(ValueError, match=f"made by others than {task.vae.fingerprint}"):
        task.check_data(Cache())


def test_a_task_without_warm_start_says_so():
    with pytest.raises(ValueError, match=r"Task cannot start from x; leave train.init_from empty"):
        base.Task().warm_start("x")


def test_configs_for_published_weights_describe_them():
    """The released VAE and transformer have the sizes that the hospital configs train."""
    from configs import t2v_ffa_sora, vae_ffa
    from ffa_sora_jax.models.dit import DiTConfig

    model = WFVAEConfig(**vae_ffa.get_config().model)
    assert dataclasses.replace(model, scale=(1,)) == dataclasses.replace(
        WFVAEConfig.v1_3(), scale=(1,)
    )
    dit = DiTConfig(**t2v_ffa_sora.get_config().model)
    assert dataclasses.replace(dit, remat="dots", dtype="float32") == DiTConfig()
