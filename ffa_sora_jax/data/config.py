"""`config.data`: which clips, in which form."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffa_sora_jax.common import names, sections
from ffa_sora_jax.data import mixture, prepared
from ffa_sora_jax.data.prepared import ExampleInfo

CHOICES = ("stored", *prepared.LANGUAGES, "both")
NAME = "{name}"  # in `data.latents`: the name of the dataset


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """`config.data`. Empty strings, empty tuples and None all mean "not used".

    Attributes:
      name: dataset and configuration, such as "phantom/64" or "hospital_exams/512".
      mixture: pairs of a dataset and its weight to train on instead of `name`, such as
        (("phantom/64", 1.0), ("hospital_exams/64", 3.0)). Evaluation reads `name` alone.
      data_dir: folder given to `ffa-sora prepare --data-dir`.
      split: split to train on.
      eval_split: split to evaluate on.
      res: pixels per side; must be those of the dataset.
      num_frames: frames per clip; fewer than stored are spread evenly over the clip.
      channels: 1, or 3 to repeat the grey picture for a VAE made for colour.
      flip: mirror half of the training clips, and swap the sides in their reports.
      language: which report of a clip: "stored" as the dataset's own, "en" or "zh" always that
        one, "both" to draw one of the two anew in every epoch of training.
      text_length: tokens per report, padded; 0 for clips without text.
      truncate: cut longer reports; otherwise they are an error.
      tokenizer: folder or file of a tokenizer; None is the one that ships with the package.
      latents: folder made by `ffa-sora prepare latents`; its moments replace the training video.
        "{name}" in it stands for the name of the dataset, which a mixture needs.
      text_embeddings: folder made by `ffa-sora prepare text`, for one dataset or several.
      text_encoder: fingerprint that the stored embeddings must have; None accepts any.
      diseases: names that clips are labelled with, for tasks that learn to tell them; with it the
        eye is a label too. Empty for clips without labels.
      check_reports: look through all reports and labels first, so that none can stop the run
        later; takes about 15 ms per clip of 512 px, on one process.
      threads: reader threads.
      prefetch: batches read ahead.
    """

    name: str = "phantom/64"
    mixture: tuple[Any, ...] = ()
    data_dir: str = "data"
    split: str = "train"
    eval_split: str = "validation"
    res: int = 64
    num_frames: int = 21
    channels: int = 1
    flip: bool = True
    language: str = "stored"
    text_length: int = 256
    truncate: bool = False
    tokenizer: str | None = None
    latents: str | None = None
    text_embeddings: str | None = None
    text_encoder: str | None = None
    diseases: tuple[str, ...] = ()
    check_reports: bool = True
    threads: int = 2
    prefetch: int = 4

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> "DataConfig":
        """Reads a config section; an unknown key is an error that names near matches.

        Raises:
          ValueError: unknown key or choice, or a value of a wrong type.
        """
        cfg = sections.read(cls, section, "data")
        if cfg.language not in CHOICES:
            raise ValueError(names.unknown_name("data.language", cfg.language, CHOICES))
        if cfg.text_length < 0:
            raise ValueError(
                f"data.text_length is {cfg.text_length}; it must be positive, or 0 for no text."
            )
        if cfg.channels not in (1, 3):
            raise ValueError(f"data.channels is {cfg.channels}; it must be 1 or 3.")
        if len(mixture.read_weights(cfg.mixture)) > 1 and cfg.latents and NAME not in cfg.latents:
            raise ValueError(
                f"data.latents is {cfg.latents!r}, but every dataset of data.mixture has its own: "
                f"write {NAME} for the dataset, such as data/latents/{NAME}."
            )
        return cfg

    def latents_folder(self, name: str) -> Path:
        """The folder of a dataset's latents."""
        return Path((self.latents or "").replace(NAME, name))


def choose(info: ExampleInfo, language: str) -> list[str]:
    """The reports of a clip that `data.language` may take, the stored one first.

    Empty where there is none in that language.
    """
    reports = info.reports
    if language in prepared.LANGUAGES:
        return [reports[language]] if language in reports else []
    return list(reports.values()) if language == "both" else [info.report]
