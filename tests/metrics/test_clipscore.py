import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from ffa_sora_jax.common import tree
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.convert.pretrained import create, save_pretrained
from ffa_sora_jax.metrics import clip_frames, clipscore
from ffa_sora_jax.metrics.clipscore import CLIPScore
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.clip import CLIP, CLIPConfig, TextConfig
from tests.tolerances import TOL

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "metrics" / "clip_vqa.npz"))
LETTERS = "abcdefghijklmnopqrstuvwxyz,."
RNG = np.random.default_rng(0)
TEXTS = {"a": "a leak.", "b": "no leak", "c": "delay, edema"}
VIDEO = RNG.uniform(-1, 1, (3, 5, 20, 24, 1)).astype(np.float32)


def write_clip_tokenizer(folder: Path) -> int:
    """Letters only, every word spelt; returns the size of the vocabulary."""
    pieces = [*LETTERS, *(c + "</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return len(pieces)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "clip-vit-base-patch32"
    folder.mkdir()
    size = write_clip_tokenizer(folder)
    text = TextConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        vocab_size=size, max_position_embeddings=16, eos_token_id=size - 1,
    )  # fmt: skip
    cfg = CLIPConfig.tiny(text=text)

    def draw(path, leaf):
        return RNG.normal(float(path.endswith("scale")), 0.3, leaf.shape).astype(np.float32)

    params = tree.map_with_path(draw, Bundle.create(CLIP, cfg).abstract)
    save_pretrained(create("CLIPModel", cfg, params), folder)
    return clipscore.open_network(folder)


def test_cosines_and_conventions_agree_with_the_reference():
    cosine = clipscore.cosine(GOLDEN["clip_frames"], GOLDEN["clip_text"])
    np.testing.assert_allclose(cosine, GOLDEN["cos"], atol=TOL["unit"])
    tm, hessel = GOLDEN["clipscore_tm_per_frame"], GOLDEN["clipscore_hessel"]
    np.testing.assert_allclose(
        clipscore.SCALE * np.maximum(cosine, 0), tm, atol=clipscore.SCALE * TOL["unit"]
    )
    np.testing.assert_allclose(
        clipscore.HESSEL_SCALE * np.maximum(cosine, 0), hessel, atol=TOL["unit"]
    )
    score = clipscore.SCALE * cosine
    np.testing.assert_allclose(score.mean(1), GOLDEN["clipscore_video_mean"], rtol=1e-4)
    rows = np.stack([np.maximum(score, 0).mean(1), score.mean(1), np.zeros(6)], axis=1)
    value = CLIPScore().value(rows)
    assert value["clipscore_torchmetrics"] == pytest.approx(
        float(GOLDEN["clipscore_tm_mean"]), abs=1e-4
    )
    assert value["clipscore_hessel"] == pytest.approx(hessel.mean(), abs=TOL["unit"])
    assert value["clipscore"] == pytest.approx(tm.mean(), abs=1e-4)


def test_clips_are_scored_frame_by_frame(network):
    metric = CLIPScore()
    rows = metric.measure(list(TEXTS.values()), Clip(video=VIDEO), network)
    pixels = clip_frames.standardized(clip_frames.frames_uint8(VIDEO[1]), 16)
    apply = jax.jit(network.model.bundle.apply, static_argnames="method")
    frames = apply(network.model.params, pixels, method="encode_images")
    ids = np.array([network.tokenizer(TEXTS["b"])["input_ids"]])
    text = apply(network.model.params, ids, method="encode_texts")[0]
    score = 100 * np.asarray(frames @ text) / np.linalg.norm(frames, axis=1) / np.linalg.norm(text)
    expected = [np.maximum(score, 0).mean(), score.mean(), 0]
    np.testing.assert_allclose(rows[1], expected, atol=100 * TOL["model"])


def test_no_value_depends_on_the_batch(network):
    metric = CLIPScore()
    whole = metric.update(metric.init(), TEXTS, Clip(video=VIDEO), network)
    parts = metric.init()
    for index in (2, 0, 1):
        key = list(TEXTS)[index]
        clip = Clip(video=VIDEO[index : index + 1])
        one = metric.update(metric.init(), {key: TEXTS[key]}, clip, network)
        parts = metric.merge(one, parts)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    assert metric.compute(whole) == metric.compute(parts)


def test_texts_that_are_too_long_are_cut_and_counted(network):
    long = "leak leak leak leak"
    ids = network.tokenizer(long)["input_ids"]
    assert len(ids) == 18
    embedding, is_cut = network.text(long)
    short = np.array([[*ids[:15], ids[-1]]])
    apply = jax.jit(network.model.bundle.apply, static_argnames="method")
    expected = apply(network.model.params, short, method="encode_texts")[0]
    assert is_cut and not network.text("leak")[1]
    np.testing.assert_allclose(embedding, expected, atol=TOL["model"])
    clip = Clip(video=VIDEO[:2])
    rows = CLIPScore().measure([long, "leak"], clip, network)
    assert CLIPScore().value(rows)["clipscore_texts_cut"] == 0.5


def test_texts_and_clips_must_be_as_many(network):
    with pytest.raises(ValueError, match="argument 2 is longer"):
        CLIPScore().measure(["a"], Clip(video=VIDEO), network)
    with pytest.raises(ValueError, match="clip that has a video"):
        CLIPScore().measure(["a"], ["b"], network)
    with pytest.raises(FileNotFoundError, match="clip-vit-large-patch14"):
        clipscore.load(None)


# --- Frames ---


def test_pictures_agree_with_the_reference():
    frames = GOLDEN["concat_frames"]
    row = clip_frames.montage(frames)
    np.testing.assert_array_equal(row, GOLDEN["concat_out"])
    np.testing.assert_array_equal(clip_frames.padded_to_square(row), GOLDEN["pad_square"])
    np.testing.assert_array_equal(clip_frames.BACKGROUND, GOLDEN["pad_square_bg"])
    np.testing.assert_array_equal(clip_frames.grid(frames, (20, 24)), GOLDEN["grid_out"])


@pytest.mark.parametrize(("total", "count"), [(21, 8), (21, 4), (49, 8)])
def test_places_of_frames_agree_with_the_reference(total, count):
    found = clip_frames.step_places(total, count)
    np.testing.assert_array_equal(found, GOLDEN[f"frame_idx_{total}_{count}"])
    even = clip_frames.even_places(total, count)
    assert even[0] == 0 and even[-1] == total - 1 and len(set(even)) == count


def test_few_frames_are_all_taken_or_too_few():
    np.testing.assert_array_equal(clip_frames.even_places(3, 8), [0, 1, 2])
    with pytest.raises(ValueError, match="3 frames; 8"):
        clip_frames.step_places(3, 8)


def test_frames_are_prepared_as_the_processor_of_the_library_does():
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, "CLIPImageProcessorPil", None)
    if processor is None:
        pytest.skip("this version of transformers has no processor without torchvision")
    image = RNG.integers(0, 256, (50, 71, 3), dtype=np.uint8)
    options = dict(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = processor(**options)(images=Image.fromarray(image), return_tensors="np")
    expected = pixels["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(clip_frames.standardized([image], 32)[0], expected, atol=TOL["unit"])


def test_frames_in_eight_bits_come_back_as_they_were():
    levels = RNG.integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    video = jax.numpy.asarray(levels, jax.numpy.float32) / 127.5 - 1.0
    np.testing.assert_array_equal(clip_frames.frames_uint8(video), levels.repeat(3, axis=-1))
    with pytest.raises(ValueError, match="c 1 or 3"):
        clip_frames.frames_uint8(np.zeros((1, 2, 2, 2)))
