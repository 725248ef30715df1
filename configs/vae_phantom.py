r"""The small VAE that ships with the package, trained on generated angiograms.

Data:     ffa-sora prepare --dataset phantom/64_full --data-dir data
Run:      ffa-sora train --config configs/vae_phantom.py --workdir runs/vae
Hardware: 2 CPU cores, about 30 minutes; `--config=configs/vae_phantom.py:runlocal` takes a minute.
Expected: PSNR 32.0 dB at step 0 (plain PCA), 32.6 dB after 1,200 steps (validation clips).

The encoder stays the PCA that it starts as, because short trainings of it gain little; the decoder
learns what is missing. Half whitened, the latent keeps the layout of the eye stronger than texture.
"""

import ml_collections as mlc

from configs.common import base, parse_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """`runlocal` for a quick look, `res` 64 or 128."""
    args = parse_arg(arg, runlocal=False, res=64)
    config = base()
    config.task = "vae"
    config.model = dict(
        in_channels=1,
        latent_dim=8 if args.runlocal else 32,
        base_channels=8 if args.runlocal else 16,
        encoder_num_resblocks=1,
        decoder_num_resblocks=1,
        encoder_energy_flow_hidden_size=16,
        decoder_energy_flow_hidden_size=16,
        use_attention=False,
        norm_type="layernorm",
        t_interpolation="trilinear",
        linear_path=True,
        scale=(1.0,),  # PCA makes the mean variance of the latent 1
    )
    # The flows start at zero beside the linear path, so they are not tied to the input's bands.
    config.vae = dict(
        pixel="l1", mse_weight=10.0, detail_weight=0.5, kl_weight=1e-4, wavelet_weight=0.0,
        adversarial_weight=0.0, train_encoder=False, whitening=0.5,
    )  # fmt: skip
    config.data = dict(
        name=f"phantom/{args.res}_full", data_dir="data", res=args.res, num_frames=21,
        text_length=0,  # a VAE reads no reports
    )  # fmt: skip
    config.optim.update(
        lr=5e-4, schedule="cosine", warmup_steps=20 if args.runlocal else 100, b2=0.99,
        final_lr_ratio=0.02, clip_norm=0.0,
    )  # fmt: skip
    config.ema.decay = 0.98 if args.runlocal else 0.995
    config.train.update(
        batch_size=2 if args.runlocal else 4,
        total_steps=60 if args.runlocal else 1600,
        log_steps=10 if args.runlocal else 50,
        ckpt_steps=30 if args.runlocal else 200,
        calibration_batches=32 if args.runlocal else 128,
    )
    config.eval.update(
        steps=30 if args.runlocal else 400, batch_size=4, num_batches=4,
        num_samples=4 if args.runlocal else 16,
    )  # fmt: skip
    return config
