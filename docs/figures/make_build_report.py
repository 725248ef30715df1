"""Draws `build_report.webp`: the build report of a small archive of phantoms in a browser.

PYTHONPATH=. python docs/figures/make_build_report.py [--browser chromium]

Needs a Chromium or Chrome; nothing else of the project does.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np

from ffa_sora_jax import cli
from tests.corpus import damage, good, hospital, kill

DAMAGE = (
    *("truncated MP4", "zero bytes, MP4", "one id twice", "row without exam", "no vessels"),
    *("text inside the field", "other eye in DICOM", "mixed sizes"),
)
WIDTH, HEIGHT = 1000, 4600
SCALE = 0.7  # keeps the file small
BACKGROUND = 255


def main() -> None:
    """Builds the archive, photographs the page and puts its halves side by side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--browser", default="chromium")
    browser = parser.parse_args().browser
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases = [*good.cases()[::2], *(c for c in damage.cases() if c.kind in DAMAGE)]
        cases.append(damage.near_duplicate())
        corpus = hospital.build(folder, cases)
        if cli.main(kill.argv(corpus, folder / "data", "--allow-duplicates", "--clean-text")):
            raise RuntimeError("The build failed.")
        (page,) = folder.rglob("build_report.html")
        picture = folder / "page.png"
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        command += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        halves = _halves(cv2.imread(str(picture)))
    path = Path(__file__).with_name("build_report.webp")
    halves = cv2.resize(halves, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), halves, [cv2.IMWRITE_WEBP_QUALITY, 78])


def _halves(page: np.ndarray) -> np.ndarray:
    """The page without its empty end, cut in two at a blank line."""
    blank = (page == BACKGROUND).all(axis=(1, 2))
    end = int(np.flatnonzero(~blank)[-1]) + 20
    middle = np.flatnonzero(blank[:end])
    cut = int(middle[np.abs(middle - end // 2).argmin()])
    height = max(cut, end - cut)
    halves = []
    for part in (page[:cut], page[cut:end]):
        missing = height - len(part)
        halves.append(np.pad(part, ((0, missing), (0, 0), (0, 0)), constant_values=BACKGROUND))
    return np.concatenate(halves, axis=1)


if __name__ == "__main__":
    main()
