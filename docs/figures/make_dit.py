"""Draws dit.png: what a token sees through the two kinds of Skiparse, and where they are used.

Run: python docs/figures/make_dit.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from ffa_sora_jax.models import skiparse
from ffa_sora_jax.models.dit import DiTConfig, segments

TOKENS, N = 64, 4
COLOURS = {"dense": "#4c78a8", "single": "#f58518", "group": "#54a24b"}


def linked(kind: str) -> np.ndarray:
    """(tokens, tokens), true where a query sees a key in one layer of this kind."""
    groups = np.empty(TOKENS, int)
    for index, members in enumerate(np.asarray(skiparse.split(np.arange(TOKENS)[None], N, kind))):
        groups[members] = index
    return groups[:, None] == groups[None, :]


def main() -> None:
    """Writes the figure beside this file."""
    single, group = linked("single"), linked("group")
    panels = {"single skip": single, "group skip": group, "one after the other": single @ group}
    figure = plt.figure(figsize=(9, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(4, 1))
    for column, (title, matrix) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(matrix, cmap="Greys", vmin=0, vmax=1.3)
        axes.set(title=title, xlabel="key", ylabel="query" if column == 0 else "")
    axes = figure.add_subplot(grid[1, :])
    for segment in segments(DiTConfig()):
        for kind, layers in zip(segment.kinds, segment.layers, strict=True):
            axes.bar(layers, 1, width=0.9, color=COLOURS[kind])
    axes.legend(
        [plt.Rectangle((0, 0), 1, 1, color=c) for c in COLOURS.values()], COLOURS, ncol=3,
        loc="upper center", bbox_to_anchor=(0.5, -0.55), frameon=False,
    )  # fmt: skip
    axes.set(yticks=[], xlabel="layer of the released model", xlim=(-0.6, 31.6))
    axes.spines[:].set_visible(False)
    figure.savefig(Path(__file__).with_name("dit.png"), dpi=80)


if __name__ == "__main__":
    main()
