"""Does the vessel filter pass every angiogram and recognise every other picture?

    python -m benchmarks.frames FOLDER --other non_ffa [--pattern "*.jpg"] [--px 256 512 768]

FOLDER has one folder of pictures per class; those named after --other are no angiograms. Prints
what `docs/video.md` says of real frames.
"""

import argparse
import collections
import sys
from pathlib import Path

import cv2
import numpy as np

from ffa_sora_jax.video import field, frames
from ffa_sora_jax.video.quality import vessel_area_ratio


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--other", nargs="*", default=[], help="classes that are no angiograms")
    parser.add_argument("--pattern", default="*.jpg", help="names of the pictures")
    parser.add_argument("--px", type=int, nargs="+", default=[256, 512, 768])
    args = parser.parse_args(argv)
    pictures = sorted(args.folder.glob(f"*/{args.pattern}"))
    if not pictures:
        parser.error(f"{args.folder} holds no folder with {args.pattern}.")
    for px in args.px:
        for is_other, title in ((False, "angiograms"), (True, "other light")):
            chosen = [p for p in pictures if (p.parent.name in args.other) == is_other]
            if chosen:
                sys.stdout.write(table(title, px, [_read(p, px) for p in chosen]) + "\n")
    return 0


def table(title: str, px: int, pictures: list[np.ndarray]) -> str:
    """Kinds and ranges of one class of pictures, each judged on its own."""
    looks = [frames.FrameJudge().judge(picture) for picture in pictures]
    kinds = collections.Counter(look.kind for look in looks)
    lines = [f"{px} px, {len(looks)} {title}: {dict(kinds)}"]
    rows = {
        "stored ratio": [look.bars.bright for look in looks],
        "vessel_area_ratio": [vessel_area_ratio(picture) for picture in pictures],
        "polarity": [look.bars.polarity for look in looks],
        "mean grey": [look.mean for look in looks],
        "sharpness": [look.sharpness for look in looks],
    }
    for name, values in rows.items():
        low, middle, high = np.percentile(values, (0, 50, 100))
        lines.append(f"  {name:18} min {low:8.4f}  median {middle:8.4f}  max {high:8.4f}")
    return "\n".join(lines)


def _read(path: Path, px: int) -> np.ndarray:
    return field.thumbnail(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), px)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
