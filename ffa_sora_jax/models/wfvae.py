"""WF-VAE: a causal video autoencoder with wavelet energy flows (arXiv 2411.17459).

    video --Haar3D--> coefficients --down1--> . --down2--> . --mid--> mean, log-variance
                           |                  ^            ^
                       Haar2D of LLL --------conv          |
                           +----Haar3D of its LL----------conv

The decoder mirrors it: part of its channels become the coefficients of each level.

    stage          frames      height, width   channels
    video          4 k + 1     H, W            in_channels
    coefficients   2 k + 1     H/2             8 in_channels
    after down1    2 k + 1     H/4             B
    after down2    k + 1       H/8             2 B
    latent         k + 1       H/8             latent_dim

Axes: b batch, t frames, h w space, c channels. Pixels are in [-1, 1].
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ffa_sora_jax.common import types
from ffa_sora_jax.common.types import Array
from ffa_sora_jax.models import layers, ops, wavelet
from ffa_sora_jax.models.layers import CausalConv3D, Conv2D, ResnetBlock2D, ResnetBlock3D, Stream

LOGVAR_RANGE = (-30.0, 20.0)
LINEAR_LOGVAR = -6.0  # start of the log-variance when PCA gives the mean unit variance


@dataclasses.dataclass(frozen=True)
class WFVAEConfig:
    """Sizes of one WF-VAE; the defaults are those of the reference implementation.

    Attributes:
      latent_dim: channels of the latent.
      base_channels: width B after the first level; 2 B and 4 B follow.
      encoder_num_resblocks, decoder_num_resblocks: residual blocks per level.
      encoder_energy_flow_hidden_size, decoder_energy_flow_hidden_size: width of the flows.
      connect_res_layer_num: residual blocks in each flow of the decoder.
      use_attention: attention inside each frame at the lowest resolution.
      norm_type: "layernorm" or "groupnorm".
      t_interpolation: "trilinear" or "nearest", in the decoder's upsampling of time.
      scale, shift: per latent channel, or one value for all; `normalize` is
        (latent - shift) * scale.
      in_channels: 3 for colour, 1 for grey.
      linear_path: adds a linear map of the full wavelet packet to mean and reconstruction, and
        starts all other output at zero, so that PCA can initialise the model (`pca_init`).
      conv_form: formulation of the 3-D convolutions, see `ops.conv3d`.
      encoder_dtype, decoder_dtype: dtype of convolution inputs.
    """

    latent_dim: int = 8
    base_channels: int = 128
    encoder_num_resblocks: int = 2
    encoder_energy_flow_hidden_size: int = 64
    decoder_num_resblocks: int = 2
    decoder_energy_flow_hidden_size: int = 128
    connect_res_layer_num: int = 1
    use_attention: bool = True
    norm_type: str = "groupnorm"
    t_interpolation: str = "nearest"
    scale: tuple[float, ...] = (0.18215,)
    shift: tuple[float, ...] = (0.0,)
    in_channels: int = 3
    linear_path: bool = False
    conv_form: str = "auto"
    encoder_dtype: str = "float32"
    decoder_dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in (
            "latent_dim", "base_channels", "in_channels", "encoder_energy_flow_hidden_size",
            "decoder_energy_flow_hidden_size",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("scale", "shift"):
            values = tuple(float(v) for v in getattr(self, name))
            if len(values) not in (1, self.latent_dim):
                raise ValueError(
                    f"{name} has {len(values)} values; give 1 or latent_dim={self.latent_dim}."
                )
            object.__setattr__(self, name, values)

    @classmethod
    def v1_3(cls) -> "WFVAEConfig":
        """The 8-channel model of Open-Sora Plan v1.3 (147 M parameters)."""
        return cls(norm_type="layernorm", t_interpolation="trilinear", connect_res_layer_num=2)

    @classmethod
    def small(cls, latent_dim: int = 4) -> "WFVAEConfig":
        """WF-VAE-S of the paper (146 M parameters with 4 channels)."""
        return cls(
            latent_dim=latent_dim, encoder_energy_flow_hidden_size=128, norm_type="layernorm",
            t_interpolation="trilinear",
        )  # fmt: skip

    @classmethod
    def large(cls) -> "WFVAEConfig":
        """WF-VAE-L of the paper, 16 channels (316 M parameters)."""
        return cls(
            latent_dim=16, base_channels=192, encoder_energy_flow_hidden_size=128,
            norm_type="layernorm", t_interpolation="trilinear",
        )  # fmt: skip

    @classmethod
    def tiny(cls) -> "WFVAEConfig":
        """A model for tests (0.5 M parameters)."""
        return cls(
            latent_dim=4, base_channels=8, encoder_num_resblocks=1, decoder_num_resblocks=1,
            encoder_energy_flow_hidden_size=6, decoder_energy_flow_hidden_size=8,
            norm_type="layernorm", t_interpolation="trilinear",
        )  # fmt: skip

    def layers(self, dtype: str) -> layers.LayerConfig:
        """What the layers of the encoder or decoder share."""
        return layers.LayerConfig(self.norm_type, self.conv_form, dtype)


def check_video(shape: tuple[int, ...], channels: int) -> None:
    """Raises ValueError unless the clip is (b, 4 k + 1, 8 m, 8 n, channels)."""
    _, frames, height, width, given = shape
    if given != channels:
        raise ValueError(f"Video has {given} channels; this model takes {channels}.")
    if frames % 4 != 1:
        below = max(1, (frames - 1) // 4 * 4 + 1)
        raise ValueError(
            f"Video has {frames} frames; WF-VAE takes 4k+1 (1, 5, 9, ...). "
            f"Nearest: {below} or {below + 4}."
        )
    for name, size in (("height", height), ("width", width)):
        if size < 8 or size % 8:
            below = max(8, size // 8 * 8)
            raise ValueError(
                f"Video {name} is {size}; WF-VAE takes multiples of 8. "
                f"Nearest: {below} or {below + 8}."
            )


class Encoder(nnx.Module):
    """Video to moments of the latent."""

    def __init__(self, cfg: WFVAEConfig, *, rngs: nnx.Rngs):
        shared, width = cfg.layers(cfg.encoder_dtype), cfg.base_channels
        flow, self.channels = cfg.encoder_energy_flow_hidden_size, cfg.in_channels
        blocks = range(cfg.encoder_num_resblocks)
        self.down1 = nnx.List([
            Conv2D(shared, 8 * self.channels, width, rngs=rngs),
            *(ResnetBlock2D(shared, width, rngs=rngs) for _ in blocks),
            layers.Downsample2D(shared, width, rngs=rngs),
        ])  # fmt: skip
        self.connect_l1 = Conv2D(shared, 4 * self.channels, flow, rngs=rngs)
        self.connect_l2 = Conv2D(shared, 8 * self.channels, flow, rngs=rngs)
        self.down2 = nnx.List([
            Conv2D(shared, width + flow, 2 * width, rngs=rngs),
            *(ResnetBlock3D(shared, 2 * width, 2 * width, rngs=rngs) for _ in blocks),
            layers.Downsample3D(shared, 2 * width, rngs=rngs),
        ])  # fmt: skip
        self.mid = _mid(shared, cfg, 2 * width + flow, 4 * width, 4 * width, rngs)
        self.norm_out = layers.Norm(shared, 4 * width)
        self.conv_out = CausalConv3D(shared, 4 * width, 2 * cfg.latent_dim, rngs=rngs)
        self.linear = _linear(cfg, wavelet.PACKET_BANDS * self.channels, cfg.latent_dim, rngs)
        if cfg.linear_path:
            _start_at_zero(self.conv_out)
            bias = jnp.zeros((2 * cfg.latent_dim,)).at[cfg.latent_dim :].set(LINEAR_LOGVAR)
            self.conv_out.bias = nnx.Param(bias)

    def __call__(self, video: Array, stream: Stream | None = None) -> tuple[Array, Array, Array]:
        """(b, 4 k + 1, h, w, c) -> moments (b, k + 1, h/8, w/8, 2 l), both flow coefficients."""
        first = stream is None or stream.first
        coefficients = wavelet.haar3d(video, first=first)  # (b, 2k+1, h/2, w/2, 8 c)
        l1 = wavelet.haar2d(coefficients[..., : self.channels])  # (b, 2k+1, h/4, w/4, 4 c)
        l2 = wavelet.haar3d(l1[..., : self.channels], first=first)  # (b, k+1, h/8, w/8, 8 c)
        x = ops.by_frame(self._down1, coefficients)  # (b, 2k+1, h/4, w/4, B)
        x = self.down2[0](jnp.concatenate([x, self.connect_l1(l1)], axis=-1))
        x = _run(self.down2[1:], x, stream)  # (b, k+1, h/8, w/8, 2B)
        x = jnp.concatenate([x, self.connect_l2(l2)], axis=-1)
        x = _run(self.mid, x, stream)  # (b, k+1, h/8, w/8, 4B)
        moments = self.conv_out(jax.nn.silu(self.norm_out(x)), stream).astype(jnp.float32)
        if self.linear is not None:
            bands = wavelet.haar3d(wavelet.haar2d(coefficients), first=first)
            mean, logvar = jnp.split(moments, 2, axis=-1)
            moments = jnp.concatenate([mean + self.linear(bands), logvar], axis=-1)
        return moments, l1, l2

    def _down1(self, coefficients: Array) -> Array:
        """The first level; none of its layers looks from frame to frame."""
        x = coefficients
        for layer in self.down1:
            x = layer(x)
        return x


class Decoded(NamedTuple):
    """What the decoder computes on its way: `video` is `finish(features, base)`."""

    video: Array
    l1_bands: Array
    l2_bands: Array
    features: Array
    base: Array


class Decoder(nnx.Module):
    """Latent to video."""

    def __init__(self, cfg: WFVAEConfig, *, rngs: nnx.Rngs):
        shared, width = cfg.layers(cfg.decoder_dtype), cfg.base_channels
        flow, self.channels = cfg.decoder_energy_flow_hidden_size, cfg.in_channels
        self.width, blocks = 4 * width, cfg.decoder_num_resblocks

        def block(cin: int, cout: int) -> ResnetBlock3D:
            return ResnetBlock3D(shared, cin, cout, rngs=rngs)

        def connect(cout: int) -> nnx.List:
            residual = [block(flow, flow) for _ in range(cfg.connect_res_layer_num)]
            return nnx.List([*residual, Conv2D(shared, flow, cout, rngs=rngs)])

        self.conv_in = CausalConv3D(shared, cfg.latent_dim, 4 * width, rngs=rngs)
        self.mid = _mid(shared, cfg, 4 * width, 4 * width, 4 * width + flow, rngs)
        self.up2 = nnx.List([
            *(block(4 * width, 4 * width) for _ in range(blocks)),
            layers.Upsample3D(
                shared, 4 * width, t_interpolation=cfg.t_interpolation, rngs=rngs
            ),
            block(4 * width, 4 * width + flow),
        ])  # fmt: skip
        self.up1 = nnx.List([
            *(block((2 if i else 4) * width, 2 * width) for i in range(blocks)),
            layers.Upsample2D(shared, 2 * width, rngs=rngs),
            block(2 * width, 2 * width),
        ])  # fmt: skip
        self.layer = nnx.List([block(2 * width, width), block(width, width)])
        self.connect_l1 = connect(4 * self.channels)
        self.connect_l2 = connect(8 * self.channels)
        self.norm_out = layers.Norm(shared, width)
        self.conv_out = Conv2D(shared, width, 8 * self.channels, rngs=rngs)
        self.linear = _linear(cfg, cfg.latent_dim, wavelet.PACKET_BANDS * self.channels, rngs)
        if cfg.linear_path:
            for layer in (self.connect_l1[-1], self.connect_l2[-1], self.conv_out):
                _start_at_zero(layer)

    def __call__(self, latent: Array, stream: Stream | None = None) -> Decoded:
        """(b, k + 1, h, w, l) -> video (b, 4 k + 1, 8 h, 8 w, c) and what losses need besides.

        With a stream, output that needs later latents is held back until they come.
        """
        first, c = stream is None or stream.first, self.channels
        x = _run(self.mid, self.conv_in(latent, stream), stream)  # (b, k+1, h, w, 4B + D)
        l2_bands = _float(_run(self.connect_l2, x[..., self.width :], stream))
        l2 = wavelet.inverse_haar3d(l2_bands, first=first)  # (b, 2k+1, 2h, 2w, c)
        x = _run(self.up2, x[..., : self.width], stream)  # (b, 2k+1, 2h, 2w, 4B + D)
        l1_bands = _float(_run(self.connect_l1, x[..., self.width :], stream))
        if stream is not None:
            l2 = stream.align(l2, l1_bands.shape[1])
        l1_bands = l1_bands.at[..., :c].add(l2)  # (b, 2k+1, 2h, 2w, 4 c)
        x = _run(self.up1, x[..., : self.width], stream)  # (b, 2k+1, 4h, 4w, 2B)
        x = _run(self.layer, x, stream)  # (b, 2k+1, 4h, 4w, B)
        features = jax.nn.silu(self.norm_out(x))
        base = jnp.pad(wavelet.inverse_haar2d(l1_bands), [(0, 0)] * 4 + [(0, 7 * c)])
        if self.linear is not None:
            planes = wavelet.inverse_haar3d(self.linear(_float(latent)), first=first)
            if stream is not None:
                planes = stream.align(planes, l1_bands.shape[1])
            base = base + wavelet.inverse_haar2d(planes)  # (b, 2k+1, 4h, 4w, 8 c)
        video = self.finish(features, base, first=first)
        return Decoded(video, l1_bands, l2_bands, features, base)

    def finish(self, features: Array, base: Array, *, first: bool = True) -> Array:
        """Last convolution and synthesis: (b, 2k+1, h/2, w/2, B) -> (b, 4k+1, h, w, c)."""
        return wavelet.inverse_haar3d(_float(self.conv_out(features)) + base, first=first)


class WFVAE(nnx.Module):
    """The autoencoder; frames 4 k + 1, height and width multiples of 8."""

    def __init__(self, cfg: WFVAEConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        self.encoder = Encoder(cfg, rngs=rngs)
        self.decoder = Decoder(cfg, rngs=rngs)

    def encode(self, video: Array) -> tuple[Array, Array]:
        """Posterior of the latent.

        Args:
          video: (b, 4 k + 1, h, w, c) in [-1, 1].

        Returns:
          Mean and log-variance, each (b, k + 1, h / 8, w / 8, latent_dim), float32; the
          log-variance is clamped to [-30, 20].

        Raises:
          ValueError: a size that the model cannot give back; the nearest legal ones are named.
        """
        return self.encode_with_flows(video)[:2]

    def decode(self, latent: Array) -> Array:
        """Raw latent (b, k + 1, h, w, latent_dim) -> video (b, 4 k + 1, 8 h, 8 w, c), float32.

        Pixels are not clamped; `denormalize` a latent first that was normalized.
        """
        return self.decode_with_flows(latent).video

    def encode_with_flows(self, video: Array) -> tuple[Array, Array, Array, Array]:
        """As `encode`, and the coefficients of both energy flows for the wavelet loss."""
        types.check_shape(video, "b t h w c", "video")
        check_video(video.shape, self.cfg.in_channels)
        moments, l1, l2 = self.encoder(jnp.asarray(video, jnp.float32))
        return *split_moments(moments), l1, l2

    def decode_with_flows(self, latent: Array) -> Decoded:
        """As `decode`, with the coefficients of both energy flows and the last features."""
        types.check_shape(latent, "b t h w c", "latent", c=self.cfg.latent_dim)
        return self.decoder(jnp.asarray(latent))

    def finish(self, features: Array, base: Array) -> Array:
        """Decoder's last step alone; the adversarial weight needs its gradient."""
        return self.decoder.finish(features, base)

    def encode_chunk(
        self, video: Array, carried: list[Array] | None, *, last: bool
    ) -> tuple[Array, list[Array]]:
        """One chunk of `encode`: moments of its latents, and what the next chunk needs.

        Args:
          video: 4 k + 1 frames in the first chunk, 4 k in the others.
          carried: None in the first chunk, else what the previous chunk returned.
          last: whether the clip ends here.
        """
        stream = Stream(carried, last=last)
        return self.encoder(jnp.asarray(video, jnp.float32), stream)[0], stream.carried

    def decode_chunk(
        self, latent: Array, carried: list[Array] | None, *, last: bool
    ) -> tuple[Array, list[Array]]:
        """One chunk of `decode`: the frames that are final, and what the next chunk needs."""
        stream = Stream(carried, last=last)
        return self.decoder(latent, stream).video, stream.carried

    def normalize(self, latent: Array) -> Array:
        """Raw latent to the range that diffusion models see: (latent - shift) * scale."""
        return (latent - jnp.asarray(self.cfg.shift)) * jnp.asarray(self.cfg.scale)

    def denormalize(self, latent: Array) -> Array:
        """Inverse of `normalize`."""
        return latent / jnp.asarray(self.cfg.scale) + jnp.asarray(self.cfg.shift)


def split_moments(moments: Array) -> tuple[Array, Array]:
    """Mean and clamped log-variance of (..., 2 l) moments."""
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(logvar, *LOGVAR_RANGE)


def _mid(
    shared: layers.LayerConfig, cfg: WFVAEConfig, cin: int, width: int, cout: int, rngs: nnx.Rngs
) -> nnx.List:
    attention = [layers.FrameAttention(shared, width, rngs=rngs)] if cfg.use_attention else []
    return nnx.List([
        ResnetBlock3D(shared, cin, width, rngs=rngs),
        *attention,
        ResnetBlock3D(shared, width, cout, rngs=rngs),
    ])  # fmt: skip


def _linear(cfg: WFVAEConfig, cin: int, cout: int, rngs: nnx.Rngs) -> nnx.Linear | None:
    return nnx.Linear(cin, cout, rngs=rngs) if cfg.linear_path else None


def _start_at_zero(layer: Conv2D | CausalConv3D) -> None:
    layer.kernel = nnx.Param(jnp.zeros_like(layer.kernel[...]))
    layer.bias = nnx.Param(jnp.zeros_like(layer.bias[...]))


def _run(blocks: Any, x: Array, stream: Stream | None) -> Array:
    for block in blocks:
        x = block(x) if isinstance(block, Conv2D) else block(x, stream)
    return x


def _float(x: Array) -> Array:
    return x.astype(jnp.float32)
