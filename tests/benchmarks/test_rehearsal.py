import numpy as np
import pytest

from benchmarks import random_weights, rehearsal
from ffa_sora_jax.metrics import bertscore, clipscore, vqascore
from ffa_sora_jax.metrics.registry import METRICS
from ffa_sora_jax.metrics.weights import WEIGHTS


def test_all_networks_but_one_can_be_made():
    needed = {key for entry in METRICS.values() for key in entry.needs}
    assert needed - set(random_weights._MAKERS) == {"videomae"}
    assert set(random_weights._MAKERS) <= set(WEIGHTS)
    assert set(METRICS) - set(rehearsal.METRICS_RUN) == {"fvd_videomae"}


def test_random_text_networks_tell_texts_apart(tmp_path):
    random_weights.make(tmp_path, ["roberta", "bert_zh", "clip", "clip_t5"])
    texts = (["late leakage at the fovea"], ["no abnormality was observed"])
    for load in (bertscore.load_english, bertscore.load_chinese):
        metric, encoder = load(tmp_path)
        same, other = (metric.measure(texts[0], x, encoder)[0, 2] for x in texts)
        assert (
            same == pytest.approx(1.0, abs=1e-6) and other < 0.9999
        )  # spelt in letters, texts are much alike
    network = clipscore.load(tmp_path)[1]
    assert not np.allclose(*(network.text(t[0])[0] for t in texts), atol=1e-3)
    assert vqascore.load(tmp_path)[1].tokenizer(texts[0][0])


def test_a_metric_without_a_value_is_named():
    found = {name: {"value": 0.5, "n": 3} for name in rehearsal.METRICS_RUN} | {"psnr": {}}
    lines = rehearsal.table(found, {"evaluate": 2.0}).splitlines()
    assert lines[1].split() == ["psnr", "none", "0", "none"]
    assert next(x for x in lines if x.startswith("fvd ")).split()[1] == "0.5"
