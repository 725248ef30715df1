import pytest

from tests.tolerances import TOL

PUBLISHED = ("bert-base-chinese", "roberta-large", "clip-vit-large-patch14", "flan-t5-base")


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_of_published_width_equal_pytorch(name):
    pytest.importorskip("torch")
    from benchmarks import text_networks

    difference = text_networks.compare(name, 1, quick=False)["difference"]
    assert difference < TOL["parity_rel"]


def test_the_comparison_finds_agreement_and_would_find_a_difference(monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import text_networks
    from ffa_sora_jax.convert.pretrained import Pretrained

    assert text_networks.compare("flan-t5-base", 1, quick=True)["difference"] < TOL["model"]
    call = Pretrained.__call__
    monkeypatch.setattr(Pretrained, "__call__", lambda self, *args: call(self, *args) * 1.01)
    assert text_networks.main(["--only", "bert-base-chinese", "--quick", "--repeats", "1"]) == 1
