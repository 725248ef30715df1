"""The record of one phantom exam: the single source of its pictures, its report and its labels.

Positions are in disc diameters (DD) from the fovea in the eye-canonical frame: +x nasal,
+y superior, the same for both eyes. Times are seconds since dye first shows in the central
retinal artery at the disc.
"""

import dataclasses
from collections.abc import Mapping

EYES = ("right", "left")
QUADRANTS = ("superotemporal", "inferotemporal", "superonasal", "inferonasal")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing an ophthalmologist would name, at one place.

    Attributes:
      kind: lesion class, a key of `phantom.lesions.RECIPES`.
      region: place as the report words it, such as "macula" or "superotemporal quadrant".
      center: (x, y) in DD from the fovea, canonical frame.
      radius: extent in DD.
      count: number of spots, for kinds that are many spots.
      severity: "mild", "moderate" or "severe".
      onset_s: first second at which it can be seen.
      values: further parameters of the recipe (delays in s, amplitudes, ...).
    """

    kind: str
    region: str
    center: tuple[float, float]
    radius: float
    count: int = 1
    severity: str = "moderate"
    onset_s: float = 0.0
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Exam:
    """What is wrong with one eye, and how the dye runs through it.

    Attributes:
      eye: "right" or "left".
      diseases: canonical disease names, () for a normal eye.
      findings: every finding, in report order.
      arterial_filling: "normal", "slightly delayed", "delayed" or "markedly prolonged".
      venous_return: the same words.
    """

    eye: str
    diseases: tuple[str, ...]
    findings: tuple[Finding, ...]
    arterial_filling: str = "normal"
    venous_return: str = "normal"
