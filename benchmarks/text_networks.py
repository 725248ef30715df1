"""The text networks of the metrics at their published widths beside PyTorch: difference and time.

    python -m benchmarks.text_networks [--only roberta-large] [--repeats 2] [--quick]

Random weights go from PyTorch's classes through a model folder into ours, so that the converters
are part of the comparison. Differences are relative to the largest value of the output.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure

TOKENS, ANSWER, IMAGES = 128, 4, 4


def bert(torch: Any, transformers: Any, family: str, sizes: dict) -> tuple[Any, Callable, tuple]:
    """The model, its call, and what both sides are given."""
    model = getattr(transformers, f"{family}Model")(
        getattr(transformers, f"{family}Config")(**sizes), add_pooling_layer=False
    )
    ids = np.random.default_rng(0).integers(3, 1000, (2, TOKENS))
    mask = np.arange(TOKENS)[None] < np.array([[TOKENS], [TOKENS // 2]])
    ids = np.where(mask, ids, model.config.pad_token_id)

    def call() -> np.ndarray:
        out = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state
        return out.numpy() * mask[..., None]

    return model, call, (ids, mask)


def clip(torch: Any, transformers: Any, family: str, sizes: dict) -> tuple[Any, Callable, tuple]:
    """The same for CLIP; the value is the similarity of images and texts."""
    model = transformers.CLIPModel(transformers.CLIPConfig(**sizes))
    side, texts = model.config.vision_config.image_size, model.config.text_config
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(IMAGES, side, side, 3)).astype(np.float32)
    ids = rng.integers(3, 1000, (2, texts.max_position_embeddings))
    ids[:, -1] = texts.eos_token_id

    def call() -> np.ndarray:
        channels_first = torch.tensor(pixels).permute(0, 3, 1, 2)
        return model(torch.tensor(ids), channels_first).logits_per_image.numpy()

    return model, call, (pixels, ids)


def t5(torch: Any, transformers: Any, family: str, sizes: dict) -> tuple[Any, Callable, tuple]:
    """The same for T5; the values are the logits of an answer."""
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))
    head = torch.randn(model.config.vocab_size, model.config.d_model)
    model.lm_head.weight = torch.nn.Parameter(head)
    model.config.tie_word_embeddings = False
    rng = np.random.default_rng(0)
    ids, answer = rng.integers(3, 1000, (2, TOKENS)), rng.integers(3, 1000, (2, ANSWER))
    mask = np.arange(TOKENS)[None] < np.array([[TOKENS], [TOKENS // 2]])

    def call() -> np.ndarray:
        out = model(
            torch.tensor(ids), attention_mask=torch.tensor(mask),
            decoder_input_ids=torch.tensor(answer),
        )  # fmt: skip
        return out.logits.numpy()

    return model, call, (ids, mask, answer)


_LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16)
NETWORKS = {
    "bert-base-chinese": (bert, "Bert", dict(vocab_size=21128)),
    "roberta-large": (bert, "Roberta", dict(
        **_LARGE, intermediate_size=4096, vocab_size=50265, max_position_embeddings=514,
        type_vocab_size=1, layer_norm_eps=1e-5,
    )),
    "clip-vit-large-patch14": (clip, "CLIP", dict(
        projection_dim=768,
        vision_config=dict(**_LARGE, intermediate_size=4096, patch_size=14),
        text_config=dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
    )),
    "flan-t5-base": (t5, "T5", dict(
        d_model=768, d_ff=2048, num_layers=12, num_heads=12, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )),
}  # fmt: skip
_QUICK = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
QUICK = {
    "bert-base-chinese": dict(**_QUICK, vocab_size=1000),
    "roberta-large": dict(**_QUICK, vocab_size=1000),
    "clip-vit-large-patch14": dict(vision_config=_QUICK, text_config=_QUICK),
    "flan-t5-base": dict(d_model=64, d_ff=96, num_layers=2, num_heads=4, vocab_size=1000),
}


def compare(name: str, repeats: int, quick: bool) -> dict[str, float]:
    """Relative difference, and seconds of the best call of both sides."""
    import jax
    import torch
    import transformers

    from ffa_sora_jax.convert.pretrained import from_pretrained

    jax.config.update("jax_default_matmul_precision", "highest")
    torch.manual_seed(0)
    make, family, sizes = NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        model, call, given = make(
            torch, transformers, family, sizes | (QUICK[name] if quick else {})
        )
        model = model.eval()
        model.save_pretrained(folder)
        ours = from_pretrained(Path(folder))
    with torch.no_grad():
        expected = call()
        theirs_s = min(measure.timed(call, repeats)["wall_s"])
    found = np.asarray(ours(*given))
    if found.shape[:2] == given[-1].shape and given[-1].dtype == bool:
        found = found * given[-1][..., None]  # rows of padding differ, and nobody reads them
    ours_s = min(measure.timed(lambda: jax.block_until_ready(ours(*given)), repeats)["wall_s"])
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    return {"difference": difference, "jax_s": ours_s, "torch_s": theirs_s}


def main(argv: list[str]) -> int:
    """Prints one line per network; 1 if one differs by more than 1e-4."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--repeats", type=int, default=2, help="timed calls")
    parser.add_argument("--quick", action="store_true", help="tiny widths, to try this program")
    args = parser.parse_args(argv)
    worst = 0.0
    for name in [args.only] if args.only else NETWORKS:
        row = compare(name, args.repeats, args.quick)
        sys.stdout.write(
            f"{name:24} relative difference {row['difference']:.1e}   "
            f"JAX {row['jax_s']:.2f} s   PyTorch {row['torch_s']:.2f} s\n"
        )
        sys.stdout.flush()
        worst = max(worst, row["difference"])
    return int(worst > 1e-4)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
