"""WF-VAE of Open-Sora Plan v1.3 with layer norm and trilinear upsampling. Layout b c t h w."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HAAR_3D = 0.3536
EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Widths and depths, named as in the configs of the reference."""

    latent_dim: int = 8
    base_channels: int = 128
    encoder_num_resblocks: int = 2
    encoder_energy_flow_hidden_size: int = 64
    decoder_num_resblocks: int = 2
    decoder_energy_flow_hidden_size: int = 128
    connect_res_layer_num: int = 2


# --- Wavelets ---


def haar_bank(dims: int) -> Tensor:
    """Filters (2**dims, 1, 2, ..., 2) in the order of the reference's bands."""
    sign = torch.tensor([[1.0, 1.0], [1.0, -1.0]])  # row: low, high
    if dims == 3:
        bank = torch.einsum("ai,bj,ck->abcijk", sign, sign, sign).reshape(8, 1, 2, 2, 2)
        return bank * HAAR_3D
    # 2-D bands run low, high along h, high along w, both: w is the slow index.
    return torch.einsum("aj,bi->abij", sign, sign).reshape(4, 1, 2, 2) * 0.5


def haar3d(x: Tensor) -> Tensor:
    """(b, c, 2k+1, h, w) -> (b, 8c, k+1, h/2, w/2), filter-major."""
    b, c = x.shape[:2]
    x = torch.cat([x[:, :, :1], x], dim=2)
    y = F.conv3d(x.flatten(0, 1)[:, None], haar_bank(3).to(x), stride=2)
    return y.unflatten(0, (b, c)).transpose(1, 2).flatten(1, 2)


def inverse_haar3d(x: Tensor) -> Tensor:
    """(b, 8c, k+1, h, w) -> (b, c, 2k+1, 2h, 2w)."""
    b, c = x.shape[0], x.shape[1] // 8
    x = x.unflatten(1, (8, c)).transpose(1, 2).flatten(0, 1)
    y = F.conv_transpose3d(x, haar_bank(3).to(x), stride=2)
    return y.unflatten(0, (b, c)).squeeze(2)[:, :, 1:]


def haar2d(x: Tensor) -> Tensor:
    """(b, c, t, h, w) -> (b, 4c, t, h/2, w/2), filter-major."""
    b, c, t = x.shape[:3]
    y = F.conv2d(x.flatten(0, 2)[:, None], haar_bank(2).to(x), stride=2)
    return y.unflatten(0, (b, c, t)).permute(0, 3, 1, 2, 4, 5).flatten(1, 2)


def inverse_haar2d(x: Tensor) -> Tensor:
    """(b, 4c, t, h, w) -> (b, c, t, 2h, 2w)."""
    b, c, t = x.shape[0], x.shape[1] // 4, x.shape[2]
    x = x.unflatten(1, (4, c)).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    y = F.conv_transpose2d(x, haar_bank(2).to(x), stride=2)
    return y.unflatten(0, (b, c, t)).squeeze(3)


# --- Layers ---


def per_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a 2-D layer to every frame."""
    b = x.shape[0]
    y = layer(x.transpose(1, 2).flatten(0, 1))
    return y.unflatten(0, (b, -1)).transpose(1, 2)


class Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return per_frame(super().forward, x)


class CausalConv3d(nn.Module):
    """Repeats the first frame in front; key `conv`."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1, padding: int = 1):
        super().__init__()
        self.front = kernel - 1
        self.conv = nn.Conv3d(cin, cout, kernel, stride, (0, padding, padding))

    def forward(self, x: Tensor) -> Tensor:
        if self.front:
            x = torch.cat([x[:, :, :1].expand(-1, -1, self.front, -1, -1), x], dim=2)
        return self.conv(x)


class Norm(nn.Module):
    """Layer norm over channels; key `norm`."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ResnetBlock2D(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = Norm(channels), Norm(channels)
        self.conv1 = Conv2d(channels, channels, 3, padding=1)
        self.conv2 = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class ResnetBlock3D(nn.Module):
    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.norm1, self.norm2 = Norm(cin), Norm(cout)
        self.conv1, self.conv2 = CausalConv3d(cin, cout), CausalConv3d(cout, cout)
        self.nin_shortcut = CausalConv3d(cin, cout, 1, padding=0) if cin != cout else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class FrameAttention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = Norm(channels)
        self.q, self.k, self.v, self.proj_out = (
            CausalConv3d(channels, channels, 1, padding=0) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, _, t, height, _ = x.shape
        h = self.norm(x)
        q, k, v = (
            f(h).movedim(1, -1).flatten(2, 3).flatten(0, 1)[:, None]
            for f in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v)[:, 0]  # (b t, n, c)
        y = y.unflatten(0, (b, t)).unflatten(2, (height, -1)).movedim(-1, 1)
        return x + self.proj_out(y)


class Downsample2D(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Downsample3D(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = CausalConv3d(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample2D(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))


class Upsample3D(nn.Module):
    """Frame 0 grows in space only; the others in time as well, without mixing with it."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = CausalConv3d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x[:, :, :1], x[:, :, 1:]
        parts = [F.interpolate(first, scale_factor=(1, 2, 2), mode="trilinear")]
        if rest.shape[2]:
            parts.append(F.interpolate(rest, scale_factor=(2, 2, 2), mode="trilinear"))
        return self.conv(torch.cat(parts, dim=2))


# --- Model ---


class Encoder(nn.Module):
    def __init__(self, s: Sizes):
        super().__init__()
        b, e, blocks = s.base_channels, s.encoder_energy_flow_hidden_size, s.encoder_num_resblocks
        self.down1 = nn.Sequential(
            Conv2d(24, b, 3, padding=1), *(ResnetBlock2D(b) for _ in range(blocks)), Downsample2D(b)
        )
        self.connect_l1 = Conv2d(12, e, 3, padding=1)
        self.connect_l2 = Conv2d(24, e, 3, padding=1)
        self.down2 = nn.Sequential(
            Conv2d(b + e, 2 * b, 3, padding=1),
            *(ResnetBlock3D(2 * b, 2 * b) for _ in range(blocks)),
            Downsample3D(2 * b),
        )
        self.mid = nn.Sequential(
            ResnetBlock3D(2 * b + e, 4 * b), FrameAttention(4 * b), ResnetBlock3D(4 * b, 4 * b)
        )
        self.norm_out = Norm(4 * b)
        self.conv_out = CausalConv3d(4 * b, 2 * s.latent_dim)

    def forward(self, video: Tensor) -> Tensor:
        bands = haar3d(video)
        l1 = haar2d(bands[:, :3])
        l2 = haar3d(l1[:, :3])
        h = self.down2(torch.cat([self.down1(bands), self.connect_l1(l1)], dim=1))
        h = self.mid(torch.cat([h, self.connect_l2(l2)], dim=1))
        return self.conv_out(F.silu(self.norm_out(h)))


class Decoder(nn.Module):
    def __init__(self, s: Sizes):
        super().__init__()
        b, d, blocks = s.base_channels, s.decoder_energy_flow_hidden_size, s.decoder_num_resblocks
        self.width = 4 * b

        def connect(cout: int) -> nn.Sequential:
            residual = (ResnetBlock3D(d, d) for _ in range(s.connect_res_layer_num))
            return nn.Sequential(*residual, Conv2d(d, cout, 3, padding=1))

        self.conv_in = CausalConv3d(s.latent_dim, 4 * b)
        self.mid = nn.Sequential(
            ResnetBlock3D(4 * b, 4 * b), FrameAttention(4 * b), ResnetBlock3D(4 * b, 4 * b + d)
        )
        self.up2 = nn.Sequential(
            *(ResnetBlock3D(4 * b, 4 * b) for _ in range(blocks)),
            Upsample3D(4 * b),
            ResnetBlock3D(4 * b, 4 * b + d),
        )
        self.up1 = nn.Sequential(
            *(ResnetBlock3D((2 if i else 4) * b, 2 * b) for i in range(blocks)),
            Upsample2D(2 * b),
            ResnetBlock3D(2 * b, 2 * b),
        )
        self.layer = nn.Sequential(ResnetBlock3D(2 * b, b), ResnetBlock3D(b, b))
        self.connect_l1, self.connect_l2 = connect(12), connect(24)
        self.norm_out = Norm(b)
        self.conv_out = Conv2d(b, 24, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        h = self.mid(self.conv_in(latent))
        l2 = inverse_haar3d(self.connect_l2(h[:, self.width :]))
        h = self.up2(h[:, : self.width])
        l1 = self.connect_l1(h[:, self.width :])
        l1 = inverse_haar2d(torch.cat([l1[:, :3] + l2, l1[:, 3:]], dim=1))
        h = self.layer(self.up1(h[:, : self.width]))
        bands = self.conv_out(F.silu(self.norm_out(h)))
        return inverse_haar3d(torch.cat([bands[:, :3] + l1, bands[:, 3:]], dim=1))


class WFVAE(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.encoder, self.decoder = Encoder(sizes), Decoder(sizes)

    def encode(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """(b, 3, 4k+1, h, w) -> mean and log-variance (b, l, k+1, h/8, w/8)."""
        mean, logvar = self.encoder(video).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode(self, latent: Tensor) -> Tensor:
        """(b, l, k+1, h, w) -> (b, 3, 4k+1, 8h, 8w)."""
        return self.decoder(latent)
