"""Feature networks at full width beside PyTorch, through their published file layouts."""

import jax
import numpy as np
import pytest
from einops import rearrange
from safetensors.numpy import load_file, save_file

from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert import i3d as i3d_files
from ffa_sora_jax.convert import inception as inception_files
from ffa_sora_jax.convert import lpips as lpips_files
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.i3d import I3D, I3DConfig
from ffa_sora_jax.models.inception import InceptionConfig, InceptionV3
from ffa_sora_jax.models.lpips import LPIPS, trunk_config
from tests.tolerances import TOL

torch = pytest.importorskip("torch")
torch_nets = pytest.importorskip("tests.models.torch_nets")


def shapes(rules, bundle):
    """Shape of every published key."""
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.int8(0), leaf.shape), bundle.abstract)
    return {key: value.shape for key, value in engine.to_state_dict(rules, zeros).items()}


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(np.float32)


def close(got, want):
    want = want.numpy()
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0.0, atol=TOL["parity_rel"] * scale)


@pytest.mark.parametrize("frames", [9, 16, 21])
def test_i3d(tmp_path, frames):
    cfg = I3DConfig(epsilon=1e-5 if frames == 9 else 1e-3)
    bundle = Bundle.create(I3D, cfg)
    state = torch_nets.randomised(shapes(i3d_files.rules(cfg), bundle))
    save_file(state, tmp_path / "i3d.safetensors")
    _, params = i3d_files.load_i3d(tmp_path / "i3d.safetensors", cfg)
    video = pixels(1, frames, 224, 224, 3)
    with torch.no_grad():
        x = torch.from_numpy(rearrange(video, "b t h w c -> b c t h w").copy())
        logits, pooled = torch_nets.i3d(state, x, cfg.epsilon)
    run = jax.jit(
        lambda p, x: (bundle.apply(p, x), bundle.apply(p, x, method="pooled"))
    )  # one compiled program: XLA shares the trunk
    got_logits, got_pooled = run(params, video)
    close(got_logits, logits)
    close(got_pooled, pooled.permute(0, 2, 1))


def test_inception(tmp_path):
    bundle = Bundle.create(InceptionV3, InceptionConfig())
    state = torch_nets.randomised(shapes(inception_files.RULES, bundle))
    torch.save({k: torch.from_numpy(v) for k, v in state.items()}, tmp_path / "inception.pth")
    _, params = inception_files.load_inception(tmp_path / "inception.pth")
    images = pixels(2, 299, 299, 3)
    with torch.no_grad():
        x = torch.from_numpy(rearrange(images, "n h w c -> n c h w").copy())
        features, scores = torch_nets.inception(state, x)
    run = jax.jit(lambda p, x: (bundle.apply(p, x), bundle.apply(p, x, method="classify")))
    got_features, got_scores = run(params, images)
    close(got_features, features)
    close(got_scores, scores)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips(tmp_path, net):
    bundle = Bundle.create(LPIPS, trunk_config(net))
    state = torch_nets.randomised(shapes(lpips_files.rules(bundle.cfg), bundle))
    trunk = {key: value for key, value in state.items() if key.startswith("features")}
    save_file(trunk, tmp_path / f"{lpips_files.FILES[net]}.safetensors")
    _, params = lpips_files.load_lpips(tmp_path, net)
    video, other = pixels(1, 2, 96, 80, 3), pixels(1, 2, 96, 80, 3, seed=1)
    with torch.no_grad():
        x, y = (
            torch.from_numpy(rearrange(v, "1 t h w c -> t c h w").copy()) for v in (video, other)
        )
        state = {**trunk, **load_file(lpips_files.released_heads(net))}
        distance, maps = torch_nets.lpips(state, net, x, y)
    close(jax.jit(bundle.apply)(params, video, other)[0], distance)
    run = jax.jit(lambda p, x, y: bundle.apply(p, x, y, method="maps"))
    close(run(params, video, other)[0], maps)
