"""BERTScore: how well the tokens of two texts match in context (arXiv 1904.09675).

Every token of a text is matched with the most similar token of the other one:

    P = sum_i w_i max_j cos(candidate_i, reference_j)      w_i sum to 1
    R = sum_j w_j max_i cos(candidate_i, reference_j)      F = 2 P R / (P + R)

Tokens are the hidden states of one layer. The tokens that begin and end a text can be matched, but
have no weight; the others weigh the same, or by their rarity among the references (idf).

Raw values of unrelated texts lie near 0.83 for RoBERTa-large: they are rescaled by that baseline,
(x - b) / (1 - b), to be readable. The paper's 0.35 is plausible as a rescaled value only.

Axes: b pairs of texts, l tokens of a text, d width.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import compiler
from ffa_sora_jax.common.types import Array, Clip
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained
from ffa_sora_jax.metrics import text_tokens, weights
from ffa_sora_jax.metrics.base import OfTexts
from ffa_sora_jax.models.bert import Bert
from ffa_sora_jax.models.bundle import Bundle

# Layer that correlates best with human judgement, by model (the authors' choice).
LAYERS = {
    "roberta-large": 17, "roberta-base": 10, "distilroberta-base": 5, "bert-base-uncased": 9,
    "bert-large-uncased": 18, "bert-base-chinese": 8, "bert-base-multilingual-cased": 9,
    "xlm-roberta-large": 17, "scibert_scivocab_uncased": 8,
}  # fmt: skip
# Mean P, R, F of unrelated sentences at that layer, by model and language (published, MIT).
BASELINES = {
    ("roberta-large", "en"): (0.83150584, 0.8314941, 0.83122575),
    ("roberta-base", "en"): (0.8146725, 0.8146619, 0.814463),
    ("bert-base-uncased", "en"): (0.35375935, 0.3537393, 0.35219112),
    ("bert-large-uncased", "en"): (0.4278576, 0.42786714, 0.42646673),
    ("bert-base-chinese", "zh"): (0.54804957, 0.5480091, 0.54755783),
    ("bert-base-multilingual-cased", "zh"): (0.62840384, 0.62833464, 0.62803453),
    ("bert-base-multilingual-cased", "en"): (0.6320527, 0.6320019, 0.63146895),
    ("xlm-roberta-large", "en"): (0.85291016, 0.8529066, 0.8525485),
    ("scibert_scivocab_uncased", "en"): (0.5335945, 0.5336341, 0.5322364),
}
_BUCKET = 64  # texts are padded to multiples of this, so that few programs are compiled
_BEFORE_NUMBER = r"(?:^|(?<=[\s:;@\uff1a\uff1b\u3002]))"
_NUMBERING = re.compile(_BEFORE_NUMBER + r"[(\uff08]?\d{1,2}[).\uff09\u3001](?!\d)")
_EYE = re.compile(r"\b(?:(?:right|left|both) eyes?|OD|OS|OU)\b|[\u5de6\u53f3\u53cc]\u773c", re.I)


@dataclasses.dataclass(frozen=True)
class Idf:
    """Weights of tokens by their rarity: ln((N + 1) / (df + 1)), df of N texts hold the token.

    Attributes:
      table: weight by token id.
      unseen: weight of any other.
    """

    table: Mapping[int, float]
    unseen: float

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> "Idf":
        """The weights of the tokens of reference texts, given as token ids."""
        count: dict[int, int] = {}
        for ids in texts:
            for token in set(ids):
                count[token] = count.get(token, 0) + 1
        total = len(texts) + 1
        table = {token: math.log(total / (df + 1)) for token, df in count.items()}
        return cls(table, math.log(total))

    def weight(self, token: int) -> float:
        """The weight of one token id."""
        return self.table.get(token, self.unseen)


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the first layers of its model.

    Attributes:
      model: BERT or RoBERTa, cut behind the layer that is used.
      tokenizer: as `transformers` opens it.
      leading_space: a blank stands before every text (byte-level RoBERTa).
      idf: weights of tokens, or None for equal ones.
    """

    model: Pretrained
    tokenizer: Any
    leading_space: bool = False
    idf: Idf | None = None

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids with those that begin and end a text, cut at the longest that the model reads.

        Raises:
          ValueError: the tokenizer gives ids that the model does not have.
        """
        cfg = self.model.cfg
        longest = cfg.max_position_embeddings - cfg.position_offset
        text = " " * self.leading_space + text.strip()
        limit = min(longest, int(self.tokenizer.model_max_length))
        ids = tuple(self.tokenizer(text, truncation=True, max_length=limit)["input_ids"])
        if max(ids) >= cfg.vocab_size:
            raise ValueError(
                f"The tokenizer gives id {max(ids)}, the model has {cfg.vocab_size}: they are not "
                "of the same model."
            )
        return ids

    def embed(self, ids: tuple[int, ...]) -> np.ndarray:
        """(l, d) float32 hidden states of one text; depends on nothing else."""
        cfg = self.model.cfg
        longest = cfg.max_position_embeddings - cfg.position_offset
        padded = np.zeros((1, min(-(-len(ids) // _BUCKET) * _BUCKET, longest)), np.int32)
        padded[0, : len(ids)] = ids
        mask = np.arange(padded.shape[1])[None] < len(ids)
        return np.asarray(self.model(padded, mask))[0, : len(ids)]

    def weigh(self, ids: tuple[int, ...]) -> np.ndarray:
        """(l,) float32 weights of the tokens of one text."""
        if self.idf is not None:
            return np.array([self.idf.weight(token) for token in ids], np.float32)
        ends = (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        return np.array([token not in ends for token in ids], np.float32)


@dataclasses.dataclass(frozen=True)
class BERTScore(OfTexts):
    """BERTScore of candidate reports against reference reports; the main value is F.

    Rows hold raw P, R and F. The raw values are those of the original code for batches that hold
    any padding: a token that resembles no other counts 0, not less. Every pair is computed alone,
    so that no value depends on the batch.

    Attributes:
      baseline: P, R and F of unrelated texts, to rescale by; None for raw values.
      idf: weigh tokens by their rarity among the references.
      clean: leave out what reports differ in by convention, see `cleaned`.
    """

    baseline: tuple[float, float, float] | None = None
    idf: bool = False
    clean: bool = False
    name = "bertscore"
    higher_is_better = True
    value_range = (-math.inf, 1.0)  # unrelated texts may lie below the baseline
    against = "text"

    def setup(self, params: TextEncoder, references: Sequence[Any]) -> TextEncoder:
        """The encoder with weights of tokens from all references, where these are asked for."""
        if not self.idf:
            return params
        texts = [text for item in references for text in _several(item)]
        return dataclasses.replace(
            params, idf=Idf.of([params.tokens(self._text(text)) for text in texts])
        )

    def measure(
        self, texts: Sequence[str], against: Sequence[Any] | Clip, params: TextEncoder
    ) -> np.ndarray:
        """Raw P, R and F.

        Args:
          texts: b candidates.
          against: b references; where one is a sequence of texts, the best of each value counts.
          params: the encoder, see `setup`.

        Returns:
          (b, 3) float32.

        Raises:
          ValueError: idf was asked for and `setup` was not called, or the numbers differ.
        """
        if isinstance(against, Clip):
            raise ValueError("BERTScore compares a text with a text, not with a clip.")
        if self.idf and params.idf is None:
            raise ValueError("BERTScore with idf needs setup(params, references) first.")
        encode = functools.cache(lambda text: _encoded(params, self._text(text)))
        rows = [
            np.max([_match(encode(text), encode(other)) for other in _several(references)], axis=0)
            for text, references in zip(texts, against, strict=True)
        ]
        return np.stack(rows)

    def value(self, rows: np.ndarray) -> dict[str, float]:
        """Mean F (rescaled where there is a baseline), precision, recall, and the raw F."""
        raw = np.asarray(rows, np.float64).mean(0)
        p, r, f = raw if self.baseline is None else rescale(raw, self.baseline)
        return {
            "bertscore": float(f), "bertscore_precision": float(p), "bertscore_recall": float(r),
            "bertscore_raw": float(raw[2]),
        }  # fmt: skip

    def _text(self, text: str) -> str:
        return cleaned(text) if self.clean else text


def greedy_match(
    candidate: Array, candidate_mask: Array, candidate_weights: Array,
    reference: Array, reference_mask: Array, reference_weights: Array,
) -> jax.Array:  # fmt: skip
    """P, R and F of embedded texts.

    Args:
      candidate: (b, l, d) embeddings of any length.
      candidate_mask: (b, l), true on tokens; rows of padding are similar to nothing (0).
      candidate_weights: (b, l) weights, 0 on padding.
      reference, reference_mask, reference_weights: the same of the references, (b, l', ...).

    Returns:
      (b, 3) float32; 0 for a text of no more than its two ends.
    """
    x, y = (
        v / jnp.maximum(jnp.linalg.norm(v, axis=-1, keepdims=True), 1e-30)
        for v in (jnp.asarray(candidate, jnp.float32), jnp.asarray(reference, jnp.float32))
    )
    both = jnp.asarray(candidate_mask, bool)[:, :, None] & reference_mask[:, None, :]
    similarity = jnp.where(both, jnp.einsum("bld,bmd->blm", x, y), 0.0)
    p = _weighted(similarity.max(2), jnp.asarray(candidate_weights))
    r = _weighted(similarity.max(1), jnp.asarray(reference_weights))
    shortest = jnp.minimum(candidate_mask.sum(1), reference_mask.sum(1))
    p, r = jnp.where(shortest > 2, jnp.stack([p, r]), 0.0)
    f = 2 * p * r / jnp.where(p + r == 0, 1.0, p + r)
    return jnp.stack([p, r, f], axis=1)


def rescale(raw: np.ndarray, baseline: Sequence[float]) -> np.ndarray:
    """(..., 3) raw P, R, F -> (x - b) / (1 - b)."""
    b = np.asarray(baseline, np.float64)
    return (np.asarray(raw, np.float64) - b) / (1.0 - b)


def cleaned(text: str) -> str:
    """A report without the numbers of its list, its words for the eye, and "@" between its parts.

    Prompts and generated reports differ in these by convention, whatever the angiogram shows.
    """
    text = _EYE.sub(" ", _NUMBERING.sub(" ", text)).replace("@", " ")
    return re.sub(r"\s+", " ", text).strip(" ,;:\uff0c\uff1b\uff1a")


def load_english(folder: Path | None) -> tuple[BERTScore, TextEncoder]:
    """RoBERTa-large, layer 17, rescaled; for the registry."""
    return _load("roberta", "en", folder)


def load_english_clean(folder: Path | None) -> tuple[BERTScore, TextEncoder]:
    """The same of texts without what they differ in by convention; for the registry."""
    metric, encoder = load_english(folder)
    return dataclasses.replace(metric, clean=True), encoder


def load_chinese(folder: Path | None) -> tuple[BERTScore, TextEncoder]:
    """BERT-base Chinese, layer 8, rescaled; for the registry."""
    return _load("bert_zh", "zh", folder)


def open_encoder(folder: Path, layer: int | None = None) -> TextEncoder:
    """The first layers of a BERT or RoBERTa folder, with its tokenizer.

    Args:
      folder: Hugging Face style folder with its tokenizer files.
      layer: how many layers; None for the one listed for the folder's name.

    Raises:
      FileNotFoundError, ValueError: see `convert.from_pretrained`; and ValueError where the folder
        holds another kind of model, or no layer is known.
    """
    if layer is None and folder.name not in LAYERS:
        raise ValueError(
            f"No layer is known for {folder.name!r}; give one, or name the folder after its model: "
            f"{', '.join(LAYERS)}."
        )
    layer = LAYERS[folder.name] if layer is None else layer
    tokenizer = text_tokens.open_tokenizer(folder)
    whole = from_pretrained(folder)
    if whole.bundle.module is not Bert:
        raise ValueError(f"{folder} holds a {whole.class_name}; BERTScore needs BERT or RoBERTa.")
    if not 0 <= layer <= whole.cfg.num_hidden_layers:
        raise ValueError(f"layer={layer}; {folder.name} has 0 .. {whole.cfg.num_hidden_layers}.")
    cfg = dataclasses.replace(whole.cfg, num_hidden_layers=layer, pooler=False)
    params = {name: whole.params[name] for name in ("embeddings", "layers")}
    params["layers"] = jax.tree.map(lambda leaf: leaf[:layer], params["layers"])
    model = Pretrained(whole.class_name, Bundle.create(Bert, cfg), params)
    return TextEncoder(model, tokenizer, whole.class_name.startswith("Roberta"))


def _load(key: str, language: str, folder: Path | None) -> tuple[BERTScore, TextEncoder]:
    path = weights.require((key,), folder, "BERTScore")[key]
    return BERTScore(BASELINES[path.name, language]), open_encoder(path)


def _several(item: Any) -> Sequence[str]:
    return [item] if isinstance(item, str) else item


def _encoded(encoder: TextEncoder, text: str) -> tuple[np.ndarray, np.ndarray]:
    """(l, d) embeddings and (l,) weights."""
    ids = encoder.tokens(text)
    return encoder.embed(ids), encoder.weigh(ids)


def _match(
    candidate: tuple[np.ndarray, np.ndarray], reference: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """(3,) P, R, F of one pair; both are padded, so that no token counts less than 0."""
    longest = max(len(candidate[1]), len(reference[1])) + 1
    length = -(-longest // _BUCKET) * _BUCKET
    sides: list[np.ndarray] = []
    for x, w in (candidate, reference):
        fill = length - len(w)
        mask = np.arange(length) < len(w)
        sides += [np.pad(x, ((0, fill), (0, 0)))[None], mask[None], np.pad(w, (0, fill))[None]]
    return np.asarray(_jitted_match()(*sides))[0]


@functools.cache
def _jitted_match() -> Any:
    return jax.jit(greedy_match, compiler_options=compiler.options())


def _weighted(values: Array, weight: Array) -> jax.Array:
    """Mean of (b, l) by (b, l) weights; 0 where all weights are."""
    total = weight.sum(1)
    return (values * weight).sum(1) / jnp.where(total > 0, total, 1.0)
