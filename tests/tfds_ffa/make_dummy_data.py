"""Makes the dummy data of hospital_exams and ffa_ir anew: phantoms in the layout of the real data.

python -m tests.tfds_ffa.make_dummy_data
"""

import csv
import json
from pathlib import Path

import cv2
import numpy as np

import tfds_ffa
from ffa_sora_jax import phantom

ROOT = Path(tfds_ffa.__file__).parent
SIZE = 96
PHANTOMS = (0, 1, 2, 4, 10, 23)  # whose vessels show at this size
CASES = {"train": (1, 2, 3, 4), "val": (5,), "test": (6,)}
ZH = {"right": "右眼", "left": "左眼"}


def main() -> None:
    hospital(ROOT / "hospital_exams" / "dummy_data")
    ffa_ir(ROOT / "ffa_ir" / "dummy_data")


def exam(number: int) -> tuple[phantom.Phantom, np.ndarray]:
    """A phantom, and five of its frames (5, h, w), smoothed so that files stay small."""
    made = phantom.generate(8, number, size=SIZE)
    return made, np.stack([cv2.GaussianBlur(f, (0, 0), 0.5) for f in made.video[5:20:3]])


def hospital(folder: Path) -> None:
    """Four exams of three patients: folders of five JPEG frames."""
    rows = []
    for number, patient in enumerate(("P1", "P1", "P2", "P3")):
        made, video = exam(PHANTOMS[number + 1])
        name = f"A{number + 1:02d}"
        where = folder / "exams" / name
        where.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(video):
            cv2.imwrite(str(where / f"{index}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 70])
        rows.append(
            {
                "exam_id": name,
                "patient_id": patient,
                "eye": made.eye,
                "report": made.report,
                "language": "en",
                "diagnosis": "; ".join(made.exam.diseases),
            }
        )
    with (folder / "reports.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def ffa_ir(folder: Path) -> None:
    """Six cases of five images, four of them for training."""
    stored: dict[str, dict[str, dict[str, object]]] = {}
    for split, cases in CASES.items():
        stored[split] = {}
        for number in cases:
            made, video = exam(PHANTOMS[number - 1])
            case = f"case_{number}"
            where = folder / "FFAIR" / case
            where.mkdir(parents=True, exist_ok=True)
            paths = [f"{case}/{index}.jpeg" for index in range(len(video))]
            for path, frame in zip(paths, video, strict=True):
                cv2.imwrite(str(where.parent / path), frame, [cv2.IMWRITE_JPEG_QUALITY, 70])
            stored[split][case] = {
                "En_Report": made.report,
                "Ch_Report": f"{ZH[made.eye]}视网膜动脉充盈时间正常。晚期可见荧光渗漏{number}处。",
                "Image_path": paths,
            }
    text = json.dumps(stored, indent=1, ensure_ascii=False)
    (folder / "ffair_annotation.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
