"""VideoMAE v2: its positions, its size, its file, and its graph beside a plain numpy one."""

import functools
import math

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.convert import videomae as converter
from ffa_sora_jax.metrics.fvd_videomae import ContentDebiasedFVD
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.videomae import VideoMAE, VideoMAEConfig, sinusoids
from tests.tolerances import TOL

TINY = VideoMAEConfig(
    width=12, depth=2, heads=3, mlp=20, patch=4, tubelet=2, frames=4, size=8, num_classes=3
)


@functools.cache
def state_dict():
    """Random weights under the published names."""
    rng, d = np.random.default_rng(0), TINY.width
    shapes = {"patch_embed.proj.weight": (d, 3, 2, 4, 4), "patch_embed.proj.bias": (d,)}
    for n in range(TINY.depth):
        block = {
            "norm1.weight": (d,), "norm1.bias": (d,), "attn.qkv.weight": (3 * d, d),
            "attn.q_bias": (d,), "attn.v_bias": (d,), "attn.proj.weight": (d, d),
            "attn.proj.bias": (d,), "norm2.weight": (d,), "norm2.bias": (d,),
            "mlp.fc1.weight": (TINY.mlp, d), "mlp.fc1.bias": (TINY.mlp,),
            "mlp.fc2.weight": (d, TINY.mlp), "mlp.fc2.bias": (d,),
        }  # fmt: skip
        shapes |= {f"blocks.{n}.{key}": shape for key, shape in block.items()}
    shapes |= {"fc_norm.weight": (d,), "fc_norm.bias": (d,), "head.weight": (3, d)}
    return {k: (0.4 * rng.normal(size=s)).astype(np.float32) for k, s in shapes.items()}


def reference(video):
    """The same graph in float64 numpy, on (b, c, t, h, w) as it is published."""
    w = {k: v.astype(np.float64) for k, v in state_dict().items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x):
        return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))

    tokens = []
    for t in range(0, 4, 2):
        for i in range(0, 8, 4):
            for j in range(0, 8, 4):
                tube = video[:, :, t : t + 2, i : i + 4, j : j + 4]
                tokens.append(np.tensordot(tube, w["patch_embed.proj.weight"], ((1, 2, 3, 4),) * 2))
    x = np.stack(tokens, 1) + w["patch_embed.proj.bias"] + sinusoids(8, TINY.width)
    for n in range(TINY.depth):
        p, d, e = f"blocks.{n}", TINY.width, TINY.width // TINY.heads
        bias = np.concatenate([w[f"{p}.attn.q_bias"], np.zeros(d), w[f"{p}.attn.v_bias"]])
        qkv = norm(x, f"{p}.norm1") @ w[f"{p}.attn.qkv.weight"].T + bias
        q, k, v = qkv.reshape(*x.shape[:2], 3, TINY.heads, e).transpose(2, 0, 3, 1, 4)
        logits = np.exp(q @ k.swapaxes(-1, -2) / math.sqrt(e))
        y = (logits / logits.sum(-1, keepdims=True)) @ v
        y = y.transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + y @ w[f"{p}.attn.proj.weight"].T + w[f"{p}.attn.proj.bias"]
        y = gelu(norm(x, f"{p}.norm2") @ w[f"{p}.mlp.fc1.weight"].T + w[f"{p}.mlp.fc1.bias"])
        x = x + y @ w[f"{p}.mlp.fc2.weight"].T + w[f"{p}.mlp.fc2.bias"]
    return norm(x.mean(1), "fc_norm")


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    path = tmp_path_factory.mktemp("videomae") / "videomae_g.safetensors"
    save_file(state_dict(), path)
    return converter.load_videomae(path, TINY)[1]


def test_features_equal_a_plain_graph(params):
    video = np.random.default_rng(1).uniform(size=(2, 4, 8, 8, 3)).astype(np.float32)
    got = jax.jit(Bundle.create(VideoMAE, TINY).apply)(params, video)
    want = reference(video.transpose(0, 4, 1, 2, 3).astype(np.float64))
    np.testing.assert_allclose(got, want, atol=TOL["model"])


def test_the_published_wrapping_is_opened(tmp_path, params):
    torch = pytest.importorskip("torch")
    state = {key: torch.from_numpy(value) for key, value in state_dict().items()}
    torch.save({"module": state}, tmp_path / "vit_g.pth")
    got = converter.load_videomae(tmp_path / "vit_g.pth", TINY)[1]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), got, params))


def test_positions_by_hand():
    table = sinusoids(3, 4)
    want = [math.sin(2.0), math.cos(2.0), math.sin(0.02), math.cos(0.02)]
    np.testing.assert_allclose(table[2], want, atol=TOL["unit"])


def test_published_size():
    """ViT-g/14 without its classifier."""
    cfg = VideoMAEConfig()
    block = 4 * cfg.width**2 + 2 * cfg.width * cfg.mlp + cfg.mlp + 8 * cfg.width
    patch = 3 * 2 * 14 * 14 * cfg.width + cfg.width
    abstract = Bundle.create(VideoMAE, cfg).abstract
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract))
    assert count == 40 * block + patch + 2 * cfg.width
    assert 1.00e9 < count < 1.02e9


def test_metric_takes_16_frames_of_21_in_any_size(params):
    video = np.random.default_rng(1).uniform(-1.0, 1.0, (2, 9, 20, 24, 1)).astype(np.float32)
    metric = ContentDebiasedFVD(TINY)
    state = metric.update(metric.init(), Clip(video=video, exam=np.arange(2)), None, params)
    assert state.sample.rows.shape == (2, 12)
    a, b = np.random.default_rng(0).normal(size=(2, 6, 4))
    assert ContentDebiasedFVD().value(a, b) != ContentDebiasedFVD(ddof=1).value(a, b)


def test_sizes_that_are_not_whole_tubes_are_refused():
    with pytest.raises(ValueError, match="whole tubes"):
        VideoMAEConfig(frames=15)
    with pytest.raises(ValueError, match="multiple of 16"):
        VideoMAEConfig(width=100)
