"""What all configs share: the sections in their fixed order, and the argument after the colon.

A config file defines `get_config(arg="")`, starts from `base()` and overwrites what differs.
Configs import nothing of the package, so they load without jax.

Sections: `model`, `vae`, `text_encoder`, `data`, `diffusion` and `sample` belong to the task and
the data pipeline; `optim`, `ema`, `mesh`, `train` and `eval` to the trainer (docs/train.md).
"""

from typing import Any

import ml_collections as mlc

SECTIONS = (
    "seed", "task", "model", "vae", "text_encoder", "data", "diffusion", "optim", "ema", "mesh",
    "train", "eval", "sample",
)  # fmt: skip

# Muon for small models that learn within about an hour; "wsd" lets the rate fall at the end.
MUON = dict(
    name="muon", muon_adam_lr_ratio=0.5, schedule="wsd", final_lr_ratio=0.02, b2=0.98,
    weight_decay=0.01, decay="matrices",
)  # fmt: skip


def base() -> mlc.ConfigDict:
    """A config with every section, and the trainer's defaults in its own sections."""
    config = mlc.ConfigDict()
    config.seed = 0
    config.task = ""
    for section in ("model", "vae", "text_encoder", "data", "diffusion"):
        config[section] = mlc.ConfigDict()
    config.optim = dict(
        name="adamw",  # or "muon"
        lr=1e-4,
        schedule="constant",  # or "cosine", "wsd"
        warmup_steps=0,
        final_lr_ratio=0.0,  # lr at the last step / lr, for "cosine" and "wsd"
        decay_fraction=0.2,  # share of the run in which "wsd" decays
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        weight_decay=0.0,
        decay="all",  # or "matrices": no decay of biases, norms and tables of rank 1
        clip_norm=1.0,  # 0 switches clipping off
        muon_exclude=(),  # regular expressions of paths that Adam updates, not Muon
        muon_adam_lr_ratio=1.0,  # lr of those / lr
        players=mlc.ConfigDict(),  # overrides by player, such as {"discriminator": {"lr": 1e-5}}
    )
    config.ema = dict(decay=0.9999, warmup=True, players=())  # (): the first player
    config.mesh = dict(
        axes=(("data", -1), ("fsdp", 1), ("tensor", 1), ("sequence", 1)),
        rules=((".*", "fsdp"),),  # (regular expression on "player/a/b/kernel", spec or tactic)
    )
    config.train = dict(
        total_steps=1000,
        batch_size=8,  # over all devices
        log_steps=50,
        ckpt_steps=500,
        keep=3,  # checkpoints kept, at least 2
        max_seconds=0.0,  # > 0: save and stop after this wall time
        calibration_batches=0,  # batches given to Task.calibrate before step 0
        init_from="",  # folder of a trained model to start from; "" starts from random numbers
    )
    config.eval = dict(
        steps=500,
        batch_size=8,
        num_batches=4,  # of the validation loss
        num_samples=8,
        metrics=("psnr", "ssim"),
        weights="",  # folder of the networks of other metrics, see `ffa-sora weights`
        num_sheets=4,  # clips shown as contact sheet and GIF
        use_ema=True,
    )
    config.sample = mlc.ConfigDict()
    return config


def parse_arg(arg: str = "", **defaults: Any) -> mlc.ConfigDict:
    """Reads "preset=small,runlocal,res=64"; a bare name sets a boolean to True.

    Args:
      arg: the text after the colon of `--config=path.py:arg`.
      **defaults: allowed names; the type of a value is the type it is read as.

    Raises:
      ValueError: unknown name, missing value, or a value of the wrong type.
    """
    values = mlc.ConfigDict(defaults)
    for item in filter(None, (part.strip() for part in arg.split(","))):
        name, has_value, text = item.partition("=")
        if name not in defaults:
            raise ValueError(f"Unknown config argument {name!r}. Allowed: {sorted(defaults)}.")
        if not has_value and not isinstance(defaults[name], bool):
            raise ValueError(f"Config argument {name!r} needs a value: {name}=...")
        values[name] = _read(name, text if has_value else "true", type(defaults[name]))
    return values


def _read(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"Config argument {name}={text!r} must be true or false.")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"Config argument {name}={text!r} must be {kind.__name__}.") from error
