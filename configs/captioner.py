r"""Reports from videos with BLIP base, tuned on a hospital's angiograms or on FFA-IR.

Prepare:  ffa-sora prepare --dataset hospital_exams/256 --data-dir data --exams ... --table ...
          weights/blip: the folder of blip-image-captioning-base, vocab.txt included
Run:      ffa-sora train --config configs/captioner.py --workdir runs/captioner
Data:     --config.data.name=ffa_ir/256 for the public set; for reports in another language, or
          from scratch, --config.train.init_from= --config.data.tokenizer=FOLDER with
          model.vocab_size, bos_id, eos_id and pad_id of that tokenizer
Hardware: 250 M parameters, 4 GB with moments and averages; a clip of seven pictures takes about
          3 GB with a picture's activations kept. Eight devices of 32 GB, or a smaller batch.
          `:runlocal` is the same recipe with two narrow layers on phantom/64.
Expected: not yet measured.

Seven frames, evenly over the examination, are pictures of their own; clips of 256 px are resized to
the 384 px that the positions of the released ViT are made for. AdamW at 1e-5 with cosine decay and
label smoothing 0.1, as BLIP is tuned for captions.
"""

import ml_collections as mlc

from configs import common


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The config; `arg` may be "runlocal"."""
    args = common.parse_arg(arg, runlocal=False)
    config = common.base()
    config.task = "captioner"
    config.model = dict(num_frames=7, label_smoothing=0.1)
    if args.runlocal:
        config.model.update(
            image_size=64, patch_size=16, vision_width=48, vision_layers=2, vision_heads=3,
            vision_mlp=96, vocab_size=1501, width=48, layers=2, heads=3, mlp=96, bos_id=1500,
            eos_id=1, pad_id=0,
        )  # fmt: skip
    config.data = dict(
        name="phantom/64" if args.runlocal else "hospital_exams/256",
        data_dir="data",
        split="train",
        eval_split="validation",
        res=64 if args.runlocal else 256,
        num_frames=21,
        flip=True,  # sides in the reports change with it
        language="en",
        text_length=192 if args.runlocal else 256,
        truncate=True,
        tokenizer="" if args.runlocal else "weights/blip",
    )
    config.optim.update(
        lr=1e-3 if args.runlocal else 1e-5, schedule="cosine", weight_decay=0.05,
        warmup_steps=5 if args.runlocal else 500, decay="matrices",
    )  # fmt: skip
    config.ema.update(decay=0.999, warmup=True)
    config.train.update(
        batch_size=4 if args.runlocal else 32,
        total_steps=20 if args.runlocal else 20_000,
        log_steps=10 if args.runlocal else 50,
        ckpt_steps=10 if args.runlocal else 1000,
        init_from="" if args.runlocal else "weights/blip",
    )
    config.eval.update(
        steps=10 if args.runlocal else 1000, batch_size=4 if args.runlocal else 32,
        num_batches=1 if args.runlocal else 8, num_samples=4 if args.runlocal else 64,
        metrics=("report_findings",),  # of English reports; others: bertscore_zh, or none
    )  # fmt: skip
    config.sample = dict(num_beams=1 if args.runlocal else 3, length_penalty=1.0)
    return config
