"""From an exam record to the report a reader would dictate.

`keywords,keywords,Left eye FFA: 1. ... 2. ... 3. ...`: timing, trunks and the main lesion come
first, then the rest of the retina or the macula, the disc last. Every finding of the record is
said, with its place, amount and degree; what is said to be absent is absent. The eye is always
named, because the picture shows it. At low rate the form is irregular, as real reports are.
"""

import dataclasses

import numpy as np

from ffa_sora_jax.phantom import phrases
from ffa_sora_jax.phantom.record import QUADRANTS, Exam, Finding

VESSELS, RETINA, MACULA, DISC = range(4)
SECTIONS: dict[str, int] = {
    **dict.fromkeys(
        ("vein_occlusion", "collaterals", "venous_beading", "arterial_narrowing"), VESSELS
    ),
    **dict.fromkeys(
        (
            "microaneurysms",
            "capillary_leakage",
            "nonperfusion",
            "irma",
            "nve",
            "haemorrhage_blot",
            "haemorrhage_flame",
            "preretinal_haemorrhage",
            "cotton_wool",
            "laser_scars",
        ),
        RETINA,
    ),
    **dict.fromkeys(
        (
            "hard_exudates",
            "oedema_cystoid",
            "oedema_diffuse",
            "csc_inkblot",
            "csc_smokestack",
            "csc_chronic",
            "cnv_classic",
            "cnv_occult",
            "ped",
            "polyps",
            "drusen",
            "atrophy",
            "macular_hole",
        ),
        MACULA,
    ),
    **dict.fromkeys(("disc_stain", "disc_leak", "nvd"), DISC),
}
MAX_WORDS = 80  # a long report leaves out what is normal
MAX_KEYWORDS = 7
WIDE = ("all quadrants", "mid-periphery")
DIABETIC = ("npdr_mild", "npdr_moderate", "npdr_severe", "pdr")


@dataclasses.dataclass(frozen=True)
class Sentence:
    """One statement and the fact behind it.

    Attributes:
      template: key of `phrases.TEMPLATES`.
      text: the sentence without its full stop.
      section: VESSELS, RETINA, MACULA or DISC.
      finding: index into `exam.findings`, None for negatives and timing.
    """

    template: str
    text: str
    section: int
    finding: int | None = None


def write_report(exam: Exam, rng: np.random.Generator) -> str:
    """The report of an exam, one line of text.

    Args:
      exam: the record, from `diseases.sample_exam` or written by hand.
      rng: chooses among wordings; the facts come from `exam` alone.
    """
    items = _items(sentences(exam, rng), rng)
    text = ",".join([*keywords(exam, rng), _head(exam.eye, rng) + _numbered(items, rng)])
    if rng.uniform() < 0.08:
        for american, british in phrases.BRITISH.items():
            text = text.replace(american, british)
    return text


def named_eye(report: str) -> str | None:
    """The eye that a report names: "right", "left", or None if neither or both."""
    text = report.lower()
    found = [eye for eye in ("right", "left") if f"{eye} eye" in text]
    return found[0] if len(found) == 1 else None


def keywords(exam: Exam, rng: np.random.Generator) -> list[str]:
    """Names of diseases and lesions that are present; now and then one is missing."""
    names = [
        str(rng.choice(choice))
        for disease in exam.diseases
        for choice in phrases.DISEASE_KEYWORDS[disease]
    ]
    for finding in exam.findings:
        if finding.kind in phrases.FINDING_KEYWORDS:
            names.append(str(rng.choice(phrases.FINDING_KEYWORDS[finding.kind])))
    kept = [name for name in dict.fromkeys(names) if rng.uniform() > 0.1][:MAX_KEYWORDS]
    if rng.uniform() < 0.05:
        kept.append(str(rng.choice(phrases.GENERIC_KEYWORDS)))
    return kept


def sentences(exam: Exam, rng: np.random.Generator) -> list[Sentence]:
    """Every statement of the report, in order of section, each tied to its fact."""
    said: list[Sentence] = []
    for i, finding in enumerate(exam.findings):
        if finding.kind not in SECTIONS:  # delays of the whole circulation: said as timing
            continue
        key = finding.kind
        if key == "vein_occlusion":
            key += "_branch" if _is_quadrant(finding) else "_central"
        facts = _facts(finding, rng)
        said.append(Sentence(key, _fill(key, rng, facts), SECTIONS[finding.kind], i))
        if finding.values.get("wall_stain"):
            said.append(Sentence("wall_stain", _fill("wall_stain", rng), VESSELS, i))
    if not said:
        said.append(Sentence("vessels_normal", _fill("vessels_normal", rng), VESSELS))
    spoken = sum(len(sentence.text.split()) for sentence in said)
    timing = _timing(exam, rng)
    for extra in (timing, _negatives(exam, rng), _conclusion(exam, rng)):
        for sentence in extra:
            spoken += len(sentence.text.split())
            if sentence.template == "timing" or spoken <= MAX_WORDS:
                said.insert(0, sentence) if extra is timing else said.append(sentence)
    return sorted(said, key=lambda s: s.section)


def _is_quadrant(finding: Finding) -> bool:
    return finding.region.removesuffix(" quadrant") in QUADRANTS


def _timing(exam: Exam, rng: np.random.Generator) -> list[Sentence]:
    """What is said of arterial and venous timing; always said when it is not normal."""
    words = {"arterial": exam.arterial_filling, "venous": exam.venous_return}
    if set(words.values()) != {"normal"}:
        return [Sentence("timing", _fill("timing", rng, words), VESSELS)]
    branch = any(f.kind == "vein_occlusion" for f in exam.findings)
    if branch or rng.uniform() > 0.7:
        return []
    return [Sentence("timing_normal", _fill("timing_normal", rng), VESSELS)]


def _negatives(exam: Exam, rng: np.random.Generator) -> list[Sentence]:
    """Absences worth a word, each only if it is true, most of the time said."""
    kinds = {f.kind for f in exam.findings}
    regions = {f.region for f in exam.findings if f.kind != "filling_delay"}
    vascular = bool({"microaneurysms", "vein_occlusion"} & kinds)
    macular = any(SECTIONS.get(f.kind) == MACULA for f in exam.findings)
    central_leak = "capillary_leakage" in kinds or "vein_occlusion" in kinds
    true: list[tuple[str, int, float]] = []
    if vascular and not {"nve", "nvd"} & kinds:
        true.append(("no_neovascularisation", RETINA, 0.5))
    if set(exam.diseases) & set(DIABETIC) and "nonperfusion" not in kinds:
        true.append(("no_nonperfusion", RETINA, 0.4))
    if any(f.kind == "vein_occlusion" and _is_quadrant(f) for f in exam.findings):
        true.append(("other_quadrants", MACULA, 0.6))
    elif not regions & set(WIDE) and not vascular:
        true.append(("periphery_normal", MACULA, 0.7))
    if not kinds - {"filling_delay"}:
        true.append(("no_leakage", RETINA, 0.6))
    if not macular and not central_leak:
        true.append(("no_macular_lesion", MACULA, 0.5))
    if not {"disc_stain", "disc_leak", "nvd"} & kinds:
        true.append(("disc_normal", DISC, 0.85))
    return [
        Sentence(key, _fill(key, rng), section) for key, section, p in true if rng.uniform() < p
    ]


def _conclusion(exam: Exam, rng: np.random.Generator) -> list[Sentence]:
    """Now and then the reader names the disease at the end, with or without doubt."""
    if not exam.diseases or rng.uniform() > 0.1:
        return []
    key = str(rng.choice(("agrees", "suspected")))
    name = str(rng.choice(phrases.DISEASE_KEYWORDS[exam.diseases[0]][0]))
    return [Sentence(key, _fill(key, rng, {"disease": name}), DISC)]


def _facts(finding: Finding, rng: np.random.Generator) -> dict[str, str]:
    """The fact slots of a finding, worded."""
    words = next(words for most, words in phrases.AMOUNTS if finding.count <= most)
    adjective = str(rng.choice(phrases.REGIONS[finding.region]))
    diameter = max(0.5, round(4 * finding.radius) / 2)
    size = f"about {diameter:g} disc diameter{'s' if diameter > 1 else ''}"
    if finding.kind == "nonperfusion":
        size = str(rng.choice(phrases.CLOSURE_SIZES[finding.severity]))
    away = max(0.5, round(2 * float(np.hypot(*finding.center))) / 2)
    return {
        "region": adjective,
        "branch": adjective.removeprefix("the ").removesuffix(" quadrant"),
        "amount": str(rng.choice(words)),
        "degree": str(rng.choice(phrases.DEGREES[finding.severity])),
        "size": size,
        "distance": f"{away:g} disc diameter",
    }


def _fill(key: str, rng: np.random.Generator, facts: dict[str, str] | None = None) -> str:
    """A template with its slots filled; the first letter is a capital."""
    facts = facts or {}
    slots = {name: str(rng.choice(words)) for name, words in phrases.SYNONYMS.items()}
    slots |= facts | {name.capitalize(): words.capitalize() for name, words in facts.items()}
    text = str(rng.choice(phrases.TEMPLATES[key])).format(**slots)
    return text[0].upper() + text[1:]


def _items(said: list[Sentence], rng: np.random.Generator) -> list[str]:
    """Sentences gathered into two to four numbered items."""
    groups = [[s.text for s in said if s.section == section] for section in range(4)]
    if len(groups[VESSELS]) + len(groups[RETINA]) <= 3:
        groups = [groups[VESSELS] + groups[RETINA], *groups[MACULA:]]
    if len(groups) == 3 and len(groups[0]) <= 1:
        groups = [groups[0] + groups[1], groups[2]]
    items = []
    for group in filter(None, groups):
        text = group[0]
        for sentence in group[1:]:
            if rng.uniform() < 0.25:
                text += "; " + sentence[0].lower() + sentence[1:]
            else:
                text += ". " + sentence
        items.append(text)
    return items


def _head(eye: str, rng: np.random.Generator) -> str:
    forms = (
        f"{eye.capitalize()} eye FFA: ",
        f"FFA of the {eye} eye: ",
        f"{eye.capitalize()} eye: ",
    )
    return str(rng.choice(forms, p=(0.88, 0.09, 0.03)))


def _numbered(items: list[str], rng: np.random.Generator) -> str:
    """Items with their numbers; rarely without, or with semicolons between."""
    form = rng.choice(("numbered", "plain", "semicolons"), p=(0.9, 0.05, 0.05))
    if form == "plain":
        return ". ".join(items) + "."
    between = "; " if form == "semicolons" else ". "
    return between.join(f"{i}. {item}" for i, item in enumerate(items, 1)) + "."
