import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ffa_sora_jax.common import tree
from ffa_sora_jax.common.types import Clip
from ffa_sora_jax.convert.pretrained import create, save_pretrained
from ffa_sora_jax.metrics import bertscore
from ffa_sora_jax.metrics.bertscore import BERTScore, Idf
from ffa_sora_jax.models.bert import Bert, BertConfig
from ffa_sora_jax.models.bundle import Bundle
from tests.pipelines.tiny import random_params
from tests.tolerances import TOL

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "metrics" / "bertscore.npz"))
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] the right left eye shows leakage of dye at fovea no . , 1 2".split()
)
TEXTS = {
    "a": "The right eye shows leakage at the fovea.",
    "b": "No leakage.",
    "c": "The left eye shows no dye at the fovea, no leakage of dye.",
    "d": "",
}
REFERENCES = {
    "a": "The right eye shows dye at the fovea.",
    "b": "No leakage of dye.",
    "c": "The left eye shows leakage.",
    "d": "No dye.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT with a tokenizer of eighteen words."""
    path = tmp_path_factory.mktemp("weights") / "bert-base-uncased"
    cfg = BertConfig.tiny(vocab_size=len(WORDS), max_position_embeddings=20)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        return rng.normal(float(path.endswith("scale")), 0.3, leaf.shape).astype(np.float32)

    params = tree.map_with_path(draw, Bundle.create(Bert, cfg).abstract)
    save_pretrained(create("BertModel", cfg, params), path)
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return bertscore.open_encoder(folder, layer=2)


def matched(kind: str, prefix: str = "") -> np.ndarray:
    sides = [
        GOLDEN[name]
        for side in ("hyp", "ref")
        for name in (f"{prefix}{side}_emb", f"{side}_mask", f"{side}_w_{kind}")
    ]
    n = len(sides[0])
    return np.asarray(jax.jit(bertscore.greedy_match)(*(side[:n] for side in sides)))


@pytest.mark.parametrize("kind", ["noidf", "idf"])
def test_matching_agrees_with_the_reference(kind):
    expected = np.stack([GOLDEN[f"{kind}_{x}"] for x in "PRF"], axis=1)
    np.testing.assert_allclose(matched(kind), expected, atol=TOL["unit"])


def test_tokens_that_resemble_no_other_count_zero_beside_padding():
    expected = np.stack([GOLDEN[f"neg_{x}"] for x in "PRF"], axis=1)
    np.testing.assert_allclose(matched("noidf", "neg_"), expected, atol=TOL["unit"])


def test_rescaling_agrees_with_the_reference():
    baseline = GOLDEN["baseline_prf_roberta_large_L17_en"]
    np.testing.assert_allclose(bertscore.BASELINES["roberta-large", "en"], baseline, atol=1e-7)
    raw = np.stack([GOLDEN[f"noidf_{x}"] for x in "PRF"], axis=1)
    scaled = bertscore.rescale(raw, baseline)
    np.testing.assert_allclose(scaled, GOLDEN["rescaled_noidf"], atol=TOL["unit"])


def test_idf_agrees_with_the_reference():
    texts = [ids[mask] for ids, mask in zip(GOLDEN["ref_ids"], GOLDEN["ref_mask"], strict=True)]
    idf = Idf.of([[int(token) for token in ids] for ids in texts])
    found = [idf.weight(int(token)) for token in GOLDEN["idf_tokens"]]
    np.testing.assert_allclose(found, GOLDEN["idf_values"], atol=TOL["unit"])
    assert idf.weight(-1) == pytest.approx(float(GOLDEN["idf_unseen"]))
    assert idf.weight(101) == idf.weight(102) == 0.0  # in every text


def test_a_text_beside_itself_and_beside_nothing(encoder):
    rows = BERTScore().measure([TEXTS["a"], "", TEXTS["a"]], [TEXTS["a"], TEXTS["b"], ""], encoder)
    np.testing.assert_allclose(rows, [[1, 1, 1], [0, 0, 0], [0, 0, 0]], atol=TOL["unit"])


def test_a_text_that_begins_the_other_is_precise_and_incomplete(folder):
    """In layer 0 a token depends on its word and place only, so that each finds itself."""
    encoder = bertscore.open_encoder(folder, layer=0)
    first, second = "the right eye", "the right eye shows leakage of dye"
    (p, r, f), (p2, r2, f2) = BERTScore().measure([first, second], [second, first], encoder)
    assert p == pytest.approx(1.0, abs=1e-6) and r < 0.9
    np.testing.assert_allclose([p, r, f], [r2, p2, f2], atol=TOL["unit"])
    assert f == pytest.approx(2 * p * r / (p + r), abs=1e-6)


def test_several_references_count_at_their_best(encoder):
    metric = BERTScore()
    single = [metric.measure([TEXTS["a"]], [other], encoder)[0] for other in ("no dye", "the eye")]
    both = metric.measure([TEXTS["a"]], [("no dye", "the eye")], encoder)[0]
    np.testing.assert_array_equal(both, np.max(single, axis=0))


def test_no_value_depends_on_the_batch(encoder):
    metric = BERTScore()
    whole = metric.update(metric.init(), TEXTS, REFERENCES, encoder)
    parts = metric.init()
    for key in reversed(TEXTS):
        one = metric.update(metric.init(), {key: TEXTS[key]}, REFERENCES, encoder)
        parts = metric.merge(one, parts)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    assert metric.compute(whole) == metric.compute(metric.merge(whole, parts))
    assert np.isnan(metric.compute(metric.init())["bertscore"])


def test_values_are_rescaled_means(encoder):
    metric = BERTScore(baseline=(0.5, 0.6, 0.55))
    rows = np.array([[0.8, 0.7, 0.75], [0.6, 0.9, 0.7]], np.float32)
    found = metric.value(rows)
    expected = {
        "bertscore": (0.725 - 0.55) / 0.45, "bertscore_precision": (0.7 - 0.5) / 0.5,
        "bertscore_recall": (0.8 - 0.6) / 0.4, "bertscore_raw": 0.725,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=TOL["unit"])
    assert BERTScore().value(rows)["bertscore"] == pytest.approx(0.725)


def test_idf_gives_common_words_no_weight(encoder):
    """Every reference ends in a full stop: a candidate may leave it out."""
    metric, references = BERTScore(idf=True), ["the eye.", "no dye."]
    ready = metric.setup(encoder, references)
    ids = encoder.tokens("the eye.")
    assert [bool(w) for w in ready.weigh(ids)] == [False, True, True, False, False]
    with pytest.raises(ValueError, match="setup"):
        metric.measure(["the eye"], ["the eye"], encoder)
    assert BERTScore().setup(encoder, references) is encoder


def test_conventions_of_reports_can_be_left_out(encoder):
    text = "Right eye: 1. Leakage at the fovea; 2) no dye@OD (3) 1.5 mm"
    assert bertscore.cleaned(text) == "Leakage at the fovea; no dye 1.5 mm"
    chinese = "\u5de6\u773c\uff1a1\u3001\u6e17\u6f0f\u30022\u3001\u65e0\u704c\u6ce8"
    assert bertscore.cleaned(chinese) == "\u6e17\u6f0f\u3002 \u65e0\u704c\u6ce8"
    pair = ["Right eye: 1. leakage of dye"], ["left eye: leakage of dye"]
    assert BERTScore(clean=True).measure(*pair, encoder)[0, 2] == pytest.approx(1.0, abs=1e-6)
    assert BERTScore().measure(*pair, encoder)[0, 2] < 0.99


def test_long_texts_are_cut_at_the_longest_that_the_model_reads(encoder):
    ids = encoder.tokens("dye " * 50)
    assert len(ids) == 20 and ids[-1] == WORDS.index("[SEP]")
    assert encoder.embed(ids).shape == (20, 32)


def test_byte_level_roberta_reads_a_blank_before_every_text(tmp_path):
    """As the original code does, so that the first word is no other word than in mid-sentence."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120", *"adey"]
    folder = tmp_path / "roberta-large"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    cfg = BertConfig.tiny(
        vocab_size=len(pieces), position_offset=2, layer_norm_eps=1e-5, num_hidden_layers=18
    )
    params = random_params(Bundle.create(Bert, cfg).abstract, 0)
    save_pretrained(create("RobertaModel", cfg, params), folder)
    metric, encoder = bertscore.load_english_clean(tmp_path)
    assert metric.clean and metric.baseline == bertscore.BASELINES["roberta-large", "en"]
    assert encoder.model.cfg.num_hidden_layers == 17
    assert encoder.tokens(" dye ") == (0, 5, 7, 9, 8, 2)  # <s> blank d y e </s>
    assert list(encoder.weigh(encoder.tokens("dye"))) == [0, 1, 1, 1, 1, 0]
    longest = encoder.tokens("dye " * 50)
    assert len(longest) == 38 and encoder.embed(longest).shape == (38, 32)


def test_hidden_states_are_those_of_the_layer(folder, encoder):
    from ffa_sora_jax.convert.pretrained import from_pretrained

    whole = from_pretrained(folder)
    ids = encoder.tokens("the eye")
    expected = whole.bundle.apply(whole.params, np.array([ids]), layer=2)[0]
    np.testing.assert_allclose(encoder.embed(ids), expected, atol=TOL["unit"])


def test_the_layer_follows_from_the_name_of_the_folder(folder):
    with pytest.raises(ValueError, match=r"layer=9; bert-base-uncased has 0 .. 3"):
        bertscore.open_encoder(folder)
    other = folder.with_name("my-bert")
    other.symlink_to(folder)
    with pytest.raises(ValueError, match="No layer is known for 'my-bert'"):
        bertscore.open_encoder(other)


def test_what_is_missing_is_named(folder, tmp_path, encoder):
    with pytest.raises(FileNotFoundError, match=r"roberta-large is missing.*FacebookAI"):
        bertscore.load_english(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        bertscore.open_encoder(tmp_path, layer=1)
    with pytest.raises(ValueError, match="not with a clip"):
        BERTScore().measure(["a"], Clip(video=np.zeros((1, 1, 4, 4, 1))), encoder)
    small = dataclasses.replace(encoder.model.cfg, vocab_size=5)
    bundle = dataclasses.replace(encoder.model.bundle, cfg=small)
    model = dataclasses.replace(encoder.model, bundle=bundle)
    with pytest.raises(ValueError, match="not of the same model"):
        dataclasses.replace(encoder, model=model).tokens("the eye")
