"""From checkpoints to folders: averaged parameters, measured latents, settings of the run."""

import json

import jax
import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.common import tree
from ffa_sora_jax.common.checkpoint import Checkpoints
from ffa_sora_jax.convert.pretrained import from_pretrained, save_pretrained
from ffa_sora_jax.data import prepared
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.data.text_cache import TextCache
from ffa_sora_jax.jobs import export as export_job
from ffa_sora_jax.metrics import fvd_phantom
from ffa_sora_jax.pipelines import TextToVideo
from ffa_sora_jax.pipelines.video_to_report import VideoToReport, Writing
from ffa_sora_jax.tasks import base
from ffa_sora_jax.train import config as config_lib
from ffa_sora_jax.train import loop
from tests.data import clinic
from tests.pipelines.tiny import random_params, tiny_pipeline


def save_run(workdir, config):
    """A checkpoint as the trainer writes it, with averages that differ from the parameters."""
    task = base.create(config)
    params = random_params(jax.eval_shape(task.init, jax.random.key(0)), 0)
    ema = jax.tree.map(lambda leaf: leaf * 0.5 + 0.01, {"model": params["model"]})
    config_lib.write(config, workdir / loop.CONFIG_FILE)
    checkpoints = Checkpoints(workdir / loop.CHECKPOINTS)
    state = {"step": np.int32(7), "params": params, "opt_state": {}, "ema": ema}
    checkpoints.save(7, state, {})
    checkpoints.close()
    return params, ema


@pytest.fixture(scope="module")
def t2v_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("t2v")
    save_pretrained(tiny_pipeline().parts["vae"], root / "vae")
    config = config_lib.load(
        "configs/t2v_phantom.py:runlocal",
        [
            "--config.model.in_channels=4", "--config.model.num_layers=1",
            "--config.model.attention_head_dim=12", f"--config.vae.dir={root / 'vae'}",
            "--config.data.name=phantom/64", "--config.data.text_length=24",
            "--config.sample.guidance_scale=3.0",
        ],
    )  # fmt: skip
    return root, config, save_run(root / "run", config)


def export(root, *options):
    return cli.main(["export", "--workdir", str(root / "run"), *map(str, options)])


def test_a_text_to_video_run_becomes_a_pipeline(t2v_run, tmp_path, data_dir, capsys):
    root, config, (_, ema) = t2v_run
    assert export(root, "--output", tmp_path / "model", "--data-dir", data_dir) == 0
    assert "step 7" in capsys.readouterr().out
    opened = TextToVideo.from_pretrained(tmp_path / "model")
    given = tree.flatten(opened.parts["transformer"].params)
    for path, leaf in tree.flatten(ema["model"]["dit"]).items():
        np.testing.assert_array_equal(given[path], leaf)
    sampling = opened.sampling
    assert sampling.schedule == config["diffusion"]["schedule"]
    assert sampling.prediction == config["diffusion"]["prediction"]
    assert (sampling.size, sampling.num_frames, sampling.channels) == (64, 21, 1)
    assert (sampling.text_length, sampling.guidance_scale) == (24, 3.0)
    np.testing.assert_allclose(sampling.times_s, np.geomspace(2, 400, 21), rtol=5e-3)
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["step"] == 7 and index["dataset"] == config["data"]["name"]


def test_frame_times_can_be_given(t2v_run, tmp_path, capsys):
    root, *_ = t2v_run
    times = ",".join(str(t) for t in range(21))
    assert export(root, "--output", tmp_path / "model", "--times-s", times) == 0
    assert TextToVideo.from_pretrained(tmp_path / "model").sampling.times_s[20] == 20.0
    assert export(root, "--output", tmp_path / "b", "--times-s", "1,2") == 2
    assert export(root, "--output", tmp_path / "b", "--times-s", "soon") == 2
    assert "has 2 numbers" in capsys.readouterr().err


def test_without_data_the_way_out_is_named(t2v_run, tmp_path, capsys):
    root, *_ = t2v_run
    assert export(root, "--output", tmp_path / "m", "--data-dir", tmp_path / "none") == 2
    assert "--times-s" in capsys.readouterr().err


def test_only_known_frame_times_are_averaged(clinic_dir):
    folder = prepared.dataset_folder(clinic_dir, "hospital_exams/64")
    infos = list(prepared.Examples(folder, "train"))
    known = [info.times_s for info in infos if info.times_known]
    assert len(known) < len(infos)
    cfg = DataConfig(name="hospital_exams/64", data_dir=str(clinic_dir))
    np.testing.assert_allclose(export_job._times(None, cfg), np.median(known, axis=0), atol=0.01)


def test_data_without_frame_times_need_them_given(tmp_path):
    clinic.prepare(tmp_path, "plain", counts={"train": 2}, keep=("video", "report"))
    with pytest.raises(ValueError, match="--times-s"):
        export_job._times(None, DataConfig(name="plain/64", data_dir=str(tmp_path)))


def test_another_encoder_than_that_of_the_embeddings_is_refused(tmp_path):
    encoder = tiny_pipeline().parts["text_encoder"]
    for name in (encoder.fingerprint, "another"):
        TextCache.create(tmp_path / name, name, "tokenizer", 8, "float32")
    export_job._check_encoder(encoder, str(tmp_path / encoder.fingerprint))
    export_job._check_encoder(encoder, str(tmp_path / "moved away"))
    with pytest.raises(ValueError, match="embeddings of the text encoder another"):
        export_job._check_encoder(encoder, str(tmp_path / "another"))


def test_a_text_encoder_is_refused_where_one_was_trained(t2v_run, tmp_path, capsys):
    root, *_ = t2v_run
    assert export(root, "--output", tmp_path / "m", "--text-encoder", tmp_path) == 2
    assert "trained its own" in capsys.readouterr().err


def test_a_vae_run_becomes_a_folder_with_measured_latents(tmp_path, data_dir):
    config = config_lib.load(
        "configs/vae_phantom.py:runlocal",
        [
            f"--config.data.data_dir={data_dir}", "--config.data.name=phantom/64",
            "--config.model.latent_dim=4",
            "--config.model.base_channels=4", "--config.model.linear_path=false",
        ],
    )  # fmt: skip
    _, ema = save_run(tmp_path / "run", config)
    assert export(tmp_path, "--output", tmp_path / "plain") == 0
    plain = from_pretrained(tmp_path / "plain")
    assert set(plain.cfg.scale) == {1.0} and set(plain.cfg.shift) == {0.0}
    for path, leaf in tree.flatten(ema["model"]).items():
        np.testing.assert_array_equal(tree.flatten(plain.params)[path], leaf)
    assert export(tmp_path, "--output", tmp_path / "vae", "--latent-stats", "3") == 0
    vae = from_pretrained(tmp_path / "vae")
    clips = [_clip(config, number) for number in range(3)]
    latent = np.concatenate([np.asarray(vae.normalize(vae.encode(clip)[0])) for clip in clips])
    flat = latent.reshape(-1, latent.shape[-1])
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(flat.std(0), 1, atol=1e-3)


def _clip(config, number):
    folder = prepared.dataset_folder(config["data"]["data_dir"], config["data"]["name"])
    record = prepared.read_split(folder, "train").records[number]
    return np.asarray(record["video"], np.float32)[None] / 127.5 - 1.0


def test_no_checkpoint_and_no_run_are_told_apart(tmp_path, t2v_run, capsys):
    _, config, _ = t2v_run
    assert export(tmp_path, "--output", tmp_path / "m") == 2
    assert "no run was started" in capsys.readouterr().err
    config_lib.write(config, tmp_path / "run" / loop.CONFIG_FILE)
    assert export(tmp_path, "--output", tmp_path / "m") == 2
    assert "No intact checkpoint" in capsys.readouterr().err


def test_a_captioner_run_becomes_a_folder_that_writes(tmp_path):
    config = config_lib.load(
        "configs/captioner_phantom.py:runlocal",
        [
            "--config.model.vision_layers=1",
            "--config.model.layers=1",
            "--config.data.text_length=8",
        ],
    )
    _, ema = save_run(tmp_path / "run", config)
    assert export(tmp_path, "--output", tmp_path / "model") == 0
    opened = VideoToReport.from_pretrained(tmp_path / "model")
    assert opened.writing == Writing(num_beams=3, length_penalty=1.0, max_new_tokens=8)
    assert opened.model.cfg.stack == 21 and opened.model.cfg.image_std == (0.25,)
    for path, leaf in tree.flatten(ema["model"]).items():
        np.testing.assert_array_equal(tree.flatten(opened.model.params)[path], leaf)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_run_of_phantom_features_becomes_a_network_to_measure_with(tmp_path, data_dir, dtype):
    config = config_lib.load(
        "configs/phantom_features.py:runlocal",
        [f"--config.data.data_dir={data_dir}", "--config.model.widths=(2, 2, 2, 4)",
         "--config.model.frame_width=8", "--config.model.features=8"],
    )  # fmt: skip
    task = base.create(config)
    params, _ = save_run(tmp_path / "run", config)
    assert export(tmp_path, "--output", tmp_path / "model", "--dtype", dtype) == 0
    metric, stored = fvd_phantom.load_from(tmp_path / "model")
    assert metric.network == task.bundle.cfg
    given, written = tree.flatten(stored), tree.flatten(params["model"])
    for path, leaf in written.items():
        np.testing.assert_array_equal(given[path], leaf.astype(dtype).astype(np.float32))
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (content["step"], content["trained_on"]) == (7, "phantom/64")
    accuracy = content["accuracy"]
    size = len(prepared.Examples(prepared.dataset_folder(data_dir, "phantom/64"), "test"))
    assert accuracy["clips"] == size and accuracy["diseases_auc"] == 0.5  # all are normal
    assert 0 <= accuracy["eye_accuracy"] <= 1 and 0 <= accuracy["order_accuracy"] <= 1
