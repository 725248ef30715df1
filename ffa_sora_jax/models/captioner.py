"""BLIP's report generator (arXiv 2201.12086): a ViT that sees, a BERT decoder that writes.

    video (b t h w c) -> K pictures -> ViT of each -> tokens + frame embedding -> context (b m d)
    ids (b l)         -> BERT decoder, cross-attention to the context -> logits (b l v)

How a clip becomes pictures. `num_frames * stack` frames are taken evenly from the whole clip, first
and last included (the middle one where it is one). `stack` frames in a row share one picture as its
channels; with a stack of 1, grey frames are repeated to the colours the ViT expects. The tokens of
the K = `num_frames` pictures stand behind one another, each with a learned embedding of its picture
that starts at zero. One frame of one picture is therefore plain BLIP, weight for weight.

Axes: b batch, t frames, h w space, c channels, k pictures of a clip or beams of a search, n tokens
of one picture, m tokens of the context, l text tokens, d width, v vocabulary.
"""

import dataclasses
import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from flax import nnx

from ffa_sora_jax.common import names
from ffa_sora_jax.common.types import Array, check_shape
from ffa_sora_jax.models import bert, generation, ops

KeysValues: TypeAlias = tuple[Array, Array]

DTYPES = bert.DTYPES


@dataclasses.dataclass(frozen=True)
class BlipConfig:
    """Sizes of one captioner; the defaults are blip-image-captioning-base.

    Attributes:
      image_size: pixels per side of a picture; other videos are resized to it.
      patch_size: pixels per side of a patch; divides `image_size`.
      in_channels: channels of a picture.
      image_mean, image_std: by channel, of pixels in 0 .. 1; one number stands for all channels.
      num_frames: pictures per clip.
      stack: frames of a clip that share a picture as its channels; then `in_channels` is `stack`.
      vision_width, vision_layers, vision_heads, vision_mlp: of the ViT.
      vision_norm_eps: epsilon of its norms.
      vocab_size: tokens, those that begin and end a text included.
      width, layers, heads, mlp: of the decoder.
      max_positions: longest text.
      norm_eps: epsilon of the decoder's norms.
      bos_id: token before every text.
      eos_id: token behind every text.
      pad_id: token behind that.
      dtype: dtype of the operands of matrix products.
    """

    image_size: int = 384
    patch_size: int = 16
    in_channels: int = 3
    image_mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    num_frames: int = 1
    stack: int = 1
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    vision_mlp: int = 3072
    vision_norm_eps: float = 1e-5
    vocab_size: int = 30524
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    max_positions: int = 512
    norm_eps: float = 1e-12
    bos_id: int = 30522
    eos_id: int = 102
    pad_id: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        # JSON and command lines give lists where tuples are meant.
        for field in ("image_mean", "image_std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if self.dtype not in DTYPES:
            raise ValueError(names.unknown_name("dtype", self.dtype, DTYPES))
        for a, b in (
            ("image_size", "patch_size"), ("vision_width", "vision_heads"), ("width", "heads"),
        ):  # fmt: skip
            if getattr(self, a) % getattr(self, b):
                raise ValueError(
                    f"{a}={getattr(self, a)} is not a multiple of {b}={getattr(self, b)}."
                )
        if self.num_frames < 1 or self.stack < 1:
            raise ValueError(
                f"num_frames={self.num_frames} and stack={self.stack} must be at least 1."
            )
        if self.stack > 1 and self.in_channels != self.stack:
            raise ValueError(
                f"stack={self.stack} frames are the channels of a picture, in_channels is "
                f"{self.in_channels}; make them equal."
            )
        for field in ("image_mean", "image_std"):
            if len(getattr(self, field)) not in (1, self.in_channels):
                raise ValueError(
                    f"{field} has {len(getattr(self, field))} numbers; give one, or "
                    f"{self.in_channels} as in_channels says."
                )
        for field in ("bos_id", "eos_id", "pad_id"):
            if not 0 <= getattr(self, field) < self.vocab_size:
                raise ValueError(
                    f"{field}={getattr(self, field)} is no token of {self.vocab_size}."
                )

    @classmethod
    def tiny(cls, **changes: Any) -> "BlipConfig":
        """Two layers of width 32 on both sides, for tests."""
        sizes = dict(
            image_size=16, patch_size=8, vision_width=32, vision_layers=2, vision_heads=4,
            vision_mlp=48, vocab_size=64, width=24, layers=2, heads=3, mlp=40, max_positions=20,
            bos_id=62, eos_id=3,
        )  # fmt: skip
        return cls(**{**sizes, **changes})

    @property
    def text(self) -> bert.BertConfig:
        """The decoder as a BERT with cross-attention."""
        return bert.BertConfig(
            vocab_size=self.vocab_size, hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=self.mlp,
            max_position_embeddings=self.max_positions, type_vocab_size=0,
            layer_norm_eps=self.norm_eps, context_width=self.vision_width, dtype=self.dtype,
        )  # fmt: skip


def pick_frames(num_stored: int, num_picked: int) -> np.ndarray:
    """Which frames of a clip are looked at: evenly spread, the middle one where it is one."""
    if num_picked == 1:
        return np.array([(num_stored - 1) // 2])
    return np.round(np.linspace(0, num_stored - 1, num_picked)).astype(np.int64)


def sincos_positions(side: int, width: int) -> np.ndarray:
    """(1 + side * side, width) float32: sines and cosines of row and column, zero for the class.

    Wavelengths grow from a few patches to several pictures, in equal ratios.
    """
    quarter = width // 4
    rates = (4.0 * side) ** -(np.arange(quarter) / max(quarter, 1))
    angles = np.arange(side)[:, None] * rates  # (side, quarter)
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    rows = repeat(waves, "h e -> (h w) e", w=side)
    columns = repeat(waves, "w e -> (h w) e", h=side)
    table = np.zeros((1 + side**2, width), np.float32)
    table[1:, : 4 * quarter] = np.concatenate([rows, columns], axis=1)
    return table


class VisionAttention(nnx.Module):
    """Self-attention with one matrix for queries, keys and values."""

    def __init__(self, cfg: BlipConfig, *, rngs: nnx.Rngs):
        self.qkv = bert.dense(cfg.vision_width, 3 * cfg.vision_width, dtype=cfg.dtype, rngs=rngs)
        self.projection = bert.dense(cfg.vision_width, cfg.vision_width, dtype=cfg.dtype, rngs=rngs)
        self.heads = cfg.vision_heads

    def __call__(self, x: Array) -> Array:
        """(b, n, d) -> (b, n, d)."""
        q, k, v = rearrange(
            self.qkv(x), "b n (three heads e) -> three b n heads e", three=3, heads=self.heads
        )
        y = ops.attention(q, k, v)
        return self.projection(rearrange(y, "b n heads e -> b n (heads e)"))


class VisionLayer(nnx.Module):
    """Attention and feed-forward, each behind its norm."""

    def __init__(self, cfg: BlipConfig, *, rngs: nnx.Rngs):
        self.norm1 = _vision_norm(cfg, rngs)
        self.attention = VisionAttention(cfg, rngs=rngs)
        self.norm2 = _vision_norm(cfg, rngs)
        self.fc1 = bert.dense(cfg.vision_width, cfg.vision_mlp, dtype=cfg.dtype, rngs=rngs)
        self.fc2 = bert.dense(cfg.vision_mlp, cfg.vision_width, dtype=cfg.dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """(b, n, d) float32 -> (b, n, d) float32."""
        x = x + self.attention(self.norm1(x))
        y = jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False)
        return x + self.fc2(y)


class Patches(nnx.Module):
    """A convolution whose stride is its window, computed as the matrix product that it is."""

    def __init__(self, cfg: BlipConfig, *, rngs: nnx.Rngs):
        p, width = cfg.patch_size, cfg.vision_width
        normal = nnx.initializers.normal(bert.INIT_STD)
        self.kernel = nnx.Param(normal(rngs.params(), (p, p, cfg.in_channels, width)))
        self.bias = nnx.Param(jnp.zeros(width))
        self.dtype = cfg.dtype

    def __call__(self, pictures: Array) -> Array:
        """(b, h, w, c) -> (b, n, d), row by row."""
        p = self.kernel.shape[0]
        rows = rearrange(pictures, "b (h p) (w q) c -> b (h w) (p q c)", p=p, q=p)
        kernel = rearrange(self.kernel[...], "p q c d -> (p q c) d")
        return rows.astype(self.dtype) @ kernel.astype(self.dtype) + self.bias[...]


class Vision(nnx.Module):
    """ViT: pictures to tokens, a class token first."""

    def __init__(self, cfg: BlipConfig, *, rngs: nnx.Rngs):
        side, width = cfg.image_size // cfg.patch_size, cfg.vision_width
        normal = nnx.initializers.normal(bert.INIT_STD)
        self.patch = Patches(cfg, rngs=rngs)
        self.class_token = nnx.Param(normal(rngs.params(), (1, 1, width)))
        # As strong as the patches from the start: small random ones leave a model that is trained
        # from nothing blind to sides for a long time. Released weights bring their own.
        self.positions = nnx.Param(jnp.asarray(sincos_positions(side, width)[None]))
        keys = jax.random.split(rngs.params(), cfg.vision_layers)
        self.layers = jax.vmap(lambda key: VisionLayer(cfg, rngs=nnx.Rngs(key)))(keys)
        self.norm = _vision_norm(cfg, rngs)

    def __call__(self, pictures: Array) -> Array:
        """(b, h, w, c) normalised -> (b, n, d) float32."""
        x = self.patch(pictures).astype(jnp.float32)  # (b, n - 1, d)
        first = repeat(self.class_token[...], "1 1 d -> b 1 d", b=x.shape[0])
        x = jnp.concatenate([first, x], axis=1) + self.positions[...]  # (b, n, d)
        x = jax.lax.scan(lambda x, layer: (layer(x), None), x, self.layers)[0]
        return self.norm(x)


class Decoder(nnx.Module):
    """BERT with causal self-attention and cross-attention, and the head that names tokens."""

    def __init__(self, cfg: BlipConfig, *, rngs: nnx.Rngs):
        self.cfg = text = cfg.text
        self.embeddings = bert.Embeddings(text, rngs=rngs)
        self.layers = bert.stacked_layers(text, rngs=rngs)
        self.transform = bert.dense(cfg.width, cfg.width, dtype=cfg.dtype, rngs=rngs)
        self.transform_norm = bert.norm(text, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(cfg.vocab_size))

    def __call__(self, context: Array, ids: Array) -> Array:
        """(b, m, c) and (b, l) ids -> (b, l, v) float32 logits of the next tokens."""
        causal = bert.causal_bias(ids.shape[1])

        def body(x: Array, layer: bert.Layer) -> tuple[Array, None]:
            return layer(x, causal, context), None

        return self.head(jax.lax.scan(body, self.embeddings(ids), self.layers)[0])

    def head(self, x: Array) -> Array:
        """(..., d) -> (..., v) float32 logits; the word table is used backwards."""
        y = jax.nn.gelu(self.transform(x), approximate=False)
        y = self.transform_norm(y).astype(self.cfg.dtype)
        words = self.embeddings.words.embedding[...].astype(self.cfg.dtype)
        logits = jnp.einsum("...d,vd->...v", y, words, preferred_element_type=jnp.float32)
        return logits + self.bias[...]

    def look(self, context: Array) -> KeysValues:
        """Keys and values of a context (b, m, c): two arrays (layers, b, m, heads, e)."""

        def keys_values(_: None, layer: bert.Layer) -> tuple[None, KeysValues]:
            return None, layer.crossattention.keys_values(context)

        return jax.lax.scan(keys_values, None, self.layers)[1]

    def start(self, context: KeysValues, beams: int, length: int) -> KeysValues:
        """Room for keys and values of texts of `length` tokens, (layers, b, k, l, heads, e)."""
        layers, b, _, heads, width = context[0].shape
        empty = jnp.zeros((layers, b, beams, length, heads, width), context[0].dtype)
        return empty, empty

    def step(
        self, context: KeysValues, cache: KeysValues, ids: Array, position: Array
    ) -> tuple[Array, KeysValues]:
        """One token further.

        Args:
          context: what `look` returned; all beams of a clip share it.
          cache: what `start` or the step before returned.
          ids: (b, k) the tokens at `position`.
          position: () integer, the same for all rows.

        Returns:
          (b, k, v) float32 logits of the next tokens, and the cache with these tokens in it.
        """
        beams, length = ids.shape[1], cache[0].shape[3]
        later = jnp.arange(length) > position
        bias = jnp.where(later, jnp.finfo(jnp.float32).min, 0.0)[None, None, None]

        def body(x: Array, given: tuple[Any, ...]) -> tuple[Array, KeysValues]:
            layer, own, seen = given
            row = rearrange(x, "b k d -> (b k) 1 d")
            new = layer.attention.keys_values(row)
            k, v = (_put(old, y, position) for old, y in zip(own, new, strict=True))
            flat = (rearrange(y, "b k l h e -> (b k) l h e") for y in (k, v))
            x = rearrange(layer.attention.attend(row, *flat, bias), "(b k) 1 d -> b k d", k=beams)
            # Beams are queries beside one another here: they look at the same context.
            x = layer.crossattention.attend(x, *seen)
            return layer.feed_forward(x), (k, v)

        flat = rearrange(ids, "b k -> (b k) 1")
        x = rearrange(self.embeddings(flat, start=position), "(b k) 1 d -> b k d", k=beams)
        x, cache = jax.lax.scan(body, x, (self.layers, cache, context))
        return self.head(x), cache


class Blip(nnx.Module):
    """Video to the logits of a report."""

    def __init__(self, cfg: BlipConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        self.vision = Vision(cfg, rngs=rngs)
        self.decoder = Decoder(cfg, rngs=rngs)
        if cfg.num_frames > 1:
            self.frame_embedding = nnx.Param(jnp.zeros((cfg.num_frames, cfg.vision_width)))

    def __call__(self, video: Array, ids: Array) -> Array:
        """Logits of every next token, for training.

        Args:
          video: (b, t, h, w, c) in [-1, 1].
          ids: (b, l) integers, `bos_id` first.

        Returns:
          (b, l, v) float32; those at a token are of the token behind it.

        Raises:
          ValueError: the shapes do not fit, or the ids are not integers.
        """
        size = check_shape(video, "b t h w c", "video")
        check_shape(ids, "b l", "ids", b=size["b"])
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"ids have dtype {ids.dtype}; token ids are integers.")
        return self.decoder(self.encode(video), ids)

    def encode(self, video: Array) -> Array:
        """(b, t, h, w, c) in [-1, 1] -> (b, m, d) float32, what the decoder attends to."""
        pictures = self.pictures(video)  # (b, k, h, w, c)
        tokens = self.vision(rearrange(pictures, "b k h w c -> (b k) h w c"))
        tokens = rearrange(tokens, "(b k) n d -> b k n d", b=video.shape[0])
        if self.cfg.num_frames > 1:
            tokens = tokens + self.frame_embedding[...][:, None]
        return rearrange(tokens, "b k n d -> b (k n) d")

    def pictures(self, video: Array) -> Array:
        """The pictures of a clip as the ViT sees them.

        Args:
          video: (b, t, h, w, c) in [-1, 1]; c is 1, or what a picture has.

        Returns:
          (b, num_frames, image_size, image_size, in_channels) float32, normalised.

        Raises:
          ValueError: a number of channels that fits neither.
        """
        cfg = self.cfg
        size = check_shape(video, "b t h w c", "video")
        allowed = (1,) if cfg.stack > 1 else (1, cfg.in_channels)
        if size["c"] not in allowed:
            raise ValueError(
                f"video has {size['c']} channels; this model takes "
                f"{' or '.join(map(str, dict.fromkeys(allowed)))}."
            )
        video = video[:, pick_frames(size["t"], cfg.num_frames * cfg.stack)]
        x = rearrange(video.astype(jnp.float32), "b (k s) h w c -> b k h w (s c)", s=cfg.stack)
        side = cfg.image_size
        if x.shape[2:4] != (side, side):
            shape = (*x.shape[:2], side, side, x.shape[-1])
            # With antialiasing and without values beyond black and white, as image libraries do.
            x = jnp.clip(jax.image.resize(x, shape, "cubic"), -1.0, 1.0)
        x = jnp.broadcast_to(x, (*x.shape[:-1], cfg.in_channels))
        mean, std = np.asarray(cfg.image_mean), np.asarray(cfg.image_std)
        return ((x + 1.0) / 2.0 - mean) / std

    def search(
        self, video: Array, *, beams: int, length: int, length_penalty: float = 1.0,
        early_stopping: bool = True,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Reports by beam search; one beam is greedy.

        Args:
          video: (b, t, h, w, c) in [-1, 1].
          beams, length, length_penalty, early_stopping: see `generation.beam_search`.

        Returns:
          ids (b, beams, length) int32, best first, and their scores (b, beams).
        """
        context = self.decoder.look(self.encode(video))
        cache = self.decoder.start(context, beams, length)
        return generation.beam_search(
            functools.partial(self.decoder.step, context), cache, self._tokens,
            batch=video.shape[0], beams=beams, length=length, length_penalty=length_penalty,
            early_stopping=early_stopping,
        )  # fmt: skip

    def sample(
        self, video: Array, rng: jax.Array, *, samples: int, length: int,
        temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Reports drawn at random.

        Args:
          video: (b, t, h, w, c) in [-1, 1].
          rng: one key, or (b,) keys.
          samples, length, temperature, top_k, top_p: see `generation.sample`.

        Returns:
          ids (b, samples, length) int32, and their log-probabilities (b, samples).
        """
        context = self.decoder.look(self.encode(video))
        cache = self.decoder.start(context, samples, length)
        return generation.sample(
            functools.partial(self.decoder.step, context), cache, self._tokens, rng,
            batch=video.shape[0], samples=samples, length=length, temperature=temperature,
            top_k=top_k, top_p=top_p,
        )  # fmt: skip

    @property
    def _tokens(self) -> generation.Tokens:
        return generation.Tokens(self.cfg.bos_id, self.cfg.eos_id, self.cfg.pad_id)


def _vision_norm(cfg: BlipConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(
        cfg.vision_width, epsilon=cfg.vision_norm_eps, use_fast_variance=False,
        dtype=jnp.float32, param_dtype=jnp.float32, rngs=rngs,
    )  # fmt: skip


def _put(cache: Array, new: Array, position: Array) -> Array:
    """(b, k, l, heads, e) with (b k, 1, heads, e) at a position."""
    new = rearrange(new, "(b k) 1 h e -> b k 1 h e", k=cache.shape[1])
    return jax.lax.dynamic_update_slice_in_dim(cache, new, position, axis=2)
