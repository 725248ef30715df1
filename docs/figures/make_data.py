"""Draws `data.png`: one clip of the phantom dataset as a contact sheet.

python docs/figures/make_data.py
"""

from pathlib import Path

from ffa_sora_jax import phantom
from ffa_sora_jax.video.sheet import save_sheet
from tfds_ffa.phantom.exams import shrink

SEED, INDEX = 0, 3


def main() -> None:
    """Renders the exam and writes the picture beside this file."""
    exam = phantom.generate(SEED, INDEX, schedule="full")
    path = Path(__file__).with_name("data.png")
    save_sheet(path, shrink(exam.video, 128), exam.times_s, scale=1, title=exam.report)


if __name__ == "__main__":
    main()
