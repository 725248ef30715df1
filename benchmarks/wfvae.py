"""WF-VAE of 147 M parameters: encoding and decoding one clip of 21 frames.

python -m benchmarks.wfvae make --weights DIR
python -m benchmarks.wfvae jax encode --weights DIR [--size 256] [--repeats 2] [--threads 2]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure

CLASS = "WFVAEModel"


def make(folder: Path, tiny: bool) -> None:
    """Saves random weights under the names of the reference."""
    import jax

    from ffa_sora_jax.convert import pretrained
    from ffa_sora_jax.models.bundle import Bundle
    from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig

    cfg = WFVAEConfig.tiny() if tiny else WFVAEConfig.v1_3()
    params = jax.jit(Bundle.create(WFVAE, cfg).init)(jax.random.key(0))
    pretrained.save_pretrained(pretrained.create(CLASS, cfg, params), folder)


def inputs(what: str, size: int, frames: int, latent_dim: int) -> np.ndarray:
    """Channels last: a clip of noise around grey, or a latent."""
    if what == "encode":
        return np.clip(0.5 * measure.random(1, 1, frames, size, size, 3), -1, 1)
    return measure.random(2, 1, (frames + 3) // 4, size // 8, size // 8, latent_dim)


def run_jax(what: str, folder: Path, size: int, frames: int, repeats: int) -> tuple[dict, dict]:
    import jax
    import jax.numpy as jnp

    from ffa_sora_jax.convert import pretrained

    vae = pretrained.from_pretrained(folder)
    x = jnp.asarray(inputs(what, size, frames, vae.cfg.latent_dim))
    call = vae.encode if what == "encode" else vae.decode
    result: dict[str, Any] = measure.timed(lambda: jax.block_until_ready(call(x)), repeats)
    out = call(x)[0] if what == "encode" else call(x)
    return result, {"out": np.asarray(out)}


def run_torch(what: str, folder: Path, size: int, frames: int, repeats: int) -> tuple[dict, dict]:
    import torch

    from benchmarks import torch_reference

    vae = torch_reference.load_wfvae(folder).eval()
    x = torch.from_numpy(inputs(what, size, frames, vae.sizes.latent_dim)).movedim(-1, 1)
    x = x.contiguous()
    call = vae.encode if what == "encode" else vae.decode
    with torch.inference_mode():
        result = measure.timed(lambda: call(x), repeats)
        out = call(x)[0] if what == "encode" else call(x)
    return result, {"out": out.movedim(1, -1).numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=["make", "jax", "torch"])
    parser.add_argument("what", nargs="?", choices=["encode", "decode"], default="encode")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--outputs", default=".")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    measure.limit_cores(args.threads)
    folder = Path(args.weights)
    if args.framework == "make":
        make(folder, args.tiny)
        return
    run = run_jax if args.framework == "jax" else run_torch
    result, outputs = run(args.what, folder, args.size, args.frames, args.repeats)
    result |= {"model": "wfvae", "what": args.what, "framework": args.framework}
    measure.report(result, outputs, args.outputs)


if __name__ == "__main__":
    main()
