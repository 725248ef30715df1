"""DiT of Open-Sora Plan v1.3, text to video, dense or Skiparse. Layout b c t h w."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASKED = -10_000.0
PADDED = -9_980.0


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes, named as in the configs of the reference."""

    num_layers: int = 8
    num_attention_heads: int = 8
    attention_head_dim: int = 96
    in_channels: int = 8
    caption_channels: int = 4096
    patch_size: int = 2
    sparse1d: bool = False
    sparse_n: int = 1
    sparse_last: int = 30

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim


def timestep_sinusoid(t: Tensor, width: int = 256) -> Tensor:
    """(b,) -> (b, width): cosines, then sines."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=torch.float32) / half)
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def rope_tables(t: int, h: int, w: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin (t h w, head_dim): one third each for t, h and w."""
    third = head_dim // 3
    inverse = 10_000.0 ** (-torch.arange(0, third, 2, dtype=torch.float32) / third)
    grid = torch.meshgrid(torch.arange(t), torch.arange(h), torch.arange(w), indexing="ij")
    angles = [torch.cat([a := axis.flatten()[:, None] * inverse, a], dim=-1) for axis in grid]
    angle = torch.cat(angles, dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies the tables to (b, n, heads, d); halves are swapped inside every third."""
    parts = x.unflatten(-1, (3, 2, -1))
    swapped = torch.stack([-parts[..., 1, :], parts[..., 0, :]], dim=-2).flatten(-3)
    return x * cos[:, None] + swapped * sin[:, None]


def scatter(x: Tensor, n: int, group: bool) -> Tensor:
    """Skiparse: (b, s, ...) -> (n b, s / n, ...), sub-sequence major."""
    if group:
        x = x.unflatten(1, (-1, n, n)).movedim(2, 0)  # (m, b, s / n^2, n, ...)
        return x.flatten(2, 3).flatten(0, 1)
    return x.unflatten(1, (-1, n)).movedim(2, 0).flatten(0, 1)


def gather(x: Tensor, n: int, group: bool) -> Tensor:
    """The inverse of `scatter`."""
    x = x.unflatten(0, (n, -1))
    if group:
        return x.unflatten(2, (-1, n)).movedim(0, 2).flatten(1, 3)
    return x.movedim(0, 2).flatten(1, 2)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))  # (b, n, heads, d)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        bias = None if bias is None else bias[:, None, None].expand(-1, -1, q.shape[2], -1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return y.transpose(1, 2).flatten(2)

    def self_attention(
        self, x: Tensor, rope: tuple[Tensor, Tensor], bias: Tensor | None, n: int, group: bool
    ) -> Tensor:
        q, k, v = (self.split(f(x)) for f in (self.to_q, self.to_k, self.to_v))
        q, k = rotate(q, *rope), rotate(k, *rope)
        length = x.shape[1]
        if n > 1:
            extra = -length % (n * n)
            q, k, v = (scatter(F.pad(y, (0, 0, 0, 0, 0, extra)), n, group) for y in (q, k, v))
            if bias is not None:
                bias = scatter(F.pad(bias, (0, extra), value=PADDED), n, group)
        y = self.attend(q, k, v, bias)
        if n > 1:
            y = gather(y, n, group)[:, :length]
        return self.to_out[0](y)

    def cross_attention(self, x: Tensor, text: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(text)), self.split(self.to_v(text))
        return self.to_out[0](self.attend(q, k, v, bias))


class FeedForward(nn.Module):
    """Keys net.0.proj and net.2."""

    def __init__(self, width: int):
        super().__init__()
        first = nn.Module()
        first.proj = nn.Linear(width, 4 * width)
        self.net = nn.ModuleList([first, nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](F.gelu(self.net[0].proj(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, sizes: Sizes, index: int):
        super().__init__()
        width = sizes.width
        sparse = sizes.sparse1d and 1 < index < sizes.sparse_last
        self.n, self.group = (sizes.sparse_n if sparse else 1), index % 2 == 1
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.attn1 = Attention(width, sizes.num_attention_heads)
        self.attn2 = Attention(width, sizes.num_attention_heads)
        self.ff = FeedForward(width)

    def forward(self, x, text, rows, rope, video_bias, text_bias):
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (
            self.scale_shift_table + rows
        ).unsqueeze(2).unbind(1)  # fmt: skip
        a = modulated(x, shift_a, scale_a)
        x = x + gate_a * self.attn1.self_attention(a, rope, video_bias, self.n, self.group)
        x = x + self.attn2.cross_attention(x, text, text_bias)
        return x + gate_f * self.ff(modulated(x, shift_f, scale_f))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Pair(nn.Module):
    """Keys linear_1 and linear_2."""

    def __init__(self, cin: int, width: int, activation):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(cin, width), nn.Linear(width, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))


class DiT(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes, width, p = sizes, sizes.width, sizes.patch_size
        self.pos_embed, self.adaln_single = nn.Module(), nn.Module()
        self.pos_embed.proj = nn.Conv2d(sizes.in_channels, width, p, p)
        self.adaln_single.emb = nn.Module()
        self.adaln_single.emb.timestep_embedder = Pair(256, width, F.silu)
        self.adaln_single.linear = nn.Linear(width, 6 * width)
        self.caption_projection = Pair(
            sizes.caption_channels, width, lambda x: F.gelu(x, approximate="tanh")
        )
        self.transformer_blocks = nn.ModuleList([Block(sizes, i) for i in range(sizes.num_layers)])
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.proj_out = nn.Linear(width, p * p * sizes.in_channels)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        text_mask: Tensor,
        video_mask: Tensor | None = None,
    ) -> Tensor:
        """x (b, c, t, h, w), t (b,), text (b, l, d), masks of 0 and 1 -> like x."""
        b, _, frames, height, width = x.shape
        p = self.sizes.patch_size
        tokens = self.pos_embed.proj(x.transpose(1, 2).flatten(0, 1))  # (b t, d, h, w)
        tokens = tokens.flatten(2).transpose(1, 2).unflatten(0, (b, frames)).flatten(1, 2)
        e = self.adaln_single.emb.timestep_embedder(timestep_sinusoid(t))
        rows = self.adaln_single.linear(F.silu(e)).unflatten(-1, (6, -1))
        text = self.caption_projection(text)
        text_bias = (1.0 - text_mask.float()) * MASKED
        video_bias = None
        if video_mask is not None:
            pooled = F.max_pool2d(video_mask.float(), p)
            video_bias = (1.0 - pooled.flatten(1)) * MASKED
        rope = rope_tables(frames, height // p, width // p, self.sizes.attention_head_dim)
        for block in self.transformer_blocks:
            tokens = block(tokens, text, rows, rope, video_bias, text_bias)
        shift, scale = (self.scale_shift_table + e[:, None]).unsqueeze(2).unbind(1)
        tokens = self.proj_out(modulated(tokens, shift, scale))
        y = tokens.unflatten(-1, (p, p, -1)).unflatten(1, (frames, height // p, width // p))
        return y.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
