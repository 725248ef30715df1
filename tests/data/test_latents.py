"""The cache of latents: what is read is what the VAE gave, resuming, and foreign weights."""

import json
import types

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
