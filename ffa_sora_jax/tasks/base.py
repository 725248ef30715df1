"""What a trainer must know of what is trained.

A task owns models, losses and sampling; it knows no mesh, no optimizer and no file. The trainer
owns those and treats parameters as nested dicts, one per player:

    player      params[player]      updated at
    "model"     the DiT             every step
    "generator" / "discriminator"   the steps for which `Task.player(step)` names it
"""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import Array, Clip, Params
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.data.latents import LatentCache
from ffa_sora_jax.models.wfvae import check_video

TASKS = {
    "vae": "ffa_sora_jax.tasks.vae",
    "t2v": "ffa_sora_jax.tasks.t2v",
    "captioner": "ffa_sora_jax.tasks.captioner",
    "phantom_features": "ffa_sora_jax.tasks.phantom_features",
}


class Task:
    """Base of all tasks; subclasses fill in `players`, `init`, `loss` and `sample`.

    `init`, `loss` and `sample` are traced by `jax.jit`, with the video of a clip already float32
    in [-1, 1] on the device; the rest runs on the host.

    Attributes:
      players: names of the separately optimized parameter trees. The first one is evaluated.
      makes: what `sample` makes of a clip: "video", or a "report", which is its `.text`.
    """

    players: tuple[str, ...] = ("model",)
    makes: str = "video"

    def init(self, rng: jax.Array) -> dict[str, Params]:
        """Fresh trainable parameters by player."""
        raise NotImplementedError

    def frozen(self) -> Params:
        """Parameters that are used and never trained, such as the VAE of a text-to-video run."""
        return {}

    def check_data(self, latents: LatentCache | None) -> None:
        """Refuses data that the task cannot train on, before anything slow happens.

        Args:
          latents: cached latents that replace the video of training clips, if any.

        Raises:
          ValueError: they do not fit this task.
        """
        if latents is not None:
            raise ValueError(
                f"This task trains on video, not on the latents in {latents.folder}; leave "
                "data.latents empty: --config.data.latents="
            )

    def warm_start(self, directory: Path) -> dict[str, Params]:
        """Trained parameters to start from instead of those of `init`.

        Args:
          directory: `config.train.init_from`.

        Returns:
          Host arrays by player, in the structure of `init`; what is left out starts fresh.

        Raises:
          FileNotFoundError: nothing to read there.
          ValueError: a model that is not the one to train, or a task that cannot do this.
        """
        raise ValueError(
            f"{type(self).__name__} cannot start from {directory}; leave train.init_from empty."
        )

    def calibrate(self, params: dict[str, Params], clips: Iterator[Clip]) -> dict[str, Params]:
        """Initialisation that needs data (PCA, latent statistics); host side, once, at step 0.

        Args:
          params: what `init` returned, as host arrays.
          clips: training batches as they come from the host: uint8 video, numpy arrays.
        """
        del clips
        return params

    def player(self, step: int) -> str:
        """The player to update at `step` (0-based)."""
        return self.players[step % len(self.players)]

    def loss(
        self, player: str, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip,
        step: Array,
    ) -> tuple[Array, dict[str, Array]]:  # fmt: skip
        """The scalar that `player` minimises on one batch, and scalars to log.

        Gradients are taken with respect to `params[player]` only.
        """
        raise NotImplementedError

    def sample(self, params: dict[str, Params], frozen: Params, rng: jax.Array, clip: Clip) -> Clip:
        """What the model makes of a validation batch; `.video` is float32 in [-1, 1]."""
        raise NotImplementedError

    def texts(self, ids: np.ndarray) -> list[str]:
        """The reports of (b, l) token ids, of tasks that make reports; runs on the host."""
        raise NotImplementedError


def create(config: Mapping[str, Any]) -> Task:
    """The task that `config.task` names; its module builds it with `create(config)`.

    Raises:
      ValueError: no task of that name.
    """
    name = config["task"]
    if name not in TASKS:
        raise ValueError(names.unknown_name("task", name, TASKS))
    return importlib.import_module(TASKS[name]).create(config)


def check_clip_size(data: Mapping[str, Any]) -> None:
    """Refuses a `config.data` whose clips no WF-VAE takes, before anything is compiled.

    Raises:
      ValueError: `num_frames` is not 4 k + 1, or `res` no multiple of 8; names the nearest ones.
    """
    cfg = DataConfig.read(data)
    try:
        check_video((1, cfg.num_frames, cfg.res, cfg.res, cfg.channels), cfg.channels)
    except ValueError as error:
        raise ValueError(
            f"config.data has num_frames {cfg.num_frames} and res {cfg.res}: {error}"
        ) from error
