"""The cache of text embeddings: exact rows, growth, resuming, and foreign encoders."""

import numpy as np
import pytest

from ffa_sora_jax import cli
from ffa_sora_jax.data import pipeline, transforms
from ffa_sora_jax.data.text_cache import TextCache
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.jobs import cache_text

LENGTH, WIDTH = 48, 6


class FakeEncoder:
    """Every feature is a function of the token and its place; padding gets rubbish."""

    fingerprint = "00112233"

    def __init__(self):
        self.texts = 0

    def __call__(self, ids, mask):
        self.texts += len(ids)
        place = np.arange(ids.shape[1])[None, :, None]
        hidden = np.sin(ids[..., None] * (1 + np.arange(WIDTH)) + place)
        return np.where(mask[..., None], hidden, 99.0).astype(np.float32)


@pytest.fixture
def encoder(monkeypatch):
    fake = FakeEncoder()
    monkeypatch.setattr(cache_text, "from_pretrained", lambda path, encoder_only: fake)
    monkeypatch.setattr(cache_text, "SHARD_TEXTS", 16)
    return fake


def make(data_dir, output, *more):
    argv = ["prepare", "text", "--data-dir", str(data_dir), "--text-encoder", "t5"]
    return cli.main([*argv, "--output", str(output), "--length", str(LENGTH), *more])


def source(data_dir, output, **changes):
    config = {"data_dir": str(data_dir), "text_embeddings": str(output), "text_length": LENGTH}
    return pipeline.make_source(config | changes, "train", 4, 0)


def test_batches_carry_the_encoder_output_of_their_own_reports(data_dir, tmp_path, encoder):
    assert make(data_dir, tmp_path, "--mirror") == 0
    cached, plain = source(data_dir, tmp_path), source(data_dir, "")
    for step in range(4):  # flips among them
        text, want = cached.batch(step).text, plain.batch(step).text
        np.testing.assert_array_equal(text.ids, want.ids)
        np.testing.assert_array_equal(text.mask, want.mask)
        hidden = encoder(want.ids, want.mask)
        np.testing.assert_array_equal(text.embedding, np.where(want.mask[..., None], hidden, 0))
        assert text.embedding.dtype == np.float32


def test_the_empty_report_is_always_there(data_dir, tmp_path, encoder):
    assert make(data_dir, tmp_path) == 0
    ids, mask, embedding = TextCache.open(tmp_path).read([""])
    assert mask.sum() == 1 and ids[0, 0] == Tokenizer.load(None).eos_id
    assert embedding.shape == (1, LENGTH, WIDTH) and (embedding[0, 1:] == 0).all()


def test_running_again_encodes_only_what_is_new(data_dir, tmp_path, encoder):
    assert make(data_dir, tmp_path) == 0
    before = len(TextCache.open(tmp_path))
    encoder.texts = 0
    assert make(data_dir, tmp_path) == 0 and encoder.texts == 0
    assert make(data_dir, tmp_path, "--mirror") == 0
    assert len(TextCache.open(tmp_path)) == 2 * before - 1  # the empty report has no mirror image


def test_a_stopped_job_goes_on(data_dir, tmp_path, encoder, monkeypatch):
    write, written = TextCache.write, []

    def full_after_one(self, *args):
        if written:
            raise OSError(28, "No space left on device")
        written.append(write(self, *args))

    with monkeypatch.context() as patch:
        patch.setattr(TextCache, "write", full_after_one)
        assert make(data_dir, tmp_path) == 1
    (tmp_path / "embeddings-00001.npy").write_bytes(b"half")  # killed before its texts-file
    assert len(TextCache.open(tmp_path)) == 16
    assert make(data_dir, tmp_path, "--mirror") == 0
    assert source(data_dir, tmp_path).batch(0).text.embedding is not None


def test_an_unknown_report_and_missing_mirrors_are_named(data_dir, tmp_path, encoder):
    assert make(data_dir, tmp_path) == 0
    cache = TextCache.open(tmp_path)
    report = source(data_dir, tmp_path, flip=False).examples[0].report
    assert report in cache and transforms.swap_sides(report) not in cache
    with pytest.raises(ValueError, match="--mirror") as error:
        cache.read([transforms.swap_sides(report)])
    assert "eye" not in str(error.value)  # errors tell no report
    with pytest.raises(ValueError, match=r"32 of 32 clips.*--mirror"):
        source(data_dir, tmp_path)


@pytest.mark.parametrize(
    "more", [["--length", "50"], ["--dtype", "float16"], ["--text-encoder", "other"]]
)
def test_a_folder_made_otherwise_is_refused(data_dir, tmp_path, encoder, capsys, more):
    assert make(data_dir, tmp_path) == 0
    encoder.fingerprint = "44556677" if "other" in more else encoder.fingerprint
    assert make(data_dir, tmp_path, *more) == 2
    assert "Choose another --output" in capsys.readouterr().err


def test_another_length_in_training_is_refused(data_dir, tmp_path, encoder):
    assert make(data_dir, tmp_path) == 0
    with pytest.raises(ValueError, match=f"holds {LENGTH} tokens"):
        source(data_dir, tmp_path, text_length=LENGTH + 1)


def test_half_precision_is_stored_when_asked(data_dir, tmp_path, encoder):
    assert make(data_dir, tmp_path, "--dtype", "float16") == 0
    _, _, embedding = TextCache.open(tmp_path).read([""])
    want = encoder(np.array([[1]]), np.array([[True]]))[0, 0]
    np.testing.assert_array_equal(embedding[0, 0], want.astype(np.float16).astype(np.float32))
    assert embedding.dtype == np.float32


def test_bad_embeddings_are_refused(tmp_path):
    cache = TextCache.create(tmp_path, "e", "t", 3, "float16")
    ids, mask = np.array([[5, 1, 0]]), np.array([[True, True, False]])
    with pytest.raises(ValueError, match="not finite"):
        cache.write(["a"], ids, mask, np.full((1, 3, 2), 1e6))
    with pytest.raises(ValueError, match="left-aligned"):
        cache.write(["a"], ids, np.array([[True, False, True]]), np.ones((1, 3, 2)))
    with pytest.raises(ValueError, match="bfloat16"):
        TextCache.create(tmp_path / "b", "e", "t", 3, "bfloat16")
    with pytest.raises(FileNotFoundError, match="prepare text"):
        TextCache.open(tmp_path / "c")


def test_processes_fill_one_folder(data_dir, tmp_path, encoder):
    for shard in (2, 0, 1):
        encoder.texts = 0
        assert make(data_dir, tmp_path / "a", "--shard", f"{shard}/3", "--mirror") == 0
        assert 0 < encoder.texts < 60
        assert make(data_dir, tmp_path / "a", "--shard", f"{shard}/3", "--mirror") == 0
    assert make(data_dir, tmp_path / "b", "--mirror") == 0
    together, alone = TextCache.open(tmp_path / "a"), TextCache.open(tmp_path / "b")
    assert len(together) == len(alone) == 81
    reports = [info.report for info in source(data_dir, tmp_path / "a").examples]
    for a, b in zip(together.read(reports), alone.read(reports), strict=True):
        np.testing.assert_array_equal(a, b)
    assert make(data_dir, tmp_path / "a", "--shard", "3/3") == 2


def test_processes_that_do_the_same_do_no_harm(data_dir, tmp_path, encoder):
    ids, mask = np.array([[5, 1, 0]]), np.array([[True, True, False]])
    caches = [TextCache.create(tmp_path, "e", "t", 3, "float32") for _ in range(2)]
    for cache in caches:
        cache.write(["a"], ids, mask, np.ones((1, 3, 2)))
    assert len(TextCache.open(tmp_path)) == 1
    assert len(list(tmp_path.glob("*.npy"))) == 1 and not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("language", ["stored", "zh", "both"])
def test_every_language_asked_for_is_stored(clinic_dir, tmp_path, encoder, language):
    argv = ["--dataset", "hospital_exams/64", "--mirror", "--length", "96"]
    assert make(clinic_dir, tmp_path, *argv, "--language", language) == 0
    config = {"name": "hospital_exams/64", "language": language, "text_length": 96}
    batch = source(clinic_dir, tmp_path, **config).batch(0)
    assert batch.text.embedding.shape == (4, 96, WIDTH)
    if language == "stored":
        with pytest.raises(ValueError, match="--language both"):
            source(clinic_dir, tmp_path, **config | {"language": "both"})


def test_embeddings_of_another_encoder_are_refused(data_dir, tmp_path, encoder):
    assert make(data_dir, tmp_path, "--mirror") == 0
    assert source(data_dir, tmp_path, text_encoder=encoder.fingerprint).batch(0).text is not None
    with pytest.raises(ValueError, match=r"00112233; data.text_encoder is 44556677"):
        source(data_dir, tmp_path, text_encoder="44556677")
