"""The folder of a whole pipeline: which part lies where, how it samples, and that it is intact.

model_index.json                 class names, and the SHA-256 of every file without its own
vae/  transformer/  text_encoder/  config.json and safetensors, which carry a checksum
tokenizer/                       the SentencePiece model
scheduler/scheduler_config.json  `SamplingConfig`
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ffa_sora_jax.common.files import sha256
from ffa_sora_jax.common.names import check_keys
from ffa_sora_jax.diffusion.guidance import Guidance
from ffa_sora_jax.diffusion.sampler import Sampler

PARTS = {  # folder name: the classes that it may hold
    "vae": ("WFVAEModel",),
    "transformer": ("OpenSoraT2V_v1_3",),
    "text_encoder": ("T5EncoderModel", "MT5EncoderModel"),
}
INDEX = "model_index.json"
SAMPLING = "scheduler/scheduler_config.json"
_INDEX_CLASS = "TextToVideo"
_SAMPLING_CLASS = "SamplingConfig"


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How a trained model is sampled.

    Attributes:
      schedule: noise schedule of the training, by name.
      prediction: what the network predicts: "v", "x0", "eps" or "flow".
      sampler: default sampler.
      spacing: which of the training times the steps visit.
      num_steps: default number of steps.
      guidance_scale: default classifier-free guidance; 1 is none.
      guidance_rescale: share of the guidance rescale.
      guidance_interval: noise fractions within which guidance acts.
      size: height and width of the video, pixels.
      num_frames: frames of the video.
      channels: channels of the VAE's video, 1 or 3; the result is grey in both cases.
      text_length: longest report, tokens.
      times_s: time of each frame, seconds, as in the training data.
    """

    schedule: str
    prediction: str
    sampler: str
    spacing: str
    num_steps: int
    guidance_scale: float
    size: int
    num_frames: int
    channels: int
    text_length: int
    times_s: tuple[float, ...]
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        for name in ("times_s", "guidance_interval"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if len(self.times_s) != self.num_frames:
            raise ValueError(
                f"times_s has {len(self.times_s)} entries for {self.num_frames} frames; "
                "give one time per frame."
            )
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}; a video has 1 or 3.")
        self.make_sampler()

    def make_sampler(
        self,
        *,
        sampler: str | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Sampler:
        """The sampler of these settings, with what the caller wants otherwise."""
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        return Sampler(
            name=sampler or self.sampler,
            num_steps=self.num_steps if num_steps is None else num_steps,
            schedule=self.schedule,
            prediction=self.prediction,
            spacing=self.spacing,
            guidance=Guidance(float(scale), self.guidance_rescale, self.guidance_interval),
        )


def read_sampling(folder: Path) -> SamplingConfig:
    """Reads `scheduler/scheduler_config.json`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: unknown or missing keys, or a value that has no meaning; names the file.
    """
    path = folder / SAMPLING
    values = _read_json(path)
    if (name := values.pop("_class_name", _SAMPLING_CLASS)) != _SAMPLING_CLASS:
        raise ValueError(f"{path} is of class {name!r}; expected {_SAMPLING_CLASS!r}.")
    fields = {field.name: field for field in dataclasses.fields(SamplingConfig)}
    check_keys(f"key in {path.name}", values, fields)
    required = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise ValueError(f"{path} lacks {', '.join(missing)}.")
    try:
        return SamplingConfig(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def write_sampling(folder: Path, sampling: SamplingConfig) -> None:
    """Writes `scheduler/scheduler_config.json`."""
    path = folder / SAMPLING
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"_class_name": _SAMPLING_CLASS, **dataclasses.asdict(sampling)}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def check_folder(folder: Path) -> None:
    """Checks that a folder is a pipeline, has every part, and that its weights are intact.

    Raises:
      FileNotFoundError: the folder, its index or a part is missing.
      ValueError: the index or a part is of another class, or a file differs from its
        recorded SHA-256.
    """
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(
            f"{folder} holds no {INDEX}; give a folder written by `ffa-sora export`."
        )
    index = _read_json(folder / INDEX)
    if index.get("_class_name") != _INDEX_CLASS:
        raise ValueError(
            f"{folder / INDEX} is of class {index.get('_class_name')!r}; expected {_INDEX_CLASS!r}."
        )
    for part in (*PARTS, "tokenizer", "scheduler"):
        if not (folder / part).is_dir():
            raise FileNotFoundError(f"{folder} lacks its part {part}/; copy the folder again.")
    for part, classes in PARTS.items():
        _check_class(folder / part / "config.json", classes)
    for name, digest in index.get("sha256", {}).items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; copy the folder again.")
        if (found := sha256(path)) != digest:
            raise ValueError(
                f"{path} is corrupt: SHA-256 {found[:12]}..., recorded {digest[:12]}...; "
                "copy the folder again."
            )


def write_index(folder: Path, class_names: dict[str, str], **about: Any) -> None:
    """Writes `model_index.json` last, over the files that lie in the folder."""
    files = sorted(
        p for p in folder.rglob("*")
        if p.is_file() and p.name != INDEX and p.suffix != ".safetensors"
    )  # fmt: skip
    values = {
        "_class_name": _INDEX_CLASS,
        **{part: ["ffa_sora_jax", name] for part, name in class_names.items()},
        **about,
        "sha256": {p.relative_to(folder).as_posix(): sha256(p) for p in files},
    }
    (folder / INDEX).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _check_class(path: Path, classes: tuple[str, ...]) -> None:
    """Refuses a part that says it is of another class, before its keys are read as if it were."""
    if not path.is_file():
        return  # the reader of the part says what is missing
    config = _read_json(path)
    named = [config["_class_name"]] if "_class_name" in config else config.get("architectures")
    if isinstance(named, list) and len(named) == 1 and named[0] not in classes:
        raise ValueError(
            f"{path.parent} holds a {named[0]}, where {' or '.join(classes)} is expected."
        )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; copy the folder again.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; expected an object.")
    return values
