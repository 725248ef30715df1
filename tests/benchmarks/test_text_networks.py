import pytest

from tests.tolerances import TOL


def test_the_comparison_finds_agreement_and_would_find_a_difference(monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import text_networks
    from ffa_sora_jax.convert.pretrained import Pretrained

    assert text_networks.compare("flan-t5-base", 1, quick=True)["difference"] < TOL["model"]
    call = Pretrained.__call__
    monkeypatch.setattr(Pretrained, "__call__", lambda self, *args: call(self, *args) * 1.01)
    assert text_networks.main(["--only", "bert-base-chinese", "--quick", "--repeats", "1"]) == 1
