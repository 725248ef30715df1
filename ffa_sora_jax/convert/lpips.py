"""Loads LPIPS: a trunk of torchvision, and five heads.

Of a trunk (alexnet.pth or vgg16.pth, or .safetensors) only `features.*` is read. The released heads
(version 0.1, `lin<k>.model.1.weight`) are part of this package.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import Params
from ffa_sora_jax.convert import engine, safetensors_io
from ffa_sora_jax.convert.engine import Rule
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.lpips import LPIPS, TRUNKS, LPIPSConfig, trunk_config

FILES = {"alex": "alexnet", "vgg": "vgg16"}  # file name of each trunk, without its ending
PUBLISHED = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
SUFFIXES = (".safetensors", ".pth")
SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "lpips"
_IGNORED = ("classifier.",)


def rules(cfg: LPIPSConfig) -> tuple[Rule, ...]:
    """The table; torchvision numbers convolutions, activations and pools of all stages."""
    table, index = [], 0
    for n, stage in enumerate(cfg.stages):
        index += stage.pool > 0
        for layer in range(len(stage.widths)):
            source, target = f"features.{index}", f"stages/{n}/{layer}"
            table.append(Rule(f"{source}.weight", f"{target}/kernel", "conv2d"))
            table.append(Rule(f"{source}.bias", f"{target}/bias"))
            index += 2  # convolution, activation
        table.append(Rule(f"lin{n}.model.1.weight", f"heads/{n}"))
    return tuple(table)


def find_trunk(directory: str | Path, net: str) -> Path:
    """The trunk's file in `directory`, by our name or the one it is published with.

    Raises:
      FileNotFoundError: none; the message says where it comes from.
      ValueError: `net` is neither "alex" nor "vgg".
    """
    if net not in FILES:
        raise ValueError(names.unknown_name("LPIPS trunk", net, FILES))
    options = [f"{FILES[net]}{suffix}" for suffix in SUFFIXES] + [PUBLISHED[net]]
    for name in options:
        if (Path(directory) / name).is_file():
            return Path(directory) / name
    raise FileNotFoundError(
        f"{Path(directory) / options[0]} is missing (also looked for {', '.join(options[1:])}). "
        f"LPIPS needs the ImageNet weights of torchvision's {FILES[net]}, published as "
        f"{PUBLISHED[net]}; nothing is downloaded."
    )


def load_lpips(
    directory: str | Path, net: str = "vgg", *, cfg: LPIPSConfig | None = None,
    heads: Path | None = None,
) -> tuple[Bundle, Params]:  # fmt: skip
    """The distance and its weights.

    Args:
      directory: folder with the trunk's file.
      net: "alex" or "vgg".
      cfg: the trunk's graph; None for the published one.
      heads: file of other heads; None for the released ones.

    Raises:
      FileNotFoundError: the trunk is missing; the message says where it comes from.
      ValueError: weights that do not fit.
    """
    bundle = Bundle.create(LPIPS, cfg or trunk_config(net))
    trunk = safetensors_io.open_weights(find_trunk(directory, net))
    lins = safetensors_io.open_weights(heads or released_heads(net))
    state = {**trunk, **{key: value.reshape(-1) for key, value in lins.items()}}
    params = engine.to_params(rules(bundle.cfg), state, bundle.abstract, ignored=_IGNORED)
    return bundle, jax.tree.map(jnp.asarray, params)


def released_heads(net: str) -> Path:
    """The file of the released heads of "alex" or "vgg": five arrays (1, width, 1, 1)."""
    if net not in TRUNKS:
        raise ValueError(names.unknown_name("LPIPS trunk", net, TRUNKS))
    return SHIPPED / f"lpips_{net}.safetensors"
