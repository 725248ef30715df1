r"""The network of FVD-phantom: diseases, eye and frame order of generated phantoms, 64 px.

Prepare:  ffa-sora prepare --dataset phantom/64 --data-dir data --num-exams 3000 --seed 77310
Run:      ffa-sora train --config configs/phantom_features.py --workdir runs/features
          ffa-sora export --workdir runs/features --output runs/features-model --dtype float16
Hardware: any CPU; minutes, and as long for the phantoms. `:runlocal` is a look at the machinery.
Expected: docs/metrics.md, FVD-phantom.

The seed is one that no other dataset of this project has, so that the network has seen no clip
that it will judge.
"""

import ml_collections as mlc

from configs import common

DISEASES = (
    "normal", "npdr_mild", "npdr_moderate", "npdr_severe", "pdr", "brvo", "crvo", "csc",
    "csc_smokestack", "csc_chronic", "namd_classic", "namd_occult", "pcv", "ped", "drusen",
    "dry_amd", "geographic_atrophy", "macular_hole", "cmo", "dme", "disc_leak", "laser_scars",
)  # fmt: skip


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The config; `arg` may be "runlocal"."""
    args = common.parse_arg(arg, runlocal=False)
    config = common.base()
    config.task = "phantom_features"
    config.model = dict(gain=0.15)
    config.data = dict(
        name="phantom/64",
        data_dir="data",
        split="train",
        eval_split="validation",
        res=64,
        num_frames=21,
        flip=True,  # a mirrored right eye is labelled as a left one
        text_length=0,
        diseases=DISEASES,
    )
    config.optim.update(
        lr=1.5e-3, schedule="cosine", warmup_steps=5 if args.runlocal else 50, weight_decay=1e-3,
        clip_norm=0.0,
    )  # fmt: skip
    config.ema.update(decay=0.0)  # the rate falls to zero: the last parameters are an average
    config.train.update(
        batch_size=8 if args.runlocal else 32,
        total_steps=40 if args.runlocal else 900,
        log_steps=10 if args.runlocal else 50,
        ckpt_steps=20 if args.runlocal else 150,
    )
    # One large batch: the area under a curve is no mean over small ones.
    config.eval.update(
        steps=20 if args.runlocal else 150, batch_size=8 if args.runlocal else 240, num_batches=1,
        num_samples=0, metrics=(),
    )  # fmt: skip
    return config
