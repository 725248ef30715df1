"""Table and config of `WFVAEModel`, in the spelling of Open-Sora Plan and of WF-VAE.

The two differ in their wavelet constants only, `wavelet_tranform` and `wavelet_transform`; these
are no parameters, and only written back on saving. The public format misspells "downsample" as
"dowmsample".
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ffa_sora_jax.convert import config_json
from ffa_sora_jax.convert.engine import Format, Rule
from ffa_sora_jax.models import wavelet
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig

CLASS_NAME = "WFVAEModel"
_BLOCKS = {
    "l1_dowmsample_block": "Downsample",
    "l1_downsample_wavelet": "HaarWaveletTransform2D",
    "l2_dowmsample_block": "Spatial2xTime2x3DDownsample",
    "l2_downsample_wavelet": "HaarWaveletTransform3D",
    "l1_upsample_block": "Upsample",
    "l1_upsample_wavelet": "InverseHaarWaveletTransform2D",
    "l2_upsample_block": "Spatial2xTime2x3DUpsample",
    "l2_upsample_wavelet": "InverseHaarWaveletTransform3D",
}
_FIXED = {**_BLOCKS, "attention_type": "AttnBlock3DFix", "dropout": 0.0}
_EXTRAS = ("in_channels", "linear_path")
_HIDDEN = ("conv_form", "encoder_dtype", "decoder_dtype")  # how to compute, not what
_IGNORED = ("encoder.wavelet_tran", "decoder.inverse_wavelet_tran")


def rules(cfg: WFVAEConfig) -> tuple[Rule, ...]:
    """The table of one WF-VAE."""
    per_frame = (  # layers with a 2-D kernel
        ("encoder.down1.{path}", "encoder/down1/{path}"),
        ("encoder.connect_{level}", "encoder/connect_{level}"),
        ("encoder.down2.0", "encoder/down2/0"),
        (
            f"decoder.connect_{{level}}.{cfg.connect_res_layer_num}",
            f"decoder/connect_{{level}}/{cfg.connect_res_layer_num}",
        ),
        (
            f"decoder.up1.{cfg.decoder_num_resblocks}.conv",
            f"decoder/up1/{cfg.decoder_num_resblocks}/conv",
        ),
        ("decoder.conv_out", "decoder/conv_out"),
    )
    inner = ".norm" if cfg.norm_type == "layernorm" else ""
    table = [Rule(f"{{path}}{inner}.weight", "{path}/scale")]
    for norm in ("norm", "norm1", "norm2", "norm_out"):
        table.append(Rule(f"{{path}}.{norm}{inner}.bias", f"{{path}}/{norm}/bias"))
    for part in ("encoder", "decoder"):
        table += _layer(f"{part}.linear", f"{part}/linear", "linear")
    for source, target in per_frame:
        table += _layer(source, target, "conv2d")
    return (*table, *_layer("{path}.conv", "{path}", "conv3d"))


def _layer(source: str, target: str, how: str) -> list[Rule]:
    return [
        Rule(f"{source}.weight", f"{target}/kernel", how),
        Rule(f"{source}.bias", f"{target}/bias"),
    ]


def read_config(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> WFVAEConfig:
    """The config dataclass of a folder's config.json.

    Widths of the flows and their number of residual blocks are taken from the shapes of the
    weights where config.json leaves them out: published configs disagree about them.

    Raises:
      ValueError: a key that is unknown, or a setting that is not supported.
    """
    fields = config_json.read_fields(config, WFVAEConfig, fixed=_FIXED, hidden=_HIDDEN)
    for name in ("scale", "shift"):
        if isinstance(fields.get(name), int | float):
            fields[name] = (fields[name],)
    return WFVAEConfig(**{**_inferred(shapes), **fields})


def _inferred(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    found = {}
    if "encoder.connect_l1.weight" in shapes:
        found["encoder_energy_flow_hidden_size"] = shapes["encoder.connect_l1.weight"][0]
    last = {
        int(match[1]): shape
        for key, shape in shapes.items()
        if (match := re.fullmatch(r"decoder\.connect_l1\.(\d+)\.weight", key))
    }
    if last:
        found["connect_res_layer_num"] = max(last)
        found["decoder_energy_flow_hidden_size"] = last[max(last)][1]
    return found


def write_config(cfg: WFVAEConfig) -> dict[str, Any]:
    """The content of config.json."""
    written = config_json.write_fields(cfg, extras=_EXTRAS, hidden=_HIDDEN)
    for name in ("scale", "shift"):
        values = getattr(cfg, name)
        written[name] = list(values * cfg.latent_dim if len(values) == 1 else values)
    return {"_class_name": CLASS_NAME, **_FIXED, **written}


def wavelet_constants(cfg: WFVAEConfig) -> dict[str, np.ndarray]:
    """The Haar filters that Open-Sora Plan stores beside the parameters."""
    del cfg
    low, high = np.array([1, 1], np.float32), np.array([1, -1], np.float32)
    found = {}
    for name, h, w in (("aa", low, low), ("ad", high, low), ("da", low, high), ("dd", high, high)):
        plane = np.float32(wavelet.HAAR_2D) * np.einsum("h,w->hw", h, w)[None, None]
        found[f"encoder.wavelet_tranform_l1.{name}"] = plane
        found[f"decoder.inverse_wavelet_tranform_l1.{name}"] = plane
        for t, suffix in ((low, ""), (high, "_v")):
            band = {"aa": "h", "da": "g", "ad": "hh", "dd": "gh"}[name] + suffix
            cube = np.float32(wavelet.HAAR_3D) * np.einsum("t,h,w->thw", t, h, w)[None, None]
            found[f"encoder.wavelet_tranform_l2.{band}_conv.conv.weight"] = cube
            found[f"decoder.inverse_wavelet_tranform_l2.{band}"] = cube
    return found


def discriminator_rules(num_layers: int = 4, dropout: bool = False) -> tuple[Rule, ...]:
    """The table of `PatchDiscriminator3D`, from the keys `main.<index>.*` of a training state.

    Args:
      num_layers: see `DiscriminatorConfig`.
      dropout: whether the source has a dropout layer after each block (WF-VAE), which shifts the
        indices, or none (Open-Sora Plan).
    """
    span = 4 if dropout else 3  # convolution, batch norm, activation (, dropout)
    table = _layer("main.0", "conv_in", "conv3d")
    for n in range(num_layers):
        conv, norm = f"main.{2 + span * n}", f"main.{3 + span * n}"
        table.append(Rule(f"{conv}.weight", f"blocks/{n}/conv/kernel", "conv3d"))
        table.append(Rule(f"{norm}.weight", f"blocks/{n}/scale"))
        table.append(Rule(f"{norm}.bias", f"blocks/{n}/bias"))
    return (*table, *_layer(f"main.{2 + span * num_layers}", "conv_out", "conv3d"))


FORMATS = {
    CLASS_NAME: Format(
        WFVAE,
        "diffusion_pytorch_model.safetensors",
        read_config,
        write_config,
        rules,
        _IGNORED,
        wavelet_constants,
    )
}
