"""Which exams a phantom dataset holds, how one is rendered, and how rendered ones wait on disk.

Everything here is a pure function of (seed, index): which patient an exam belongs to, in which
split the patient lies, and every pixel. Needs numpy and OpenCV only, so that worker processes
start fast.
"""

import dataclasses
import functools
import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import logging

from ffa_sora_jax import phantom
from ffa_sora_jax.common import files
from ffa_sora_jax.phantom.diseases import sample_exam
from ffa_sora_jax.phantom.generator import Purpose, Truth
from ffa_sora_jax.phantom.record import Finding

NUM_FRAMES = 21
RENDER_SIZE = 256  # smaller sizes are area averages of this one
COVERED = 0.25  # share of a pixel from which it carries a lesion's label
CHUNK_EXAMS = 16  # what a kill can lose per worker
SPLITS = ("train", "validation", "test")
_BLOCK = ("train",) * 8 + ("validation", "test")  # of ten patients

Example = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What fixes every byte of one dataset.

    Attributes:
      size: pixels per side.
      schedule: frame times, "paper" or "full".
      seed: world seed of the phantom.
      num_exams: number of clips over all splits.
    """

    size: int
    schedule: str
    seed: int
    num_exams: int

    def __post_init__(self) -> None:
        """Raises ValueError where a number makes no sense."""
        if self.num_exams < 1:
            raise ValueError(f"num_exams is {self.num_exams}; it must be at least 1.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative.")

    @functools.cached_property
    def by_split(self) -> dict[str, list[int]]:
        """Exam indices of each split, rising; a longer dataset only appends to each list.

        Raises:
          ValueError: a split would be empty.
        """
        found: dict[str, list[int]] = {split: [] for split in SPLITS}
        for index, patient in enumerate(patient_numbers(self.seed, self.num_exams)):
            found[split_of(self.seed, patient)].append(index)
        empty = [split for split, indices in found.items() if not indices]
        if empty:
            raise ValueError(
                f"{self.num_exams} exams leave {', '.join(empty)} empty: 10 patients give one "
                "each to validation and test. Ask for at least 20 exams."
            )
        return found

    def chunks(self, split: str) -> list[tuple[int, ...]]:
        """The exams of a split in groups of `CHUNK_EXAMS`, the unit of work and of resuming."""
        indices = self.by_split[split]
        return [tuple(indices[at : at + CHUNK_EXAMS]) for at in range(0, len(indices), CHUNK_EXAMS)]


# --- Patients and splits ---


@functools.lru_cache(maxsize=4)
def patient_numbers(seed: int, num_exams: int) -> tuple[int, ...]:
    """The patient of every exam: neighbours 2k and 2k + 1 are one patient if their eyes differ."""
    numbers: list[int] = []
    for index in range(num_exams):
        fellow = index % 2 == 1 and eye_of(seed, index) != eye_of(seed, index - 1)
        numbers.append(numbers[-1] if fellow else (numbers[-1] + 1 if numbers else 0))
    return tuple(numbers)


def eye_of(seed: int, index: int) -> str:
    """The eye of an exam, "right" or "left", without rendering it."""
    chance = np.random.default_rng(np.random.SeedSequence((seed, index, int(Purpose.EXAM))))
    return sample_exam(chance).eye


def split_of(seed: int, patient: int) -> str:
    """The split of a patient: each ten patients give 8, 1 and 1, in an order hashed from ids."""
    block = patient // 10
    ranked = sorted(range(10 * block, 10 * block + 10), key=lambda p: _digest(seed, "patient", p))
    return _BLOCK[ranked.index(patient)]


def _digest(*parts: Any) -> int:
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


# --- One exam ---


def render(recipe: Recipe, index: int) -> Example:
    """Renders one exam as the TFDS example of the builder's features."""
    exam = phantom.generate(
        recipe.seed, index, size=max(recipe.size, RENDER_SIZE), schedule=recipe.schedule
    )
    patient = patient_numbers(recipe.seed, recipe.num_exams)[index]
    return {
        "video": shrink(exam.video, recipe.size)[..., None],
        "times_s": np.asarray(exam.times_s, np.float32),
        "frame_mask": np.ones(len(exam.times_s), bool),
        "report": exam.report,
        "exam_id": f"phantom-{recipe.seed}-{index:07d}",
        "patient_id": f"phantom-{recipe.seed}-p{patient:07d}",
        "eye": exam.eye,
        "disease": "; ".join(exam.exam.diseases) or "normal",
        **_truth(exam.findings, exam.truth, recipe.size),
    }


def shrink(frames: np.ndarray, size: int) -> np.ndarray:
    """(n, h, w) -> (n, size, size) by area averaging; unchanged where the size is right."""
    if frames.shape[1] == size:
        return frames
    small = [cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in frames]
    return np.stack(small)


def _truth(findings: Sequence[Finding], truth: Truth, size: int) -> Example:
    """Ground truth on the grid of the dataset; pixel centres lie at whole numbers."""
    scale = size / truth.artery.shape[0]

    def place(xy_px: tuple[float, float]) -> list[float]:
        return [round((float(v) + 0.5) * scale - 0.5, 3) for v in xy_px]

    masks = [f.mask for f in truth.findings]
    share = shrink(np.stack([truth.artery, truth.vein, *masks]).astype(np.float32), size)
    # Large findings first, so that a small one inside a large one keeps its label.
    labels = np.zeros((size, size), np.uint8)
    for number in sorted(range(len(masks)), key=lambda n: -int(masks[n].sum())):
        labels[share[2 + number] >= COVERED] = number + 1
    records = [
        dataclasses.asdict(finding)
        | {"label": number + 1, "center_px": place(where.center_px), "onset_s": where.onset_s}
        for number, (finding, where) in enumerate(zip(findings, truth.findings, strict=True))
    ]
    return {
        "lesions": labels,
        "vessels": np.round(share[:2] * 255).astype(np.uint8).transpose(1, 2, 0),
        "landmarks_px": np.array(
            [
                *place(truth.disc_px),
                truth.disc_radius_px * scale,
                *place(truth.fovea_px),
                truth.faz_radius_px * scale,
            ],
            np.float32,
        ),
        "findings": json.dumps(records, sort_keys=True),
    }


# --- Chunks: rendered exams waiting for the builder ---


@functools.cache
def renderer_fingerprint() -> str:
    """Short hash of the sources that decide the pixels; other sources, other chunks.

    Taken once per process, so that editing a source during a long run changes nothing in it.
    """
    digest = hashlib.sha256()
    folders = [Path(phantom.__file__).parent, Path(__file__).parent]
    for path in sorted(p for folder in folders for p in folder.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def chunk_path(folder: Path, chunk: Sequence[int]) -> Path:
    """Where the exams of one chunk wait."""
    name = hashlib.blake2b(repr(tuple(chunk)).encode(), digest_size=6).hexdigest()
    return folder / f"{chunk[0]:07d}-{len(chunk):02d}-{name}.npz"


def write_chunk(folder: Path, recipe: Recipe, chunk: Sequence[int]) -> None:
    """Renders the exams of one chunk into one file, which appears whole or not at all."""
    examples = [render(recipe, index) for index in chunk]
    arrays: dict[str, Any] = {
        key: np.stack([example[key] for example in examples])
        for key, value in examples[0].items()
        if isinstance(value, np.ndarray)
    }
    texts = [{k: v for k, v in example.items() if isinstance(v, str)} for example in examples]
    with files.replacing(chunk_path(folder, chunk)) as partial, partial.open("wb") as file:
        np.savez(file, texts=np.array(json.dumps(texts)), **arrays)


def read_chunk(folder: Path | None, recipe: Recipe, chunk: Sequence[int]) -> list[Example]:
    """The exams of one chunk: from its file, or rendered now where there is none.

    A file that cannot be read is reported, removed and rendered again.
    """
    path = chunk_path(folder, chunk) if folder else None
    if path is None or not path.exists():
        return [render(recipe, index) for index in chunk]
    try:
        with np.load(path) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        logging.warning("%s is damaged (%s); rendering its exams again.", path, error)
        path.unlink()
        return [render(recipe, index) for index in chunk]
    texts = json.loads(str(arrays.pop("texts")))
    return [
        {**{key: values[n] for key, values in arrays.items()}, **texts[n]}
        for n in range(len(chunk))
    ]
