"""All metrics by name: what kind each is, which weights it needs, how it is made.

Modules load only when their metric is asked for. A metric whose weights are missing is an error
that names the file; nothing takes its place.

A loader is a function `load(folder: Path | None) -> (metric, params)`: `metric` is a frozen
dataclass of one of the bases of `metrics.base`, `params` is what its `measure` or `features` takes
(None without a network), and `folder` is the weights folder, which holds what the entry needs.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.metrics import weights

ASSETS = Path(__file__).resolve().parents[1] / "assets"
KINDS = ("pair", "sets", "text", "clip_text")


@dataclasses.dataclass(frozen=True)
class Paper:
    """A published value, and why it is no target."""

    value: str
    caveat: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """One metric.

    Attributes:
      name: its name on the command line and in configs.
      title: what the report calls it.
      kind: "pair" (sample beside reference), "sets", "text" (text beside text), or "clip_text".
      loader: "module:function".
      needs: keys of `weights.WEIGHTS`.
      network: what computes the features, "" if nothing does.
      shipped: files of the package that the value depends on, below its assets.
      unit: of the value, "" if none.
      rows: metrics of one such name have the same rows, which are measured once; "" shares none.
      definition: the choices that decide the number, in one sentence.
      paper: published value, where there is one.
    """

    name: str
    title: str
    kind: str
    loader: str
    needs: tuple[str, ...] = ()
    network: str = ""
    unit: str = ""
    rows: str = ""
    definition: str = ""
    paper: Paper | None = None
    shipped: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A metric ready to run.

    Attributes:
      entry: its entry.
      metric: description, see `metrics.base`.
      params: parameters of its network, or None.
      weights: SHA-256 by file name.
    """

    entry: Entry
    metric: Any
    params: Any
    weights: Mapping[str, str]


_PIXELS = "ffa_sora_jax.metrics.pixel"
_FVD = "ffa_sora_jax.metrics.fvd"
_I3D = "I3D, Kinetics-400, 400 logits"
_INCEPTION = "Inception-v3 (2015), 2048 features"
_PHANTOM = "features of this project, trained on phantoms, 128 numbers"

_PAPER_LPIPS = Paper("0.48 (SD 0.04)", "FFA Sora; trunk and frame size are not stated")
_PAPER_VQASCORE = Paper(
    "0.61 (SD 0.08)", "FFA Sora; network, frames and their pooling not stated"
)  # fmt: skip
_PAPER_BERTSCORE = Paper(
    "0.35 (SD 0.09)",
    "FFA Sora, through a report generator (FFA-GPT) that nobody else has and that may have seen "
    "the test patients",
)
_PAPER_RECALL = Paper(
    "0.073 (0.02, 0.04, 0.16)",
    "FFA Sora, features not stated; about the level of chance for 387 clips, which is 0.056: "
    "without controls it shows no privacy. `ffa-sora audit` has the controls",
)

_ENTRIES = (
    Entry(
        "psnr", "PSNR", "pair", f"{_PIXELS}:load_psnr", unit="dB",
        definition="mean over frames and clips of per-frame decibels on [0, 1]; identical frames "
        "count as 100 dB",
        paper=Paper("11.81", "Fundus2Video (MICCAI 2024), another task: video from a fundus photo"),
    ),
    Entry(
        "ssim", "SSIM", "pair", f"{_PIXELS}:load_ssim",
        definition="mean over frames and clips; Gaussian window 11 x 11, sigma 1.5, whole windows",
    ),
    Entry(
        "ssim_uniform", "SSIM (uniform window)", "pair", f"{_PIXELS}:load_ssim_uniform",
        definition="mean over frames and clips; uniform window 7 x 7, unbiased covariance",
    ),
    Entry(
        "lpips", "LPIPS (AlexNet)", "pair", "ffa_sora_jax.metrics.lpips:load_lpips_alex",
        ("alexnet",), network="AlexNet, LPIPS heads v0.1",
        shipped=("lpips/lpips_alex.safetensors",),
        definition="mean over frames and clips of the spatially averaged distance; frames are not "
        "resized",
        paper=_PAPER_LPIPS,
    ),
    Entry(
        "lpips_vgg", "LPIPS (VGG-16)", "pair", "ffa_sora_jax.metrics.lpips:load_lpips_vgg",
        ("vgg16",), network="VGG-16, LPIPS heads v0.1",
        shipped=("lpips/lpips_vgg.safetensors",),
        definition="as LPIPS (AlexNet), on VGG-16: another number",
        paper=_PAPER_LPIPS,
    ),
    Entry(
        "fvd", "FVD", "sets", f"{_FVD}:load_fvd", ("i3d",), network=_I3D, rows="i3d-styleganv",
        definition="Frechet distance of all clips; short side to 224 px, bilinear without "
        "smoothing, centre crop; batch-norm epsilon 1e-3; covariance over N - 1 (StyleGAN-V)",
        paper=Paper(
            "329.78 (arXiv) and 2273 (journal)",
            "FFA Sora, the same study twice: protocol, N and weights are not stated; it is never "
            "a target",
        ),
    ),
    Entry(
        "fvd_videogpt", "FVD (VideoGPT protocol)", "sets", f"{_FVD}:load_fvd_videogpt", ("i3d",),
        network=_I3D, rows="i3d-videogpt",
        definition="as FVD, from eight-bit frames, batch-norm epsilon 1e-5",
    ),
    Entry(
        "fvd_tfhub", "FVD (TF-Hub protocol)", "sets", f"{_FVD}:load_fvd_tfhub", ("i3d",),
        network=_I3D, rows="i3d-tfhub",
        definition="as FVD, both sides squashed to 224 px from corners, epsilon 1e-3",
    ),
    Entry(
        "fvd_paired_mean", "Squared feature distance of pairs", "sets",
        f"{_FVD}:load_fvd_paired_mean", ("i3d",), network=_I3D, rows="i3d-styleganv",
        definition="mean over pairs of the squared distance of I3D logits; one system calls it FVD",
    ),
    Entry(
        "fvd_batched", "FVD in batches of two", "sets", f"{_FVD}:load_fvd_batched", ("i3d",),
        network=_I3D, rows="i3d-styleganv",
        definition="mean over batches of two pairs, as Open-Sora Plan's script; no distance of "
        "distributions",
    ),
    Entry(
        "kvd", "KVD", "sets", f"{_FVD}:load_kvd", ("i3d",), network=_I3D, rows="i3d-styleganv",
        definition="unbiased polynomial-kernel distance of the features of FVD; may be below 0",
    ),
    Entry(
        "fvd_videomae", "Content-debiased FVD", "sets",
        "ffa_sora_jax.metrics.fvd_videomae:load_fvd_videomae", ("videomae",),
        network="VideoMAE v2, ViT-g/14, 1408 means over tubes",
        definition="16 of all frames, squashed to 224 px bilinearly without smoothing; covariance "
        "over n",
    ),
    Entry(
        "fvd_phantom", "FVD-phantom (not FVD)", "sets",
        "ffa_sora_jax.metrics.fvd_phantom:load_fvd_phantom",
        network=_PHANTOM, rows="phantom",
        definition="21 frames of 64 px, grey; another metric than FVD, not comparable with it",
        shipped=("phantom_features/model.safetensors",),
    ),
    Entry(
        "fid", "FID", "sets", "ffa_sora_jax.metrics.fid:load_fid", ("inception",),
        network=_INCEPTION, rows="inception",
        definition="Frechet distance of all frames of all clips, 299 px bilinear without smoothing",
        paper=Paper("33.72", "Ophora: surgery videos, frame stride and resize rule not stated"),
    ),
    Entry(
        "kid", "KID", "sets", "ffa_sora_jax.metrics.fid:load_kid", ("inception",),
        network=_INCEPTION, rows="inception",
        definition="unbiased polynomial-kernel distance of the features of FID; may be below 0",
    ),
    Entry(
        "clipscore", "CLIPScore", "clip_text", "ffa_sora_jax.metrics.clipscore:load", ("clip",),
        network="CLIP",
        definition="100 max(cos, 0) of frame and prompt, mean over frames and clips; the prompt is "
        "cut at 77 tokens",
        paper=Paper("39.19", "Ophora: surgery videos, neither network nor scale stated"),
    ),
    Entry(
        "vqascore", "VQAScore", "clip_text", "ffa_sora_jax.metrics.vqascore:load", ("clip_t5",),
        network="CLIP-FlanT5",
        definition="exp(-mean cross entropy) of 'Yes' and the end, mean over 8 frames and clips",
        paper=_PAPER_VQASCORE,
    ),
    Entry(
        "vqascore_concat", "VQAScore (frames in a row)", "clip_text",
        "ffa_sora_jax.metrics.vqascore:load_concat", ("clip_t5",), network="CLIP-FlanT5",
        definition="as VQAScore, of one picture of 8 frames side by side, every (T // 8)-th: the "
        "reference's way at the time of the paper; the end of the clip is not seen",
        paper=_PAPER_VQASCORE,
    ),
    Entry(
        "bertscore", "BERTScore (English)", "text", "ffa_sora_jax.metrics.bertscore:load_english",
        ("roberta",), network="RoBERTa-large, layer 17",
        definition="F of report read from the generated clip against the prompt, no idf, rescaled "
        "by the published baseline",
        paper=_PAPER_BERTSCORE,
    ),
    Entry(
        "bertscore_clean", "BERTScore (English, without conventions)", "text",
        "ffa_sora_jax.metrics.bertscore:load_english_clean", ("roberta",),
        network="RoBERTa-large, layer 17",
        definition="as BERTScore (English), of both texts without list numbers, words for the eye "
        "and '@'",
    ),
    Entry(
        "bertscore_zh", "BERTScore (Chinese)", "text",
        "ffa_sora_jax.metrics.bertscore:load_chinese", ("bert_zh",),
        network="BERT-base Chinese, layer 8",
        definition="as BERTScore (English), for Chinese reports",
        paper=_PAPER_BERTSCORE,
    ),
    Entry(
        "report_findings", "Findings named by both reports", "text",
        "ffa_sora_jax.metrics.findings:load_said",
        definition="F1 of the findings that the report read from the generated clip names and "
        "those that the prompt names, over all classes; both texts by rules over English words",
    ),
    Entry(
        "recall", "Recall@K (grey + vessels)", "sets", "ffa_sora_jax.metrics.retrieval:load",
        definition="mean over K = 5, 10, 50 of the share of generated clips whose own reference is "
        "among the K most similar; features without weights: coarse grey picture and vessel map; "
        "beside it the level of chance",
        paper=_PAPER_RECALL,
    ),
    Entry(
        "recall_phantom", "Recall@K (phantom features)", "sets",
        "ffa_sora_jax.metrics.recall_networks:load_phantom", network=_PHANTOM, rows="phantom",
        definition="as Recall@K, on the features of FVD-phantom",
        shipped=("phantom_features/model.safetensors",), paper=_PAPER_RECALL,
    ),
    Entry(
        "recall_i3d", "Recall@K (I3D)", "sets", "ffa_sora_jax.metrics.recall_networks:load_i3d",
        ("i3d",), network=_I3D, rows="i3d-styleganv",
        definition="as Recall@K, on the features of FVD", paper=_PAPER_RECALL,
    ),
    Entry(
        "recall_inception", "Recall@K (Inception)", "sets",
        "ffa_sora_jax.metrics.recall_networks:load_inception", ("inception",), network=_INCEPTION,
        rows="inception", definition="as Recall@K, on the features of FID, each frame's scaled to "
        "unit length, their mean over frames", paper=_PAPER_RECALL,
    ),
    Entry(
        "findings", "Findings read back", "clip_text", "ffa_sora_jax.metrics.findings:load",
        definition="F1 of the findings that the prompt names and those that the phantom oracle "
        "reads from the clip, over all classes; tuned on phantoms",
        network="the phantom oracle's score cards", shipped=("oracle/rules.json",),
    ),
    Entry(
        "dye", "Dye curves", "pair", "ffa_sora_jax.metrics.dye:load",
        definition="correlation of brightness over time in eleven regions, each clip on its own "
        "anatomy, over the logarithm of the seconds",
    ),
    Entry(
        "vessels", "Vessel maps", "pair", "ffa_sora_jax.metrics.vessels:load",
        definition="correlation of each frame's vessel map with that of the other frames; beside "
        "it the match with the reference and its level of chance",
    ),
)  # fmt: skip
METRICS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def load(name: str, folder: Path | None = None) -> Loaded:
    """Opens one metric.

    Args:
      name: key of `METRICS`.
      folder: weights folder, see `ffa-sora weights`.

    Raises:
      ValueError: unknown name, or a file that is not what its name says.
      FileNotFoundError: weights are missing.
    """
    entry = find(name)
    paths = weights.require(entry.needs, folder, entry.title)
    for key, path in paths.items():
        if problem := weights.check(weights.WEIGHTS[key], path):
            raise ValueError(f"{path}: {problem}.")
    module, function = entry.loader.split(":")
    metric, params = getattr(importlib.import_module(module), function)(folder)
    files = [*paths.values(), *(ASSETS / name for name in entry.shipped)]
    hashes = {path.name: weights.fingerprint(path) for path in files}
    return Loaded(entry, metric, params, hashes)


def find(name: str) -> Entry:
    """The entry of a name; ValueError with near matches if there is none."""
    if name not in METRICS:
        raise ValueError(unknown_name("metric", name, METRICS))
    return METRICS[name]
