"""Golden sets of the transformer and the text encoder, and model folders made of them."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

GOLDEN = Path(__file__).parents[1] / "golden"
WEIGHTS = {"dit": "diffusion_pytorch_model.safetensors", "t5": "model.safetensors"}


@functools.cache
def tensors(name: str) -> dict[str, np.ndarray]:
    """All tensors of one golden file, such as "dit/units"."""
    return load_file(GOLDEN / f"{name}.safetensors")


@functools.cache
def meta(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def case(name: str, prefix: str) -> dict[str, np.ndarray]:
    """The tensors of one case, without its prefix."""
    return {k.split("/", 1)[1]: v for k, v in tensors(name).items() if k.startswith(f"{prefix}/")}


def last(x: np.ndarray) -> np.ndarray:
    """Channels last: b c t h w -> b t h w c."""
    return np.moveaxis(x, 1, -1)


def inputs(c: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Arguments of a DiT call from one case."""
    return last(c["x"]), c["timestep"], c["text"][:, 0], c["text_mask"][:, 0], c["video_mask"]


def write_folder(folder: Path, name: str, drop: tuple[str, ...] = (), **changes) -> Path:
    """A model folder of the golden weights `name`, its config.json changed."""
    stored = meta(f"{name}_state")
    config = {**stored.get("all_config", stored["config"]), **changes}
    if name.startswith("dit/"):
        config = {"_class_name": stored["cls"], "_diffusers_version": "0.30.2", **config}
    else:
        config = {"architectures": ["MT5EncoderModel"], **config}
    folder.mkdir(parents=True)
    kept = {key: value for key, value in config.items() if key not in drop}
    (folder / "config.json").write_text(json.dumps(kept))
    shutil.copy(GOLDEN / f"{name}_state.safetensors", folder / WEIGHTS[name.split("/")[0]])
    return folder
