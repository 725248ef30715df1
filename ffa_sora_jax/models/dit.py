"""The diffusion transformer of Open-Sora Plan v1.3, and its inpaint variant.

    x_t (b t h w c) -> PatchEmbed -> n tokens ----------------------------+
    t (b) -> sinusoid -> MLP = e ; rows = Linear(SiLU(e)), shared         |
    text (b l d') -> MLP                                                  v
        block i:  x += gate * SelfAttention(LN(x) * (1 + scale) + shift)      dense, or Skiparse
                  x += CrossAttention(x, text)                                no norm, no gate
                  x += gate * FFN(LN(x) * (1 + scale) + shift)
    x -> LN, shift and scale from e -> Linear -> unpatchify (b t h w c)

Every block adds its own table to the six shared rows (shift, scale, gate of attention, then of the
FFN). Layers sparse_first <= i < sparse_last use Skiparse: "single" where i is even, "group" where
it is odd. Equal neighbours are stacked and scanned; see `segments`.

Source: Open-Sora Plan v1.3.0; block after PixArt-alpha (arXiv 2310.00426), sinusoid and patches
after DiT (arXiv 2212.09748). Options beyond the reference are off by default.

Axes: b batch, t frames, h w latent pixels, c channels, n video tokens, l text tokens, d width.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from flax import nnx
from jax import Array

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import check_shape
from ffa_sora_jax.models import embeddings, ops, rope, skiparse

MASKED_BIAS = -10_000.0  # finite on purpose: a fully masked row must not turn into NaN
PADDED_BIAS = -9_980.0  # above MASKED_BIAS, as in the reference
FFN_RATIO = 4
NORMS = ("layernorm", "rmsnorm")
REMATS = ("dots", "block", "none")
DTYPES = ("float32", "bfloat16")

# What "dots" keeps for the backward pass: products with weights, and what attention returns, but
# not its logits, which would be most of the memory.
_KEEP_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(ops.ATTENTION_OUTPUT),
)


@dataclasses.dataclass(frozen=True)
class DiTConfig:
    """Sizes and options; the defaults are the released 2.7 B model.

    Attributes:
      num_layers: blocks.
      num_attention_heads: heads per attention; the width is heads times head width.
      attention_head_dim: width of a head, a multiple of 6.
      in_channels: latent channels of the noisy video.
      out_channels: channels of the prediction; None for in_channels.
      caption_channels: width of the text features.
      patch_size: latent pixels per token along h and w.
      interpolation_scale_t: by which positions along t are divided; _h and _w likewise.
      norm_eps: epsilon of the norms.
      sparse1d: use Skiparse in the layers sparse_first <= i < sparse_last.
      sparse_n: sub-sequences of Skiparse; 1 is dense.
      sparse_first: first sparse layer.
      sparse_last: first layer after the sparse ones; layers from here on are dense.
      inpaint: the input holds noisy latent, latent of the masked video, and mask, concatenated.
      mask_channels: channels of the mask of the inpaint variant.
      qk_norm: RMS norm with a learned scale on every query and key head.
      norm: "layernorm" or "rmsnorm" before self-attention, FFN and the last layer.
      absolute_position: add fixed sines and cosines of t, h and w to the tokens; beside RoPE's
        relative positions they teach a small model within few steps where everything belongs.
      pooled_text: add a projection of the mean text feature to the time embedding.
      zero_init: start as the identity: modulation, gates, cross-attention output and last layer
        at zero, other layers Xavier (arXiv 2212.09748). Else PyTorch's default initialisation.
      remat: what the backward pass recomputes: "dots" (all but matrix products: the fastest, and
        leaner than "none"), "block" (all of each block: the least memory), or "none".
      dtype: dtype of the operands of matrix products; parameters, residual stream, norms, logits
        and softmax are float32.
    """

    num_layers: int = 32
    num_attention_heads: int = 24
    attention_head_dim: int = 96
    in_channels: int = 8
    out_channels: int | None = None
    caption_channels: int = 4096
    patch_size: int = 2
    interpolation_scale_t: float = 1.0
    interpolation_scale_h: float = 1.0
    interpolation_scale_w: float = 1.0
    norm_eps: float = 1e-6
    sparse1d: bool = True
    sparse_n: int = 4
    sparse_first: int = 2
    sparse_last: int = 30
    inpaint: bool = False
    mask_channels: int = 4
    qk_norm: bool = False
    norm: str = "layernorm"
    absolute_position: bool = False
    pooled_text: bool = False
    zero_init: bool = False
    remat: str = "dots"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        rope.check_head_width(self.attention_head_dim)
        for field, allowed in (("norm", NORMS), ("remat", REMATS), ("dtype", DTYPES)):
            if getattr(self, field) not in allowed:
                raise ValueError(names.unknown_name(field, getattr(self, field), allowed))
        for field in ("num_layers", "num_attention_heads", "in_channels", "caption_channels",
                      "patch_size", "sparse_n"):  # fmt: skip
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1.")

    @property
    def width(self) -> int:
        """Width of the tokens."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def channels(self) -> int:
        """Channels of the prediction."""
        return self.in_channels if self.out_channels is None else self.out_channels

    @property
    def input_channels(self) -> int:
        """Channels of `x_t`."""
        return 2 * self.in_channels + self.mask_channels if self.inpaint else self.in_channels

    @classmethod
    def tiny(cls, **changes: Any) -> "DiTConfig":
        """Four layers of width 48 for tests."""
        sizes = dict(num_layers=4, num_attention_heads=2, attention_head_dim=24, in_channels=4,
                     caption_channels=40)  # fmt: skip
        return cls(**{**sizes, **changes})


@dataclasses.dataclass(frozen=True)
class Segment:
    """A run of layers that one loop executes.

    Attributes:
      kinds: attention of the members of one turn: ("dense",), or ("single", "group"), ...
      layers: for every member, the layers that it is in successive turns.
    """

    kinds: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]


def segments(cfg: DiTConfig) -> tuple[Segment, ...]:
    """Cuts the layers into runs: dense ones, sparse ones in pairs, and a sparse one left over.

    32 layers with Skiparse in 2 .. 29 give (dense: 0 1), (single: 2 4 .. 28, group: 3 5 .. 29),
    (dense: 30 31). Parameters lie in `blocks/<segment>/<member>/...`, stacked along a first axis.
    """
    kinds = [_kind(cfg, layer) for layer in range(cfg.num_layers)]
    runs: list[Segment] = []
    for is_dense, group in itertools.groupby(range(cfg.num_layers), lambda i: kinds[i] == "dense"):
        run = list(group)
        period = 1 if is_dense or len(run) == 1 else 2
        whole = len(run) // period * period
        runs.append(_segment(kinds, run[:whole], period))
        if run[whole:]:
            runs.append(_segment(kinds, run[whole:], 1))
    return tuple(runs)


class Attention(nnx.Module):
    """Multi-head attention with biases; self-attention without `context`."""

    def __init__(self, cfg: DiTConfig, *, rngs: nnx.Rngs, out_init: str):
        dense = functools.partial(embeddings.dense, dtype=cfg.dtype, rngs=rngs)
        layer = functools.partial(dense, cfg.width, cfg.width)
        self.to_q, self.to_k, self.to_v = (layer(init=_init(cfg)) for _ in range(3))
        self.to_out = layer(init=out_init)
        if cfg.qk_norm:
            self.norm_q, self.norm_k = HeadNorm(cfg, rngs=rngs), HeadNorm(cfg, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self, x: Array, context: Array | None = None, bias: Array | None = None,
        angles: tuple[Any, Any] | None = None, kind: str = "dense",
    ) -> Array:  # fmt: skip
        """Attends.

        Args:
          x: (b, n, d).
          context: (b, l, d) keys and values, None for x.
          bias: (b, keys) added to the logits of every query, or None.
          angles: rotary tables for queries and keys, or None.
          kind: "dense", "single" or "group".
        """
        heads, n = self.cfg.num_attention_heads, self.cfg.sparse_n
        context = x if context is None else context
        q, k, v = (
            rearrange(y, "b n (heads e) -> b n heads e", heads=heads)
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        if self.cfg.qk_norm:
            q, k = self.norm_q(q), self.norm_k(k)
        if angles is not None:
            q, k = rope.rotate(q, *angles), rope.rotate(k, *angles)
        if kind != "dense":
            q, k, v = (skiparse.split(y, n, kind) for y in (q, k, v))
            bias = None if bias is None else skiparse.split(bias, n, kind, fill=PADDED_BIAS)
        bias = None if bias is None else bias[:, None, None, :]  # (b, 1, 1, keys)
        y = ops.attention(q, k, v, bias)  # (b, n, heads, e)
        if kind != "dense":
            y = skiparse.join(y, n, kind, x.shape[1])
        return self.to_out(rearrange(y, "b n heads e -> b n (heads e)"))  # (b, n, d)


class HeadNorm(nnx.Module):
    """RMS norm of every head with one learned scale."""

    def __init__(self, cfg: DiTConfig, *, rngs: nnx.Rngs):
        del rngs
        self.scale = nnx.Param(jnp.ones(cfg.attention_head_dim))
        self.eps = cfg.norm_eps

    def __call__(self, x: Array) -> Array:
        """(b, n, heads, e) -> (b, n, heads, e)."""
        return (_rms_norm(x, self.eps) * self.scale[...]).astype(x.dtype)


class FeedForward(nnx.Module):
    """Linear, tanh-approximated GELU, linear; four times as wide inside."""

    def __init__(self, cfg: DiTConfig, *, rngs: nnx.Rngs):
        layer = functools.partial(embeddings.dense, init=_init(cfg), dtype=cfg.dtype, rngs=rngs)
        self.proj = layer(cfg.width, FFN_RATIO * cfg.width)
        self.out = layer(FFN_RATIO * cfg.width, cfg.width)

    def __call__(self, x: Array) -> Array:
        """(b, n, d) -> (b, n, d)."""
        return self.out(jax.nn.gelu(self.proj(x), approximate=True))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("rows", "text", "text_bias", "video_bias", "angles"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Context:
    """What every block reads.

    Attributes:
      rows: (b, 6, d) modulation by time.
      text: (b, l, d) projected text.
      text_bias: (b, l) added to the logits of text keys, or None.
      video_bias: (b, n) added to the logits of video keys, or None.
      angles: cosines and sines of the rotary positions, (n, 3, head width / 6) each.
    """

    rows: Array
    text: Array
    text_bias: Array | None
    video_bias: Array | None
    angles: tuple[Any, Any]


class Block(nnx.Module):
    """Self-attention, cross-attention and FFN, modulated by time."""

    def __init__(self, cfg: DiTConfig, *, rngs: nnx.Rngs):
        self.scale_shift_table = nnx.Param(_table(cfg, 6, rngs))
        self.attn1 = Attention(cfg, rngs=rngs, out_init=_init(cfg))
        self.attn2 = Attention(cfg, rngs=rngs, out_init=_last_init(cfg))
        self.ff = FeedForward(cfg, rngs=rngs)
        self.norm = functools.partial(_NORM[cfg.norm], eps=cfg.norm_eps)

    def __call__(self, x: Array, context: Context, kind: str) -> Array:
        """(b, n, d) -> (b, n, d)."""
        rows = self.scale_shift_table[...] + context.rows  # (b, 6, d)
        shift, scale, gate, shift_ff, scale_ff, gate_ff = rearrange(rows, "b r d -> r b 1 d")
        y = self.norm(x) * (1 + scale) + shift
        bias = context.video_bias
        x = x + gate * self.attn1(y, bias=bias, angles=context.angles, kind=kind)
        x = x + self.attn2(x, context.text, context.text_bias)
        y = self.norm(x) * (1 + scale_ff) + shift_ff
        return x + gate_ff * self.ff(y)


class DiT(nnx.Module):
    """Predicts noise, velocity or clean latent from a noisy latent, a time and a text."""

    def __init__(self, cfg: DiTConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        init: dict[str, Any] = dict(init=_init(cfg), dtype=cfg.dtype, rngs=rngs)
        sizes = (cfg.width, cfg.patch_size)
        self.pos_embed = embeddings.PatchEmbed(cfg.in_channels, *sizes, **init)
        if cfg.inpaint:
            embed = embeddings.ConditionEmbed
            self.pos_embed_masked_hidden_states = embed(cfg.in_channels, *sizes, **init)
            self.pos_embed_mask = embed(cfg.mask_channels, *sizes, **init)
        self.adaln_single = embeddings.AdaLNSingle(cfg.width, last_init=_last_init(cfg), **init)
        self.caption_projection = embeddings.CaptionProjection(
            cfg.caption_channels, cfg.width, **init
        )
        if cfg.pooled_text:
            self.pooled_projection = embeddings.dense(cfg.caption_channels, cfg.width, **init)
        self.blocks = nnx.List(
            nnx.List(_stacked(cfg, len(layers), rngs) for layers in segment.layers)
            for segment in segments(cfg)
        )
        self.scale_shift_table = nnx.Param(_table(cfg, 2, rngs))
        outputs = cfg.patch_size**2 * cfg.channels
        self.proj_out = embeddings.dense(
            cfg.width, outputs, init=_last_init(cfg), dtype=cfg.dtype, rngs=rngs
        )

    def __call__(
        self, x_t: Array, t: Array, text: Array, text_mask: Array | None,
        video_mask: Array | None = None,
    ) -> Array:  # fmt: skip
        """Predicts.

        Args:
          x_t: (b, t, h, w, c) noisy latent; the inpaint variant takes noisy latent, masked latent
            and mask concatenated, 2 c + 4 channels. h and w are multiples of the patch.
          t: (b,) time on the scale 0 .. 1000.
          text: (b, l, text width) features.
          text_mask: (b, l), true on real tokens; None when all are real.
          video_mask: (b, t, h, w), true on real latent pixels; None when all are real.

        Returns:
          (b, t, h, w, out_channels) float32.

        Raises:
          ValueError: a shape does not fit; the message names the legal ones.
        """
        grid = self._check(x_t, t, text, text_mask, video_mask)
        x = self._embed(x_t).astype(jnp.float32)  # (b, n, d)
        if self.cfg.absolute_position:
            x = x + embeddings.grid_sinusoid(grid, self.cfg.width)
        pooled = self._pooled(text, text_mask) if self.cfg.pooled_text else None
        embedded, rows = self.adaln_single(t, pooled)
        context = Context(
            rows=rows.astype(jnp.float32),
            text=self.caption_projection(text),
            text_bias=None if text_mask is None else _bias(text_mask),
            video_bias=self._video_bias(video_mask, x),
            angles=self._angles(grid),
        )
        for segment, blocks in zip(segments(self.cfg), self.blocks, strict=True):
            x = _run(segment, tuple(blocks), x, context, self.cfg.remat)
        table = self.scale_shift_table[...] + embedded[:, None].astype(jnp.float32)  # (b, 2, d)
        x = _NORM[self.cfg.norm](x, self.cfg.norm_eps) * (1 + table[:, 1:]) + table[:, :1]
        y = self.proj_out(x).astype(jnp.float32)  # (b, n, p q c)
        return embeddings.unpatchify(y, grid, self.cfg.patch_size)

    def _check(
        self, x_t: Array, t: Array, text: Array, text_mask: Array | None, video_mask: Array | None
    ) -> tuple[int, int, int]:
        """Checks the shapes; returns the grid of tokens along t, h, w."""
        cfg = self.cfg
        size = check_shape(x_t, "b t h w c", "x_t", c=cfg.input_channels)
        check_shape(t, "b", "t", b=size["b"])
        texts = check_shape(text, "b l d", "text", b=size["b"], d=cfg.caption_channels)
        if text_mask is not None:
            check_shape(text_mask, "b l", "text_mask", b=size["b"], l=texts["l"])
        if video_mask is not None:
            expected = {axis: size[axis] for axis in "bthw"}
            check_shape(video_mask, "b t h w", "video_mask", **expected)
        p = cfg.patch_size
        for axis in "hw":
            if size[axis] % p:
                low = size[axis] // p * p
                legal = f"{low} or {low + p}" if low else f"{p}"
                raise ValueError(
                    f"x_t has {axis}={size[axis]} latent pixels, which is not a multiple of the "
                    f"patch size {p}; use {axis}={legal}."
                )
        return size["t"], size["h"] // p, size["w"] // p

    def _embed(self, x_t: Array) -> Array:
        if not self.cfg.inpaint:
            return self.pos_embed(x_t)
        c = self.cfg.in_channels
        noisy, masked, mask = jnp.split(x_t, (c, 2 * c), axis=-1)
        extra = self.pos_embed_masked_hidden_states(masked) + self.pos_embed_mask(mask)
        return self.pos_embed(noisy) + extra

    def _pooled(self, text: Array, text_mask: Array | None) -> Array:
        """Projection of the mean over real text tokens; of zero where there are none."""
        if text_mask is None:
            return self.pooled_projection(text.mean(axis=1))
        weights = jnp.asarray(text_mask, jnp.float32)[..., None]  # (b, l, 1)
        mean = (text * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)
        return self.pooled_projection(mean)  # (b, d)

    def _video_bias(self, video_mask: Array | None, x: Array) -> Array | None:
        """(b, n) bias of video keys: a token is real where any of its pixels is."""
        if video_mask is not None:
            p = self.cfg.patch_size
            mask = jnp.asarray(video_mask, jnp.float32)
            pattern = "b t (h p) (w q) -> b (t h w)"
            return _bias(reduce(mask, pattern, "max", p=p, q=p))
        padded = x.shape[1] % self.cfg.sparse_n**2 and any(
            segment.kinds != ("dense",) for segment in segments(self.cfg)
        )
        return jnp.zeros(x.shape[:2]) if padded else None

    def _angles(self, grid: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        cfg = self.cfg
        scales = (cfg.interpolation_scale_t, cfg.interpolation_scale_h, cfg.interpolation_scale_w)
        return rope.tables(grid, cfg.attention_head_dim, scales)


# --- Stacks of blocks ---


def _kind(cfg: DiTConfig, layer: int) -> str:
    sparse = cfg.sparse1d and cfg.sparse_n > 1 and cfg.sparse_first <= layer < cfg.sparse_last
    return ("group" if layer % 2 else "single") if sparse else "dense"


def _segment(kinds: list[str], layers: list[int], period: int) -> Segment:
    members = tuple(tuple(layers[offset::period]) for offset in range(period))
    return Segment(tuple(kinds[member[0]] for member in members), members)


def _stacked(cfg: DiTConfig, count: int, rngs: nnx.Rngs) -> Block:
    """One `Block` whose parameters have a leading axis of `count` layers."""
    keys = jax.random.split(rngs.params(), count)
    return jax.vmap(lambda key: Block(cfg, rngs=nnx.Rngs(key)))(keys)


def _run(
    segment: Segment, blocks: tuple[Block, ...], x: Array, context: Context, remat: str
) -> Array:
    """Applies the layers of one segment; a run of up to two turns is written out."""

    def turn(x: Array, blocks: tuple[Block, ...], context: Context) -> Array:
        for kind, block in zip(segment.kinds, blocks, strict=True):
            x = block(x, context, kind)
        return x

    if remat != "none":
        turn = jax.checkpoint(
            turn, prevent_cse=False, policy=_KEEP_PRODUCTS if remat == "dots" else None
        )
    turns = len(segment.layers[0])
    if turns <= 2:
        for i in range(turns):
            x = turn(x, jax.tree.map(lambda leaf, i=i: leaf[i], blocks), context)
        return x
    return jax.lax.scan(lambda x, blocks: (turn(x, blocks, context), None), x, blocks)[0]


# --- Norms, biases, initial values ---


def _layer_norm(x: Array, eps: float) -> Array:
    """Layer norm without affine parameters, in float32."""
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps)


def _rms_norm(x: Array, eps: float) -> Array:
    """RMS norm without affine parameters, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps)


_NORM = {"layernorm": _layer_norm, "rmsnorm": _rms_norm}


def _bias(mask: Array) -> Array:
    """0 where the mask is one, MASKED_BIAS where it is zero."""
    return (1.0 - jnp.asarray(mask, jnp.float32)) * MASKED_BIAS


def _init(cfg: DiTConfig) -> str:
    return "xavier" if cfg.zero_init else "torch"


def _last_init(cfg: DiTConfig) -> str:
    return "zeros" if cfg.zero_init else "torch"


def _table(cfg: DiTConfig, rows: int, rngs: nnx.Rngs) -> Array:
    """Normal / sqrt(d); with `zero_init` the gates, rows 2 and 5 of 6, are zero."""
    table = jax.random.normal(rngs.params(), (rows, cfg.width)) * cfg.width**-0.5
    return table.at[2::3].set(0.0) if cfg.zero_init and rows == 6 else table
