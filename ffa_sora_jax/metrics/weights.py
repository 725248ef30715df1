"""Which files metrics need: names, licences, where users usually get them. Nothing is downloaded.

A weights folder holds single files and Hugging Face style folders by the names of this table. Where
the published name carries the start of the file's SHA-256, that start is checked.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ffa_sora_jax.common import files
from ffa_sora_jax.common.names import unknown_name

_FOLDER_SUFFIXES = (".json", ".safetensors", ".bin", ".txt", ".model", ".tsv")


@dataclasses.dataclass(frozen=True)
class Weights:
    """The files of one network; any one of `names` is enough.

    Attributes:
      title: what they are.
      names: file or folder names that are looked for, best first.
      licence: of code and weights, as far as published.
      source: where users usually get them.
      sha256: start of the hash of a file by name, where known.
    """

    title: str
    names: tuple[str, ...]
    licence: str
    source: str
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def find(self, folder: Path | None) -> Path | None:
        """The first of `names` that is there."""
        if folder is None:
            return None
        return next((folder / name for name in self.names if (folder / name).exists()), None)


_TORCHVISION = "ImageNet weights of torchvision (BSD-3; ImageNet's terms hold for the images)"
_HUB = "huggingface.co/{}: download the folder as it is"

WEIGHTS: dict[str, Weights] = {
    "i3d": Weights(
        "I3D on Kinetics-400 (RGB, 400 logits)",
        ("i3d_pretrained_400.pt", "i3d_torchscript.pt", "i3d_tfhub.npz", "i3d.safetensors"),
        "Apache-2.0; Kinetics' terms hold for the videos",
        "i3d_pretrained_400.pt: the FVD code of VideoGPT; i3d_torchscript.pt: the evaluation code "
        "of StyleGAN-V; i3d_tfhub.npz: variables of TF-Hub's deepmind/i3d-kinetics-400/1 saved by "
        "name",
    ),
    "inception": Weights(
        "Inception-v3 for FID (TensorFlow, 5 December 2015)",
        (
            "pt_inception-2015-12-05-6726825d.pth",
            "weights-inception-2015-12-05-6726825d.pth",
            "inception.safetensors",
        ),
        "Apache-2.0",
        "releases of pytorch-fid or torch-fidelity",
        {
            "pt_inception-2015-12-05-6726825d.pth": "6726825d",
            "weights-inception-2015-12-05-6726825d.pth": "6726825d",
        },
    ),
    "alexnet": Weights(
        "AlexNet trunk of LPIPS",
        ("alexnet.safetensors", "alexnet.pth", "alexnet-owt-7be5be79.pth"),
        _TORCHVISION,
        "download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        {"alexnet-owt-7be5be79.pth": "7be5be79"},
    ),
    "vgg16": Weights(
        "VGG-16 trunk of LPIPS",
        ("vgg16.safetensors", "vgg16.pth", "vgg16-397923af.pth"),
        _TORCHVISION,
        "download.pytorch.org/models/vgg16-397923af.pth",
        {"vgg16-397923af.pth": "397923af"},
    ),
    "videomae": Weights(
        "VideoMAE v2, ViT-g/14, tuned on Something-Something v2",
        ("vit_g_hybrid_pt_1200e_ssv2_ft.pth", "videomae_g.safetensors"),
        "MIT; the checkpoint under OpenGVLab's terms",
        "model zoo of OpenGVLab/VideoMAEv2, behind a request form (4 GB)",
    ),
    "clip": Weights(
        "CLIP (image and text tower)",
        ("clip-vit-large-patch14", "clip-vit-base-patch32", "clip-vit-base-patch16"),
        "MIT",
        _HUB.format("openai/clip-vit-large-patch14"),
    ),
    "clip_t5": Weights(
        "CLIP-FlanT5 (VQAScore)",
        ("clip-flant5-xxl", "clip-flant5-xl"),
        "Apache-2.0",
        _HUB.format("zhiqiulin/clip-flant5-xxl") + ", with spiece.model of google/flan-t5-xxl; "
        "openai/clip-vit-large-patch14-336 as its folder vision_tower where no tower is in it",
    ),
    "roberta": Weights(
        "RoBERTa-large (BERTScore, English)",
        ("roberta-large",),
        "MIT",
        _HUB.format("FacebookAI/roberta-large"),
    ),
    "bert_zh": Weights(
        "BERT-base Chinese (BERTScore, Chinese)",
        ("bert-base-chinese",),
        "Apache-2.0",
        _HUB.format("google-bert/bert-base-chinese"),
    ),
}


def require(keys: Iterable[str], folder: Path | None, metric: str) -> dict[str, Path]:
    """The files of these networks, by key.

    Raises:
      FileNotFoundError: one is missing; the message names the file and where users get it.
      ValueError: a name that is not in the table.
    """
    found = {}
    for key in keys:
        if key not in WEIGHTS:
            raise ValueError(unknown_name("weights", key, WEIGHTS))
        entry = WEIGHTS[key]
        path = entry.find(folder)
        if path is None:
            first, *others = entry.names
            where = f"{folder / first} is missing" if folder else "no --weights folder was given"
            also = f" (or {', '.join(others)})" if others else ""
            raise FileNotFoundError(
                f"{metric} needs {entry.title}: {where}. Put {first}{also} into the folder given "
                f"by --weights. Usual source: {entry.source}. Licence: {entry.licence}. Nothing is "
                "downloaded and nothing takes its place; `ffa-sora weights` lists all files."
            )
        found[key] = path
    return found


def fingerprint(path: Path) -> str:
    """Hex SHA-256 of a file, or of the names and bytes of a folder's model files."""
    if path.is_file():
        return _file_sha256(path)
    digest = hashlib.sha256()
    for part in sorted(path.rglob("*")):  # parts may lie in folders of their own
        if part.is_file() and part.suffix in _FOLDER_SUFFIXES:
            name = part.relative_to(path).as_posix()
            digest.update(f"{name} {_file_sha256(part)}\n".encode())
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    """Large files are read once; one that was changed has another time or size."""
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@functools.cache
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    del mtime_ns, size  # keys of the cache
    return files.sha256(path)


def check(entry: Weights, path: Path) -> str | None:
    """What is wrong with a file: empty, or not of the hash that is known; None for nothing."""
    if not path.is_file():
        return None
    if not path.stat().st_size:
        return "it is empty; copy or download it again"
    known = entry.sha256.get(path.name)
    if known is None:
        return None
    found = fingerprint(path)
    if found.startswith(known):
        return None
    return (
        f"its SHA-256 starts with {found[: len(known)]}, the published file's with {known}: it is "
        "damaged, cut short, or another file"
    )
