"""Plain PyTorch versions of the large models, to measure speed and memory against.

Written for these benchmarks from the published description of the architectures, with
PyTorch's own operators and no tricks. Their modules carry the names of the reference's
checkpoints, so both sides load the same weights. Layout b c t h w, as PyTorch prefers.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.torch_reference import dit, wfvae

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_wfvae(folder: Path) -> wfvae.WFVAE:
    """The VAE of a model folder; its wavelet constants are built in and not read."""
    config, state = read(folder)
    model = wfvae.WFVAE(sizes(wfvae.Sizes, config))
    model.load_state_dict({k: v for k, v in state.items() if "wavelet_tran" not in k})
    return model


def load_dit(folder: Path) -> dit.DiT:
    """The transformer of a model folder."""
    config, state = read(folder)
    model = dit.DiT(sizes(dit.Sizes, config))
    model.load_state_dict(state)
    return model


def read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """config.json and the weights."""
    return json.loads((folder / "config.json").read_text()), load_file(folder / WEIGHTS)


def sizes(cls: type, config: Mapping[str, Any]) -> Any:
    """The fields of `cls` that the config gives."""
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{name: config[name] for name in names if name in config})
