r"""Reports from videos on generated phantoms, 64 px: the report generator that ships.

Prepare:  ffa-sora prepare --dataset phantom/64_full --data-dir data
Run:      ffa-sora train --config configs/captioner_phantom.py --workdir runs/captioner
          ffa-sora export --workdir runs/captioner --output runs/captioner-model
Hardware: any CPU with 2 cores, or one GPU. `:runlocal` is a small model for a laptop minute.
Expected: docs/captioner.md.

What makes it learn within an hour of CPU: all 21 frames are the channels of one picture, so the
ViT sees growth and fading in every patch and has 65 tokens instead of 455; a fifth of the input
words is hidden, so that the decoder looks at the picture early; Muon.
"""

import ml_collections as mlc

from configs import common


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The config; `arg` may be "runlocal"."""
    args = common.parse_arg(arg, runlocal=False)
    width, layers = (48, 2) if args.runlocal else (128, 4)
    config = common.base()
    config.task = "captioner"
    config.model = dict(
        image_size=64,
        patch_size=8,
        in_channels=21,
        num_frames=1,
        stack=21,
        image_mean=(0.3,),
        image_std=(0.25,),
        vision_width=width,
        vision_layers=layers,
        vision_heads=width // 16,
        vision_mlp=4 * width,
        vocab_size=1501,  # the shipped tokenizer, and one token that begins a report
        width=width,
        layers=layers - 1,
        heads=width // 16,
        mlp=4 * width,
        max_positions=192,
        bos_id=1500,
        eos_id=1,
        pad_id=0,
        token_dropout=0.2,
        shift=0.06,
        gain=0.2,
        emphasised=(299, 304, 434, 441),  # "left" and "right" in the shipped tokenizer
        emphasis=10.0,
    )
    config.data = dict(
        name="phantom/64_full",
        data_dir="data",
        split="train",
        eval_split="validation",
        res=64,
        num_frames=21,
        flip=True,
        text_length=144,  # 99 of 100 reports; the others are cut
        truncate=True,
    )
    config.optim.update(
        common.MUON, lr=3e-3, warmup_steps=10 if args.runlocal else 50, decay_fraction=0.4,
        muon_exclude=(r".*(embedding|positions|class_token|patch).*",),
    )  # fmt: skip
    config.ema.update(decay=0.995, warmup=True)
    config.train.update(
        batch_size=8 if args.runlocal else 32,
        total_steps=40 if args.runlocal else 800,
        log_steps=25,
        ckpt_steps=20 if args.runlocal else 200,
    )
    config.eval.update(
        steps=20 if args.runlocal else 200, batch_size=8 if args.runlocal else 32,
        num_batches=2 if args.runlocal else 8, num_samples=8 if args.runlocal else 64,
        metrics=("report_findings",),
    )  # fmt: skip
    config.sample = dict(num_beams=3, length_penalty=1.0)
    return config
