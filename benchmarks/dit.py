"""DiT of 8 layers, 768 wide (heads of 96), 1,536 tokens, caption 512x4096: forward and backward.

    python -m benchmarks.dit make --weights DIR
    python -m benchmarks.dit jax forward --weights DIR [--repeats 3] [--threads 2]
    python -m benchmarks.dit torch backward --weights DIR

"backward" is forward and backward of the mean squared error, for all parameters.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks import measure

CLASS = "OpenSoraT2V_v1_3"
TOKENS_USED = 200  # real tokens of the caption; the rest is padding, as in practice


def make(folder: Path, tiny: bool, sparse: bool) -> None:
    """Saves random weights under the names of the reference."""
    import jax

    from ffa_sora_jax.convert import pretrained
    from ffa_sora_jax.models.bundle import Bundle
    from ffa_sora_jax.models.dit import DiT, DiTConfig

    sizes = {"sparse1d": sparse, "sparse_n": 4 if sparse else 1}
    if tiny:
        cfg = DiTConfig.tiny(in_channels=8, **sizes)
    else:
        cfg = DiTConfig(num_layers=8, num_attention_heads=8, attention_head_dim=96, **sizes)
    params = jax.jit(Bundle.create(DiT, cfg).init)(jax.random.key(0))
    pretrained.save_pretrained(pretrained.create(CLASS, cfg, params), folder)


def inputs(size: int, frames: int, caption_channels: int, length: int = 512) -> dict:
    """Channels last; one clip."""
    shape = (1, (frames + 3) // 4, size // 8, size // 8, 8)
    return {
        "x": measure.random(1, *shape),
        "target": measure.random(2, *shape),
        "t": np.array([500.0], np.float32),
        "text": measure.random(3, 1, length, caption_channels),
        "mask": np.arange(length)[None] < TOKENS_USED,
    }


def run_jax(what: str, folder: Path, size: int, frames: int, repeats: int) -> tuple[dict, dict]:
    import jax
    import jax.numpy as jnp

    from ffa_sora_jax.convert import pretrained

    dit = pretrained.from_pretrained(folder)
    data = {k: jnp.asarray(v) for k, v in inputs(size, frames, dit.cfg.caption_channels).items()}

    def forward(params, d):
        return dit.bundle.apply(params, d["x"], d["t"], d["text"], d["mask"])

    def loss(params, d):
        return ((forward(params, d) - d["target"]) ** 2).mean()

    call = jax.jit(forward if what == "forward" else jax.value_and_grad(loss))
    result = measure.timed(lambda: jax.block_until_ready(call(dit.params, data)), repeats)
    out = call(dit.params, data)
    if what == "forward":
        return result, {"out": np.asarray(out)}
    value, grads = out
    grad = np.asarray(grads["proj_out"]["kernel"]).T
    return result, {"loss": np.asarray(value), "proj_out": grad}


def run_torch(what: str, folder: Path, size: int, frames: int, repeats: int) -> tuple[dict, dict]:
    import torch

    from benchmarks import torch_reference

    dit = torch_reference.load_dit(folder)
    data = {
        k: torch.from_numpy(v) for k, v in inputs(size, frames, dit.sizes.caption_channels).items()
    }
    x, target = (data[k].movedim(-1, 1).contiguous() for k in ("x", "target"))

    def forward():
        return dit(x, data["t"], data["text"], data["mask"])

    def backward():
        dit.zero_grad(set_to_none=True)
        value = ((forward() - target) ** 2).mean()
        value.backward()
        return value

    if what == "forward":
        with torch.inference_mode():
            result = measure.timed(forward, repeats)
            return result, {"out": forward().movedim(1, -1).numpy()}
    result = measure.timed(backward, repeats)
    value = backward().detach().numpy()
    return result, {"loss": value, "proj_out": dit.proj_out.weight.grad.numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=["make", "jax", "torch"])
    parser.add_argument("what", nargs="?", choices=["forward", "backward"], default="forward")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--outputs", default=".")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--sparse", action="store_true")
    args = parser.parse_args()
    measure.limit_cores(args.threads)
    folder = Path(args.weights)
    if args.framework == "make":
        make(folder, args.tiny, args.sparse)
        return
    run = run_jax if args.framework == "jax" else run_torch
    result, outputs = run(args.what, folder, args.size, args.frames, args.repeats)
    result |= {"model": "dit", "what": args.what, "framework": args.framework}
    measure.report(result, outputs, args.outputs)


if __name__ == "__main__":
    main()
