r"""Text to video as in FFA Sora: the 2.7 B transformer of Open-Sora Plan v1.3 at 21x512x512.

Prepare:  ffa-sora prepare --dataset hospital_exams/512 --data-dir data --exams ... --table ...
          ffa-sora prepare latents --dataset hospital_exams/512 --data-dir data --vae weights/vae
          ffa-sora prepare text --dataset hospital_exams/512 --data-dir data \
            --text-encoder weights/mt5-xxl --tokenizer weights/mt5-xxl --length 512 --truncate
Run:      ffa-sora train --config configs/t2v_ffa_sora.py --workdir runs/ffa_sora
Data:     --config.data.name=ffa_ir/512 for another dataset of 512 px, prepared in the same way;
          --config.data.mixture="(('hospital_exams/512', 3.0), ('ffa_ir/512', 1.0))" for several
Tune:     the same with --config.train.init_from=weights/transformer, the folder of the transformer
          released with Open-Sora Plan v1.3; these are its sizes
Hardware: parameters, moments and averages are sharded over all devices (axis fsdp): 44 GB of
          state and the gradients, so 8 chips of 16 GB or more. `:runlocal` is the same recipe
          with a tiny transformer for a small VAE (8 latent channels) and T5 (width 64), on
          phantom/64 or, with --config.data.name=hospital_exams/64, on exams of 64 px.
Expected: not yet measured.

The paper names neither optimizer nor schedule; these are Open-Sora Plan's: v-prediction, zero
terminal SNR, min-SNR weighting with gamma 5, report dropout 0.1, AdamW 1e-5, averages with
warm-up, 100 steps of Euler ancestral with guidance 7.5. Min-SNR weighting gives the terminal step
no gradient; `diffusion.weight_floor` repairs that where wanted.
"""

import ml_collections as mlc

from configs import common


def get_config(arg: str = "") -> mlc.ConfigDict:
    """The config; `arg` may be "runlocal"."""
    args = common.parse_arg(arg, runlocal=False)
    config = common.base()
    config.task = "t2v"
    config.model = dict(
        num_layers=4 if args.runlocal else 32,
        num_attention_heads=2 if args.runlocal else 24,
        attention_head_dim=24 if args.runlocal else 96,
        in_channels=8,
        caption_channels=64 if args.runlocal else 4096,
        patch_size=2,
        sparse1d=True,
        sparse_n=4,
        remat="none" if args.runlocal else "block",
        dtype="float32" if args.runlocal else "bfloat16",
    )
    config.vae.dir = "weights/vae"
    config.text_encoder = dict(kind="stored")  # mT5-XXL, 512 tokens, padded
    config.data = dict(
        name="phantom/64" if args.runlocal else "hospital_exams/512",
        data_dir="data",
        split="train",
        eval_split="validation",
        res=64 if args.runlocal else 512,
        num_frames=21,
        flip=False,
        text_length=512,
        latents="data/latents/{name}",
        text_embeddings="data/text",
    )
    config.diffusion = dict(
        schedule="linear_zero_snr",
        prediction="v",
        time_law="uniform",
        weighting="min_snr",
        snr_gamma=5.0,
        weight_floor=0.0,
        noise_offset=0.0,
        text_dropout=0.1,
        sample_posterior=True,
    )
    config.optim.update(
        lr=1e-5, b1=0.9, b2=0.999, eps=1e-15, weight_decay=1e-2, decay="all", clip_norm=1.0
    )
    config.ema.update(decay=0.9999, warmup=True)
    config.mesh.axes = (("data", 1), ("fsdp", -1), ("tensor", 1), ("sequence", 1))
    config.train.update(
        batch_size=8 if args.runlocal else 64,
        total_steps=20 if args.runlocal else 30_000,
        log_steps=10 if args.runlocal else 50,
        ckpt_steps=10 if args.runlocal else 1000,
    )
    config.eval.update(
        steps=10 if args.runlocal else 2000,
        batch_size=8 if args.runlocal else 64,
        num_samples=8 if args.runlocal else 64,
    )
    config.sample = dict(
        sampler="euler_ancestral",
        num_steps=4 if args.runlocal else 100,
        spacing="trailing",
        guidance_scale=7.5,
        guidance_rescale=0.0,
    )
    return config
