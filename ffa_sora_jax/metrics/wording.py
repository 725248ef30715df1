"""What a report names: the classes that the oracle can read, and the quadrants of a delay.

Rules over words, for the phantom's reports and for the register of the paper's prompts (numbered
items, keywords joined by commas before the text). A class is named where one of its phrases stands
outside a negation: "no leakage" and "spots without leakage" name no leak. Names of diseases count
only where they say what is seen ("branch retinal vein occlusion": delay). Findings for which the
oracle has no class (collaterals, exudates, beading, wall staining) are not named.
"""

import dataclasses
import re

from ffa_sora_jax.phantom.record import QUADRANTS
from ffa_sora_jax.phantom.report import named_eye

VERB = r"\b(?:is|are|was|were|can|shows?|shown|found|seen)\b"
PHRASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\bleak|\booz|extravasat|permeabil|neovascular|new vessels|polyp|tumou?r-like", ("leak",)),
    (r"petal|cystoid", ("macular_oedema", "cystoid", "leak")),
    (r"macular o?edema|gathers diffusely", ("macular_oedema", "leak")),
    (r"(?:diffuse|late) (?:\S+ )?(?:accumulation|leakage).*(?:macula|fovea)",
     ("macular_oedema", "leak")),
    (r"accumulation of (?:dye|fluorescence).*(?:macula|fovea)", ("macular_oedema", "leak")),
    (r"\bink (?:blot|drop)|smoke-?stack", ("leak", "pooling")),
    (r"detachment", ("pooling",)),
    (r"^(?!.*petal).*\bpooling", ("pooling",)),
    (r"window defect|transmit|\batroph|macular hole|drusen|weak (?:round )?fluorescen\w+ spot"
     r"|granular \S+ points", ("window",)),
    (r"^(?!.*\bwall).*\bstain|drusen|laser|\bscar|stippled"
     r"|granular (?:hyper-?fluorescence|bright fl)", ("stain",)),
    (r"ha?emorrhag|^(?!.*exudate).*(?:\bblock|\bmask)", ("blocked",)),
    (r"non-?perfusion|capillary (?:closure|occlusion|dropout)|perfusion defect",
     ("nonperfusion",)),
    (r"micro-?aneurysm", ("microaneurysms",)),
    (r"vein occlusion|slow venous|slow flow of .*ven|\bvein fills late|prolonged (?:venous )?return"
     r"|prolonged return time of (?:the )?(?:retinal )?veins"
     r"|(?:venous (?:return|reflux)|return time of (?:the )?(?:retinal )?veins)(?: of [^,]*?)?"
     r" (?:is|was|are) (?:\S+ )?(?:slow|delayed|prolonged)", ("delay",)),
)  # fmt: skip
SIDES = {
    "superotemporal": r"superotemporal|superior temporal|upper temporal|temporal upper",
    "inferotemporal": r"inferotemporal|inferior temporal|lower temporal|temporal lower",
    "superonasal": r"superonasal|superior nasal|upper nasal|nasal upper",
    "inferonasal": r"inferonasal|inferior nasal|lower nasal|nasal lower",
}


@dataclasses.dataclass(frozen=True)
class Named:
    """What one report names.

    Attributes:
      eye: "right", "left", or None where it names neither or both.
      classes: classes of `phantom.oracle_rules.CLASSES` that it says are there.
      delayed: quadrants whose veins it says are slow; all four where it names none.
    """

    eye: str | None
    classes: frozenset[str]
    delayed: tuple[str, ...]


def named(report: str) -> Named:
    """Reads a report in English; letter case, numbering and spelling variants do not matter."""
    classes: set[str] = set()
    slow: list[str] = []
    for clause in affirmed(report):
        found = {c for pattern, names in PHRASES if re.search(pattern, clause) for c in names}
        classes |= found
        if "delay" in found:
            slow += _quadrants(clause)
    delayed = tuple(q for q in QUADRANTS if q in slow) or QUADRANTS
    return Named(named_eye(report), frozenset(classes), delayed if "delay" in classes else ())


def affirmed(report: str) -> list[str]:
    """The clauses of a report, in lower case, without what they negate."""
    text = re.sub(r"(?<![\w.])\d+\.\s", " ", report.lower())  # numbers of items
    kept = []
    for sentence in re.split(r"[;:?()]|\.(?!\d)", text):
        listing = False  # "No leakage, haemorrhage or closure is seen": the list goes on
        for clause in sentence.split(","):
            if listing:
                listing = re.search(VERB, clause) is None
                continue
            positive, negated = _split(clause)
            kept.append(positive)
            listing = not positive.strip() and re.search(VERB, negated) is None
    return [" ".join(clause.split()) for clause in kept if clause.strip()]


def _quadrants(clause: str) -> list[str]:
    """Quadrants that a clause names; both temporal ones for "the temporal branch"."""
    exact = [q for q in QUADRANTS if re.search(SIDES[q], clause)]
    if exact:
        return exact
    return [q for q in QUADRANTS for side in ("temporal", "nasal") if side in q and side in clause]


def _split(clause: str) -> tuple[str, str]:
    """What a clause affirms, and what it negates."""
    if re.search(r"\bnot (?:\w+ )?(?:seen|found|observed|visible|detected|noted|present)", clause):
        return "", clause
    denial = re.search(r"\b(?:no|not|without|neither|absence of)\b", clause)
    return (clause[: denial.start()], clause[denial.start() :]) if denial else (clause, "")
