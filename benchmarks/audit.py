"""Are planted copies and other visits found, and are clean clips left alone?

    python -m benchmarks audit [--px 64] [--train 200] [--holdout 100] [--generated 200]

Prints the tables of `docs/privacy.md`: phantom eyes, whose identity is known, stand for training,
hold-out and generated clips. `--quick` tries the program.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks import measure
from benchmarks.changes import blurred, jpeg, noisy, warped
from ffa_sora_jax.phantom import generate
from ffa_sora_jax.privacy import disturb, verdict
from ffa_sora_jax.privacy.audit import NoMemory, Options, Subject, gather
from ffa_sora_jax.privacy.detect import DETECTORS, Detectors, Scores
from ffa_sora_jax.privacy.traces import Trace, trace

SEEDS = {"train": 101, "holdout": 102, "generated": 103}
SHARES = (0.01, 0.02, 0.05)
VISITS = (1, 2, 3)


class Kept(NoMemory):
    """Traces and scores of this process."""

    def __init__(self) -> None:
        self._known: dict[str, Trace | Scores] = {}

    def trace(self, key: str, make: Callable[[], Trace]) -> Trace:
        return self._get(f"trace {key}", make)

    def scores(self, key: str, make: Callable[[], Scores]) -> Scores:
        return self._get(f"scores {key}", make)

    def _get(self, key, make):
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


@functools.lru_cache(maxsize=64)
def clip(seed: int, index: int, px: int, visit: int = 0) -> np.ndarray:
    return generate(seed, index, size=px, visit=visit).video


def eye(kind: str, index: int, px: int, visit: int = 0) -> Subject:
    name = f"{kind}-{index}-{visit}"
    read = functools.partial(clip, SEEDS[kind], index, px, visit)
    return Subject(name, name, read, patient=f"{kind}-{index}" if kind != "generated" else None)


def planted(index: int, px: int, family: str, seed: int) -> Subject:
    """A training clip, disturbed, among the generated ones."""
    name = f"copy-{index}-{family}-{seed}"

    def read() -> np.ndarray:
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        return disturb.DISTURBANCES[family](clip(SEEDS["train"], index, px), rng)

    return Subject(name, name, read)


# --- What else may be done to a copy: where the detectors end ---


def mixed(video, share, px):
    """The copy blended with a clip of another eye."""
    other = clip(SEEDS["generated"], 10**6, px)
    return np.rint((1 - share) * video + share * other).astype(np.uint8)


def half_replaced(video, px):
    other = clip(SEEDS["generated"], 10**6, px)
    return np.concatenate([video[:, : px // 2], other[:, px // 2 :]], axis=1)


HARDER: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "shift 6 %": lambda v, px: warped(v, x=0.06),
    "shift 12 %": lambda v, px: warped(v, x=0.12),
    "shift 20 %": lambda v, px: warped(v, x=0.2),
    "turn 5 deg": lambda v, px: warped(v, turn=5),
    "turn 10 deg": lambda v, px: warped(v, turn=10),
    "zoom 5 %": lambda v, px: warped(v, zoom=1.05),
    "zoom 15 %": lambda v, px: warped(v, zoom=1.15),
    "blur 1.5 %": lambda v, px: blurred(v, 0.015 * px),
    "blur 3 %": lambda v, px: blurred(v, 0.03 * px),
    "noise 20": lambda v, px: noisy(v, 20, np.random.default_rng(0)),
    "noise 50": lambda v, px: noisy(v, 50, np.random.default_rng(0)),
    "JPEG 10": lambda v, px: jpeg(v, 10),
    "inverted grey": lambda v, px: (255 - v) * (v > 3),
    "first half of the frames": lambda v, px: v[: len(v) // 2 + 1],
    "every third frame": lambda v, px: v[::3],
    "backwards": lambda v, px: np.ascontiguousarray(v[::-1]),
    "30 % of another eye": lambda v, px: mixed(v, 0.3, px),
    "50 % of another eye": lambda v, px: mixed(v, 0.5, px),
    "lower half replaced": half_replaced,
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, default in (
        ("px", 64), ("train", 200), ("holdout", 100), ("generated", 200), ("repeats", 5),
        ("harder", 20),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)
    if args.quick:
        args.train, args.holdout, args.generated, args.repeats, args.harder = 16, 12, 20, 1, 1
    say(f"{args.px} px, {args.train} training, {args.holdout} hold-out, {args.generated} generated")
    sides = [[eye(kind, i, args.px) for i in range(getattr(args, kind))] for kind in SEEDS]
    train, holdout, made = sides
    memory, options = Kept(), Options()
    start = time.monotonic()
    evidence = gather(made, train, holdout, options, memory)
    say(f"the first audit took {time.monotonic() - start:.0f} s with rendering")
    report = verdict.conclude(evidence, options)
    clean_tables(report)
    scores_table(evidence)
    for share in SHARES:
        planted_table(share, args, sides, memory, options)
    for share in SHARES:
        planted_table(share, args, sides, memory, options, visits=True)
    harder_table(args, evidence)
    timing(args, evidence)
    return 0


def clean_tables(report: dict) -> None:
    say(f"clean clips: {report['verdict']}; {report['counts']['match']} matches")
    for name, share in report["controls"]["by_disturbance"].items():
        say(f"  control {name:10} {share['hits']} of {share['count']}")
    wrong = report["controls"]["holdout_called_match"]
    say(f"  hold-out called a match: {wrong['hits']} of {wrong['count']}, "
        f"{wrong['interval'][0]:.3f} .. {wrong['interval'][1]:.3f}")  # fmt: skip
    near = report["nearness"]["grey+vessels"]
    for share in near["train_share"]:
        say(f"  training clips among the {share['k']:2d} nearest {share['value']:.3f}, chance "
            f"{share['chance']:.3f} ({share['low']:.3f} .. {share['high']:.3f}), "
            f"p {share['p_value']:.3f}")  # fmt: skip
    ratio = near["distance_ratio"]
    bounds, nearer = ratio["chance_interval"], ratio["nearer_chance_interval"]
    say(f"  distance ratio {ratio['value']:.3f}, chance {bounds[0]:.3f} .. {bounds[1]:.3f}")
    say(f"  nearer to training {ratio['nearer_to_train']:.3f}, chance {nearer[0]:.3f} .. "
        f"{nearer[1]:.3f}")  # fmt: skip
    copies = near["copies_at_1"]
    say(f"  planted copies found at rank 1 by features: {copies['hits']} of {copies['count']}")


def scores_table(evidence) -> None:
    groups: dict[str, list[Scores]] = {
        "hold-out": list(evidence.holdout_scores),
        "generated": [one.scores for one in evidence.judged],
    }
    for name in DETECTORS:
        threshold = evidence.thresholds[name]
        say(f"  {name}: threshold {threshold.value:.3f} for {threshold.rate:.4f} "
            f"({threshold.method})")  # fmt: skip
        for who, scores in groups.items():
            say(f"    {who:10} {spread([s[name].value for s in scores])}")


def planted_table(share, args, sides, memory, options, visits=False) -> None:
    """Several draws of planted clips: what is found, and what else is called a match."""
    train, holdout, made = sides
    families = list(disturb.DISTURBANCES)
    count = max(1, round(share * len(made)))
    found, total, false, by_vessels, verdicts = 0, 0, 0, 0, []
    for repeat in range(args.repeats):
        rng = np.random.default_rng(np.random.SeedSequence((7, repeat, count, visits)))
        chosen = rng.choice(len(train), count, replace=False)
        bad = [
            eye_again(int(i), args.px, VISITS[repeat % len(VISITS)])
            if visits
            else planted(int(i), args.px, families[(repeat + k) % len(families)], repeat)
            for k, i in enumerate(chosen)
        ]
        evidence = gather([*made[count:], *bad], train, holdout, options, memory)
        names = {subject.name: int(i) for subject, i in zip(bad, chosen, strict=True)}
        for one in evidence.judged:
            right = one.name in names and any(
                one.scores[d].index == names[one.name] for d in one.fired
            )
            found, false = found + right, false + (bool(one.fired) and one.name not in names)
            by_vessels += right and "vessels" in one.fired
        total += count
        verdicts.append(verdict.conclude(evidence, options)["verdict"])
    what = "other visits" if visits else "copies"
    say(f"{100 * share:.0f} % {what}: {found} of {total} found ({by_vessels} by vessels), {false} "
        f"of {args.repeats * (len(made) - count)} clean clips called a match, verdict "
        f"{verdict.FOUND!r} in {verdicts.count(verdict.FOUND)} of {args.repeats}")  # fmt: skip


def eye_again(index: int, px: int, visit: int) -> Subject:
    """Another visit of a training eye, among the generated clips."""
    subject = eye("train", index, px, visit)
    return Subject(f"again {subject.name}", f"again {subject.name}", subject.read)


def harder_table(args, evidence) -> None:
    detectors = Detectors([one for _, one in evidence.train])
    say("what is found of copies changed further, and by which detector")
    for name, change in HARDER.items():
        fired = dict.fromkeys(DETECTORS, 0)
        found = 0
        for index in range(min(args.harder, len(evidence.train))):
            video = change(clip(SEEDS["train"], index, args.px), args.px)
            scores = detectors.scores(trace(video))
            right = [
                d for d, score in scores.items()
                if score.value > evidence.thresholds[d].value and score.index == index
            ]  # fmt: skip
            found += bool(right)
            for d in right:
                fired[d] += 1
        parts = ", ".join(f"{d} {n}" for d, n in fired.items())
        say(f"  {name:26} {found:2d} of {min(args.harder, len(evidence.train))}   {parts}")


def timing(args, evidence) -> None:
    video = clip(SEEDS["generated"], 0, args.px)
    say(f"trace {min(measure.timed(lambda: trace(video), 3)['wall_s']):.3f} s per clip")
    known = [one for _, one in evidence.train]
    query = evidence.generated[0][1]
    for count in (len(known), 2851):
        detectors = Detectors((known * (1 + count // len(known)))[:count])
        seconds = min(measure.timed(functools.partial(detectors.scores, query), 3)["wall_s"])
        say(f"comparison with {count} training clips {seconds:.2f} s")


def spread(values: Sequence[float] | Iterable[float]) -> str:
    array = np.asarray(list(values))
    return f"min {array.min():.3f} median {np.median(array):.3f} max {array.max():.3f}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
