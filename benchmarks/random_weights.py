"""A `--weights` folder with random weights for every metric, in the forms in which they come.

Values measured with them mean nothing. They show that the whole way is sound, from the file to the
page, and how long it takes: the networks of pictures have their published width, those of text are
narrow, for theirs fill 30 GB (`benchmarks.text_networks` runs them at full width).
"""

import json
import shutil
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import pre_tokenizers

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import engine, i3d, inception, lpips, safetensors_io
from ffa_sora_jax.convert.pretrained import create, save_pretrained
from ffa_sora_jax.models.bert import Bert, BertConfig
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.clip import CLIP, CLIPConfig, TextConfig
from ffa_sora_jax.models.clip_t5 import CLIPT5, CLIPT5Config
from ffa_sora_jax.models.i3d import I3D, I3DConfig
from ffa_sora_jax.models.inception import InceptionConfig, InceptionV3
from ffa_sora_jax.models.lpips import LPIPS, LPIPSConfig
from ffa_sora_jax.models.t5_decoder import T5DecoderConfig

ROBERTA_LAYERS, BERT_LAYERS = 17, 8  # those that BERTScore reads
SENTENCEPIECE_SIZE = 1600


def make(folder: Path, keys: Iterable[str]) -> None:
    """Writes the weights of these networks (keys of `metrics.weights.WEIGHTS`) to `folder`.

    Raises:
      KeyError: a key without a maker; VideoMAE's billion parameters have none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        _MAKERS[key](folder)


def draw(module: Any, cfg: Any) -> Any:
    """Parameters that keep activations of order 1 and tell inputs apart."""
    rng = np.random.default_rng(np.random.SeedSequence(0))

    def leaf(path: str, shape: Any) -> np.ndarray:
        values = rng.standard_normal(shape.shape, np.float32)
        if path.endswith(("scale", "variance")):
            return np.abs(values) + np.float32(0.5)
        if path.endswith(("bias", "mean")):
            return values * np.float32(0.02)
        return values / np.float32(max(1, int(np.prod(shape.shape[:-1])))) ** 0.5

    return tree.map_with_path(leaf, Bundle.create(module, cfg).abstract)


def _i3d(folder: Path) -> None:
    cfg = I3DConfig()
    _write(folder / "i3d.safetensors", i3d.rules(cfg), draw(I3D, cfg))


def _inception(folder: Path) -> None:
    params = draw(InceptionV3, InceptionConfig())
    _write(folder / "inception.safetensors", inception.RULES, params)


def _trunk(name: str, cfg: LPIPSConfig) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state = engine.to_state_dict(lpips.rules(cfg), draw(LPIPS, cfg))
        kept = {key: value for key, value in state.items() if key.startswith("features.")}
        safetensors_io.write_safetensors(folder / f"{name}.safetensors", kept)

    return write


def _clip(folder: Path) -> None:
    folder = folder / "clip-vit-base-patch32"
    letters = _bytes()
    ends = ["<|startoftext|>", "<|endoftext|>"]
    size = _write_bpe(folder, [*letters, *(f"{letter}</w>" for letter in letters), *ends])
    text = TextConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        vocab_size=size, max_position_embeddings=77, eos_token_id=size - 1,
    )  # fmt: skip
    _save(folder, "CLIPModel", CLIP, CLIPConfig.tiny(text=text))


def _roberta(folder: Path) -> None:
    folder = folder / "roberta-large"
    size = _write_bpe(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *_bytes()])
    cfg = BertConfig.tiny(
        vocab_size=size, position_offset=2, layer_norm_eps=1e-5, num_hidden_layers=ROBERTA_LAYERS,
        max_position_embeddings=514,
    )  # fmt: skip
    _save(folder, "RobertaModel", Bert, cfg)


def _bert(folder: Path) -> None:
    folder = folder / "bert-base-chinese"
    letters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    cfg = BertConfig.tiny(
        vocab_size=len(words), num_hidden_layers=BERT_LAYERS, max_position_embeddings=512
    )
    _save(folder, "BertModel", Bert, cfg)


def _clip_t5(folder: Path) -> None:
    folder = folder / "clip-flant5-xxl"
    folder.mkdir()
    shipped = resources.files("ffa_sora_jax") / "assets" / "tokenizer" / "spiece.model"
    shutil.copy(str(shipped), folder)
    cfg = CLIPT5Config.tiny(t5=T5DecoderConfig.tiny(vocab_size=SENTENCEPIECE_SIZE))
    _save(folder, "CLIPT5ForConditionalGeneration", CLIPT5, cfg)


_MAKERS: dict[str, Callable[[Path], None]] = {
    "i3d": _i3d,
    "inception": _inception,
    "alexnet": _trunk("alexnet", LPIPSConfig.alexnet()),
    "vgg16": _trunk("vgg16", LPIPSConfig.vgg16()),
    "clip": _clip,
    "clip_t5": _clip_t5,
    "roberta": _roberta,
    "bert_zh": _bert,
}


def _write(path: Path, rules: tuple[engine.Rule, ...], params: Any) -> None:
    safetensors_io.write_safetensors(path, dict(engine.to_state_dict(rules, params)))


def _save(folder: Path, class_name: str, module: Any, cfg: Any) -> None:
    save_pretrained(create(class_name, cfg, draw(module, cfg)), folder)


def _bytes() -> list[str]:
    """The signs that stand for the 256 bytes in byte-level vocabularies."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _write_bpe(folder: Path, pieces: list[str]) -> int:
    """A byte-level tokenizer without merges; returns the number of pieces."""
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return len(pieces)
