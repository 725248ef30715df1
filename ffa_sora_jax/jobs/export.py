"""`ffa-sora export`: from the checkpoints of a training run to a folder that others can open.

A "t2v" run gives a whole pipeline (`TextToVideo.from_pretrained`), a "vae" run gives a model folder
(`from_pretrained`), which is what `--config.vae.dir` of a t2v run wants, a "captioner" run a folder
for `VideoToReport.from_pretrained`, and a "phantom_features" run the network of FVD-phantom
(`metrics.fvd_phantom.load_from`). The newest intact checkpoint is used, with averaged parameters
where the run keeps them.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from ffa_sora_jax.common import seeds
from ffa_sora_jax.common.checkpoint import Checkpoints
from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Array, Clip, Params
from ffa_sora_jax.convert import pretrained
from ffa_sora_jax.convert.blip import CLASS_NAME as BLIP_CLASS
from ffa_sora_jax.convert.pretrained import Pretrained
from ffa_sora_jax.data import pipeline as data
from ffa_sora_jax.data import prepared, transforms
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.data.text_cache import TextCache
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.diffusion.objective import Objective
from ffa_sora_jax.metrics import fvd_phantom
from ffa_sora_jax.pipelines.folder import SamplingConfig
from ffa_sora_jax.pipelines.text_to_video import TextToVideo
from ffa_sora_jax.pipelines.video_to_report import VideoToReport, Writing
from ffa_sora_jax.tasks import base
from ffa_sora_jax.train import config as config_lib
from ffa_sora_jax.train import loop
from ffa_sora_jax.train.step import to_model_range

DIT_CLASS, VAE_CLASS, T5_CLASS = "OpenSoraT2V_v1_3", "WFVAEModel", "T5EncoderModel"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `export`."""
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--vae", type=Path, help="VAE folder (default: the run's config.vae.dir)")
    parser.add_argument(
        "--text-encoder", type=Path, help="T5 folder, for runs with stored text embeddings"
    )
    parser.add_argument("--data-dir", type=Path, help="prepared data, if moved since the training")
    parser.add_argument(
        "--times-s", metavar="T,T,...",
        help="frame times in seconds (default: the median of the training clips)",
    )  # fmt: skip
    parser.add_argument(
        "--latent-stats", type=int, default=0, metavar="N",
        help="vae runs: set the latent's shift and scale from N training clips (default: keep)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=pretrained.DTYPES, help="dtype to store (default: float32)"
    )


def run(args: argparse.Namespace) -> int:
    """Exports one run."""
    config = config_lib.read(args.workdir / loop.CONFIG_FILE)
    if args.data_dir is not None:
        config["data"]["data_dir"] = str(args.data_dir)
    if args.vae is not None:
        config["vae"]["dir"] = str(args.vae)
    exporters = {
        "t2v": _export_t2v,
        "vae": _export_vae,
        "captioner": _export_captioner,
        "phantom_features": _export_phantom_features,
    }
    if config["task"] not in exporters:
        raise ValueError(unknown_name("task to export", config["task"], exporters))
    task = base.create(config)
    step, params = averaged_params(args.workdir, config, task)
    exporters[config["task"]](args, config, task, params, step)
    sys.stdout.write(f"step {step} of {args.workdir} is in {args.output}\n")
    return 0


def averaged_params(
    workdir: Path, config: Mapping[str, Any], task: base.Task
) -> tuple[int, dict[str, Params]]:
    """The newest intact checkpoint: its step, and parameters by player.

    Averages are taken where the run keeps them, the last parameters elsewhere. Nothing in the
    folder is changed, so a run may be exported while it trains.

    Raises:
      FileNotFoundError: there is no intact checkpoint.
      ValueError: the checkpoint holds another model than the config describes.
    """
    averaged = tuple(config["ema"]["players"]) or task.players[:1]
    if config["ema"]["decay"] <= 0:
        averaged = ()
    place = SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        jax.eval_shape(task.init, jax.random.key(0)),
    )
    wanted = {
        name: part
        for name, part in (
            ("ema", {player: shapes[player] for player in averaged}),
            ("params", {player: shapes[player] for player in shapes if player not in averaged}),
        )
        if part
    }
    restored = Checkpoints(workdir / loop.CHECKPOINTS).restore_part(wanted)
    return restored.step, {**restored.state.get("params", {}), **restored.state.get("ema", {})}


def _export_t2v(
    args: argparse.Namespace, config: Mapping[str, Any], task: Any, params: dict[str, Params],
    step: int,
) -> None:  # fmt: skip
    model, section = params["model"], DataConfig.read(config["data"])
    if (args.text_encoder is None) != (task.text_encoder is not None):
        raise ValueError(
            "Give --text-encoder for a run with stored embeddings, and only then: this run "
            + ("trained its own." if task.text_encoder is not None else "did not train one.")
        )
    if task.text_encoder is None:
        encoder = pretrained.from_pretrained(args.text_encoder, encoder_only=True)
        _check_encoder(encoder, task.text_dir)
    else:
        encoder = pretrained.create(T5_CLASS, task.text_encoder.cfg, model["text_encoder"])
    whole = TextToVideo(
        {
            "vae": task.vae,
            "transformer": pretrained.create(DIT_CLASS, task.dit.cfg, model["dit"]),
            "text_encoder": encoder,
        },
        Tokenizer.load(section.tokenizer or None),
        sampling_config(config, task, _times(args.times_s, section)),
    )
    whole.save(args.output, dtype=args.dtype, step=step, dataset=section.name)


def _check_encoder(encoder: Pretrained, text_dir: str) -> None:
    """Raises ValueError where the run was trained on another encoder's embeddings."""
    folder = Path(text_dir)
    if folder.is_dir() and (made_by := TextCache.open(folder).encoder) != encoder.fingerprint:
        raise ValueError(
            f"The run was trained on embeddings of the text encoder {made_by} ({folder}); "
            f"--text-encoder is {encoder.fingerprint}. Give the folder of the former."
        )


def _export_vae(
    args: argparse.Namespace, config: Mapping[str, Any], task: Any, params: dict[str, Params],
    step: int,
) -> None:  # fmt: skip
    del step
    model = pretrained.create(VAE_CLASS, task.bundle.cfg, params["model"])
    if args.latent_stats:
        shift, std = latent_stats(model, config["data"], args.latent_stats)
        scale = tuple(float(1.0 / s) for s in std)
        cfg = dataclasses.replace(model.cfg, shift=tuple(float(m) for m in shift), scale=scale)
        model = pretrained.create(VAE_CLASS, cfg, model.params)
    pretrained.save_pretrained(model, args.output, args.dtype)


def _export_captioner(
    args: argparse.Namespace, config: Mapping[str, Any], task: Any, params: dict[str, Params],
    step: int,
) -> None:  # fmt: skip
    del step
    section = DataConfig.read(config["data"])
    writing = Writing(
        num_beams=task.writing.num_beams,
        length_penalty=task.writing.length_penalty,
        max_new_tokens=section.text_length,
    )
    model = pretrained.create(BLIP_CLASS, task.bundle.cfg, params["model"])
    VideoToReport(model, Tokenizer.load(section.tokenizer or None), writing).save(
        args.output, dtype=args.dtype
    )


def _export_phantom_features(
    args: argparse.Namespace, config: Mapping[str, Any], task: Any, params: dict[str, Params],
    step: int,
) -> None:  # fmt: skip
    about = {
        "accuracy": _read_outs_on_test(config, task, params),
        "trained_on": config["data"]["name"],
        "step": step,
    }
    fvd_phantom.save_to(
        args.output, task.bundle.cfg, params["model"], dtype=args.dtype or "float32", about=about
    )


def _read_outs_on_test(
    config: Mapping[str, Any], task: base.Task, params: dict[str, Params]
) -> dict[str, float]:
    """What the loss of a task logs on all clips of the test split, as one batch.

    The random numbers are those of the run's own first evaluation batch.
    """
    data_config = config["data"]
    count = data.make_source(data_config, "test", 1, 0, shuffle=False).num_examples
    clip = data.make_source(data_config, "test", count, 0, shuffle=False).batch(0)
    rng = seeds.at_step(seeds.stream(config["seed"], "eval"), 0)

    @jax.jit
    def read(params: dict[str, Params], clip: Clip) -> dict[str, Array]:
        clip = to_model_range(clip)
        return task.loss(task.players[0], params, task.frozen(), rng, clip, jnp.zeros(()))[1]

    values = read(params, dataclasses.replace(clip, exam=None))
    return {name: round(float(value), 4) for name, value in values.items()} | {"clips": count}


def latent_stats(
    vae: Pretrained, data_config: Mapping[str, Any], num_clips: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, (c,) float64, of training clips' latents.

    Raises:
      ValueError: no clip asked for, or a channel that never changes.
    """
    if num_clips < 1:
        raise ValueError(f"--latent-stats is {num_clips}; it must be positive.")
    split = DataConfig.read(data_config).split
    source = data.make_source(data_config, split, 1, 0, shuffle=False, with_video=True)
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for step in range(min(num_clips, source.num_examples)):
        video = np.asarray(source.batch(step).video, np.float32) / 127.5 - 1.0
        mean = np.asarray(vae.encode(video)[0], np.float64)  # (1, t', h', w', c)
        flat = mean.reshape(-1, mean.shape[-1])
        count += len(flat)
        total, squares = total + flat.sum(0), squares + (flat**2).sum(0)
    average = total / count
    std = np.sqrt(np.maximum(squares / count - average**2, 0.0))
    if not (std > 1e-6).all():
        raise ValueError(f"Latent channels {np.flatnonzero(std <= 1e-6)} are constant.")
    return average, std


def sampling_config(
    config: Mapping[str, Any], task: Any, times_s: tuple[float, ...]
) -> SamplingConfig:
    """How a run's model is sampled: as the run itself samples it while it trains."""
    section, sampler = DataConfig.read(config["data"]), task.sampler
    return SamplingConfig(
        schedule=config["diffusion"].get("schedule", Objective.schedule),
        prediction=sampler.prediction,
        sampler=sampler.name,
        spacing=sampler.spacing,
        num_steps=sampler.num_steps,
        guidance_scale=sampler.guidance.scale,
        guidance_rescale=sampler.guidance.rescale,
        guidance_interval=sampler.guidance.interval,
        size=section.res,
        num_frames=section.num_frames,
        channels=task.vae.cfg.in_channels,
        text_length=section.text_length,
        times_s=times_s,
    )


def _times(given: str | None, section: DataConfig) -> tuple[float, ...]:
    """Frame times as given, or the median over the training clips."""
    if given is not None:
        try:
            times = tuple(float(part) for part in given.split(","))
        except ValueError:
            raise ValueError(f"--times-s is {given!r}; expected T,T,...") from None
        if len(times) != section.num_frames:
            raise ValueError(
                f"--times-s has {len(times)} numbers; this run has {section.num_frames} frames."
            )
        return times
    try:
        folder = prepared.dataset_folder(section.data_dir, section.name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} Or give the frame times: --times-s 2,3,...") from error
    known = [i.times_s for i in prepared.Examples(folder, section.split) if i.times_known]
    if not known:
        raise ValueError(f"No clip of {folder} has known frame times; give them: --times-s 2,3,...")
    stored = np.stack(known, dtype=float)
    kept = transforms.pick_frames(stored.shape[1], section.num_frames)
    return tuple(float(t) for t in np.round(np.median(stored[:, kept], axis=0), 2))
