"""Loads I3D (Kinetics-400) from any of the three forms in which its weights are published.

i3d_pretrained_400.pt     a PyTorch state dict (VideoGPT and its descendants), or .safetensors
i3d_torchscript.pt        a TorchScript program (StyleGAN-V); only its tensors are read
*.npz                     the variables of TF-Hub's deepmind/i3d-kinetics-400/1 by name, saved with
                          `numpy.savez(path, **{v.name: v.numpy() for v in model.variables})`

All three hold the same weights. Names are brought to those of the state dict, then one table
fills the parameters. Where a form leaves out the scale of batch norms it is 1; where batch norms
are folded into the convolutions, the remaining shift becomes the bias of a batch norm that does
nothing else.
"""

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from ffa_sora_jax.common.types import Params
from ffa_sora_jax.convert import engine, safetensors_io
from ffa_sora_jax.convert.engine import Rule
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.i3d import BRANCHES, I3D, MIXED, I3DConfig

StateDict = dict[str, np.ndarray]

_STEM = {"conv_1a": "Conv3d_1a_7x7", "conv_2b": "Conv3d_2b_1x1", "conv_2c": "Conv3d_2c_3x3"}
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
_TF_PREFIX = "RGB/inception_i3d/"
_TF_BRANCHES = {
    ("Branch_0", "1x1"): "b0",
    ("Branch_1", "1x1"): "b1a",
    ("Branch_1", "3x3"): "b1b",
    ("Branch_2", "1x1"): "b2a",
    ("Branch_2", "3x3"): "b2b",
    ("Branch_3", "1x1"): "b3b",
}
_TF_NORM = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def rules(cfg: I3DConfig) -> tuple[Rule, ...]:
    """The table between the published state dict and the parameters."""
    del cfg  # the same for all widths
    units = dict(_STEM)
    units |= {
        f"mixed/{n}/{branch}": f"Mixed_{name}.{branch}"
        for n, name in enumerate(MIXED)
        for branch in BRANCHES
    }
    table = [
        Rule("logits.conv3d.weight", "logits/kernel", "pointwise3d"),
        Rule("logits.conv3d.bias", "logits/bias"),
    ]
    for target, source in units.items():
        table.append(Rule(f"{source}.conv3d.weight", f"{target}/kernel", "conv3d"))
        table += [Rule(f"{source}.bn.{b}", f"{target}/{a}") for a, b in _NORM.items()]
    return tuple(table)


def load_i3d(path: str | Path, cfg: I3DConfig | None = None) -> tuple[Bundle, Params]:
    """The network and its weights.

    Args:
      path: a file in one of the three forms.
      cfg: widths and epsilon; None for the published network with epsilon 1e-3.

    Raises:
      FileNotFoundError: no such file.
      ValueError: weights that do not fit, or cannot be told apart.
    """
    path = Path(path)
    bundle = Bundle.create(I3D, cfg or I3DConfig())
    state = read_state_dict(path, bundle)
    if any((state[key] != 1.0).any() for key in state if key.endswith("bn.weight")):
        logging.warning(
            "%s scales its batch norms; the published network does not. Is this another I3D?", path
        )
    params = engine.to_params(rules(bundle.cfg), state, bundle.abstract)
    return bundle, jax.tree.map(jnp.asarray, params)


def read_state_dict(path: Path, bundle: Bundle | None = None) -> StateDict:
    """Weights under the names of the published state dict, from any form.

    Args:
      path: the file.
      bundle: the network whose shapes tell unnamed convolutions apart; None for the published one.

    Raises:
      FileNotFoundError: no such file.
      ValueError: it is empty or damaged, or a variable is not one of the network's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected the weights of I3D.")
    if path.suffix == ".npz":
        return from_tfhub(_read_npz(path))
    if is_torchscript(path):
        return discover(_read_torchscript(path), bundle or Bundle.create(I3D, I3DConfig()))
    state = safetensors_io.open_weights(path)
    return {key: state[key] for key in state if not key.endswith("num_batches_tracked")}


def _read_npz(path: Path) -> StateDict:
    try:
        with np.load(path, allow_pickle=False) as variables:
            return dict(variables)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        why = f"it is no .npz file ({error})" if path.stat().st_size else "it is empty"
        raise ValueError(safetensors_io.corrupt(path, why)) from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def from_tfhub(variables: Mapping[str, np.ndarray]) -> StateDict:
    """The variables of the TF-Hub module under the names of the published state dict.

    Raises:
      ValueError: a variable whose name is not one of the module's.
    """
    state: StateDict = {}
    for name, array in variables.items():
        key, array = _tfhub_entry(name, np.asarray(array))
        state[key] = array
    for key in [key for key in state if key.endswith(".bn.bias")]:
        state[key.replace(".bias", ".weight")] = np.ones_like(state[key])  # TF-Hub has no scale
    return state


def discover(tensors: Mapping[str, np.ndarray], bundle: Bundle) -> StateDict:
    """Weights under the names of the published state dict, from tensors with any names.

    Convolutions are known by their names where these say which they are; else by their shapes in
    the order in which they are stored. Each takes the vectors whose names share the longest path
    with its own: the statistics of its batch norm, or one bias into which that was folded.

    Args:
      tensors: arrays by key, kernels as (o, i, t, h, w), in the order in which modules were made.
      bundle: the network to fill.

    Raises:
      ValueError: another number of convolutions, or a shape out of order.
    """
    kernels = {key: value for key, value in tensors.items() if np.ndim(value) == 5}
    expected = _expected_kernels(bundle)
    names = _match(kernels, expected)
    state: StateDict = {}
    owner = _owners(kernels, (key for key, value in tensors.items() if np.ndim(value) == 1))
    for key, name in names.items():
        vectors = {k: np.asarray(tensors[k]) for k in owner[key]}
        state[f"{name}.conv3d.weight"] = np.asarray(kernels[key])
        state |= _vectors_of(name, vectors, kernels[key].shape[0], bundle.cfg.epsilon)
    return state


def _tfhub_entry(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    path = name.removesuffix(":0").removeprefix(_TF_PREFIX)
    unit, _, rest = path.partition("/conv_3d/")
    if not rest:
        unit, _, rest = path.partition("/batch_norm/")
    source = _tfhub_unit(unit)
    if rest == "w":
        return f"{source}.conv3d.weight", array.transpose(4, 3, 0, 1, 2)
    if source == "logits" and rest == "b":
        return "logits.conv3d.bias", array.reshape(-1)
    if rest not in _TF_NORM:
        raise ValueError(f"{name!r} is no variable of the I3D of TF-Hub.")
    return f"{source}.bn.{_TF_NORM[rest]}", array.reshape(-1)


def _tfhub_unit(path: str) -> str:
    """ "Mixed_5b/Branch_2/Conv3d_0a_3x3" -> "Mixed_5b.b2b": the window tells, not the letter."""
    if path in _STEM.values():
        return path
    if path.startswith("Logits/"):
        return "logits"
    parts = path.split("/")
    branch = _TF_BRANCHES.get((parts[1], parts[2][-3:])) if len(parts) == 3 else None
    if branch is None:
        raise ValueError(f"{path!r} is no part of the I3D of TF-Hub.")
    return f"{parts[0]}.{branch}"


def _expected_kernels(bundle: Bundle) -> dict[str, tuple[int, ...]]:
    """Shape (o, i, t, h, w) of every convolution by its published name, in order."""
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), bundle.abstract)
    shapes = {k: v.shape for k, v in engine.to_state_dict(rules(bundle.cfg), zeros).items()}
    units = [*_STEM.values(), *(f"Mixed_{name}.{b}" for name in MIXED for b in BRANCHES), "logits"]
    return {unit: shapes[f"{unit}.conv3d.weight"] for unit in units}


def _match(
    kernels: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Published name of every kernel."""
    if len(kernels) != len(expected):
        raise ValueError(
            f"The file holds {len(kernels)} convolutions in 3-D; I3D has {len(expected)}."
        )
    told = {key: _told_by_name(key) for key in kernels}
    if sorted(filter(None, told.values())) == sorted(expected):
        names = {key: str(name) for key, name in told.items()}
    else:
        names = dict(zip(kernels, expected, strict=True))
    for key, name in names.items():
        if kernels[key].shape != expected[name]:
            raise ValueError(
                f"{key!r} has shape {kernels[key].shape} where {name} of I3D, {expected[name]}, is "
                "expected: this is another network, or its convolutions are stored in another "
                "order."
            )
    return names


def _told_by_name(key: str) -> str | None:
    """The published name that a key spells in its own way, or None."""
    lower = key.lower()
    for name in _STEM.values():
        if name.lower() in lower:
            return name
    if "logits" in lower:
        return "logits"
    block = re.search(r"mixed_(\d[a-f])\b", lower.replace(".", " "))
    if block is None:
        return None
    branch = re.search(r"\b(b\d[ab]?)\b", lower.replace(".", " "))
    if branch and branch[1] in BRANCHES:
        return f"Mixed_{block[1]}.{branch[1]}"
    long = re.search(r"(branch_\d).*?(\dx\d)", lower)
    found = _TF_BRANCHES.get((long[1].capitalize(), long[2])) if long else None
    return f"Mixed_{block[1]}.{found}" if found else None


def _owners(kernels: Iterable[str], vectors: Iterable[str]) -> dict[str, list[str]]:
    """The vectors of every kernel: those that share the most leading parts of their names."""
    owner: dict[str, list[str]] = {key: [] for key in kernels}
    for vector in vectors:
        best = max(owner, key=lambda key: _shared(key, vector))
        owner[best].append(vector)
    return owner


def _shared(a: str, b: str) -> int:
    """Number of leading parts that two dotted names have in common."""
    count = 0
    for x, y in zip(a.split("."), b.split("."), strict=False):
        if x != y:
            break
        count += 1
    return count


def _vectors_of(
    name: str, vectors: Mapping[str, np.ndarray], width: int, epsilon: float
) -> StateDict:
    """What stands behind one convolution, as the published state dict writes it."""
    wrong = [key for key, value in vectors.items() if value.shape != (width,)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} does not have the {width} values of {name}.")
    last = {key.rpartition(".")[2]: value for key, value in vectors.items()}
    if name == "logits":
        return {"logits.conv3d.bias": last["bias"]}
    mean, variance = (_either(last, *keys) for keys in _STATISTICS)
    zeros, ones = np.zeros(width, np.float32), np.ones(width, np.float32)
    if mean is None or variance is None:  # folded: what is left is a bias
        mean, variance = zeros, ones - np.float32(epsilon)  # the network adds epsilon again
    bias, scale = _either(last, "bias", "beta"), _either(last, "weight", "gamma")
    if bias is None:
        raise ValueError(f"Nothing but a kernel was found for {name}: no bias and no batch norm.")
    return {
        f"{name}.bn.weight": ones if scale is None else scale,
        f"{name}.bn.bias": bias,
        f"{name}.bn.running_mean": mean,
        f"{name}.bn.running_var": variance,
    }


_STATISTICS = (("running_mean", "moving_mean"), ("running_var", "moving_variance"))


def _either(values: Mapping[str, np.ndarray], *keys: str) -> np.ndarray | None:
    return next((values[key] for key in keys if key in values), None)


def _read_torchscript(path: Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path} is a TorchScript file; reading it needs torch (pip install torch), or use "
            "another form of the weights."
        ) from error
    state = torch.jit.load(str(path), map_location="cpu").state_dict()
    if not state:
        raise ValueError(f"{path} names no tensors (a frozen program); use another form.")
    return {key: value.float().numpy() for key, value in state.items() if value.ndim in (1, 5)}
