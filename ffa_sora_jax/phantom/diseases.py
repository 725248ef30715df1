"""What an eye may suffer from, and the findings that come with it.

`sample_exam` draws a whole record; the picture and the report are both made from it. Shares of
diseases and co-occurrences follow the tables "Disease mix" of `docs/phantom.md`. Rules that
hold without exception: no proliferative retinopathy without new vessels; the lesions of a branch
occlusion stay in its quadrant (and the macula); those of a central occlusion lie in all four;
chorioretinal diseases leave the retinal vessels alone; diseases of one exam share one eye.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.phantom.record import EYES, QUADRANTS, Exam, Finding

ALL = "all quadrants"
POLE = "posterior pole"
PERIPHERY = "mid-periphery"
MACULA = "macula"
FOVEA = "fovea"
DISC = "optic disc"
DISC_CENTER = (2.67, 0.2)  # nominal; recipes use the disc of the eye at hand
QUADRANT_CENTERS = {
    "superotemporal": (-0.3, 1.6),
    "inferotemporal": (-0.3, -1.6),
    "superonasal": (3.6, 1.6),
    "inferonasal": (3.6, -1.4),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What a disease puts into the exam."""

    findings: list[Finding]
    arterial_filling: str = "normal"
    venous_return: str = "normal"


@dataclasses.dataclass(frozen=True)
class Disease:
    """One entry of the disease list.

    Attributes:
      share: relative frequency among exams.
      draw: draws a case.
    """

    share: float
    draw: Callable[[np.random.Generator], Case]


def _chance(rng: np.random.Generator, p: float) -> bool:
    return bool(rng.uniform() < p)


def _pick(rng: np.random.Generator, names: tuple[str, ...], p: tuple[float, ...]) -> str:
    return str(rng.choice(names, p=p))


def _count(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _severity(rng: np.random.Generator) -> str:
    return _pick(rng, ("mild", "moderate", "severe"), (0.3, 0.4, 0.3))


def _quadrant(name: str) -> str:
    return f"{name} quadrant"


def _many(kind: str, region: str, count: int, radius: float = 0.0, **more: object) -> Finding:
    """A finding that is many spots over a region."""
    key = region.removesuffix(" quadrant")
    center = QUADRANT_CENTERS.get(key, (0.0, 0.0))
    return Finding(kind, region, center, radius, count=count, **more)  # type: ignore[arg-type]


def _microaneurysms(region: str, count: int) -> Finding:
    return _many("microaneurysms", region, count, onset_s=3.0)


def _leakage(region: str, severity: str) -> Finding:
    count = {"mild": 12, "moderate": 24, "severe": 40}[severity]
    if region == ALL:
        count *= 2
    return _many("capillary_leakage", region, count, severity=severity, onset_s=20.0)


def _closure(region: str, severity: str) -> Finding:
    spread = 3 if region in (ALL, PERIPHERY) else 1
    count = {"mild": 3 + spread, "moderate": 1 + spread, "severe": 1 + spread // 2}[severity]
    return _many("nonperfusion", region, count, severity=severity, onset_s=3.0)


def _blots(region: str, count: int) -> Finding:
    return _many("haemorrhage_blot", region, count, radius=0.1)


def oedema(rng: np.random.Generator, cystoid: float) -> Finding:
    """Macular oedema: cystoid with the given probability, else diffuse."""
    severity = _severity(rng)
    if _chance(rng, cystoid):
        return Finding(
            "oedema_cystoid",
            FOVEA,
            (0.0, 0.0),
            radius={"mild": 0.45, "moderate": 0.6, "severe": 0.75}[severity],
            severity=severity,
            onset_s=60.0,
            values={"petals": float(rng.integers(6, 10))},
        )
    return Finding(
        "oedema_diffuse",
        MACULA,
        (0.0, 0.0),
        radius={"mild": 0.8, "moderate": 1.0, "severe": 1.25}[severity],
        count={"mild": 20, "moderate": 35, "severe": 50}[severity],
        severity=severity,
        onset_s=30.0,
    )


def disc_sign(kind: str, severity: str) -> Finding:
    """Disc staining or leakage."""
    return Finding(kind, DISC, DISC_CENTER, 0.5, severity=severity, onset_s=20.0)


def laser(region: str, count: int) -> Finding:
    """Laser scars: a macular grid or scatter treatment."""
    pitch = 0.3 if region == MACULA else 0.42
    size = 0.07 if region == MACULA else 0.12
    return _many("laser_scars", region, count, radius=size, values={"pitch": pitch})


def _normal(rng: np.random.Generator) -> Case:
    return Case([])


def _npdr_mild(rng: np.random.Generator) -> Case:
    found = [_microaneurysms(POLE, _count(rng, 4, 10))]
    if _chance(rng, 0.3):
        found.append(_leakage(POLE, "mild"))
    if _chance(rng, 0.25):
        found.append(_blots(POLE, _count(rng, 2, 4)))
    return Case(found)


def _npdr_moderate(rng: np.random.Generator) -> Case:
    region = _pick(rng, (POLE, ALL), (0.6, 0.4))
    found = [_microaneurysms(region, _count(rng, 18, 40))]
    if _chance(rng, 0.75):
        found.append(_leakage(region, _pick(rng, ("mild", "moderate"), (0.5, 0.5))))
    if _chance(rng, 0.3):
        found.append(_closure(POLE, "mild"))
    found.append(_blots(region, _count(rng, 5, 14)))
    if _chance(rng, 0.25):
        found.append(_many("cotton_wool", POLE, _count(rng, 2, 4)))
    if _chance(rng, 0.35):
        found.append(oedema(rng, cystoid=0.35))
    elif _chance(rng, 0.3):
        found.append(_many("hard_exudates", MACULA, _count(rng, 10, 30), radius=0.7))
    return Case(found)


def _npdr_severe(rng: np.random.Generator) -> Case:
    found = [_microaneurysms(ALL, _count(rng, 50, 90))]
    if _chance(rng, 0.3):
        found.append(_many("venous_beading", ALL, 1))
    if _chance(rng, 0.9):
        found.append(_leakage(ALL, _pick(rng, ("moderate", "severe"), (0.5, 0.5))))
    found.append(_closure(_pick(rng, (PERIPHERY, ALL), (0.6, 0.4)), "moderate"))
    if _chance(rng, 0.6):
        found.append(_many("irma", ALL, _count(rng, 3, 6)))
    found.append(_blots(ALL, _count(rng, 22, 45)))
    if _chance(rng, 0.4):
        found.append(oedema(rng, cystoid=0.35))
    if _chance(rng, 0.15):
        found.append(laser(PERIPHERY, _count(rng, 60, 140)))
    return Case(found)


def _pdr(rng: np.random.Generator) -> Case:
    on_disc = _chance(rng, 0.35)
    found = [_microaneurysms(ALL, _count(rng, 40, 80)), _closure(PERIPHERY, "severe")]
    if not on_disc or _chance(rng, 0.5):
        places = rng.choice(
            QUADRANTS, size=_count(rng, 1, 2), replace=False, p=(0.35, 0.3, 0.2, 0.15)
        )
        for name in places:
            found.append(_many("nve", _quadrant(name), 1, radius=0.35, onset_s=3.0))
    if _chance(rng, 0.7):
        found.append(_leakage(ALL, _severity(rng)))
    if _chance(rng, 0.6):
        found.append(_blots(ALL, _count(rng, 8, 25)))
    if _chance(rng, 0.15):
        side = _pick(rng, ("superotemporal", "inferotemporal"), (0.3, 0.7))
        at = QUADRANT_CENTERS[side]
        found.append(Finding("preretinal_haemorrhage", _quadrant(side), at, 0.6))
    if _chance(rng, 0.4):
        found.append(oedema(rng, cystoid=0.35))
    if _chance(rng, 0.5):
        found.append(laser(PERIPHERY, _count(rng, 80, 180)))
    if on_disc:
        found.append(Finding("nvd", DISC, DISC_CENTER, 0.7, severity="severe", onset_s=3.0))
    return Case(found)


def _brvo(rng: np.random.Generator) -> Case:
    name = _pick(rng, QUADRANTS, (0.62, 0.28, 0.05, 0.05))
    region = _quadrant(name)
    temporal = "temporal" in name
    values = {
        "delay_s": float(rng.uniform(4, 14)),
        "stretch": float(rng.uniform(1.3, 1.9)),
        "width": float(rng.uniform(1.2, 1.5)),
        "tortuosity": float(rng.uniform(0.7, 1.4)),
    }
    if _chance(rng, 0.35):
        values["wall_stain"] = 0.4
    found = [_many("vein_occlusion", region, 1, severity="moderate", onset_s=5.0, values=values)]
    if _chance(rng, 0.6):
        found.append(_microaneurysms(region, _count(rng, 10, 30)))
    ischaemic = _chance(rng, 0.55)
    if ischaemic:
        found.append(_closure(region, _pick(rng, ("moderate", "severe"), (0.4, 0.6))))
    if _chance(rng, 0.85):
        found.append(_leakage(region, _pick(rng, ("moderate", "severe"), (0.4, 0.6))))
    if ischaemic and _chance(rng, 0.2):
        found.append(_many("nve", region, 1, radius=0.35, onset_s=3.0))
    if temporal and _chance(rng, 0.4):
        found.append(
            Finding("collaterals", MACULA, (-1.3, 0.0), 1.0, count=_count(rng, 1, 3), onset_s=8.0)
        )
    if _chance(rng, 0.8):
        found.append(_many("haemorrhage_flame", region, _count(rng, 18, 45), radius=0.22))
    if temporal and _chance(rng, 0.55):
        found.append(oedema(rng, cystoid=0.6))
    if _chance(rng, 0.15):
        found.append(laser(region, _count(rng, 30, 60)))
    return Case(found)


def _crvo(rng: np.random.Generator) -> Case:
    delay = float(rng.uniform(5, 25))
    values = {
        "delay_s": delay,
        "stretch": float(rng.uniform(1.5, 2.5)),
        "width": float(rng.uniform(1.25, 1.5)),
        "tortuosity": float(rng.uniform(0.8, 1.5)),
    }
    found = [_many("vein_occlusion", ALL, 1, severity="severe", onset_s=5.0, values=values)]
    if _chance(rng, 0.5):
        found.append(_microaneurysms(ALL, _count(rng, 15, 40)))
    if _chance(rng, 0.5):
        found.append(_closure(ALL, _pick(rng, ("moderate", "severe"), (0.6, 0.4))))
    if _chance(rng, 0.9):
        found.append(_leakage(ALL, _pick(rng, ("moderate", "severe"), (0.5, 0.5))))
    if _chance(rng, 0.9):
        found.append(_many("haemorrhage_flame", ALL, _count(rng, 50, 110), radius=0.2))
    if _chance(rng, 0.65):
        found.append(oedema(rng, cystoid=0.75))
    if _chance(rng, 0.7):
        kind = _pick(rng, ("disc_leak", "disc_stain"), (0.6, 0.4))
        found.append(disc_sign(kind, _pick(rng, ("moderate", "severe"), (0.6, 0.4))))
    return Case(found, venous_return="markedly prolonged" if delay > 14 else "delayed")


def _leak_point(rng: np.random.Generator) -> tuple[str, tuple[float, float]]:
    """Region and place of the leak of central serous chorioretinopathy, within the macula."""
    side = _pick(rng, QUADRANTS, (0.22, 0.17, 0.37, 0.24))
    distance = rng.uniform(0.35, 0.95)
    angle = rng.uniform(0.2, 1.37)
    x = -distance * np.cos(angle) if "temporal" in side else distance * np.cos(angle)
    y = distance * np.sin(angle) if "supero" in side else -distance * np.sin(angle)
    return f"{side} macula", (float(x), float(y))


def _csc(rng: np.random.Generator) -> Case:
    region, at = _leak_point(rng)
    values = {"detachment": float(rng.uniform(0.9, 1.5))}
    found = [Finding("csc_inkblot", region, at, 0.5, onset_s=8.0, values=values)]
    if _chance(rng, 0.12):
        found.append(Finding("ped", MACULA, (-at[0], -at[1]), 0.25, onset_s=6.0))
    return Case(found)


def _csc_smokestack(rng: np.random.Generator) -> Case:
    region, at = _leak_point(rng)
    values = {
        "detachment": float(rng.uniform(1.1, 1.6)),
        "height": float(rng.uniform(0.75, 1.1)),
        "speed_dd_s": float(rng.uniform(0.007, 0.012)),
    }
    return Case([Finding("csc_smokestack", region, at, 0.6, onset_s=8.0, values=values)])


def _csc_chronic(rng: np.random.Generator) -> Case:
    at = (float(rng.normal(0, 0.2)), float(rng.normal(0, 0.2)))
    oozes = _count(rng, 2, 5)
    found = [
        Finding("csc_chronic", MACULA, at, float(rng.uniform(0.7, 1.2)), count=oozes, onset_s=60.0)
    ]
    if _chance(rng, 0.1):
        found.append(laser(MACULA, _count(rng, 8, 20)))
    return Case(found)


def _near_fovea(rng: np.random.Generator, spread: float) -> tuple[float, float]:
    return float(rng.normal(0, spread)), float(rng.normal(0, spread))


def _namd_classic(rng: np.random.Generator) -> Case:
    at = _near_fovea(rng, 0.2)
    found = [Finding("cnv_classic", MACULA, at, float(rng.uniform(0.35, 0.75)), onset_s=1.0)]
    if _chance(rng, 0.3):
        found.append(_blots(MACULA, _count(rng, 3, 6)))
    return Case(found)


def _namd_occult(rng: np.random.Generator) -> Case:
    at = _near_fovea(rng, 0.2)
    radius = float(rng.uniform(0.7, 1.1))
    found = [Finding("cnv_occult", MACULA, at, radius, count=_count(rng, 3, 6), onset_s=40.0)]
    if _chance(rng, 0.5):
        found.append(Finding("ped", MACULA, (at[0] + 0.5 * radius, at[1]), 0.4, onset_s=6.0))
    if _chance(rng, 0.3):
        found.append(_blots(MACULA, _count(rng, 3, 6)))
    return Case(found)


def _pcv(rng: np.random.Generator) -> Case:
    at = _near_fovea(rng, 0.4)
    found = [Finding("polyps", MACULA, at, 0.5, count=_count(rng, 2, 5), onset_s=4.0)]
    if _chance(rng, 0.8):
        found.append(
            Finding(
                "ped", MACULA, (at[0] - 0.4, at[1] + 0.3), float(rng.uniform(0.4, 0.7)), onset_s=6.0
            )
        )
    if _chance(rng, 0.4):
        found.append(_blots(MACULA, _count(rng, 3, 6)))
    return Case(found)


def _ped(rng: np.random.Generator) -> Case:
    return Case(
        [Finding("ped", MACULA, _near_fovea(rng, 0.3), float(rng.uniform(0.4, 1.0)), onset_s=6.0)]
    )


def _some_drusen(rng: np.random.Generator, count: int) -> Finding:
    size = float(rng.choice([0.03, 0.05]))
    return _many("drusen", MACULA, count, radius=1.0, values={"size": size})


def _some_atrophy(rng: np.random.Generator, low: float, high: float, count: int) -> Finding:
    at = _near_fovea(rng, 0.2)
    return Finding("atrophy", MACULA, at, float(rng.uniform(low, high)), count=count, onset_s=0.0)


def _drusen(rng: np.random.Generator) -> Case:
    return Case([_some_drusen(rng, _count(rng, 40, 130))])


def _dry_amd(rng: np.random.Generator) -> Case:
    return Case([_some_drusen(rng, _count(rng, 40, 120)), _some_atrophy(rng, 0.2, 0.35, 1)])


def _geographic_atrophy(rng: np.random.Generator) -> Case:
    found = [_some_atrophy(rng, 0.55, 1.1, _count(rng, 1, 3))]
    if _chance(rng, 0.5):
        found.append(_some_drusen(rng, _count(rng, 20, 60)))
    return Case(found)


def _macular_hole(rng: np.random.Generator) -> Case:
    return Case([Finding("macular_hole", FOVEA, (0.0, 0.0), float(rng.uniform(0.14, 0.26)))])


def _cmo(rng: np.random.Generator) -> Case:
    found = [oedema(rng, cystoid=1.0)]
    if _chance(rng, 0.35):
        found.append(disc_sign("disc_stain", "mild"))
    return Case(found)


def _dme(rng: np.random.Generator) -> Case:
    found = [_microaneurysms(POLE, _count(rng, 8, 25)), oedema(rng, cystoid=0.0)]
    if _chance(rng, 0.4):
        found.append(_many("hard_exudates", MACULA, _count(rng, 10, 30), radius=0.9))
    return Case(found)


def _disc_leak(rng: np.random.Generator) -> Case:
    kind = _pick(rng, ("disc_leak", "disc_stain"), (0.7, 0.3))
    return Case([disc_sign(kind, _severity(rng))])


def _laser_scars(rng: np.random.Generator) -> Case:
    found = [
        laser(
            *(
                (MACULA, _count(rng, 20, 40))
                if _chance(rng, 0.3)
                else (PERIPHERY, _count(rng, 80, 200))
            )
        )
    ]
    if _chance(rng, 0.4):
        found.insert(0, _microaneurysms(POLE, _count(rng, 4, 10)))
    return Case(found)


DISEASES: dict[str, Disease] = {
    "normal": Disease(0.10, _normal),
    "npdr_mild": Disease(0.07, _npdr_mild),
    "npdr_moderate": Disease(0.10, _npdr_moderate),
    "npdr_severe": Disease(0.09, _npdr_severe),
    "pdr": Disease(0.09, _pdr),
    "brvo": Disease(0.10, _brvo),
    "crvo": Disease(0.06, _crvo),
    "csc": Disease(0.07, _csc),
    "csc_smokestack": Disease(0.02, _csc_smokestack),
    "csc_chronic": Disease(0.05, _csc_chronic),
    "namd_classic": Disease(0.04, _namd_classic),
    "namd_occult": Disease(0.04, _namd_occult),
    "pcv": Disease(0.04, _pcv),
    "ped": Disease(0.03, _ped),
    "drusen": Disease(0.02, _drusen),
    "dry_amd": Disease(0.02, _dry_amd),
    "geographic_atrophy": Disease(0.02, _geographic_atrophy),
    "macular_hole": Disease(0.015, _macular_hole),
    "cmo": Disease(0.03, _cmo),
    "dme": Disease(0.03, _dme),
    "disc_leak": Disease(0.025, _disc_leak),
    "laser_scars": Disease(0.025, _laser_scars),
}


def _slow_filling(rng: np.random.Generator, case: Case) -> Case:
    """Some hearts and carotids are slow: the retina fills late, whatever else it has."""
    word, delay = [("slightly delayed", 1.5), ("delayed", 3.0)][int(rng.integers(2))]
    finding = Finding("filling_delay", ALL, (0.0, 0.0), 5.0, onset_s=0.0, values={"delay_s": delay})
    return dataclasses.replace(case, findings=[finding, *case.findings], arterial_filling=word)


def sample_exam(
    rng: np.random.Generator, disease: str | None = None, eye: str | None = None
) -> Exam:
    """Draws one exam.

    Args:
      rng: source of chance.
      disease: a key of `DISEASES`; None draws one by its share.
      eye: "right" or "left"; None draws one.

    Raises:
      ValueError: for an unknown disease or eye.
    """
    names = list(DISEASES)
    shares = np.array([DISEASES[name].share for name in names])
    drawn = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    side = str(rng.choice(EYES))
    if disease is not None and disease not in DISEASES:
        raise ValueError(unknown_name("disease", disease, names))
    if eye is not None and eye not in EYES:
        raise ValueError(unknown_name("eye", eye, EYES))
    name = disease or drawn
    case = DISEASES[name].draw(rng)
    if _chance(rng, 0.04):
        case = _slow_filling(rng, case)
    return Exam(
        eye=eye or side,
        diseases=() if name == "normal" else (name,),
        findings=tuple(case.findings),
        arterial_filling=case.arterial_filling,
        venous_return=case.venous_return,
    )
