"""Small datasets with the features of hospital_exams and ffa_ir, written by plain TFDS."""

import numpy as np
import tensorflow_datasets as tfds

EYES = ("right", "left", "unknown")
WORDS = {"right": "Right eye", "left": "Left eye", "unknown": "FFA"}
CHINESE = {"right": "右眼", "left": "左眼", "unknown": ""}
COUNTS = {"train": 13, "validation": 4, "test": 3, "unseen": 2}


def clip(index, frames, size):
    """Pixels that tell index, frame and column."""
    frame = 2 * np.arange(frames)[:, None, None]
    video = np.broadcast_to(100 + index + frame + np.arange(size), (frames, size, size))
    return video.astype(np.uint8)[..., None]


def exam(index, split, *, frames=21, size=64, languages=("en", "zh")):
    """One example: eyes in turn, every third interpolated, every fourth without times."""
    eye, disease = EYES[index % 3], ("normal", "branch retinal vein occlusion", "")[index % 3]
    language = languages[index % len(languages)]
    english = f"{WORDS[eye]}: 1. Spot {split} {index}."
    chinese = f"{CHINESE[eye]}黄斑区见强荧光{split}{index}。"
    original = np.arange(frames) % 2 == 0 if index % 3 == 0 else np.ones(frames, bool)
    return {
        "video": clip(index, frames, size),
        "times_s": np.linspace(10, 10 + 30 * (index + 1), frames, dtype=np.float32),
        "frame_mask": np.ones(frames, bool),
        "report": english if language == "en" else chinese,
        "exam_id": f"{split}{index:015x}",
        "patient_id": f"{split}{index // 2:015x}",
        "eye": eye,
        "disease": disease,
        "findings": "[]",
        "language": language,
        "report_zh": chinese if language == "en" and index % 2 == 0 else "",
        "is_original": original,
        "vessel_ratio": np.where(original, 0.05, np.nan).astype(np.float32),
        "times_known": index % 4 != 3,
    }


def features(frames, size):
    tensor = tfds.features.Tensor
    return {
        "video": tensor(shape=(frames, size, size, 1), dtype=np.uint8, encoding="zlib"),
        "times_s": tensor(shape=(frames,), dtype=np.float32),
        "frame_mask": tensor(shape=(frames,), dtype=np.bool_),
        **{name: tfds.features.Text() for name in ("report", "exam_id", "patient_id", "disease")},
        **{name: tfds.features.Text() for name in ("findings", "language", "report_zh")},
        "eye": tfds.features.ClassLabel(names=list(EYES)),
        "is_original": tensor(shape=(frames,), dtype=np.bool_),
        "vessel_ratio": tensor(shape=(frames,), dtype=np.float32),
        "times_known": tfds.features.Scalar(dtype=np.bool_),
    }


def prepare(folder, name="hospital_exams", *, counts=COUNTS, frames=21, size=64, keep=None, **how):
    """Writes `name/SIZE` into a data folder.

    Args:
      folder: data folder.
      name: dataset.
      counts: clips by split.
      frames: frames per clip.
      size: pixels per side.
      keep: features to write; default: all.
      **how: passed to `exam`.
    """

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name=f"{size}"),)

        def _info(self):
            chosen = {k: v for k, v in features(frames, size).items() if keep is None or k in keep}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(chosen))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, count) for split, count in counts.items()}

        def _generate_examples(self, split, count):
            for index in range(count):
                made = exam(index, split, frames=frames, size=size, **how)
                yield index, {k: v for k, v in made.items() if keep is None or k in keep}

    Builder.name = name
    tfds.disable_progress_bar()
    builder = Builder(config=f"{size}", data_dir=folder)
    builder.download_and_prepare(download_dir=folder / "downloads", file_format="array_record")
    return folder
