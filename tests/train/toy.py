"""A task of a few hundred parameters and a source without files, for tests of the trainer."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import common
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.tasks.base import Task


class ToyTask(Task):
    """Learns to undo noise on 4x4 frames with a two-layer net; samples are its output on zeros."""

    players = ("model",)

    def init(self, rng):
        a, b = jax.random.split(rng)
        return {
            player: {
                "up": {"kernel": jax.random.normal(a, (16, 256)) * 0.1, "bias": jnp.zeros(256)},
                "blocks": {0: {"kernel": jax.random.normal(b, (256, 16)) * 0.1}},
            }
            for player in self.players
        }

    def frozen(self):
        return {"scale": jnp.float32(0.5)}

    def loss(self, player, params, frozen, rng, clip, step):
        x = clip.video.reshape(clip.video.shape[0], -1, 16)
        noise = jax.random.normal(rng, x.shape) * frozen["scale"]
        error = jnp.mean((self._net(params[player], x + noise) - x) ** 2)
        return error, {"mse": error}

    def sample(self, params, frozen, rng, clip):
        x = clip.video.reshape(clip.video.shape[0], -1, 16)
        y = self._net(params[self.players[0]], x + jax.random.normal(rng, x.shape) * 0.1)
        return Clip(video=jnp.clip(y, -1, 1).reshape(clip.video.shape))

    def _net(self, params, x):
        return (
            jnp.tanh(x @ params["up"]["kernel"] + params["up"]["bias"])
            @ (params["blocks"][0]["kernel"])
        )


class TwoPlayers(ToyTask):
    players = ("generator", "discriminator")


class ToySource:
    """Batches as a function of (seed, step)."""

    latents = None

    def __init__(self, seed=0, batch_size=8):
        self.seed, self.batch_size = seed, batch_size

    def batch(self, step):
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, step]))
        video = rng.integers(0, 256, (self.batch_size, 5, 4, 4, 1), dtype=np.uint8)
        return Clip(video=video, exam=np.arange(self.batch_size))

    def iterate(self, start_step=0):
        step = start_step
        while True:
            yield self.batch(step)
            step += 1


def toy_config(**train):
    config = common.base()
    config.task = "toy"
    config.optim.lr = 1e-2
    config.train.update(
        {"total_steps": 8, "log_steps": 2, "ckpt_steps": 4, "batch_size": 8, **train}
    )
    config.eval.update({"steps": 4, "num_batches": 1, "num_samples": 0})
    return config


def create(config):
    """The task of a config, for the command line."""
    return ToyTask()
