"""Loads LPIPS on VGG-16 from the two files in which it is published.

vgg16.pth or .safetensors       torchvision's classifier; only `features.*` is read
lpips_vgg.pth or .safetensors   the five heads, `lin<k>.model.1.weight`
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from ffa_sora_jax.common.types import Params
from ffa_sora_jax.convert import engine, safetensors_io
from ffa_sora_jax.convert.engine import Rule
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.vgg import LPIPS, VGGConfig

TRUNK, HEADS = "vgg16", "lpips_vgg"
_IGNORED = ("classifier.",)


def rules(cfg: VGGConfig) -> tuple[Rule, ...]:
    """The table; torchvision numbers convolutions, activations and pools of all stages."""
    table, index = [], 0
    for stage, depth in enumerate(cfg.depths):
        for layer in range(depth):
            source, target = f"features.{index}", f"stages/{stage}/{layer}"
            table.append(Rule(f"{source}.weight", f"{target}/kernel", "conv2d"))
            table.append(Rule(f"{source}.bias", f"{target}/bias"))
            index += 2  # convolution, activation
        index += 1  # pool
        table.append(Rule(f"lin{stage}.model.1.weight", f"heads/{stage}"))
    return tuple(table)


def load_lpips(directory: str | Path, cfg: VGGConfig | None = None) -> tuple[Bundle, Params]:
    """The distance and its weights.

    Raises:
      FileNotFoundError: a file is missing; the message says where both come from.
      ValueError: weights that do not fit.
    """
    bundle = Bundle.create(LPIPS, cfg or VGGConfig())
    trunk, heads = (_open(Path(directory), name) for name in (TRUNK, HEADS))
    state = {**trunk, **{key: value.reshape(-1) for key, value in heads.items()}}
    params = engine.to_params(rules(bundle.cfg), state, bundle.abstract, ignored=_IGNORED)
    return bundle, jax.tree.map(jnp.asarray, params)


def _open(directory: Path, name: str) -> dict:
    for suffix in (".safetensors", ".pth"):
        path = directory / f"{name}{suffix}"
        if path.is_file():
            return dict(safetensors_io.open_weights(path))
    raise FileNotFoundError(
        f"{directory / name}.safetensors (or .pth) is missing. The perceptual loss needs "
        f"torchvision's VGG-16 as {TRUNK} and the LPIPS heads v0.1/vgg.pth as {HEADS}; "
        "or set config.vae.perceptual_weight=0."
    )
