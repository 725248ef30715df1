"""Loads the Inception-v3 of FID from the PyTorch files in which it is published.

pt_inception-2015-12-05-6726825d.pth (pytorch-fid) and weights-inception-2015-12-05-6726825d.pth
(torch-fidelity) hold the same state dict; .safetensors are read too.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from ffa_sora_jax.common.types import Params
from ffa_sora_jax.convert import engine, safetensors_io
from ffa_sora_jax.convert.engine import Rule, dense, norm
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.inception import InceptionConfig, InceptionV3

RULES = (
    *dense("fc", "fc"),
    Rule("{path}.conv.weight", "{path}/conv/kernel", "conv2d"),
    *norm("{path}.bn", "{path}"),
    Rule("{path}.bn.running_mean", "{path}/mean"),
    Rule("{path}.bn.running_var", "{path}/variance"),
)


def load_inception(path: str | Path, cfg: InceptionConfig | None = None) -> tuple[Bundle, Params]:
    """The network and its weights.

    Args:
      path: the file.
      cfg: sizes; None for the published ones.

    Raises:
      ValueError: weights that do not fit.
    """
    bundle = Bundle.create(InceptionV3, cfg or InceptionConfig())
    given = safetensors_io.open_weights(Path(path))
    state = {key: given[key] for key in given if not key.endswith("num_batches_tracked")}
    params = engine.to_params(RULES, state, bundle.abstract)
    return bundle, jax.tree.map(jnp.asarray, params)
