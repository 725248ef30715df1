import dataclasses
import shutil
from importlib import resources
from pathlib import Path

import jax
import numpy as np
import pytest

from ffa_sora_jax.common import tree
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.convert.pretrained import create, save_pretrained
from ffa_sora_jax.metrics import clip_frames, vqascore
from ffa_sora_jax.metrics.vqascore import VQAScore
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.clip_t5 import CLIPT5, CLIPT5Config
from ffa_sora_jax.models.t5_decoder import T5DecoderConfig
from tests.tolerances import TOL

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "metrics" / "clip_vqa.npz"))
RNG = np.random.default_rng(0)
TEXTS = {"a": "a leak at the fovea", "b": "no dye"}
VIDEO = RNG.uniform(-1, 1, (2, 9, 12, 14, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with the shipped tokenizer, whose conventions are those of T5."""
    path = tmp_path_factory.mktemp("weights") / "clip-flant5-xxl"
    cfg = CLIPT5Config.tiny(t5=T5DecoderConfig.tiny(vocab_size=1600))

    def draw(path, leaf):
        return RNG.normal(float(path.endswith("scale")), 0.2, leaf.shape).astype(np.float32)

    params = tree.map_with_path(draw, Bundle.create(CLIPT5, cfg).abstract)
    save_pretrained(create("CLIPT5ForConditionalGeneration", cfg, params), path)
    assets = resources.files("ffa_sora_jax") / "assets" / "tokenizer"
    shutil.copy(str(assets / "spiece.model"), path)
    return path


@pytest.fixture(scope="module")
def network(folder):
    return vqascore.open_network(folder, "float32")


def test_the_score_agrees_with_the_reference():
    score = vqascore.answer_score(GOLDEN["vqa_logits"], GOLDEN["vqa_labels"])
    np.testing.assert_allclose(score, GOLDEN["vqa_score"], atol=TOL["unit"])


def test_the_score_is_the_geometric_mean_of_two_probabilities():
    p = np.array([[[0.9, 0.1], [0.6, 0.4]]])
    score = vqascore.answer_score(np.log(p), np.array([[0, 1]]))
    np.testing.assert_allclose(score, [np.sqrt(0.9 * 0.4)], rtol=1e-6)


def test_the_whole_path_by_hand(network):
    """One clip, one text: tokens, image, logits and score, each written out."""
    tokens = network.tokenizer
    before = tokens(
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: "
    )["input_ids"]
    question = '\nDoes this figure show "no dye"? Please answer yes or no. ASSISTANT: '
    after, answer = tokens(question)["input_ids"], tokens("Yes")["input_ids"]
    assert before[-1] == after[-1] == answer[-1] == tokens.eos_token_id
    frame = np.rint((VIDEO[1, 0] + 1) * 127.5).astype(np.uint8).repeat(3, axis=-1)
    square = np.empty((14, 14, 3), np.uint8)
    square[:] = (122, 116, 104)
    square[1:13] = frame
    pixels = clip_frames.standardized([square], 16)
    logits = jax.jit(network.model.bundle.apply)(
        network.model.params, pixels, np.array(before), np.array([after]),
        np.ones((1, len(after)), bool), np.array([[0, *answer[:-1]]]),
    )  # fmt: skip
    log_p = np.asarray(logits[0]) - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
    expected = np.exp(np.mean([log_p[i, token] for i, token in enumerate(answer)]))
    metric = VQAScore(num_frames=1)
    found = metric.measure(["no dye"], Clip(video=VIDEO[1:]), network)
    np.testing.assert_allclose(found, [expected], rtol=1e-3)


def test_single_frames_are_averaged(network):
    metric = VQAScore(num_frames=3)
    images = metric.images(VIDEO[0])
    np.testing.assert_array_equal(images, clip_frames.frames_uint8(VIDEO[0])[[0, 4, 8]])
    single = [network.scores([image], TEXTS["a"])[0] for image in images]
    row = metric.measure([TEXTS["a"]], Clip(video=VIDEO[:1]), network)
    np.testing.assert_allclose(row, [np.mean(single)], atol=TOL["unit"])
    assert len(set(single)) == 3


def test_one_picture_of_all_frames(network):
    metric = VQAScore(mode="concat", num_frames=4, places="step")
    (picture,) = metric.images(VIDEO[0])
    expected = clip_frames.montage(clip_frames.frames_uint8(VIDEO[0])[[0, 2, 4, 6]])
    np.testing.assert_array_equal(picture, expected)
    grid = VQAScore(mode="concat", num_frames=4, layout="grid").images(VIDEO[0])
    assert grid[0].shape == (1024, 1024, 3)
    row = metric.measure([TEXTS["a"]], Clip(video=VIDEO[:1]), network)
    np.testing.assert_array_equal(row, network.scores([expected], TEXTS["a"]))


def test_no_value_depends_on_the_batch(network):
    metric = VQAScore(num_frames=2)
    whole = metric.update(metric.init(), TEXTS, Clip(video=VIDEO), network)
    last = metric.update(metric.init(), {"b": TEXTS["b"]}, Clip(video=VIDEO[1:]), network)
    first = metric.update(last, {"a": TEXTS["a"]}, Clip(video=VIDEO[:1]), network)
    np.testing.assert_array_equal(whole.rows, first.rows)
    value = metric.compute(whole)["vqascore"]
    assert 0.0 < value < 1.0 and value == pytest.approx(whole.rows.mean())


def test_half_precision_stays_close(folder, network):
    half = vqascore.open_network(folder)
    metric, published = vqascore.load_concat(folder.parent)
    assert (metric.mode, metric.places) == ("concat", "step")
    assert published.model.cfg == half.model.cfg
    assert half.model.cfg.t5.dtype == half.model.cfg.vision.dtype == "bfloat16"
    assert half.model.params["t5"]["head"]["kernel"].dtype == "bfloat16"
    images = VQAScore(num_frames=2).images(VIDEO[0])
    a, b = (np.log(n.scores(images, TEXTS["a"])) for n in (half, network))
    assert 0 < np.abs(a - b).max() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(mode="average"), "Unknown mode 'average'.*avg_frames"),
        (dict(places="evn"), "Did you mean 'even'"),
        (dict(layout="column"), "Unknown layout"),
        (dict(num_frames=0), "at least one frame"),
    ],
    ids=str,
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VQAScore(**options)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="clip-flant5-xxl is missing"):
        vqascore.load(tmp_path)
    shutil.copytree(folder, tmp_path / "bare")
    (tmp_path / "bare" / "spiece.model").unlink()
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        vqascore.open_network(tmp_path / "bare")
    with pytest.raises(ValueError, match="clip that has a video"):
        VQAScore().measure(["a"], ["b"], None)
    assert dataclasses.astuple(VQAScore()) == ("avg_frames", 8, "even", "row")
