"""The PyTorch side of the benchmarks must be the reference, or its speed says nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tolerances import TOL

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from benchmarks import torch_reference  # noqa: E402
from benchmarks.torch_reference import dit, wfvae  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("case", ["t1", "t5", "t9", "t17", "t21"])
def test_wfvae_equals_the_recorded_outputs(case):
    folder = GOLDEN / "wfvae"
    meta = json.loads((folder / "meta.json").read_text())["files"]["tiny_weights.safetensors"]
    model = wfvae.WFVAE(torch_reference.sizes(wfvae.Sizes, meta["config"]))
    state = load_file(folder / "tiny_weights.safetensors")
    model.load_state_dict({k: v for k, v in state.items() if "wavelet_tran" not in k})
    io = load_file(folder / "tiny_io.safetensors")
    with torch.inference_mode():
        mean, _ = model.encode(io[f"{case}.x"])
        video = model.decode(io[f"{case}.mean"])
    np.testing.assert_allclose(mean, io[f"{case}.mean"], atol=TOL["model"])
    np.testing.assert_allclose(video, io[f"{case}.dec"], atol=TOL["model"])


@pytest.mark.parametrize(
    "case", ["dense", "dense_videomask", "sparse4", "sparse4_videomask", "sparse4_padlen"]
)
def test_dit_equals_the_recorded_outputs(case):
    folder = GOLDEN / "dit"
    config = json.loads((folder / "t2v_tiny_cases.json").read_text())["cases"][case]["config"]
    model = dit.DiT(torch_reference.sizes(dit.Sizes, config))
    model.load_state_dict(load_file(folder / "t2v_tiny_state.safetensors"))
    io = load_file(folder / "t2v_tiny_cases.safetensors")
    names = ("x", "timestep", "text", "text_mask", "video_mask")
    x, t, text, text_mask, video_mask = (io[f"{case}/{name}"] for name in names)
    text, text_mask = text.squeeze(1), text_mask.squeeze(1)
    with torch.inference_mode():
        out = model(x, t, text, text_mask, video_mask)
    np.testing.assert_allclose(out, io[f"{case}/out"], atol=TOL["model"])
