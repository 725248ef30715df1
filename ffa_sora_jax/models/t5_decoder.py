"""The whole T5: the encoder of `models.t5`, a decoder and a head (arXiv 1910.10683).

    decoder ids (b n) -> the encoder's Embed
                      -> layers: x += o(softmax(q k + bias) v),  q k v of RMSNorm(x), no later token
                                 x += o(softmax(q k + mask) v),  k v of the encoder's output
                                 x += the encoder's feed-forward
                      -> RMSNorm -> head

Version 1.0 uses the table of embeddings as the head and scales what enters it by d ** -0.5;
versions from 1.1 on have a head of their own and do not scale.

Axes: b batch, l tokens of the encoder, n tokens of the decoder, d width.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ffa_sora_jax.common.types import Array, check_shape
from ffa_sora_jax.models import ops, t5
from ffa_sora_jax.models.t5 import T5Config, T5Encoder


@dataclasses.dataclass(frozen=True)
class T5DecoderConfig(T5Config):
    """Sizes of an encoder-decoder; the encoder's fields are those of `T5Config`.

    Attributes:
      num_decoder_layers: layers of the decoder.
      tied_head: the head is the table of embeddings.
      scale_decoder_outputs: whether d ** -0.5 scales what enters the head.
    """

    num_decoder_layers: int = 24
    tied_head: bool = False
    scale_decoder_outputs: bool = False

    @classmethod
    def tiny(cls, **changes: Any) -> "T5DecoderConfig":
        """Three layers and two layers of width 32 for tests."""
        sizes = dict(vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
        return cls(**{**sizes, "num_decoder_layers": 2, **changes})


class DecoderLayer(nnx.Module):
    """One layer of the decoder."""

    def __init__(self, cfg: T5Config, *, rngs: nnx.Rngs):
        self.attention_norm = t5.RMSNorm(cfg, rngs=rngs)
        self.attention = t5.Attention(cfg, rngs=rngs)
        self.crossattention_norm = t5.RMSNorm(cfg, rngs=rngs)
        self.crossattention = t5.Attention(cfg, rngs=rngs)
        self.ff_norm = t5.RMSNorm(cfg, rngs=rngs)
        self.ff = t5.FeedForward(cfg, rngs=rngs)

    def __call__(self, x: Array, bias: Array, context: Array, context_bias: Array | None) -> Array:
        """(b, n, d) float32, the encoder's output (b, l, d), and the biases -> (b, n, d)."""
        x = x + self.attention(self.attention_norm(x), bias)
        x = x + self.crossattention(self.crossattention_norm(x), context_bias, context)
        return x + self.ff(self.ff_norm(x))


class Decoder(nnx.Module):
    """The stack of decoder layers, without embeddings and head."""

    def __init__(self, cfg: T5DecoderConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        self.relative_attention_bias = t5.bias_table(cfg, rngs=rngs)
        keys = jax.random.split(rngs.params(), cfg.num_decoder_layers)
        self.layers = jax.vmap(lambda key: DecoderLayer(cfg, rngs=nnx.Rngs(key)))(keys)
        self.final_norm = t5.RMSNorm(cfg, rngs=rngs)

    def __call__(self, x: Array, context: Array, context_mask: Array | None) -> Array:
        """(b, n, d) embeddings, the encoder's (b, l, d) and its mask (b, l) -> (b, n, d)."""
        n = x.shape[1]
        bias = t5.position_bias(self.cfg, self.relative_attention_bias, n, bidirectional=False)
        later = np.triu(np.ones((n, n), bool), 1)
        bias = jnp.where(later, jnp.finfo(jnp.float32).min, bias)
        context_bias = None if context_mask is None else ops.mask_bias(context_mask)

        def step(x: Array, layer: DecoderLayer) -> tuple[Array, None]:
            return layer(x, bias, context, context_bias), None

        return self.final_norm(jax.lax.scan(step, x, self.layers)[0])


class T5(nnx.Module):
    """Token ids to logits of the next token."""

    def __init__(self, cfg: T5DecoderConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        self.encoder = T5Encoder(cfg, rngs=rngs)
        self.decoder = Decoder(cfg, rngs=rngs)
        if not cfg.tied_head:
            self.head = t5.dense(cfg.d_model, cfg.vocab_size, std=1.0, dtype=cfg.dtype, rngs=rngs)

    def __call__(self, ids: Array, mask: Array | None, decoder_ids: Array | None = None) -> Array:
        """Encodes, and decodes with given tokens before each ("teacher forcing").

        Args:
          ids: (b, l) integers.
          mask: (b, l), true on real tokens; None when all are real.
          decoder_ids: (b, n) integers; the first is the start token, which is that of padding.

        Returns:
          (b, n, vocab_size) float32 logits of the token after each; the encoder's output
          (b, l, d_model) where no `decoder_ids` are given.
        """
        hidden = self.encoder(ids, mask)
        return hidden if decoder_ids is None else self.decode(decoder_ids, hidden, mask)

    def decode(self, decoder_ids: Array, hidden: Array, mask: Array | None) -> Array:
        """(b, n) token ids, the encoder's output (b, l, d) and mask (b, l) -> (b, n, vocab)."""
        size = check_shape(hidden, "b l d", "hidden")
        check_shape(decoder_ids, "b n", "decoder_ids", b=size["b"])
        x = self.decoder(self.encoder.embed(decoder_ids), hidden, mask)
        if self.cfg.scale_decoder_outputs:
            x = x * self.cfg.d_model**-0.5
        if not self.cfg.tied_head:
            return self.head(x).astype(jnp.float32)
        table = self.encoder.shared.embedding[...].astype(self.cfg.dtype)
        return (x.astype(self.cfg.dtype) @ table.T).astype(jnp.float32)
