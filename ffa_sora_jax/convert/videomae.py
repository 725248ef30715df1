"""Loads the encoder of VideoMAE v2 from the checkpoint of its fine-tuned classifier.

`vit_g_hybrid_pt_1200e_ssv2_ft.pth` (OpenGVLab, behind a request form) or .safetensors with the same
keys. The classifier itself, `head.*`, is not read.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.types import Params
from ffa_sora_jax.convert import engine, safetensors_io
from ffa_sora_jax.convert.engine import Rule, dense, norm
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.videomae import VideoMAE, VideoMAEConfig

_IGNORED = ("head.",)
_PATCH = "patch_embed.proj.weight"

RULES = (
    *norm("blocks.*.norm1", "blocks/norm1"),
    *norm("blocks.*.norm2", "blocks/norm2"),
    *dense("patch_embed.proj", "patch_embed"),
    Rule("blocks.*.attn.qkv.weight", "blocks/qkv/kernel", "linear"),
    Rule("blocks.*.attn.q_bias", "blocks/q_bias"),
    Rule("blocks.*.attn.v_bias", "blocks/v_bias"),
    *dense("blocks.*.attn.proj", "blocks/proj"),
    *dense("blocks.*.mlp.{fc}", "blocks/{fc}"),
    *norm("fc_norm", "fc_norm"),
)


def load_videomae(path: str | Path, cfg: VideoMAEConfig | None = None) -> tuple[Bundle, Params]:
    """The network and its weights.

    Args:
      path: the file.
      cfg: sizes; None for ViT-g/14.

    Raises:
      ValueError: weights that do not fit.
    """
    bundle = Bundle.create(VideoMAE, cfg or VideoMAEConfig())
    state = _with_flat_patches(safetensors_io.open_weights(Path(path)))
    params = engine.to_params(RULES, state, bundle.abstract, ignored=_IGNORED)
    return bundle, jax.tree.map(jnp.asarray, params)


def _with_flat_patches(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The kernel of the tubes (o, c, u, p, q) as a matrix, in the order in which tubes are cut."""
    state = {key: given[key] for key in given}
    kernel = state.get(_PATCH)
    if kernel is not None and kernel.ndim == 5:
        state[_PATCH] = kernel.transpose(0, 2, 3, 4, 1).reshape(kernel.shape[0], -1)
    return state
