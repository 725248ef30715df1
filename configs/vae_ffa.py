r"""WF-VAE of Open-Sora Plan v1.3 (8 channels, 147 M parameters) for a hospital's angiograms.

Data:     ffa-sora prepare --dataset hospital_exams/256 --data-dir data --exams ... --table ...
          or any dataset of such clips: --config.data.name=ffa_ir/256
Run:      ffa-sora train --config configs/vae_ffa.py --workdir runs/vae_ffa
          ffa-sora train --config configs/vae_ffa.py:res=512 --workdir runs/vae_ffa_512
Tune:     as the paper did, from the VAE released with Open-Sora Plan v1.3, in its own folder:
          ffa-sora train --config configs/vae_ffa.py --workdir runs/vae_ffa \
            --config.train.init_from=weights/vae
Hardware: 8 accelerators with 32 GB or more for res=256; the batch of 8 is one clip per device.
Expected: not yet measured. The paper trains 800,000 steps on natural video, then shortens the
          perceptual weight; PSNR 31-32 dB at 256 px there.
"""

import ml_collections as mlc

from configs.common import base, parse_arg


def get_config(arg: str = "") -> mlc.ConfigDict:
    """`res` 256 or 512; `runlocal` is a tiny model on the phantom for a look at the whole path."""
    args = parse_arg(arg, runlocal=False, res=256)
    config = base()
    config.task = "vae"
    config.model = dict(
        in_channels=1 if args.runlocal else 3,
        latent_dim=8,
        base_channels=8 if args.runlocal else 128,
        encoder_num_resblocks=1 if args.runlocal else 2,
        decoder_num_resblocks=1 if args.runlocal else 2,
        encoder_energy_flow_hidden_size=8 if args.runlocal else 64,
        decoder_energy_flow_hidden_size=8 if args.runlocal else 128,
        connect_res_layer_num=1 if args.runlocal else 2,
        use_attention=True,
        norm_type="layernorm",
        t_interpolation="trilinear",
        scale=(0.18215,),
    )
    config.vae = dict(
        pixel="l1", kl_weight=1e-6, wavelet_weight=0.1, perceptual_weight=1.0, perceptual_dir="",
        adversarial_weight=0.5, adversarial_start=0,
        discriminator=dict(width=8 if args.runlocal else 64, num_layers=4),
    )  # fmt: skip
    config.data = dict(
        name="phantom/64" if args.runlocal else f"hospital_exams/{args.res}",
        data_dir="data",
        res=64 if args.runlocal else args.res,
        num_frames=21,
        text_length=0,  # a VAE reads no reports
    )
    config.optim.update(lr=1e-5, weight_decay=1e-4, clip_norm=0.0)
    config.optim.players = dict(discriminator=dict(lr=1e-5, weight_decay=0.01, clip_norm=1.0))
    config.ema.update(decay=0.999, warmup=False)
    config.train.update(
        batch_size=2 if args.runlocal else 8,
        total_steps=20 if args.runlocal else 200_000,
        log_steps=10 if args.runlocal else 50,
        ckpt_steps=10 if args.runlocal else 5000,
    )
    config.eval.update(
        steps=10 if args.runlocal else 5000, batch_size=2 if args.runlocal else 8,
        num_batches=1 if args.runlocal else 8, num_samples=2 if args.runlocal else 64,
    )  # fmt: skip
    return config
