"""The audit as one web page for the person who answers for the data, in plain words."""

from collections.abc import Mapping
from typing import Any

from ffa_sora_jax.common import page
from ffa_sora_jax.privacy import verdict

LISTED = 500
_VERDICTS = {
    verdict.FOUND: ("Copies of training data were found. Do not share all of these clips.", True),
    verdict.SUSPECTED: (
        "No single clip is a proven copy, but together they lean to the training data.", True,
    ),
    verdict.CLEAN: ("No copies of training data were found.", False),
    verdict.INCONCLUSIVE: ("The audit cannot decide. Treat the clips as not examined.", True),
}  # fmt: skip
_DETECTORS = {
    "vessels": (
        "The vessel tree of an eye is as personal as a fingerprint. The tree in each generated "
        "clip was laid over that of every training clip, turned, shifted, enlarged and mirrored."
    ),
    "copy": (
        "The pictures of each generated clip were compared, in order and at any speed, with those "
        "of the training clips that look most like it."
    ),
    "print": (
        "A short fingerprint of the whole recording, of how the dye runs and the eye moves, was "
        "compared with that of every training clip."
    ),
}
_LIMITS = (
    "A clip counts as clean if these detectors do not recognise a training clip in it. Copies that "
    "were changed more than the planted ones (upside down, inverted grey levels, in a frame), or "
    "that show only a part of a training picture or of its course, may pass.",
    "Hold-out clips that do not say of whom they are may be of training patients.",
    "Clips were compared with the training clips that were given. Eyes in other data, such as the "
    "data a pre-trained model came from, were not looked for.",
    "The reports from which clips were made were not examined. A report that names a person does "
    "so in the clip's file too.",
    "That a generated clip matches no training clip does not make it medically right, nor does it "
    "make it anonymous by law; that is for a person to decide.",
    "Thresholds come from the hold-out clips. If those come from another device or clinic than the "
    "training clips, they are too low or too high.",
)


def render(report: Mapping[str, Any]) -> str:
    """The page of a report that `verdict.conclude` made and the job completed."""
    words, bad = _VERDICTS[report["verdict"]]
    shown = f'<p class="bad">{words}</p>' if bad else f"<p><strong>{words}</strong></p>"
    reasons = "".join(f"<p>{page.text(reason)}</p>" for reason in report["reasons"])
    return page.document(
        "Privacy audit of generated angiograms",
        [
            "<h1>Privacy audit of generated angiograms</h1>",
            '<p class="faint">Can anyone whose eyes are in the training data be recognised in the '
            "generated clips? This page shows no picture and names no patient.</p>",
            page.section("Verdict", shown + reasons + _model(report) + _counts(report["counts"])),
            page.section("Clips that must not be shared", _offenders(report["samples"])),
            page.section("How clips were compared", _detectors(report)),
            page.section("Would copies have been seen?", _controls(report["controls"])),
            page.section("Do the clips lean to the training data?", _nearness(report["nearness"])),
            page.section("What cannot be concluded", _list(_LIMITS)),
            page.section("To repeat the audit", page.pairs(_flat(report.get("about", {})))),
        ],
    )


def _model(report: Mapping[str, Any]) -> str:
    model = report["model"]
    return f"<p>Sharing the model itself: {page.text(model['verdict'])}. " + (
        f"{page.text(model['reason'])}</p>"
    )


def _counts(counts: Mapping[str, int]) -> str:
    rows = [
        ["Generated clips", counts["generated"]],
        ["... without any match", counts["clean"]],
        ["... that match a training clip", counts["match"]],
        ["... in which no eye can be recognised: not judged", counts["undecided"]],
        ["... that cannot be read", counts["unreadable"]],
        [f"Training clips, of {_patients(counts, 'train', 'patients')}", counts["train"]],
        [f"Hold-out clips, of {_patients(counts, 'holdout', 'other patients')}", counts["holdout"]],
        ["Hold-out clips left out: they, or their patient, are in the training data",
         counts["holdout_left_out_as_patients_of_train"]],
        ["Training and hold-out clips that cannot be read", counts["real_clips_unreadable"]],
    ]  # fmt: skip
    return page.table(["", "number"], [[page.text(what), number] for what, number in rows])


def _patients(counts: Mapping[str, int], side: str, noun: str) -> str:
    """How many patients, as far as the data say whose clips they are."""
    known, unknown = counts[f"{side}_patients"], counts[f"{side}_of_unknown_patient"]
    if not unknown:
        return f"{known} {noun}"
    return f"{known} known {noun} ({unknown} clips do not say of whom)"


def _offenders(samples: list[Mapping[str, Any]]) -> str:
    bad = [sample for sample in samples if sample["verdict"] != "clean"]
    if not bad:
        return page.nothing("None.")
    rows = []
    for sample in bad[:LISTED]:
        fired = [(name, sample["detectors"][name]) for name in sample["matched_by"]]
        what = "; ".join(
            f"{name}: agrees {found['score']:.2f} with training clip no. {found['training_clip']} "
            f"(threshold {found['threshold']:.2f})"
            for name, found in fired
        )
        rows.append([page.text(sample["name"]), page.text(sample["verdict"]),
                     page.text(what or sample["reason"]), _odds(sample)])  # fmt: skip
    more = page.nothing(f"and {len(bad) - LISTED} more in the JSON file") if bad[LISTED:] else ""
    note = page.nothing(
        "Numbers of training clips are places in the data set, counted from 0; only those who have "
        "the data can look them up."
    )
    head = ["clip", "verdict", "why", "a clean clip agrees as well"]
    return page.table(head, rows) + more + note


def _odds(sample: Mapping[str, Any]) -> str:
    """How rarely chance alone would do it."""
    if not sample["matched_by"]:
        return ""
    if sample["chance"] < 1e-6:
        return "less than once in a million"
    return f"once in {1 / sample['chance']:.0f}"


def _detectors(report: Mapping[str, Any]) -> str:
    parts = []
    for name, found in report["detectors"].items():
        scores = found["scores"]
        high = 100 * found["rate"]
        parts.append(
            f"<h3>{page.text(name)}</h3><p>{page.text(_DETECTORS[name])}</p>"
            f"<p>Agreement of 1 is the same clip, 0 none. A clip counts as a match above "
            f"{found['value']:.2f}: {high:.2g} % of clips that cannot be copies would lie above, "
            f"by {page.text(found['method'])} of {found['holdout']} hold-out clips, of which "
            f"{found['above']} did. {found['matches']} generated clips lie above.</p>"
            + page.grid(
                chart
                for chart in (
                    page.histogram(scores["generated"], "best agreement, generated clips"),
                    page.histogram(scores["holdout"], "best agreement, hold-out clips"),
                )
                if chart
            )
        )
    return "".join(parts)


def _controls(controls: Mapping[str, Any]) -> str:
    planted = controls["planted_copies"]
    rows = [["Training clips, disturbed and judged as if generated", *_found(planted)]]
    rows += [
        [f"... by {page.text(family)}", *_found(found)]
        for family, found in controls["by_disturbance"].items()
    ]
    if controls["other_visits"]:
        rows.append(
            ["Another exam of an eye, known by its vessels", *_found(controls["other_visits"])]
        )
    rows.append(
        ["Hold-out clips called a match, wrongly", *_found(controls["holdout_called_match"])]
    )
    words = (
        "Finding nothing means something only if copies would be found. So copies were planted: "
        "the share found says how far the verdict can be trusted."
    )
    return f"<p>{words}</p>" + page.table(["", "found", "95 % interval"], rows)


def _nearness(near: Mapping[str, Any]) -> str:
    words = (
        "If a model remembers nothing, training clips and hold-out clips are equally near to what "
        "it makes. The tables show how often the nearest are training clips, beside what chance "
        "gives, in each description of the clips."
    )
    parts = [f"<p>{words}</p>"]
    for name, tests in near.items():
        parts.append(f"<h3>{page.text(name)}</h3>")
        rows = [
            [f"{s['k']}", _percent(s["value"]), _percent(s["chance"]),
             f"{_percent(s['low'])} to {_percent(s['high'])}", f"{s['p_value']:.3f}"]
            for s in tests["train_share"]
        ]  # fmt: skip
        head = ["nearest clips", "training clips among them", "chance", "95 % of chance", "p"]
        parts.append(page.table(head, rows))
        if ratio := tests["distance_ratio"]:
            low, high = ratio["chance_interval"]
            near_low, near_high = map(_percent, ratio["nearer_chance_interval"])
            parts.append(
                "<p>Distance to the nearest training clip over that to the nearest hold-out clip, "
                f"in galleries of equal size: {ratio['value']:.3f}; chance gives {low:.3f} to "
                f"{high:.3f}, less is nearer to the training data (p {ratio['p_value']:.3f}). "
                f"{_percent(ratio['nearer_to_train'])} of the clips are nearer to the training "
                f"data; chance gives {near_low} to {near_high}.</p>"
            )
        for side, paired in tests["by_report"].items():
            parts.append(_by_report(side, paired))
    return "".join(parts)


def _by_report(side: str, paired: Mapping[str, Any]) -> str:
    whose = {"train": "a training clip", "holdout": "a hold-out clip"}[side]
    rows = [
        [k, _percent(r["value"]), " to ".join(map(_percent, r["interval"])), _percent(r["chance"]),
         " to ".join(map(_percent, r["chance_interval"]))]
        for k, r in paired["recall"].items()
    ]  # fmt: skip
    head = ["K", "Recall@K", "95 % interval", "chance", "95 % of chance"]
    return (
        f"<p>{paired['queries']} clips were made from the report of {whose}. How often is that "
        f"clip among the K most similar of {paired['gallery']}? Clips of one report share side "
        "and disease, so a model that remembers nobody may lie above chance; compare the training "
        "with the hold-out table, where there are both.</p>" + page.table(head, rows)
    )


def _found(found: Mapping[str, Any]) -> list[str]:
    low, high = found["interval"]
    return [f"{found['hits']} of {found['count']}", f"{_percent(low)} to {_percent(high)}"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _list(lines: tuple[str, ...]) -> str:
    return "<ul>" + "".join(f"<li>{page.text(line)}</li>" for line in lines) + "</ul>"


def _flat(about: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in about.items()}
