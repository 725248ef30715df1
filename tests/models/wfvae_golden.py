"""Golden vectors of WF-VAE as channels-last arrays, and the tiny model that made them."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert import wfvae as table
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig

FOLDER = Path(__file__).parents[1] / "golden" / "wfvae"


def last(x: np.ndarray) -> np.ndarray:
    """(b, c, ...) -> (b, ..., c)."""
    return np.moveaxis(x, 1, -1)


def load(name: str) -> dict[str, np.ndarray]:
    return load_file(FOLDER / f"{name}.safetensors")


def meta() -> dict[str, Any]:
    return json.loads((FOLDER / "meta.json").read_text())


def tiny_state() -> dict[str, np.ndarray]:
    return load("tiny_weights")


@functools.cache
def tiny_model(**changes: Any) -> tuple[Bundle, dict[str, Any]]:
    """The tiny model with the golden weights; `changes` are config fields that need no weights."""
    bundle = Bundle.create(WFVAE, dataclasses.replace(WFVAEConfig.tiny(), **changes))
    ignored = table.FORMATS["WFVAEModel"].ignored
    params = engine.to_params(
        table.rules(bundle.cfg), tiny_state(), bundle.abstract, ignored=ignored
    )
    return bundle, jax.tree.map(jnp.asarray, params)
