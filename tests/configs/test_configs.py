"""Every config: its keys, its model, its shardings, one training step and one sample, abstractly.

Nothing is allocated, so the 2.7 B transformer at 21x512x512 takes seconds too.
"""

import math
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ffa_sora_jax.common.mesh import check_batch_size, make_mesh
from ffa_sora_jax.common.types import Clip, Labels, Text
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.tasks import base
from ffa_sora_jax.train import config as config_lib
from ffa_sora_jax.train import evaluate, loop
from ffa_sora_jax.train.step import make_step, to_model_range

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(p.stem for p in CONFIGS.glob("*.py") if p.stem not in ("__init__", "common"))
CASES = [(name, arg) for name in NAMES for arg in ("", "runlocal")]


def shape(dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(tuple(dims), dtype)


def frozen_of(task, config, data):
    """Abstract frozen parameters; a VAE without weights stands for the folder in the config."""
    if config.task != "t2v":
        return jax.eval_shape(task.frozen)
    cfg = WFVAEConfig(latent_dim=task.dit.cfg.in_channels, in_channels=1)
    bundle = Bundle.create(WFVAE, cfg)
    task.__dict__["vae"] = types.SimpleNamespace(bundle=bundle, params=bundle.abstract, cfg=cfg)
    frozen = {"vae": bundle.abstract}
    if task.text_encoder is None:
        embedding = shape((data.text_length, config.model.caption_channels))
        frozen["empty"] = {"embedding": embedding, "mask": shape((data.text_length,), bool)}
    return frozen


def clip_of(task, config, data, size, *, video):
    latent = text = labels = None
    if config.task == "t2v":
        side, channels = data.res // 8, task.dit.cfg.in_channels
        latent = shape((size, 1 + (data.num_frames - 1) // 4, side, side, 2 * channels))
        tokens = (size, data.text_length)
        stored = task.text_encoder is None
        embedding = shape((*tokens, config.model.caption_channels)) if stored else None
        text = Text(ids=shape(tokens, jnp.int32), mask=shape(tokens, bool), embedding=embedding)
    elif config.task == "captioner":
        tokens = (size, data.text_length)
        text = Text(ids=shape(tokens, jnp.int32), mask=shape(tokens, bool))
    if data.diseases:
        labels = Labels(diseases=shape((size, len(data.diseases))), left=shape((size,)))
    channels = config.model.get("in_channels", 3) if config.task == "vae" else 1
    frames = shape((size, data.num_frames, data.res, data.res, channels), jnp.uint8)
    return Clip(video=frames if video else None, text=text, latent=latent, labels=labels)


def mesh_for(config):
    """The config's mesh on as many of the eight devices as its batches can use."""
    for count in (8, 4, 2, 1):
        mesh = make_mesh(config.mesh.axes, jax.devices()[:count])
        try:
            check_batch_size(config.train.batch_size, mesh)
            check_batch_size(config.eval.batch_size, mesh)
        except ValueError:
            continue
        return mesh
    raise AssertionError


@pytest.mark.parametrize(("name", "arg"), CASES, ids=[f"{n}:{a}" for n, a in CASES])
def test_config(name, arg):
    config = config_lib.load(f"{CONFIGS / name}.py:{arg}")
    data = DataConfig.read(config.data)
    task = base.create(config)
    evaluate.check(config.eval, mesh_for(config), task.makes)
    run = loop.prepare(task, config, mesh_for(config))
    frozen, key = frozen_of(task, config, data), jax.random.key(0)
    clip = clip_of(task, config, data, config.train.batch_size, video=not data.latents)
    for player in task.players:
        step = make_step(task, player, run.optimizers[player], config.ema)
        after, scalars = jax.eval_shape(step, run.abstract, frozen, key, clip)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
            lambda x: (x.shape, x.dtype), run.abstract
        )
        assert all(value.shape == () for value in scalars.values())
    if type(task).sample is base.Task.sample:
        assert not config.eval.num_samples  # so that the trainer never asks for samples
        return
    held_out = clip_of(task, config, data, config.eval.batch_size, video=True)
    sample = jax.eval_shape(
        lambda p, f, k, c: task.sample(p, f, k, to_model_range(c)).video,
        run.abstract.params, frozen, key, held_out,
    )  # fmt: skip
    assert sample.shape == held_out.video.shape and sample.dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_header_tells_command_hardware_and_expectation(name):
    text = (CONFIGS / f"{name}.py").read_text()
    head = text.split('"""')[1]
    for word in ("Run:", f"configs/{name}.py", "Hardware:", "Expected:"):
        assert word in head
    assert "import ml_collections" in text and "ffa_sora_jax" not in text.split('"""', 2)[2]


def test_the_papers_model_is_split_over_its_devices():
    config = config_lib.load(f"{CONFIGS / 't2v_ffa_sora'}.py")
    task = base.create(config)
    run = loop.prepare(task, config, make_mesh(config.mesh.axes))
    count = sum(x.size for x in jax.tree.leaves(run.abstract.params))
    assert 2.6e9 < count < 2.9e9
    local = sum(
        math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize
        for x, s in zip(jax.tree.leaves(run.abstract), jax.tree.leaves(run.shardings), strict=True)
    )
    assert local == pytest.approx(16 * count / 8, rel=0.01)  # weights, two moments, average
