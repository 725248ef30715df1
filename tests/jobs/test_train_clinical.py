"""The trainers on what the builders of real exams write: only the name of the data changes."""

import json

import jax
import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.common.checkpoint import MANIFEST
from ffa_sora_jax.convert.pretrained import Pretrained, save_pretrained
from ffa_sora_jax.data.pipeline import make_source
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.jobs import train as train_job
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.t5 import T5Config, T5Encoder
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.train import config as config_lib
from ffa_sora_jax.train.writer import read_metrics
from tests.compiling import quick_compile
from tests.pipelines.tiny import random_params
from tests.tfds_ffa import exams

FRAMES, LENGTH = 5, 192
HOSPITAL, FFA_IR = "hospital_exams/64_f5", "ffa_ir/64_f5"
CONFIG = "configs/t2v_ffa_sora.py:runlocal"
SMALL = (  # nothing about the data, only less to compile
    "--config.model.num_layers=1", "--config.model.sparse1d=false",
    "--config.train.total_steps=2", "--config.train.ckpt_steps=2", "--config.train.log_steps=1",
    "--config.train.batch_size=8", "--config.eval.batch_size=8", "--config.eval.num_samples=8",
    "--config.eval.num_batches=1", "--config.eval.steps=2", "--config.eval.num_sheets=1",
    "--config.eval.metrics=psnr", "--config.sample.num_steps=2",
    f"--config.data.num_frames={FRAMES}", f"--config.data.text_length={LENGTH}",
    "--config.mesh.axes=(('data', 8), ('fsdp', 1))",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compile():
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The dummy data of both builders, with latents and embeddings by a small VAE and T5."""
    folder = tmp_path_factory.mktemp("clinical")
    vae = WFVAEConfig(
        in_channels=1, latent_dim=8, base_channels=4, encoder_num_resblocks=1,
        decoder_num_resblocks=1, encoder_energy_flow_hidden_size=4,
        decoder_energy_flow_hidden_size=4, use_attention=False, norm_type="layernorm",
    )  # fmt: skip
    text = T5Config(
        vocab_size=Tokenizer.load().vocab_size, d_model=64, d_kv=8, d_ff=32, num_layers=1,
        num_heads=2,
    )  # fmt: skip
    models = (
        ("vae", "WFVAEModel", Bundle.create(WFVAE, vae)),
        ("t5", "T5EncoderModel", Bundle.create(T5Encoder, text)),
    )
    for name, class_name, bundle in models:
        model = Pretrained(class_name, bundle, random_params(bundle.abstract, 0))
        save_pretrained(model, folder / name)
    exams.hospital(folder)
    exams.ffa_ir(folder)
    for source, name in (("hospital", HOSPITAL), ("ffa_ir", FFA_IR)):
        assert exams.build(folder, source=source, dataset=name) == 0
        where = ["--dataset", name, "--data-dir", str(folder / "data")]
        assert cli.main(["prepare", "latents", *where, "--vae", str(folder / "vae")]) == 0
        more = ["--text-encoder", str(folder / "t5"), "--length", str(LENGTH)]
        assert cli.main(["prepare", "text", *where, *more]) == 0
    return folder


def overrides(folder, *more):
    return (
        *SMALL, f"--config.data.data_dir={folder / 'data'}", f"--config.vae.dir={folder / 'vae'}",
        f"--config.data.latents={folder}/data/latents/{{name}}",
        f"--config.data.text_embeddings={folder / 'data' / 'text'}", *more,
    )  # fmt: skip


def train(folder, workdir, *more):
    argv = ["train", "--config", CONFIG, "--workdir", str(workdir), "--quiet"]
    return cli.main([*argv, *overrides(folder, *more)])


def test_text_to_video_trains_on_hospital_exams(prepared, tmp_path):
    assert train(prepared, tmp_path, f"--config.data.name={HOSPITAL}") == 0
    metrics = read_metrics(tmp_path)
    for name in ("train/loss", "eval/loss", "eval/psnr"):
        values = [line[name] for line in metrics if name in line]
        assert values and np.isfinite(values).all(), name
    assert list((tmp_path / "checkpoints").glob("[0-9]*"))
    data = json.loads((tmp_path / "config.json").read_text())["data"]
    assert data["res"] == 64
    key = prepared / "data" / "text" / "key.json"
    assert data["text_encoder"] == json.loads(key.read_text())["encoder"]


def test_a_run_goes_on_with_the_embeddings_of_its_own_encoder_only(prepared, tmp_path, capsys):
    """Encoders of equal width give text of equal form, and samples of another report."""
    config = config_lib.load(CONFIG, overrides(prepared, f"--config.data.name={HOSPITAL}"))
    config.data.text_encoder = "0123456789abcdef"
    config_lib.write(config, tmp_path / "config.json")
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "checkpoints" / "1" / MANIFEST).touch()
    assert train(prepared, tmp_path, f"--config.data.name={HOSPITAL}") == 2
    assert "data/text_encoder" in capsys.readouterr().err


def test_other_datasets_and_mixtures_feed_the_same_program(prepared):
    """Batches of equal shapes and types: nothing is compiled or configured differently."""
    pairs = f"(('{HOSPITAL}', 1.0), ('{FFA_IR}', 1.0))"
    forms = set()
    for more in (
        [f"--config.data.name={HOSPITAL}"],
        [f"--config.data.name={FFA_IR}"],
        [f"--config.data.name={FFA_IR}", f"--config.data.mixture={pairs}"],
    ):
        config = config_lib.load(CONFIG, overrides(prepared, *more))
        for source in train_job._open_data(config):
            clip = source.batch(0)
            forms.add(str(jax.tree.map(lambda x: (x.shape, x.dtype), clip.replace(video=None))))
    assert len(forms) == 1
    assert [part.name for part in source.parts] == [FFA_IR]  # evaluation is of the name alone


def test_latents_of_another_vae_stop_the_run_at_once(prepared, tmp_path, capsys):
    key = prepared / "data" / "latents" / HOSPITAL / "key.json"
    before = key.read_text()
    key.write_text(json.dumps(json.loads(before) | {"vae": "of other weights"}))
    try:
        assert train(prepared, tmp_path, f"--config.data.name={HOSPITAL}") == 2
    finally:
        key.write_text(before)
    assert "was made by the VAE of other weights" in capsys.readouterr().err


def test_the_vae_trainer_reads_clinical_clips_without_their_reports(prepared, tmp_path):
    argv = [
        f"--config.data.name={HOSPITAL}", f"--config.data.data_dir={prepared / 'data'}",
        f"--config.data.num_frames={FRAMES}",
    ]  # fmt: skip
    config = config_lib.load("configs/vae_ffa.py:runlocal", argv)
    clip = make_source(config.data, "train", 2, 0).batch(0)
    assert clip.text is None and clip.video.shape == (2, FRAMES, 64, 64, 1)
