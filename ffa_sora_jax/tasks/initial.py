"""Parameters to start a run from: model folders, checked against what the run trains."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax

from ffa_sora_jax.common.types import Params
from ffa_sora_jax.convert import pretrained


def find(directory: Path, part: str) -> Path:
    """The model folder to read: `directory` itself, or the `part` of a pipeline's folder.

    Raises:
      FileNotFoundError: there is no such folder, or it holds no such model.
      ValueError: it is the folder of a training run.
    """
    if not directory.is_dir():
        raise FileNotFoundError(
            f"config.train.init_from is {str(directory)!r}, which is no folder. Give a model "
            f"folder, or a pipeline's folder with {part}/ in it; leave it empty to start fresh."
        )
    for folder in (directory, directory / part):
        if (folder / pretrained.CONFIG_NAME).is_file():
            if (folder / "checkpoints").is_dir():
                break
            return folder
    if (directory / "checkpoints").is_dir():
        raise ValueError(
            f"config.train.init_from is {str(directory)!r}, the folder of a training run. Export "
            f"it first: ffa-sora export --workdir {directory} --output ..."
        )
    raise FileNotFoundError(
        f"{directory} holds neither {pretrained.CONFIG_NAME} beside weights nor a part {part}/. "
        "config.train.init_from wants a folder in the public format, or one that "
        "`ffa-sora export` wrote."
    )


def load(
    folder: Path, class_names: Collection[str], cfg: Any, *, section: str, free: Collection[str]
) -> Params:
    """Parameters of a model folder as host arrays, if it holds the model that the run trains.

    Args:
      folder: model folder, see `convert.pretrained.from_pretrained`.
      class_names: classes that it may hold.
      cfg: config dataclass of the model to train.
      section: section of the run's config that describes this model.
      free: fields of `cfg` that may differ: they change no parameter's meaning.

    Raises:
      FileNotFoundError, ValueError: see `from_pretrained`; and ValueError for another model than
        `cfg` describes, with every setting that differs.
    """
    model = pretrained.from_pretrained(folder)
    if model.class_name not in class_names:
        raise ValueError(
            f"{folder} holds a {model.class_name}; config.{section} describes a "
            f"{' or '.join(class_names)}."
        )
    pairs = {
        field.name: (getattr(model.cfg, field.name), getattr(cfg, field.name))
        for field in dataclasses.fields(cfg)
        if field.name not in free
    }
    lines = [f"  {n}: {a!r} there, {b!r} in the config" for n, (a, b) in pairs.items() if a != b]
    if lines:
        raise ValueError(
            f"{folder} holds another model than config.{section} describes:\n" + "\n".join(lines)
            + f"\nSet these keys of config.{section} to what is there, or start from another "
            "folder (config.train.init_from)."
        )  # fmt: skip
    # On the host, so that no device holds a whole large model while the run's state is made.
    return jax.device_get(model.params)
