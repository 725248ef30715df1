"""Report in, angiogram video out.

    report -> tokens -> T5 -> [noise -> sampler(DiT)] -> latent -> WF-VAE decoder -> 21 frames

`TextToVideo.from_pretrained()` opens the weights that ship with the package; a folder written by
`ffa-sora export` opens the same way. Shapes: b batch, t frames, h w space, c channels, l tokens.
"""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import compiler
from ffa_sora_jax.common.types import Array, Params
from ffa_sora_jax.convert.pretrained import Pretrained, from_pretrained, save_pretrained
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.diffusion.sampler import Sampler
from ffa_sora_jax.pipelines import folder as folders
from ffa_sora_jax.pipelines.folder import SamplingConfig
from ffa_sora_jax.pipelines.result import VideoResult

SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "phantom64"
MAX_SEED = 2**32 - 1


class TextToVideo:
    """A text encoder, a diffusion transformer and a video VAE, with their tokenizer and sampler.

    A video depends on its report, its seed and the settings of the call, never on what else is
    sampled with it: every row draws its noise from its own key, and every batch is filled up to
    the same size. (Between two batch sizes the result agrees to rounding.)

    Attributes:
      parts: "vae", "transformer" and "text_encoder", each with `.bundle`, `.params`, `.cfg`.
      tokenizer: reports to token ids.
      sampling: defaults of sampling, size and frame times.
      fingerprint: short hex hash of all weights.
    """

    def __init__(
        self, parts: dict[str, Pretrained], tokenizer: Tokenizer, sampling: SamplingConfig
    ):
        for name, classes in folders.PARTS.items():
            if name not in parts:
                raise ValueError(f"A pipeline needs {', '.join(folders.PARTS)}; missing: {name}.")
            if (given := parts[name].class_name) not in classes:
                raise ValueError(
                    f"{name} is of class {given!r}; this pipeline takes {', '.join(classes)}."
                )
        self.parts = parts
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.fingerprint = _fingerprint(parts)
        self._latent_shape = _latent_shape(parts["vae"], sampling)
        self._sample = jax.jit(self._sample_latents, static_argnames="sampler")
        # Apart: other settings need no new decoder.
        self._decode = jax.jit(self._decode_frames, compiler_options=compiler.options())

    @classmethod
    def from_pretrained(cls, directory: str | Path | None = None) -> "TextToVideo":
        """Opens a pipeline folder; None opens the weights that ship with the package.

        Raises:
          FileNotFoundError: the folder or a part of it is missing.
          ValueError: a part is corrupt, of the wrong class, or does not fit its config.
        """
        root = SHIPPED if directory is None else Path(directory)
        folders.check_folder(root)
        parts = {name: from_pretrained(root / name) for name in folders.PARTS}
        return cls(parts, Tokenizer.load(root / "tokenizer"), folders.read_sampling(root))

    def save(self, directory: str | Path, *, dtype: str | None = None, **about: Any) -> None:
        """Writes the folder that `from_pretrained` opens.

        Args:
          directory: a new or empty folder.
          dtype: dtype of the stored weights; None stores them as they are.
          **about: facts for the index, such as the training step.

        Raises:
          ValueError: the folder holds a pipeline already.
        """
        root = Path(directory)
        if (root / folders.INDEX).exists():
            raise ValueError(f"{root} holds a pipeline already; give a new folder.")
        for name in folders.PARTS:
            save_pretrained(self.parts[name], root / name, dtype)
        self.tokenizer.save(root / "tokenizer")
        folders.write_sampling(root, self.sampling)
        stored = {name: from_pretrained(root / name) for name in folders.PARTS}  # as others open it
        names = {name: part.class_name for name, part in stored.items()}
        folders.write_index(root, names, fingerprint=_fingerprint(stored), **about)

    def __call__(
        self,
        report: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        batch_size: int = 1,
    ) -> Any:
        """Samples one video per report.

        Args:
          report: one report, or several.
          seed: 0 .. 2**32 - 1; one for all, or one per report.
          num_steps: steps of the sampler; None is the model's default.
          guidance_scale: classifier-free guidance; 1 is none, None is the model's default.
          sampler: name of a sampler; None is the model's default.
          batch_size: rows per pass. More is faster on accelerators, and needs more memory.

        Returns:
          A `VideoResult`, or a list of them if `report` is a list.

        Raises:
          ValueError: an empty or over-long report, a bad seed or setting.
        """
        reports = [report] if isinstance(report, str) else list(report)
        seeds = [seed] * len(reports) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(reports):
            raise ValueError(f"{len(seeds)} seeds for {len(reports)} reports; give one per report.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        for text, number in zip(reports, seeds, strict=True):
            self.check_report(text)
            if not 0 <= number <= MAX_SEED:
                raise ValueError(f"seed is {number}; it must lie in 0 .. {MAX_SEED}.")
        method = self.sampling.make_sampler(
            sampler=sampler, num_steps=num_steps, guidance_scale=guidance_scale
        )
        results: list[VideoResult] = []
        for start in range(0, len(reports), batch_size):
            chosen = slice(start, start + batch_size)
            results += self._run_batch(reports[chosen], seeds[chosen], method, batch_size)
        return results[0] if isinstance(report, str) else results

    def check_report(self, report: str) -> None:
        """Raises ValueError if a report is empty or has more tokens than the model reads."""
        if not report.strip():
            raise ValueError("The report is empty; write what the angiogram should show.")
        length = int(self.tokenizer.lengths([report])[0])
        if length > self.sampling.text_length:
            raise ValueError(
                f"The report has {length} tokens; this model reads at most "
                f"{self.sampling.text_length}. Shorten it."
            )

    def _run_batch(
        self, reports: list[str], seeds: list[int], sampler: Sampler, batch_size: int
    ) -> list[VideoResult]:
        """Fills the batch up with its last row, samples it, and drops the filling."""
        filling = batch_size - len(reports)
        texts = reports + reports[-1:] * filling
        keys = [row_key(s, r) for s, r in zip(seeds + seeds[-1:] * filling, texts, strict=True)]
        text = self.tokenizer.encode(texts, self.sampling.text_length)
        empty = self.tokenizer.encode(
            [""] * batch_size, self.sampling.text_length, allow_empty=True
        )
        params = {name: part.params for name, part in self.parts.items()}
        latent = self._sample(params, text, empty, jnp.stack(keys), sampler=sampler)
        frames, finite = (np.asarray(x) for x in self._decode(params["vae"], latent))
        return [
            VideoResult(
                video=frames[i],
                times_s=np.asarray(self.sampling.times_s, np.float32),
                report=reports[i],
                seed=seeds[i],
                settings=describe(sampler),
                fingerprint=self.fingerprint,
                finite=bool(finite[i]),
            )
            for i in range(len(reports))
        ]

    def _sample_latents(
        self,
        params: dict[str, Params],
        text: tuple[Array, Array],
        empty: tuple[Array, Array],
        keys: Array,
        *,
        sampler: Sampler,
    ) -> Array:
        """Token ids and masks (b, l), and keys (b,), to normalised latents (b, t', h', w', c')."""
        apply = {name: part.bundle.apply for name, part in self.parts.items()}

        def condition(tokens: tuple[Array, Array]) -> dict[str, Array]:
            ids, mask = tokens
            hidden = apply["text_encoder"](params["text_encoder"], ids, mask)
            return {"text": hidden, "mask": mask}  # (b, l, d), (b, l)

        def denoise(x_t: Array, t: Array, cond: dict[str, Array]) -> Array:
            return apply["transformer"](params["transformer"], x_t, t, cond["text"], cond["mask"])

        def draw(step: Array) -> Array:  # every row from its own key: neighbours change nothing
            row_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step)
            normal = functools.partial(jax.random.normal, shape=self._latent_shape)
            return jax.vmap(normal)(row_keys)

        steps = jnp.arange(sampler.num_steps + 1)
        step_noise = jax.vmap(draw)(steps[1:]) if sampler.stochastic else None
        uncond = None if sampler.guidance.scale == 1.0 else condition(empty)
        latent = sampler(
            denoise, None, draw(steps[0]), condition(text), uncond, step_noise=step_noise
        )
        return latent  # type: ignore[return-value]

    def _decode_frames(self, params: Params, latent: Array) -> tuple[Array, Array]:
        """Normalised latents to grey frames (b, t, h, w) uint8, and whether each row is finite."""
        apply = self.parts["vae"].bundle.apply
        raw = apply(params, latent, method="denormalize")
        video = apply(params, raw, method="decode")  # (b, t, h, w, c) in [-1, 1]
        finite = jnp.isfinite(video).all(axis=(1, 2, 3, 4))
        grey = video.astype(jnp.float32).mean(axis=-1)  # (b, t, h, w)
        return jnp.clip(jnp.round((grey + 1.0) * 127.5), 0, 255).astype(jnp.uint8), finite


def _fingerprint(parts: dict[str, Pretrained]) -> str:
    joined = "".join(parts[name].fingerprint for name in folders.PARTS)
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _latent_shape(vae: Pretrained, sampling: SamplingConfig) -> tuple[int, ...]:
    """Shape of one latent, (t', h', w', c'); the VAE refuses sizes that it cannot take."""
    shape = (1, sampling.num_frames, sampling.size, sampling.size, sampling.channels)
    video = jax.ShapeDtypeStruct(shape, jnp.float32)
    encode = functools.partial(vae.bundle.apply, method="encode")
    mean, _ = jax.eval_shape(encode, vae.params, video)
    return tuple(mean.shape[1:])


def row_key(seed: int, report: str) -> jax.Array:
    """The PRNG key of one row: a function of its seed and its report alone."""
    digest = hashlib.sha256(report.encode("utf-8")).digest()
    key = jax.random.fold_in(jax.random.key(0), np.uint32(seed))
    return jax.random.fold_in(key, np.uint32(int.from_bytes(digest[:4], "little")))


def describe(sampler: Sampler) -> dict[str, Any]:
    """The settings of a sampler as they go into the sidecar of a video."""
    return {
        "sampler": sampler.name,
        "num_steps": sampler.num_steps,
        "spacing": sampler.spacing,
        "prediction": sampler.prediction,
        "guidance_scale": sampler.guidance.scale,
        "guidance_rescale": sampler.guidance.rescale,
        "guidance_interval": list(sampler.guidance.interval),
    }
