"""The feature networks once more, as PyTorch functions of a state dict: an independent graph."""

import math

import numpy as np
import torch
from torch.nn import functional as F

MIXED = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
I3D_POOLS = {
    "2b": ((1, 3, 3), (1, 2, 2)), "3b": ((1, 3, 3), (1, 2, 2)),
    "4b": ((3, 3, 3), (2, 2, 2)), "5b": ((2, 2, 2), (2, 2, 2)),
}  # fmt: skip


def randomised(shapes, seed=7):
    """Weights that keep activations of order one and leave no layer without effect."""
    rng = np.random.default_rng(seed)
    state = {}
    for key, shape in shapes.items():
        if key.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            value = rng.normal(size=shape) * math.sqrt(2.0 / math.prod(shape[1:]))
        elif key.endswith("bn.weight"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = 0.2 * rng.normal(size=shape)
        state[key] = value.astype(np.float32)
    return state


class Weights:
    """A state dict as tensors, with the operations that the networks share."""

    def __init__(self, state, epsilon):
        self.state = {key: torch.from_numpy(value) for key, value in state.items()}
        self.epsilon = epsilon

    def norm_relu(self, name, x):
        stats = (self.state[f"{name}.bn.{k}"] for k in ("running_mean", "running_var"))
        scale = (self.state[f"{name}.bn.{k}"] for k in ("weight", "bias"))
        return F.relu(F.batch_norm(x, *stats, *scale, eps=self.epsilon))


def same_pad(x, window, stride):
    pads = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(window), reversed(stride), strict=True):
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def i3d(state, x, epsilon):
    """(b, 3, t, 224, 224) -> class scores (b, 400), pooled features (b, 1024, t')."""
    w = Weights(state, epsilon)

    def unit(name, x, stride=1):
        kernel = w.state[f"{name}.conv3d.weight"]
        strides = (stride,) * 3
        return w.norm_relu(
            name, F.conv3d(same_pad(x, kernel.shape[2:], strides), kernel, stride=strides)
        )

    def pool(x, window, stride):
        return F.max_pool3d(same_pad(x, window, stride), window, stride)

    x = unit("Conv3d_1a_7x7", x, 2)
    x = unit("Conv3d_2b_1x1", pool(x, *I3D_POOLS["2b"]))
    x = unit("Conv3d_2c_3x3", x)
    for name in MIXED:
        x = pool(x, *I3D_POOLS[name]) if name in I3D_POOLS else x
        block = f"Mixed_{name}"
        x = torch.cat([
            unit(f"{block}.b0", x),
            unit(f"{block}.b1b", unit(f"{block}.b1a", x)),
            unit(f"{block}.b2b", unit(f"{block}.b2a", x)),
            unit(f"{block}.b3b", pool(x, (3, 3, 3), (1, 1, 1))),
        ], 1)  # fmt: skip
    pooled = F.avg_pool3d(x, (2, 7, 7), 1)
    logits = F.conv3d(pooled, w.state["logits.conv3d.weight"], w.state["logits.conv3d.bias"])
    return logits[..., 0, 0].mean(2), pooled[..., 0, 0]


def inception(state, x):
    """(n, 3, 299, 299) -> features (n, 2048), class scores (n, 1008)."""
    w = Weights(state, 1e-3)

    def conv(name, x, stride=1, padding=0):
        kernel = w.state[f"{name}.conv.weight"]
        return w.norm_relu(name, F.conv2d(x, kernel, stride=stride, padding=padding))

    def chain(block, x, *steps):
        for name, *how in steps:
            x = conv(f"{block}.{name}", x, **dict(zip(("stride", "padding"), how, strict=False)))
        return x

    def mean(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    row, column = (0, 3), (3, 0)
    x = conv("Conv2d_1a_3x3", x, 2)
    x = conv("Conv2d_2b_3x3", conv("Conv2d_2a_3x3", x), padding=1)
    x = conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", F.max_pool2d(x, 3, 2)))
    x = F.max_pool2d(x, 3, 2)
    two = (("branch3x3dbl_1",), ("branch3x3dbl_2", 1, 1))
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = torch.cat([
            chain(block, x, ("branch1x1",)),
            chain(block, x, ("branch5x5_1",), ("branch5x5_2", 1, 2)),
            chain(block, x, *two, ("branch3x3dbl_3", 1, 1)),
            chain(block, mean(x), ("branch_pool",)),
        ], 1)  # fmt: skip
    x = torch.cat([
        chain("Mixed_6a", x, ("branch3x3", 2)),
        chain("Mixed_6a", x, *two, ("branch3x3dbl_3", 2)),
        F.max_pool2d(x, 3, 2),
    ], 1)  # fmt: skip
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        double = [(f"branch7x7dbl_{n}", 1, row if n % 2 else column) for n in range(2, 6)]
        x = torch.cat([
            chain(block, x, ("branch1x1",)),
            chain(block, x, ("branch7x7_1",), ("branch7x7_2", 1, row), ("branch7x7_3", 1, column)),
            chain(block, x, ("branch7x7dbl_1",), *double),
            chain(block, mean(x), ("branch_pool",)),
        ], 1)  # fmt: skip
    seven = [(f"branch7x7x3_{n}", 1, p) for n, p in ((1, 0), (2, row), (3, column))]
    x = torch.cat([
        chain("Mixed_7a", x, ("branch3x3_1",), ("branch3x3_2", 2)),
        chain("Mixed_7a", x, *seven, ("branch7x7x3_4", 2)),
        F.max_pool2d(x, 3, 2),
    ], 1)  # fmt: skip
    for block, pool in ("Mixed_7b", mean), ("Mixed_7c", lambda x: F.max_pool2d(x, 3, 1, 1)):
        three = chain(block, x, ("branch3x3_1",))
        double = chain(block, x, *two)
        x = torch.cat([
            chain(block, x, ("branch1x1",)),
            chain(block, three, ("branch3x3_2a", 1, (0, 1))),
            chain(block, three, ("branch3x3_2b", 1, (1, 0))),
            chain(block, double, ("branch3x3dbl_3a", 1, (0, 1))),
            chain(block, double, ("branch3x3dbl_3b", 1, (1, 0))),
            chain(block, pool(x), ("branch_pool",)),
        ], 1)  # fmt: skip
    features = x.mean((2, 3))
    return features, features @ w.state["fc.weight"].T + w.state["fc.bias"]


def lpips(state, net, x, y):
    """(n, 3, h, w) in [-1, 1], twice -> (n,) and maps (n, h, w)."""
    weights = {key: torch.from_numpy(value) for key, value in state.items()}
    layers = {
        "alex": "0 tap max 3 tap max 6 tap 8 tap 10 tap",
        "vgg": "0 2 tap max 5 7 tap max 10 12 14 tap max 17 19 21 tap max 24 26 28 tap",
    }[net].split()
    window, how = (3, {"0": (4, 2), "3": (1, 2)}) if net == "alex" else (2, {})

    def taps(x):
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (
            (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))  # fmt: skip
        x, found = (x - shift) / scale, []
        for layer in layers:
            if layer == "tap":
                found.append(x)
            elif layer == "max":
                x = F.max_pool2d(x, window, 2)
            else:
                stride, padding = how.get(layer, (1, 1))
                kernel, bias = (weights[f"features.{layer}.{k}"] for k in ("weight", "bias"))
                x = F.relu(F.conv2d(x, kernel, bias, stride, padding))
        return found

    total, total_map = 0.0, 0.0
    for k, (f, g) in enumerate(zip(taps(x), taps(y), strict=True)):
        f, g = (v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (f, g))
        distance = F.conv2d((f - g).square(), weights[f"lin{k}.model.1.weight"])
        total = total + distance.mean((1, 2, 3))
        size = x.shape[2:]
        total_map = total_map + F.interpolate(distance, size, mode="bilinear", align_corners=False)
    return total, total_map[:, 0]
