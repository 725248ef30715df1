"""From features to findings: which class a lesion shows, and the score cards that decide.

The oracle knows fewer classes than the phantom has lesions: those that the dye itself tells apart.
A score card is a list of small decision trees over named features; what their leaves say is added
up, and a sum above 0 means that the finding is there. Small pictures show less, so there are cards
for three picture widths. The cards are data (`assets/oracle/rules.json`), made by
`python -m benchmarks.oracle --tune`.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ffa_sora_jax.phantom.record import Finding

Tree: TypeAlias = float | list[Any]
"""A leaf's points, or [feature, threshold, tree if below, tree if not]."""

RULES_FILE = Path(__file__).parents[1] / "assets" / "oracle" / "rules.json"
CLASSES = (
    "leak", "pooling", "stain", "window", "blocked", "nonperfusion", "delay", "macular_oedema",
    "cystoid", "microaneurysms",
)  # fmt: skip
WIDTHS = (64, 128, 256)
KIND_CLASSES: dict[str, tuple[str, ...]] = {
    "vein_occlusion": ("delay",),
    "microaneurysms": ("microaneurysms",),
    "capillary_leakage": ("leak",),
    "nonperfusion": ("nonperfusion",),
    "nve": ("leak",),
    "nvd": ("leak",),
    "haemorrhage_blot": ("blocked",),
    "haemorrhage_flame": ("blocked",),
    "preretinal_haemorrhage": ("blocked",),
    "laser_scars": ("stain",),
    "oedema_cystoid": ("macular_oedema", "cystoid", "leak"),
    "oedema_diffuse": ("macular_oedema", "leak"),
    "csc_inkblot": ("leak", "pooling"),
    "csc_smokestack": ("leak", "pooling"),
    "csc_chronic": ("leak", "window"),
    "cnv_classic": ("leak",),
    "cnv_occult": ("leak", "stain"),
    "ped": ("pooling",),
    "polyps": ("leak",),
    "drusen": ("stain", "window"),
    "atrophy": ("window",),
    "macular_hole": ("window",),
    "disc_stain": ("stain",),
    "disc_leak": ("leak",),
    # too faint, or a change of the vessels' course that the rules do not read
    "collaterals": (),
    "venous_beading": (),
    "arterial_narrowing": (),
    "filling_delay": (),
    "irma": (),
    "hard_exudates": (),
    "cotton_wool": (),
}


def classes_of(findings: Iterable[Finding]) -> frozenset[str]:
    """The classes that these findings show.

    Raises:
      KeyError: a kind that the table does not know.
    """
    return frozenset(c for finding in findings for c in KIND_CLASSES[finding.kind])


@functools.cache
def load_rules(path: Path = RULES_FILE) -> Mapping[str, Any]:
    """The file: "about" says how it was tuned; "widths" has "cards" by class and "unseen" scores.

    Raises:
      ValueError: the file holds other widths or classes.
    """
    rules = json.loads(path.read_text(encoding="utf-8"))
    held = {width: sorted(part["cards"]) for width, part in rules["widths"].items()}
    if held != {str(width): sorted(CLASSES) for width in WIDTHS}:
        raise ValueError(
            f"{path} has cards {held}, expected {sorted(CLASSES)} for widths {WIDTHS}. Make it "
            "with python -m benchmarks.oracle --tune."
        )
    return rules


def nearest_width(width: int) -> int:
    """The width of `WIDTHS` whose cards suit a picture of this many pixels."""
    return min(WIDTHS, key=lambda known: abs(math.log(known / width)))


def cards_for(width: int) -> Mapping[str, Any]:
    """Score cards by class for pictures of this many pixels."""
    return load_rules()["widths"][str(nearest_width(width))]["cards"]


def unseen_f1(width: int) -> float:
    """F1 over all classes on clean phantoms that tuned no card, given the eye, at this width."""
    return float(load_rules()["widths"][str(nearest_width(width))]["unseen"]["all"])


def points(card: Mapping[str, Any], features: Mapping[str, float]) -> float:
    """Sum of a card: the logarithm of the odds that the finding is there, shifted so that the
    decision lies at 0."""
    total = float(card["bias"])
    for tree in card["trees"]:
        while isinstance(tree, list):
            name, threshold, below, above = tree
            tree = below if features[name] < threshold else above
        total += tree
    return total


def probability(log_odds: float) -> float:
    """0..1; 0.5 at the decision."""
    return 1.0 / (1.0 + math.exp(-max(min(log_odds, 50.0), -50.0)))
