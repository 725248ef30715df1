"""Tables and config of `OpenSoraT2V_v1_3` and `OpenSoraInpaint_v1_3`."""

from collections.abc import Mapping
from typing import Any

from ffa_sora_jax.convert import config_json
from ffa_sora_jax.convert.engine import Format, Rule
from ffa_sora_jax.models.dit import DiT, DiTConfig, segments

T2V, INPAINT = "OpenSoraT2V_v1_3", "OpenSoraInpaint_v1_3"
_REQUIRED = (
    "num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "caption_channels",
)  # fmt: skip
_RENAMED = {"vae_scale_factor_t": "mask_channels"}
# The reference's defaults, where its config.json leaves a setting out and ours differ.
_ABSENT = {"sparse1d": False, "sparse_n": 2}
# Settings of the reference that have one working value.
_FIXED = {
    "patch_size_t": 1, "activation_fn": "gelu-approximate", "attention_bias": True,
    "only_cross_attention": False, "double_self_attention": False,
    "norm_elementwise_affine": False, "dropout": 0.0,
}  # fmt: skip
_BOOKKEEPING = (
    "cross_attention_dim", "num_frames", "sample_size", "sample_size_h", "sample_size_t",
    "sample_size_w", "skip_connection", "upcast_attention",
)  # fmt: skip
_EXTRAS = (
    "sparse_first", "sparse_last", "qk_norm", "norm", "absolute_position", "pooled_text",
    "zero_init",
)  # fmt: skip
_HIDDEN = ("inpaint", "remat", "dtype")  # said by the class name; how to compute, not what

# Source and target of the linear layers; {end} is weight and kernel, or bias twice.
_BLOCK_LAYERS = (
    ("{path}.to_out.0", "{path}/to_out"),
    ("ff.net.0.proj", "ff/proj"),
    ("ff.net.2", "ff/out"),
    ("{path}", "{path}"),
)
_LAYERS = (
    ("adaln_single.emb.timestep_embedder.linear_{i}", "adaln_single/linear_{i}"),
    ("pos_embed_masked_hidden_states.1", "pos_embed_masked_hidden_states/linear"),
    ("pos_embed_mask.1", "pos_embed_mask/linear"),
    ("{path}", "{path}"),
)
_PATCHES = (
    ("pos_embed.proj", "pos_embed"),
    ("pos_embed_masked_hidden_states.0.proj", "pos_embed_masked_hidden_states/proj"),
    ("pos_embed_mask.0.proj", "pos_embed_mask/proj"),
)


def rules(cfg: DiTConfig) -> tuple[Rule, ...]:
    """The table of one DiT; blocks are stacked as `models.dit.segments` says."""
    table = []
    for s, segment in enumerate(segments(cfg)):
        for m, layers in enumerate(segment.layers):
            table += _block_rules(f"blocks/{s}/{m}", layers)
    for source, target in _PATCHES:
        table += _layer_rules(source, target, "conv2d")
    for source, target in _LAYERS:
        table += _layer_rules(source, target, "linear")
    return (*table, Rule("scale_shift_table", "scale_shift_table"))


def _block_rules(target: str, layers: tuple[int, ...]) -> list[Rule]:
    source = "transformer_blocks.*"
    table = [Rule(f"{source}.scale_shift_table", f"{target}/scale_shift_table", layers=layers)]
    table.append(Rule(f"{source}.{{path}}.weight", f"{target}/{{path}}/scale", layers=layers))
    for below, above in _BLOCK_LAYERS:
        table += _layer_rules(f"{source}.{below}", f"{target}/{above}", "linear", layers)
    return table


def _layer_rules(
    source: str, target: str, how: str, layers: tuple[int, ...] | None = None
) -> list[Rule]:
    return [
        Rule(f"{source}.weight", f"{target}/kernel", how, layers),
        Rule(f"{source}.bias", f"{target}/bias", "same", layers),
    ]


def read_config(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> DiTConfig:
    """The config dataclass of a folder's config.json.

    Raises:
      ValueError: a key that is missing or unknown, or a setting that is not supported.
    """
    del shapes
    fields = config_json.read_fields(
        config, DiTConfig, required=_REQUIRED, renamed=_RENAMED, fixed=_FIXED,
        bookkeeping=_BOOKKEEPING, hidden=_HIDDEN,
    )  # fmt: skip
    cfg = DiTConfig(**{**_ABSENT, **fields, "inpaint": config["_class_name"] == INPAINT})
    if config.get("cross_attention_dim") not in (None, cfg.width):
        raise ValueError(
            f"cross_attention_dim={config['cross_attention_dim']} must be heads times head width, "
            f"{cfg.width}: the projected text has that width."
        )
    return cfg


def write_config(cfg: DiTConfig) -> dict[str, Any]:
    """The content of config.json; options beyond the reference only where they are set."""
    written = config_json.write_fields(cfg, renamed=_RENAMED, extras=_EXTRAS, hidden=_HIDDEN)
    if not cfg.inpaint:
        del written["vae_scale_factor_t"]
    return {
        **written, **_FIXED, "_class_name": INPAINT if cfg.inpaint else T2V,
        "out_channels": cfg.channels, "cross_attention_dim": cfg.width,
    }  # fmt: skip


FORMATS = {
    name: Format(DiT, "diffusion_pytorch_model.safetensors", read_config, write_config, rules)
    for name in (T2V, INPAINT)
}
