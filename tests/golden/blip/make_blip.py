"""Makes the golden folder of a tiny BLIP from the PyTorch implementation in `transformers`.

Run: python tests/golden/blip/make_blip.py        (needs the extra `parity`)

Random weights, wide enough that no layer is near the identity. Writes config.json and
model.safetensors as the library does, and cases.npz: pictures (b c h w), ids, logits, features of
the pictures, and what the library's own generation writes with one and with three beams.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import BlipConfig, BlipForConditionalGeneration

HERE = Path(__file__).parent
TEXT = dict(
    vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=3, max_position_embeddings=20, bos_token_id=62, sep_token_id=3,
    pad_token_id=0, eos_token_id=2,
)  # fmt: skip
VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    image_size=16, patch_size=8,
)  # fmt: skip


def main() -> None:
    """Writes the files beside this one."""
    torch.manual_seed(0)
    config = BlipConfig(text_config=TEXT, vision_config=VISION)
    model = BlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.1 if parameter.ndim == 1 else 0.25
            centre = 1.0 if name.endswith(("LayerNorm.weight", "norm.weight")) else 0.0
            parameter.copy_(centre + scale * torch.randn_like(parameter))
        pixels = torch.randn(3, 3, 16, 16)
        ids = torch.randint(4, 62, (3, 9))
        ids[:, 0] = 62
        features = model.vision_model(pixels).last_hidden_state
        logits = model(pixels, input_ids=ids).logits
        search = dict(max_new_tokens=12, early_stopping=True, do_sample=False)
        greedy = model.generate(pixels, num_beams=1, **{**search, "early_stopping": False})
        beams = model.generate(
            pixels, num_beams=3, num_return_sequences=3, length_penalty=0.7,
            output_scores=True, return_dict_in_generate=True, **search,
        )  # fmt: skip
    model.save_pretrained(HERE)
    np.savez_compressed(
        HERE / "cases.npz", pixels=pixels, ids=ids, features=features, logits=logits,
        greedy=greedy[:, 1:], beams=beams.sequences[:, 1:], scores=beams.sequences_scores,
    )  # fmt: skip


if __name__ == "__main__":
    main()
