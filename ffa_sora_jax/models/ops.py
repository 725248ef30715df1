"""The fastest formulation of a few costly operations on each platform.

XLA:CPU runs a 3-D convolution three to five times slower than the best CPU libraries, while its
2-D convolution and its matrix product are good. On CPU a 3-D convolution is therefore rewritten,
either as a sum of 2-D convolutions over the temporal taps (exact up to rounding), or as a
one-dimensional Winograd F(4, 3) transform along w around 2-D convolutions over (t, h) (half the
multiplications, rounding error of a few 1e-6 of the largest output).

Axes: b batch, t frames, h w space, i input channels, o output channels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from ffa_sora_jax.common import names

FORMS = ("auto", "exact", "native")
WINOGRAD_MIN_CHANNELS = 16
WINOGRAD_MIN_WIDTH = 8
ATTENTION_OUTPUT = "attention"  # its name for rematerialisation policies that keep it
HEADWISE_MIN_LOGITS = 256 * 256  # per head; below this the loop costs more than it saves
FRAME_PIXELS = 128 * 128  # frames of at least this size go one by one, see `by_frame`

Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def conv3d(
    x: Array,
    kernel: Array,
    *,
    strides: tuple[int, int, int] = (1, 1, 1),
    padding: Padding = ((0, 0), (0, 0), (0, 0)),
    form: str = "auto",
) -> jax.Array:
    """3-D cross-correlation.

    Args:
      x: (b, t, h, w, i).
      kernel: (kt, kh, kw, i, o).
      strides: along t, h, w.
      padding: zeros (before, after) along t, h, w.
      form: "auto" takes the fastest formulation of the default backend; "exact" leaves out
        Winograd, whose rounding error is larger; "native" is XLA's own convolution everywhere
        (the choice when a program is compiled on one platform for another).

    Returns:
      (b, t', h', w', o) in the dtype of `x`.
    """
    if form not in FORMS:
        raise ValueError(names.unknown_name("convolution form", form, FORMS))
    if form == "native" or jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )
    if form == "auto" and _winograd_pays(x, kernel, strides):
        return _winograd_w(x, kernel, padding)
    return _temporal_taps(x, kernel, strides, padding)


def conv2d(
    x: Array,
    kernel: Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
) -> jax.Array:
    """2-D cross-correlation of every frame.

    (b, t, h, w, i) and a kernel (kh, kw, i, o) -> (b, t, h', w', o).
    """

    def convolve(x: Array) -> jax.Array:
        frames = rearrange(x, "b t h w c -> (b t) h w c")
        y = jax.lax.conv_general_dilated(
            frames, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return rearrange(y, "(b t) h w c -> b t h w c", b=x.shape[0])

    return by_frame(convolve, x)


def by_frame(function: Callable[[Array], Array], x: Array) -> jax.Array:
    """`function` of clips, one frame after the other where frames are large and memory is scarce.

    On CPU a 2-D layer needs scratch space of several times its input; with one frame at a time
    that is small, and more of it stays in the cache. Elsewhere, and for small frames, one call.

    Args:
      function: (b, t, h, w, i) -> (b, t, h', w', o), without looking from frame to frame.
      x: (b, t, h, w, i).

    Returns:
      (b, t, h', w', o).
    """
    b, t, height, width = x.shape[:4]
    if jax.default_backend() != "cpu" or b * t == 1 or height * width < FRAME_PIXELS:
        return function(x)
    frames = rearrange(x, "b t h w c -> (b t) 1 1 h w c")
    return rearrange(jax.lax.map(function, frames), "(b t) 1 1 h w c -> b t h w c", b=b)


def attention(
    q: Array, k: Array, v: Array, bias: Array | None = None, *, scale: float | None = None
) -> jax.Array:
    """Softmax attention; logits, softmax and its sums in float32.

    On CPU long sequences go one head of one sample at a time: the logits of one head stay in the
    cache, which halves the time. Elsewhere `jax.nn.dot_product_attention` picks the kernel.

    Args:
      q: (b, n, heads, d) queries.
      k: (b, m, heads, d) keys.
      v: (b, m, heads, d) values.
      bias: added to the logits, broadcastable to (b, heads, n, m), or None.
      scale: of the products of queries and keys; None for 1 / sqrt(d).

    Returns:
      (b, n, heads, d) in the dtype of `v`.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if jax.default_backend() != "cpu":
        y = jax.nn.dot_product_attention(q, k, v, bias=bias, scale=scale)
        return checkpoint_name(y, ATTENTION_OUTPUT)
    q, k, v = (rearrange(x, "b n heads d -> b heads n d") for x in (q, k, v))
    if q.shape[2] * k.shape[2] < HEADWISE_MIN_LOGITS:
        y = _dense_attention(q * scale, k, v, bias)
    else:
        if bias is not None:
            bias = jnp.asarray(bias).reshape((1,) * (4 - bias.ndim) + bias.shape)
        y = _headwise_attention(q * scale, k, v, bias)
    return rearrange(y, "b heads n d -> b n heads d")


def mask_bias(mask: Array) -> Array:
    """(b, m) mask, true on real tokens -> (b, 1, 1, m) float32 bias for `attention`."""
    padded = jnp.asarray(mask)[:, None, None, :] == 0
    return jnp.where(padded, jnp.finfo(jnp.float32).min, 0.0)


def dot_general(
    x: Array, kernel: Array, dimension_numbers: jax.lax.DotDimensionNumbers, **options: Any
) -> jax.Array:
    """`jax.lax.dot_general` for `nnx.Linear`: (..., i) and (i, o) -> (..., o).

    On CPU the leading axes are merged first: the gradient of the kernel is then one product of
    two matrices instead of one over several axes, which saves a tenth of a training step.
    """
    if jax.default_backend() != "cpu":  # merging would undo a sharding of several axes
        return jax.lax.dot_general(x, kernel, dimension_numbers, **options)
    rows = x.reshape(-1, x.shape[-1])
    y = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _dense_attention(q: Array, k: Array, v: Array, bias: Array | None) -> jax.Array:
    """Attention over (..., n, d) queries and (..., m, d) keys and values, already scaled."""
    logits = _logits(q, k, bias)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    y = checkpoint_name(
        _product("...nm,...md->...nd", weights.astype(v.dtype), v), ATTENTION_OUTPUT
    )
    return (y / weights.sum(-1, keepdims=True)).astype(v.dtype)  # n d divisions, not n m


@jax.custom_vjp
def _headwise_attention(q: Array, k: Array, v: Array, bias: Array | None) -> jax.Array:
    """The same over (b, heads, n, d), one head of one sample after the other.

    `bias` has four axes. Gradients are written out: they compute the logits again head by head,
    and multiply in the order in which XLA:CPU is fast.
    """
    return _headwise_forward(q, k, v, bias)[0]


def _headwise_forward(
    q: Array, k: Array, v: Array, bias: Array | None
) -> tuple[jax.Array, tuple[Array | None, ...]]:
    def one(bias: Array | None, q: Array, k: Array, v: Array) -> tuple[jax.Array, jax.Array]:
        logits = _logits(q, k, bias)
        top = logits.max(-1, keepdims=True)
        weights = jnp.exp(logits - top)
        total = weights.sum(-1, keepdims=True)
        y = _product("nm,md->nd", weights.astype(v.dtype), v) / total
        return y.astype(v.dtype), top + jnp.log(total)

    y, log_total = checkpoint_name(_each_head(one, bias, q, k, v), ATTENTION_OUTPUT)
    return y, (q, k, v, bias, y, log_total)


def _headwise_backward(
    saved: tuple[Any, ...], dy: Array
) -> tuple[Array, Array, Array, Array | None]:
    q, k, v, bias, y, log_total = saved
    axes = () if bias is None else tuple(i for i in (0, 1) if bias.shape[2 + i] == 1)

    def one(
        bias: Array | None, q: Array, k: Array, v: Array, y: Array, log_total: Array, dy: Array
    ) -> tuple[jax.Array | None, ...]:
        logits = _logits(q, k, bias)
        weights = jnp.exp(logits - log_total)
        shift = jnp.sum(dy.astype(jnp.float32) * y, axis=-1, keepdims=True)
        dlogits = weights * (_product("nd,md->nm", dy, v) - shift)
        dbias = None if bias is None else dlogits.sum(axes, keepdims=True)
        # Behind a barrier the narrow factor is transposed, not the wide one: twice as fast.
        narrow_q, narrow_dy = jax.lax.optimization_barrier((q.T, dy.T))
        return (
            _product("nm,md->nd", dlogits.astype(k.dtype), k).astype(q.dtype),
            _product("dn,nm->dm", narrow_q, dlogits.astype(q.dtype)).astype(k.dtype),
            _product("dn,nm->dm", narrow_dy, weights.astype(v.dtype)).astype(v.dtype),
            dbias,
        )

    dq, dk, dv, dbias = _each_head(one, bias, q, k, v, y, log_total, dy)
    if bias is not None:
        shared = tuple(i for i in (0, 1) if bias.shape[i] == 1)
        dbias = dbias.sum(shared, keepdims=True).astype(bias.dtype)
    return dq, jnp.swapaxes(dk, 2, 3), jnp.swapaxes(dv, 2, 3), dbias


_headwise_attention.defvjp(_headwise_forward, _headwise_backward)


def _each_head(function: Callable[..., Any], bias: Array | None, *arrays: Array) -> Any:
    """Maps function(bias (n, m), *matrices) over the (b, heads) axes; broadcast biases stay so."""
    b, heads = arrays[0].shape[:2]

    def one(index: Array) -> Any:
        sample, head = index // heads, index % heads
        row = None
        if bias is not None:
            row = bias[jnp.minimum(sample, bias.shape[0] - 1), jnp.minimum(head, bias.shape[1] - 1)]
        return function(row, *(x[sample, head] for x in arrays))

    y = jax.lax.map(one, jnp.arange(b * heads))
    return jax.tree.map(lambda x: x.reshape(b, heads, *x.shape[1:]), y)


def _logits(q: Array, k: Array, bias: Array | None) -> jax.Array:
    """(..., n, m) products of queries and keys, float32, with the bias."""
    logits = _product("...nd,...md->...nm", q, k)
    return logits if bias is None else logits + bias


def _product(axes: str, x: Array, y: Array) -> jax.Array:
    """`einsum` that sums and returns in float32."""
    return jnp.einsum(axes, x, y, preferred_element_type=jnp.float32)


def _winograd_pays(x: Array, kernel: Array, strides: tuple[int, int, int]) -> bool:
    return (
        kernel.shape[2] == 3
        and strides == (1, 1, 1)
        and min(kernel.shape[3:]) >= WINOGRAD_MIN_CHANNELS
        and x.shape[3] >= WINOGRAD_MIN_WIDTH
    )


def _temporal_taps(
    x: Array, kernel: Array, strides: tuple[int, int, int], padding: Padding
) -> jax.Array:
    """Sum over the kernel's frames of 2-D convolutions with the frames folded into the batch."""
    if kernel.shape[:3] == (1, 1, 1) and strides == (1, 1, 1) and not any(map(any, padding)):
        return x @ kernel[0, 0, 0]
    x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
    taps = kernel.shape[0]
    frames = (x.shape[1] - taps) // strides[0] + 1
    parts = []
    for tap in range(taps):
        window = x[:, tap : tap + (frames - 1) * strides[0] + 1 : strides[0]]
        parts.append(conv2d(window, kernel[tap], strides=strides[1:], padding=padding[1:]))
    return sum(parts[1:], parts[0])


def _winograd_w(x: Array, kernel: Array, padding: Padding) -> jax.Array:
    """F(4, 3) along w: four outputs from six transformed inputs (Lavin and Gray, 2016)."""
    b, width = x.shape[0], x.shape[3] + sum(padding[2]) - 2
    tiles = -(-width // 4)
    fill = 4 * tiles - width
    before, after = padding[2]
    x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (before, after + fill), (0, 0)))
    kernels = _winograd_kernels(_not_before(x, kernel))
    products = [
        jax.lax.conv_general_dilated(
            rearrange(part, "b t h n c -> (b n) t h c"),
            taps,
            (1, 1),
            ((0, 0), padding[1]),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        for part, taps in zip(_winograd_inputs(x, tiles), kernels, strict=True)
    ]
    columns = jnp.stack(_winograd_outputs(products))  # (4, b n, t, h, o)
    y = rearrange(columns, "j (b n) t h c -> b t h (n j) c", b=b)
    return y[:, :, :, :width]


def _not_before(x: Array, kernel: Array) -> jax.Array:
    """The kernel, unchanged, made to depend on `x`.

    Else XLA transforms the kernels of all layers first and keeps them, twice the size of the model.
    The condition is never true, which XLA does not know; its optimization barriers go too early.
    """
    never = x[(0,) * x.ndim] > jnp.inf
    return kernel + jnp.where(never, 1.0, 0.0).astype(kernel.dtype)


def _winograd_inputs(x: Array, tiles: int) -> list[jax.Array]:
    d = [x[:, :, :, j : j + 4 * (tiles - 1) + 1 : 4] for j in range(6)]
    even, odd = d[4] - 4.0 * d[2], d[3] - 4.0 * d[1]
    even2, odd2 = d[4] - d[2], 2.0 * (d[3] - d[1])
    return [
        4.0 * d[0] - 5.0 * d[2] + d[4],
        even + odd,
        even - odd,
        even2 + odd2,
        even2 - odd2,
        4.0 * d[1] - 5.0 * d[3] + d[5],
    ]


def _winograd_kernels(kernel: Array) -> list[jax.Array]:
    a, b, c = kernel[:, :, 0], kernel[:, :, 1], kernel[:, :, 2]  # (kt, kh, i, o)
    outer, wide = a + c, a + 4.0 * c
    return [
        a / 4.0,
        -(outer + b) / 6.0,
        -(outer - b) / 6.0,
        (wide + 2.0 * b) / 24.0,
        (wide - 2.0 * b) / 24.0,
        c,
    ]


def _winograd_outputs(m: list[jax.Array]) -> list[jax.Array]:
    sum1, dif1, sum2, dif2 = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [
        m[0] + sum1 + sum2,
        dif1 + 2.0 * dif2,
        sum1 + 4.0 * sum2,
        dif1 + 8.0 * dif2 + m[5],
    ]
