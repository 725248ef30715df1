"""Model folders: `config.json` beside safetensors, as Hugging Face libraries write them.

    dit = from_pretrained("weights/transformer")      # the class is named in config.json
    prediction = dit(x_t, t, text, text_mask)
    save_pretrained(dit, "copy")                      # the same keys, bit-equal in float32

Weights load as float32 whatever precision they are stored in, unless another `dtype` is asked for;
they are stored in the dtype that they have in memory, unless another one is asked for.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import compiler, names, tree
from ffa_sora_jax.common.types import AnyArray, Array, Params
from ffa_sora_jax.convert import engine, safetensors_io
from ffa_sora_jax.models.bundle import Bundle

# Class name in config.json -> module whose FORMATS describes it; imported on first use.
_REGISTRY = {
    "WFVAEModel": "ffa_sora_jax.convert.wfvae",
    "OpenSoraT2V_v1_3": "ffa_sora_jax.convert.dit",
    "OpenSoraInpaint_v1_3": "ffa_sora_jax.convert.dit",
    "MT5EncoderModel": "ffa_sora_jax.convert.t5",
    "T5EncoderModel": "ffa_sora_jax.convert.t5",
    "MT5ForConditionalGeneration": "ffa_sora_jax.convert.t5",
    "T5ForConditionalGeneration": "ffa_sora_jax.convert.t5",
    "BlipForConditionalGeneration": "ffa_sora_jax.convert.blip",
    "CLIPModel": "ffa_sora_jax.convert.clip",
    "CLIPT5ForConditionalGeneration": "ffa_sora_jax.convert.clip_t5",
    **{
        f"{family}{suffix}": "ffa_sora_jax.convert.bert"
        for family in ("Bert", "Roberta", "XLMRoberta")
        for suffix in ("Model", "ForMaskedLM", "ForPreTraining")
    },
}
CONFIG_NAME = "config.json"
DTYPES = ("float32", "bfloat16", "float16")
MAX_SHARD_BYTES = 8 * 2**30


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network with its parameters.

    Calls are compiled once per shape: `model(...)` for `__call__`, and `encode`, `decode`,
    `normalize`, `denormalize` where the network has them.

    Attributes:
      class_name: the reference class, such as "WFVAEModel".
      bundle: the architecture; `bundle.apply(params, ...)` is the pure function.
      params: nested dict of arrays.
      config: the content of config.json that it was read from, or {}.
      aliases: keys that the folder stored twice (tied weights), written back on saving.
      constants: arrays that the reference stores beside the parameters, written back on saving.
    """

    class_name: str
    bundle: Bundle
    params: Params
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def cfg(self) -> Any:
        """The config dataclass of the network."""
        return self.bundle.cfg

    @functools.cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 over every parameter's path, dtype and bytes."""
        digest = hashlib.sha256()
        for path, leaf in sorted(tree.flatten(self.params).items()):
            array = np.asarray(leaf)
            digest.update(f"{path} {array.dtype} {array.shape}".encode())
            digest.update(safetensors_io.raw_bytes(array))
        return digest.hexdigest()[:16]

    def __call__(self, *args: Any, **kwargs: Any) -> Array:
        """The network's main call."""
        return self._call("__call__", *args, **kwargs)

    def encode(self, video: AnyArray) -> tuple[Array, Array]:
        """VAE: (b, t, h, w, c) video in [-1, 1] -> mean and log-variance, (b, t', h', w', l)."""
        return self._call("encode", video)

    def decode(self, latent: AnyArray) -> Array:
        """VAE: raw latents (b, t', h', w', l) -> (b, t, h, w, c) video."""
        return self._call("decode", latent)

    def normalize(self, latent: AnyArray) -> Array:
        """VAE: raw latents -> (latent - shift) * scale per channel."""
        return self._call("normalize", latent)

    def denormalize(self, latent: AnyArray) -> Array:
        """VAE: the inverse of `normalize`."""
        return self._call("denormalize", latent)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(self.bundle.module, method):
            raise TypeError(f"{self.class_name} has no method {method!r}.")
        leaves = jax.tree.leaves((self.params, args, kwargs))
        inner = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        key = (method, inner)
        if key not in self._compiled:
            self._compiled[key] = jax.jit(
                functools.partial(self.bundle.apply, method=method),
                compiler_options=None if inner else compiler.options(),
            )
        return self._compiled[key](self.params, *args, **kwargs)

    @functools.cached_property
    def _compiled(self) -> dict[tuple[str, bool], Any]:
        return {}


def create(class_name: str, cfg: Any, params: Params) -> Pretrained:
    """Wraps trained parameters so that they can be called and saved.

    Raises:
      ValueError: unknown class, or parameters that do not fit `cfg`.
    """
    form = _format(class_name)
    bundle = Bundle.create(form.module, cfg)
    params = tree.unflatten_like(tree.flatten(params), bundle.abstract)
    constants = form.constants(cfg) if form.constants else {}
    return Pretrained(class_name, bundle, params, constants=constants)


def from_pretrained(
    directory: str | Path, dtype: str | None = None, *, encoder_only: bool = False
) -> Pretrained:
    """Loads a model folder.

    Args:
      directory: holds config.json, which names the class in `_class_name` or `architectures`, and
        the weights.
      dtype: dtype of the parameters; None for float32.
      encoder_only: leaves the decoder of an encoder-decoder model unread.

    Raises:
      FileNotFoundError: the folder, its config.json, its weights or a shard is missing.
      ValueError: unknown class or config key, unsupported setting, corrupt file, or weights that
        do not fit (missing, left over, of a wrong shape, not finite).
    """
    directory = Path(directory)
    config = _read_config(directory)
    class_name = _class_name(config, directory / CONFIG_NAME)
    form = _format(class_name)
    if encoder_only and form.encoder:
        class_name, form = form.encoder, _format(form.encoder)
    path = safetensors_io.find_weights(directory)
    state = safetensors_io.open_weights(path)
    if form.adapt is not None:
        state = form.adapt(directory, state)
    shapes = {key: tuple(array.shape) for key, array in state.items()}
    try:
        bundle = Bundle.create(form.module, form.read_config(config, shapes))
        rules = form.rules(bundle.cfg)
        params = engine.to_params(
            rules, state, bundle.abstract, dtype=_dtype(dtype), ignored=form.ignored
        )
    except ValueError as error:
        raise ValueError(f"{path} ({class_name}): {error}") from error
    aliases = tuple(alias for rule in rules for alias in rule.aliases if alias in state)
    constants = {
        key: np.array(state[key])
        for key in state
        if form.constants and key.startswith(form.ignored)
    }
    flat = tree.flatten(params)
    del params
    for key in flat:  # one after the other, so that no second copy of all weights exists
        flat[key] = jnp.asarray(flat[key])
    params = tree.unflatten_like(flat, bundle.abstract)
    return Pretrained(class_name, bundle, params, config, aliases, constants)


def save_pretrained(model: Pretrained, directory: str | Path, dtype: str | None = None) -> None:
    """Writes a model folder under the reference's own names.

    The files are written in full beside the folder before any of them is put in place.

    Args:
      model: what `from_pretrained` or `create` returned.
      directory: created where it is missing. A model in it is replaced; other files stay.
      dtype: dtype to store; None for the dtype of the parameters, without rounding.

    Raises:
      ValueError: the path is a file, or an unknown dtype.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; a folder is needed to save a model.")
    form = _format(model.class_name)
    state = state_dict(model, dtype)
    written = form.write_config(model.cfg)
    config = {**{k: v for k, v in model.config.items() if k not in written}, **written}
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (staging / CONFIG_NAME).write_text(text, encoding="utf-8")
        safetensors_io.write_sharded(staging, form.weights, state, MAX_SHARD_BYTES)
        staging.chmod(0o755)  # a temporary folder is private; a model folder is like any other
        _publish(staging, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def state_dict(model: Pretrained, dtype: str | None = None) -> dict[str, np.ndarray]:
    """The weights under the reference's own names, as `save_pretrained` stores them."""
    rules = _format(model.class_name).rules(model.cfg)
    state = engine.to_state_dict(rules, model.params)
    for rule in rules:
        for alias in set(rule.aliases) & set(model.aliases):
            state[alias] = state[rule.pattern]
    state.update(model.constants)
    target = _dtype(dtype)
    return state if target is None else {k: v.astype(target) for k, v in state.items()}


def _format(class_name: str) -> engine.Format:
    if class_name not in _REGISTRY:
        raise ValueError(names.unknown_name("model class", class_name, _REGISTRY))
    return importlib.import_module(_REGISTRY[class_name]).FORMATS[class_name]


def _dtype(dtype: str | None) -> np.dtype | None:
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(names.unknown_name("dtype", dtype, DTYPES))
    return None if dtype is None else jnp.dtype(dtype)


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing. A model folder holds {CONFIG_NAME} beside its weights, such as "
            f"{safetensors_io.SAFETENSORS[0]}."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(config).__name__}.")
    return config


def _class_name(config: Mapping[str, Any], path: Path) -> str:
    architectures = config.get("architectures") or []
    given = [config["_class_name"]] if "_class_name" in config else list(architectures)
    if len(given) != 1 or not isinstance(given[0], str):
        raise ValueError(
            f"{path} must name one class in _class_name or architectures, found {given}. "
            f"Known classes: {', '.join(_REGISTRY)}."
        )
    if given[0] not in _REGISTRY:
        raise ValueError(f"{path}: {names.unknown_name('model class', given[0], _REGISTRY)}")
    return given[0]


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json"))


def _publish(staging: Path, directory: Path) -> None:
    """Puts the files of `staging` in the place of the model in `directory`.

    A folder that holds a model only is exchanged as a whole, so that a crash leaves one of the two.
    Where other files lie beside the model they stay, and files are exchanged one by one, the config
    last.
    """
    for path in staging.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if not directory.exists():
        staging.rename(directory)
        return
    present = {path.name for path in directory.iterdir()}
    if all(name == CONFIG_NAME or _is_weights(name) for name in present):
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-old-", dir=directory.parent))
        directory.rename(old)  # an empty folder may be renamed over
        staging.rename(directory)
        shutil.rmtree(old)
        return
    staged = {path.name for path in staging.iterdir()}
    for name in sorted(staged, key=lambda name: (name == CONFIG_NAME, name)):
        (staging / name).replace(directory / name)
    for name in present - staged:
        if _is_weights(name):  # of the model before, perhaps in another number of shards
            (directory / name).unlink()


def _to_device(node: dict[Any, Any]) -> None:
    """Turns host arrays into device arrays in place, so that never two whole copies exist."""
    for key, child in node.items():
        if isinstance(child, dict):
            _to_device(child)
        else:
            node[key] = jnp.asarray(child)
