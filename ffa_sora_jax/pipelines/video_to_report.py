"""Angiogram video in, report out.

    21 frames -> ViT -> BERT decoder -> tokens -> text

`VideoToReport.from_pretrained()` opens the captioner that ships with the package, which was trained
on phantoms; a folder written by `ffa-sora export` or a BLIP folder opens the same way.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import compiler, files
from ffa_sora_jax.convert.blip import CLASS_NAME
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained, save_pretrained
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.models.captioner import pick_frames

SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "captioner64"
WRITING_NAME = "generation_config.json"
MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Writing:
    """How reports are written; the keys of a generation_config.json.

    Attributes:
      num_beams: beams of the search; 1 is greedy.
      length_penalty, early_stopping: see `models.generation.beam_search`.
      max_new_tokens: longest report, end of sequence included.
      do_sample: draw tokens at random instead of searching.
      temperature, top_k, top_p: of the draws, see `models.generation.sample`.
    """

    num_beams: int = 3
    length_penalty: float = 1.0
    early_stopping: bool = True
    max_new_tokens: int = 192
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("num_beams", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("do_sample", "early_stopping"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give true or false.")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be positive.")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_k is {self.top_k} and top_p {self.top_p}; top_k is 0 for all tokens or "
                "more, top_p lies in 0 .. 1 and is not 0."
            )


class VideoToReport:
    """A captioner with its tokenizer.

    A report depends on its video, the settings, and the seed where tokens are drawn; never on what
    else is read with it.

    Attributes:
      model: the captioner, with `.bundle`, `.params`, `.cfg`.
      tokenizer: token ids to reports.
      writing: defaults of the calls.
      fingerprint: short hex hash of the weights.
    """

    def __init__(self, model: Pretrained, tokenizer: Tokenizer, writing: Writing):
        if model.class_name != CLASS_NAME:
            raise ValueError(f"A {model.class_name} writes no reports; give a {CLASS_NAME}.")
        cfg = model.cfg
        tokenizer.check(cfg.vocab_size, eos_id=cfg.eos_id, pad_id=cfg.pad_id)
        self.model = model
        self.tokenizer = tokenizer
        self.writing = dataclasses.replace(
            writing, max_new_tokens=min(writing.max_new_tokens, cfg.max_positions)
        )
        self.fingerprint = model.fingerprint

    @classmethod
    def from_pretrained(cls, directory: str | Path | None = None) -> "VideoToReport":
        """Opens a folder with model and tokenizer; None opens the captioner that ships.

        Raises:
          FileNotFoundError: the folder, its weights or its tokenizer is missing.
          ValueError: they are corrupt, of another class, or do not fit one another.
        """
        root = SHIPPED if directory is None else Path(directory)
        return cls(from_pretrained(root), Tokenizer.load(root), _read_writing(root))

    def save(self, directory: str | Path, *, dtype: str | None = None) -> None:
        """Writes the folder that `from_pretrained` opens; `dtype` is that of the stored weights."""
        root = Path(directory)
        save_pretrained(self.model, root, dtype)
        self.tokenizer.save(root)
        files.write_json(root / WRITING_NAME, dataclasses.asdict(self.writing))

    def __call__(self, video: Any, *, seed: int = 0, batch_size: int = 1, **writing: Any) -> Any:
        """Writes one report per video.

        Args:
          video: (t, h, w) or (t, h, w, c) uint8, or the path of a video; or a list of these.
          seed: 0 .. 2**32 - 1, for `do_sample=True`; the same for all videos.
          batch_size: videos per pass.
          **writing: fields of `Writing`, in place of the model's own.

        Returns:
          A string, or a list of them if `video` is a list.

        Raises:
          FileNotFoundError, ValueError: a video that is not there, or is none; a bad setting.
        """
        several = isinstance(video, list | tuple)
        videos = list(video) if several else [video]
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed is {seed}; it must lie in 0 .. {MAX_SEED}.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        settings = self.settings(**writing)
        reports: list[str] = []
        for start in range(0, len(videos), batch_size):
            chunk = [self._prepare(one) for one in videos[start : start + batch_size]]
            reports += self._write(chunk, settings, seed, batch_size)
        return reports if several else reports[0]

    def reports(
        self, names: Sequence[str], videos: Sequence[Callable[[], np.ndarray]]
    ) -> list[str]:
        """One report per video, with the model's own settings; see `report_table.Reporter`."""
        del names
        return [self(read()) for read in videos]

    def settings(self, **writing: Any) -> Writing:
        """The settings of a call: the model's own, with what is given in their place.

        Raises:
          ValueError: unknown setting, or one that has no meaning.
        """
        known = {field.name for field in dataclasses.fields(Writing)}
        if unknown := sorted(set(writing) - known):
            raise ValueError(f"Unknown settings {unknown}; allowed: {sorted(known)}.")
        given = {k: v for k, v in writing.items() if v is not None}
        settings = dataclasses.replace(self.writing, **given)
        if settings.max_new_tokens > (limit := self.model.cfg.max_positions):
            raise ValueError(
                f"max_new_tokens is {settings.max_new_tokens}; this model writes at most {limit}."
            )
        return settings

    def _prepare(self, video: Any) -> np.ndarray:
        """The frames that are looked at, (t, h, w, c) uint8 with c = 1 or as the model has."""
        if isinstance(video, str | Path):
            from ffa_sora_jax.video.io import load_video

            video = load_video(video)[0]
        video = np.asarray(video)
        video = video[..., None] if video.ndim == 3 else video
        if video.ndim != 4 or video.dtype != np.uint8 or not video.size:
            raise ValueError(
                f"The video has shape {video.shape} and dtype {video.dtype}; expected (t, h, w) "
                "or (t, h, w, c) of uint8."
            )
        cfg = self.model.cfg
        video = video[pick_frames(len(video), cfg.num_frames * cfg.stack)]
        if video.shape[-1] == 3 and cfg.stack > 1:  # grey, by the eye's weights for colours
            video = np.rint(video @ np.array([0.299, 0.587, 0.114]))[..., None].astype(np.uint8)
        return video

    def _write(
        self, videos: Sequence[np.ndarray], settings: Writing, seed: int, batch_size: int
    ) -> list[str]:
        """Reports of up to `batch_size` clips; clips of one size go through the model together."""
        texts: dict[int, str] = {}
        shapes = sorted({video.shape for video in videos})
        for shape in shapes:
            rows = [i for i, video in enumerate(videos) if video.shape == shape]
            filled = [*rows, *[rows[-1]] * (batch_size - len(rows))]  # one program for all sizes
            batch = np.stack([videos[i] for i in filled])
            keys = jnp.stack([_video_key(seed, videos[i]) for i in filled])
            ids = np.asarray(self._compiled(settings)(self.model.params, batch, keys))
            texts.update(zip(rows, self.tokenizer.decode(ids[: len(rows)]), strict=True))
        return [texts[i] for i in range(len(videos))]

    @functools.lru_cache(maxsize=8)  # noqa: B019 (as long as the pipeline, one per setting)
    def _compiled(self, settings: Writing) -> Any:
        """(params, uint8 video (b, t, h, w, c), keys (b,)) -> ids (b, l), one text per clip."""
        apply, length = self.model.bundle.apply, settings.max_new_tokens

        def write(params: Any, video: jax.Array, keys: jax.Array) -> jax.Array:
            video = video.astype(jnp.float32) / 127.5 - 1.0
            if settings.do_sample:
                ids, _ = apply(
                    params, video, keys, method="sample", samples=1, length=length,
                    temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p,
                )  # fmt: skip
            else:
                ids, _ = apply(
                    params, video, method="search", beams=settings.num_beams, length=length,
                    length_penalty=settings.length_penalty, early_stopping=settings.early_stopping,
                )  # fmt: skip
            return ids[:, 0]

        return jax.jit(write, compiler_options=compiler.options())


def _video_key(seed: int, video: np.ndarray) -> jax.Array:
    """The PRNG key of one clip: a function of the seed and its pixels alone."""
    digest = hashlib.sha256(video.tobytes()).digest()
    key = jax.random.fold_in(jax.random.key(0), np.uint32(seed))
    return jax.random.fold_in(key, np.uint32(int.from_bytes(digest[:4], "little")))


def _read_writing(root: Path) -> Writing:
    """Settings of the folder; keys that only other libraries use are passed over."""
    path = root / WRITING_NAME
    if not path.is_file():
        return Writing()
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in dataclasses.fields(Writing)}
        return Writing(**{k: v for k, v in given.items() if k in known and v is not None})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
