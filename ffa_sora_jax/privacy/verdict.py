"""From the evidence to the verdict, per clip and over all, as plain data for JSON and the page."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffa_sora_jax.metrics import retrieval
from ffa_sora_jax.metrics.bootstrap import share_interval
from ffa_sora_jax.privacy import neighbours
from ffa_sora_jax.privacy.audit import CERTAIN, Control, Evidence, Judged, Options, Traced
from ffa_sora_jax.privacy.detect import DETECTORS, matches
from ffa_sora_jax.privacy.membership import Attack
from ffa_sora_jax.privacy.traces import stack

FOUND = "copies found"
SUSPECTED = "memory suspected"
CLEAN = "no copies found"
INCONCLUSIVE = "inconclusive"
SENSITIVITY = 0.95  # share of disturbed copies that must be found for a clean verdict to count
MIN_CONTROLS = 10
MIN_ATTACKED = 20  # clips on each side below which membership inference proves no absence
SIGNIFICANT = 0.01  # of the tests on the whole set
KS = (1, 5, 10, 50)


def conclude(
    evidence: Evidence,
    options: Options,
    attack: Attack | None = None,
    features: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None,
) -> dict[str, Any]:
    """The report of an audit, ready for JSON.

    Args:
      evidence: of `audit.gather`.
      options: its settings.
      attack: membership inference on the model, if it was at hand.
      features: further extractors by name: (n, d) arrays of the generated, training and hold-out
        clips of the evidence, in its order.
    """
    extractors = {"grey+vessels": _own_features(evidence), **(features or {})}
    near = {name: _nearness(evidence, *arrays) for name, arrays in extractors.items()}
    report = {
        "counts": _counts(evidence),
        "detectors": {name: _detector(name, evidence) for name in DETECTORS},
        "controls": _all_controls(evidence),
        "nearness": near,
        "membership": None if attack is None else dataclasses.asdict(attack),
        "settings": {**dataclasses.asdict(options), "detectors": list(DETECTORS)},
        "samples": [_sample(one, evidence) for one in evidence.judged],
    }
    report["verdict"], report["reasons"] = _overall(evidence, options, near)
    report["clears"] = not _doubts(evidence, _decided(evidence))
    report["model"] = _model(attack)
    return report


def _overall(evidence: Evidence, options: Options, near: dict[str, Any]) -> tuple[str, list[str]]:
    """The verdict on the generated clips, and why."""
    from scipy import stats

    judged = _decided(evidence)
    doubts = _doubts(evidence, judged)
    matched = [one for one in judged if one.fired]
    certain = [one for one in matched if one.chance * len(judged) < CERTAIN]
    expected = options.rate * len(judged)
    surprise = float(stats.binom.sf(len(matched) - 1, len(judged), options.rate))
    if certain or (matched and surprise < SIGNIFICANT):
        text = (
            f"{len(matched)} of {len(judged)} clips match a training clip, where about "
            f"{expected:.1f} would by accident; {len(certain)} of them match so well that accident "
            "is ruled out."
        )
        if doubts:
            doubts = [*doubts, "So the other clips are not cleared."]
        return FOUND, [text, *doubts]
    if doubts:
        return INCONCLUSIVE, doubts
    reasons = [reason for name, tests in near.items() for reason in _leaning(name, tests)]
    if reasons:
        return SUSPECTED, reasons
    bound = share_interval(len(matched), len(judged))[1]
    text = (
        f"{len(matched)} of {len(judged)} clips match a training clip. Accident may do that (it "
        f"gives about {expected:.1f}), but they must not be shared all the same."
        if matched
        else f"None of {len(judged)} clips matches a training clip."
    )
    text += (
        f" With 95 % confidence at most {100 * bound:.1f} % of all clips made in this way are "
        "copies of the kinds that this audit recognises."
    )
    return CLEAN, [text]


def _leaning(name: str, tests: dict[str, Any]) -> list[str]:
    """Tests in one feature space that training data and generated clips have too much in common."""
    limit = SIGNIFICANT / (len(tests["train_share"]) + 1)
    reasons = [
        f"Among the {share['k']} clips most like each generated clip ({name}), "
        f"{100 * share['value']:.0f} % are training clips, where chance gives "
        f"{100 * share['chance']:.0f} %: the generated clips lean to the training data."
        for share in tests["train_share"]
        if share["p_value"] < limit
    ]
    ratio = tests["distance_ratio"]
    if ratio and ratio["p_value"] < limit:
        reasons.append(
            f"The nearest training clip is {ratio['value']:.2f} times as far as the nearest "
            f"hold-out clip ({name}); chance gives {ratio['chance_interval'][0]:.2f} to "
            f"{ratio['chance_interval'][1]:.2f}."
        )
    return reasons


def _decided(evidence: Evidence) -> list[Judged]:
    return [one for one in evidence.judged if one.verdict in ("match", "clean")]


def _doubts(evidence: Evidence, judged: Sequence[Judged]) -> list[str]:
    """Why finding nothing would mean nothing."""
    doubts = []
    found = sum(control.found for control in evidence.controls)
    count = len(evidence.controls)
    if count < MIN_CONTROLS:
        doubts.append(f"Only {count} copies were planted; at least {MIN_CONTROLS} are needed.")
    elif found < SENSITIVITY * count:
        doubts.append(
            f"Of {count} copies that were planted on purpose only {found} were found, so real "
            "copies could be missed."
        )
    if 2 * len(judged) < len(evidence.judged):
        doubts.append(
            f"Only {len(judged)} of {len(evidence.judged)} generated clips can be judged."
        )
    return doubts


def _model(attack: Attack | None) -> dict[str, str]:
    """The verdict on sharing the weights themselves."""
    if attack is None:
        text = "The model was not given, so sharing its weights was not examined."
        return {"verdict": "not tested", "reason": text}
    low, high = attack.auc_interval
    text = (
        f"An attacker with the model, the clips and their reports tells training from other clips "
        f"with an AUC of {attack.auc:.2f} ({low:.2f} to {high:.2f}; 0.5 is guessing), and names "
        f"{100 * attack.hits:.0f} % of the training clips ({100 * attack.hits_interval[0]:.0f} to "
        f"{100 * attack.hits_interval[1]:.0f} %) while naming {100 * attack.rate:.1f} % of the "
        f"others wrongly ({attack.members} and {attack.others} clips); guessing names as many "
        f"with probability {attack.hits_p_value:.3f}."
    )
    if attack.beyond_chance:
        return {"verdict": "leaks membership", "reason": text}
    if min(attack.members, attack.others) < MIN_ATTACKED:
        return {"verdict": INCONCLUSIVE, "reason": f"{text} Too few clips to find a leak."}
    return {"verdict": "no leak found", "reason": text}


def _counts(evidence: Evidence) -> dict[str, int]:
    verdicts = [one.verdict for one in evidence.judged]
    return {
        "generated": len(verdicts),
        **{name: verdicts.count(name) for name in ("clean", "match", "undecided", "unreadable")},
        "train": len(evidence.train),
        "train_patients": len({subject.patient for subject, _ in evidence.train} - {None}),
        "train_of_unknown_patient": sum(s.patient is None for s, _ in evidence.train),
        "holdout": len(evidence.holdout),
        "holdout_patients": len({subject.patient for subject, _ in evidence.holdout} - {None}),
        "holdout_of_unknown_patient": sum(s.patient is None for s, _ in evidence.holdout),
        "holdout_left_out_as_patients_of_train": evidence.shared_patients,
        "real_clips_unreadable": evidence.num_unreadable,
    }


def _detector(name: str, evidence: Evidence) -> dict[str, Any]:
    values = {
        "generated": [one.scores[name].value for one in evidence.judged if name in one.scores],
        "holdout": [scores[name].value for scores in evidence.holdout_scores if name in scores],
    }
    return {
        **dataclasses.asdict(evidence.thresholds[name]),
        "scores": {who: [round(v, 4) for v in found] for who, found in values.items()},
        "matches": sum(name in one.fired for one in evidence.judged),
    }


def _all_controls(evidence: Evidence) -> dict[str, Any]:
    families = sorted({control.family for control in evidence.controls})
    false = [bool(matches(s, evidence.thresholds)) for s in evidence.holdout_scores]
    return {
        "planted_copies": _share(evidence.controls),
        "by_disturbance": {
            family: _share([c for c in evidence.controls if c.family == family])
            for family in families
        },
        "other_visits": _share(evidence.visits) if evidence.visits else None,
        "holdout_called_match": _of(sum(false), len(false)),
    }


def _share(controls: Sequence[Control]) -> dict[str, Any]:
    return _of(sum(control.found for control in controls), len(controls))


def _of(hits: int, count: int) -> dict[str, Any]:
    low, high = share_interval(hits, count)
    return {"hits": hits, "count": count, "share": hits / max(count, 1), "interval": [low, high]}


def _own_features(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sides = (evidence.generated, evidence.train, evidence.holdout)
    made = [stack([t for _, t in side], "features") if side else np.zeros((0, 1)) for side in sides]
    return made[0], made[1], made[2]


def _nearness(
    evidence: Evidence, generated: np.ndarray, train: np.ndarray, holdout: np.ndarray
) -> dict[str, Any]:
    """Retrieval and distance tests in one feature space."""
    if not len(generated):
        return {"train_share": [], "distance_ratio": None, "by_report": {}, "copies_at_1": None}
    to_train = neighbours.distances(generated, train)
    to_holdout = neighbours.distances(generated, holdout)
    # no patient is on both sides, but files of both folders may have one name
    both = (
        [f"train {subject.group}" for subject, _ in evidence.train],
        [f"holdout {subject.group}" for subject, _ in evidence.holdout],
    )
    ratio = neighbours.distance_ratio(to_train, to_holdout, both)
    return {
        "train_share": [
            dataclasses.asdict(share)
            for share in neighbours.train_share(to_train, to_holdout, KS, both)
        ],
        "distance_ratio": {
            "value": ratio.value,
            "chance_interval": [ratio.low, ratio.high],
            "nearer_to_train": ratio.nearer,
            "nearer_chance_interval": [ratio.nearer_low, ratio.nearer_high],
            "p_value": ratio.p_value,
        },
        "by_report": {
            side: recall
            for side, subjects, gallery in (
                ("train", evidence.train, train), ("holdout", evidence.holdout, holdout)
            )
            if (recall := _recall_by_report(evidence, generated, subjects, gallery))
        },
        "copies_at_1": _copies_at_1(evidence, train),
    }  # fmt: skip


def _recall_by_report(
    evidence: Evidence,
    generated: np.ndarray,
    real: Traced,
    gallery: np.ndarray,
) -> dict[str, Any]:
    """Recall@K of clips made from the report of a real one; {} if no report is shared."""
    reports = [(subject.report or "").strip() for subject, _ in evidence.generated]
    known = [(subject.report or "").strip() for subject, _ in real]
    relevant = retrieval.same_group(reports, known) & (np.array(reports) != "")[:, None]
    rows = np.flatnonzero(relevant.any(axis=1))
    if not len(rows):
        return {}
    ks = [k for k in KS if k <= len(known)]
    mode = "same_patient"
    recall = retrieval.recall_at_k(generated[rows], gallery, ks, relevant[rows], mode)
    chance = retrieval.chance_at_k(len(known), relevant[rows].sum(axis=1), ks, mode)
    return {
        "queries": len(rows),
        "gallery": len(known),
        "recall": {
            str(k): {
                "value": recall[k],
                "interval": list(share_interval(recall[k] * len(rows), len(rows))),
                "chance": chance[k].value,
                "chance_interval": [chance[k].low, chance[k].high],
            }
            for k in ks
        },
    }


def _copies_at_1(evidence: Evidence, train: np.ndarray) -> dict[str, Any] | None:
    """Recall@1 of the planted copies by these features: what a high recall looks like."""
    if not evidence.controls or train.shape[1] != len(evidence.controls[0].trace.features):
        return None
    queries = stack([control.trace for control in evidence.controls], "features")
    nearest = neighbours.distances(queries, train).argmin(axis=1)
    places = [control.place for control in evidence.controls]
    return _of(int((nearest == places).sum()), len(places))


def _sample(one: Judged, evidence: Evidence) -> dict[str, Any]:
    """One generated clip; training clips are named by their place in the data set only."""
    told = {
        name: {"score": round(score.value, 4), "training_clip": evidence.train_places[score.index],
               "threshold": round(evidence.thresholds[name].value, 4)}
        for name, score in one.scores.items()
    }  # fmt: skip
    return {"name": one.name, "verdict": one.verdict, "matched_by": list(one.fired),
            "chance": one.chance, "reason": one.reason, "detectors": told}  # fmt: skip
