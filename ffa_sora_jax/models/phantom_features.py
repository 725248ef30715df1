"""A small network that knows phantom angiograms: features for evaluation where I3D is not at hand.

Every frame passes four convolutions of stride 2 and becomes one vector; three frames at a time are
then joined, twice, and the whole course becomes one vector, the feature. Three read-outs on it,
used in training only, make the feature hold what an angiogram is about: which diseases, which eye,
and whether the frames come in their order.

Axes: b batch, t frames, h w space, d features.
"""

import dataclasses

import jax
from einops import rearrange
from flax import nnx

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array

ORDERS = ("in order", "reversed", "shuffled")


@dataclasses.dataclass(frozen=True)
class PhantomFeaturesConfig:
    """Sizes; the defaults are those of the weights that ship (0.3 M parameters).

    Attributes:
      diseases: names of the diseases, in the order of the read-out.
      size: height and width of the frames, divisible by 16.
      frames: of a clip.
      widths: channels of the four convolutions.
      frame_width: of the vector of a frame.
      features: of the vector of a clip.
    """

    diseases: tuple[str, ...] = ()
    size: int = 64
    frames: int = 21
    widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    frame_width: int = 96
    features: int = 128


class PhantomFeatures(nnx.Module):
    """Features of grey clips (b, t, h, w, 1) in [-1, 1]."""

    def __init__(self, cfg: PhantomFeaturesConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        inputs = (1, *cfg.widths[:-1])
        self.convs = nnx.List([
            nnx.Conv(cin, cout, (3, 3), strides=2, padding=1, rngs=rngs)
            for cin, cout in zip(inputs, cfg.widths, strict=True)
        ])  # fmt: skip
        side, width = cfg.size // 16, cfg.frame_width
        self.frame = nnx.Linear(side * side * cfg.widths[-1], width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.joins = nnx.List([
            nnx.Conv(width, width, (3,), strides=2, padding=1, rngs=rngs) for _ in range(2)
        ])  # fmt: skip
        left = -(-cfg.frames // 4)
        self.clip = nnx.Linear(left * width, cfg.features, rngs=rngs)
        self.to_diseases = nnx.Linear(cfg.features, max(len(cfg.diseases), 1), rngs=rngs)
        self.to_eye = nnx.Linear(cfg.features, 1, rngs=rngs)
        self.to_order = nnx.Linear(cfg.features, len(ORDERS), rngs=rngs)

    def __call__(self, video: Array) -> Array:
        """(b, t, h, w, 1) -> (b, features)."""
        cfg = self.cfg
        types.check_shape(video, "b t h w c", "video", t=cfg.frames, h=cfg.size, w=cfg.size, c=1)
        x = rearrange(video, "b t h w c -> (b t) h w c")
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        x = self.frame(rearrange(x, "n h w c -> n (h w c)"))
        x = self.norm(rearrange(x, "(b t) d -> b t d", t=cfg.frames))
        for join in self.joins:
            x = jax.nn.relu(join(x))
        return self.clip(rearrange(x, "b t d -> b (t d)"))

    def read_out(self, features: Array) -> tuple[Array, Array, Array]:
        """Logits of diseases (b, k), of a left eye (b,), and of `ORDERS` (b, 3)."""
        x = jax.nn.relu(features)
        return self.to_diseases(x), self.to_eye(x)[..., 0], self.to_order(x)
