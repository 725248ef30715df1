"""The cache of latents: what is read is what the VAE gave, resuming, and foreign weights."""

import json
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.data import latents, pipeline
from ffa_sora_jax.jobs import cache_latents
from tests.data.conftest import NUM_EXAMS

HALF = 2.0**-10  # relative step of float16


class FakeVae:
    """Means are block averages, log-variances -2 and 0; counts the clips it encodes."""

    fingerprint = "0123456789abcdef"
    cfg = types.SimpleNamespace(in_channels=3)

    def __init__(self):
        self.encoded = 0

    def encode(self, video):
        assert video.shape[-1] == 3 and video.min() >= -1 and video.max() <= 1
        self.encoded += len(video)
        b = len(video)
        mean = video[:, ::4, :, :, :2].reshape(b, 6, 8, 8, 8, 8, 2).mean((3, 5))
        mean = mean * np.array([1.0, 3.0])
        logvar = np.broadcast_to(np.array([-2.0, 0.0]), mean.shape)
        return mean, logvar


@pytest.fixture
def vae(monkeypatch):
    fake = FakeVae()
    monkeypatch.setattr(cache_latents, "from_pretrained", lambda path: fake)
    monkeypatch.setattr(latents, "SHARD_EXAMPLES", 8)
    return fake


def make(data_dir, output, *more):
    argv = ["prepare", "latents", "--data-dir", str(data_dir), "--vae", "vae"]
    return cli.main([*argv, "--output", str(output), "--batch-size", "3", *more])


def source(data_dir, output, **changes):
    config = {"name": "phantom/64", "data_dir": str(data_dir), "latents": str(output)} | changes
    return pipeline.make_source(config, "train", 4, 0)


def test_training_reads_the_moments_of_its_own_clips(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path, "--mirror") == 0
    cached = source(data_dir, tmp_path)
    plain = pipeline.make_source({"data_dir": str(data_dir)}, "train", 4, 0)
    for step in range(3):
        clip, video = cached.batch(step), plain.batch(step).video
        assert clip.video is None and clip.latent.dtype == np.float32
        mean, logvar = vae.encode(np.repeat(video.astype(np.float32) / 127.5 - 1, 3, axis=-1))
        want = np.concatenate([mean, logvar], axis=-1)  # (b, t', h', w', 2 l)
        np.testing.assert_allclose(clip.latent, want, rtol=HALF, atol=1e-6)
        np.testing.assert_array_equal(clip.exam, plain.batch(step).exam)


def test_statistics_are_those_of_sampled_training_latents(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path) == 0
    cache = latents.LatentCache.open(tmp_path)
    plain = pipeline.make_source({"data_dir": str(data_dir)}, "train", 1, 0, shuffle=False)
    video = np.concatenate([plain.batch(i).video for i in range(plain.num_examples)])
    mean, logvar = vae.encode(np.repeat(video.astype(np.float32) / 127.5 - 1, 3, axis=-1))
    axes = (0, 1, 2, 3)
    np.testing.assert_allclose(cache.mean, mean.mean(axes), rtol=1e-3)
    want = np.sqrt(mean.var(axes) + np.exp(logvar).mean(axes))
    np.testing.assert_allclose(cache.std, want, rtol=1e-3)


def test_a_stopped_job_goes_on_with_what_is_missing(data_dir, tmp_path, vae, monkeypatch):
    write, written = latents.LatentWriter.write, []

    def full_after_two(self, *args):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(args)
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(latents.LatentWriter, "write", full_after_two)
        assert make(data_dir, tmp_path / "a") == 1
    with pytest.raises(FileNotFoundError, match="finish them"):
        latents.LatentCache.open(tmp_path / "a")
    vae.encoded = 0
    assert make(data_dir, tmp_path / "a") == 0
    resumed = vae.encoded
    assert make(data_dir, tmp_path / "b") == 0
    assert resumed < vae.encoded - resumed
    for path in sorted((tmp_path / "b").iterdir()):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


SLOW = """
import sys, time
from ffa_sora_jax import cli
from ffa_sora_jax.data import latents
from ffa_sora_jax.jobs import cache_latents
from tests.data.test_latents import FakeVae

class SlowVae(FakeVae):
    def encode(self, video):
        time.sleep(0.05)
        return super().encode(video)

cache_latents.from_pretrained = lambda path: SlowVae()
latents.SHARD_EXAMPLES = 8
sys.exit(cli.main(sys.argv[1:]))
"""


def start(data_dir, output, *more):
    argv = ["prepare", "latents", "--data-dir", str(data_dir), "--vae", "vae"]
    argv += ["--output", str(output), "--batch-size", "3", *more]
    return subprocess.Popen([sys.executable, "-c", SLOW, *argv], cwd=Path(__file__).parents[2])


def test_processes_share_the_work_and_may_be_killed(data_dir, tmp_path, vae, capsys):
    """Share 0 is killed with a shard half-way; run again, it completes what share 1 began."""
    first, second = (start(data_dir, tmp_path / "a", "--shard", f"{k}/2") for k in (0, 1))
    while len(list((tmp_path / "a").glob("*.npy"))) < 2:
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert second.wait(60) == 0
    assert not (tmp_path / "a" / "index.json").exists()
    assert make(data_dir, tmp_path / "a", "--shard", "0/2") == 0
    assert make(data_dir, tmp_path / "b") == 0
    for path in sorted((tmp_path / "b").iterdir()):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_a_share_does_its_own_part_and_the_last_one_finishes(data_dir, tmp_path, vae, capsys):
    assert make(data_dir, tmp_path, "--shard", "1/3") == 0
    assert "share 1/3 is complete" in capsys.readouterr().out
    assert vae.encoded < NUM_EXAMS
    vae.encoded = 0
    assert make(data_dir, tmp_path, "--shard", "1/3") == 0 and vae.encoded == 0
    assert make(data_dir, tmp_path, "--shard", "0/3") == 0
    assert not (tmp_path / "index.json").exists()
    assert make(data_dir, tmp_path, "--shard", "2/3") == 0
    assert latents.LatentCache.open(tmp_path).key["vae"] == vae.fingerprint
    assert make(data_dir, tmp_path, "--shard", "3/3") == 2


def test_a_shard_cut_short_is_made_again(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path) == 0
    path = tmp_path / "train-00001.npy"
    whole = path.read_bytes()
    for left in (0, 64, len(whole) - 1):
        path.write_bytes(whole[:left])
        assert make(data_dir, tmp_path) == 0 and path.read_bytes() == whole


def test_a_finished_cache_is_not_made_again(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path) == 0
    vae.encoded = 0
    assert make(data_dir, tmp_path) == 0 and vae.encoded == 0


def test_latents_of_other_weights_are_refused(data_dir, tmp_path, vae, capsys):
    assert make(data_dir, tmp_path) == 0
    vae.fingerprint = "fedcba9876543210"
    assert make(data_dir, tmp_path) == 2
    said = capsys.readouterr().err
    assert "0123456789abcdef" in said and "fedcba9876543210" in said
    cache = latents.LatentCache.open(tmp_path)
    cache.check_vae("0123456789abcdef")
    with pytest.raises(ValueError, match="fedcba9876543210"):
        cache.check_vae("fedcba9876543210")


def test_flips_need_mirrored_copies(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path) == 0
    with pytest.raises(ValueError, match="--mirror"):
        source(data_dir, tmp_path)
    assert source(data_dir, tmp_path, flip=False).batch(0).latent.shape == (4, 6, 8, 8, 4)


def test_latents_of_another_dataset_are_refused(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path, "--mirror") == 0
    key = json.loads((tmp_path / "key.json").read_text())
    (tmp_path / "key.json").write_text(json.dumps(key | {"dataset": "phantom/128"}))
    with pytest.raises(ValueError, match="phantom/128"):
        source(data_dir, tmp_path)
    (tmp_path / "key.json").write_text(json.dumps(key | {"content": "of another build"}))
    with pytest.raises(ValueError, match="prepared again"):
        source(data_dir, tmp_path)
    assert make(data_dir, tmp_path, "--mirror") == 2
    (tmp_path / "key.json").write_text(json.dumps(key))
    index = json.loads((tmp_path / "index.json").read_text())
    index["splits"]["train"] += 1
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="prepared again"):
        source(data_dir, tmp_path)


def test_evaluation_reads_video_and_latents(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path) == 0
    config = {"data_dir": str(data_dir), "latents": str(tmp_path)}
    clip = pipeline.make_source(config, "validation", 1, 0).batch(0)
    assert clip.video is not None and clip.latent is not None


def test_part_of_a_clip_cannot_be_read_from_the_cache(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path) == 0
    with pytest.raises(ValueError, match="whole clips"):
        source(data_dir, tmp_path, num_frames=5, flip=False)


def test_latents_that_are_not_finite_are_refused(tmp_path):
    writer = latents.LatentWriter(tmp_path, {"vae": "x"}, {"train": 2})
    with pytest.raises(ValueError, match="not finite"):
        writer.write("train", range(2), np.full((2, 1, 1, 1, 1, 2), 1e6))
    with pytest.raises(ValueError, match="missing"):
        writer.finish()


def test_the_session_has_all_splits(data_dir, tmp_path, vae):
    assert make(data_dir, tmp_path) == 0
    splits = json.loads((tmp_path / "index.json").read_text())["splits"]
    assert sum(splits.values()) == NUM_EXAMS and set(splits) == {"train", "validation", "test"}


def test_every_dataset_of_a_mixture_reads_its_own_latents(clinic_dir, tmp_path, vae):
    for name in ("hospital_exams/64", "ffa_ir/64"):
        assert make(clinic_dir, tmp_path / name, "--dataset", name, "--mirror") == 0
    config = {
        "name": "hospital_exams/64", "data_dir": str(clinic_dir),
        "mixture": (("hospital_exams/64", 1), ("ffa_ir/64", 1)),
    }  # fmt: skip
    cached = pipeline.make_source(config | {"latents": f"{tmp_path}/{{name}}"}, "train", 8, 0)
    plain = pipeline.make_source(config, "train", 8, 0)
    clip, video = cached.batch(1), plain.batch(1).video
    mean, logvar = vae.encode(np.repeat(video.astype(np.float32) / 127.5 - 1, 3, axis=-1))
    np.testing.assert_allclose(
        clip.latent, np.concatenate([mean, logvar], axis=-1), rtol=HALF, atol=1e-6
    )
    cached.latents.check_vae(vae.fingerprint)
    evaluated = pipeline.make_source(
        config | {"latents": f"{tmp_path}/{{name}}"}, "validation", 2, 0
    )
    assert evaluated.batch(0).latent.shape == (2, 6, 8, 8, 4)


def test_mixed_latents_of_different_weights_are_refused(clinic_dir, tmp_path, vae):
    for name in ("hospital_exams/64", "ffa_ir/64"):
        assert make(clinic_dir, tmp_path / name, "--dataset", name, "--mirror") == 0
        vae.fingerprint = "fedcba9876543210"
    config = {
        "data_dir": str(clinic_dir), "latents": f"{tmp_path}/{{name}}",
        "mixture": (("hospital_exams/64", 1), ("ffa_ir/64", 1)),
    }  # fmt: skip
    with pytest.raises(ValueError, match="one VAE"):
        pipeline.make_source(config, "train", 8, 0)
