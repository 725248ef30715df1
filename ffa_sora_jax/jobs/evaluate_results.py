"""From rows to numbers: value, interval, floor, provenance, and which clips are best and worst.

Everything here is a function of the stored rows and the plan, computed on the host in the order of
the plan, so that a resumed or sharded evaluation writes the same bytes.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ffa_sora_jax.jobs import pairing
from ffa_sora_jax.jobs.clips import ClipItem, ClipSet
from ffa_sora_jax.jobs.evaluate_rows import Case, Look
from ffa_sora_jax.jobs.pairing import Pairing
from ffa_sora_jax.metrics import bootstrap
from ffa_sora_jax.metrics.bootstrap import Interval
from ffa_sora_jax.metrics.registry import Loaded

FLOOR_DRAWS = 10
MIN_HALF = 2  # clips on each side of a floor
_WIDE = 512  # numbers per clip above which distances of sets are slow

Get = Callable[[Case], np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared with what.

    Attributes:
      generated: clips to judge.
      reference: real clips.
      pairing: which belongs to which.
      candidates: reports read from the generated clips, by name.
      floor: whether the floors are measured.
      seed: of resampling, floors and partners.
      replicates: of the bootstrap.
    """

    generated: ClipSet
    reference: ClipSet
    pairing: Pairing
    candidates: Mapping[str, str]
    floor: bool = True
    seed: int = 0
    replicates: int = 1000

    def cases(self, loaded: Loaded) -> list[Case]:
        """Everything that must be measured for one metric."""
        kind = loaded.entry.kind
        found = [case for _, case in self.samples(loaded)]
        if kind == "sets":
            found += [Case(left=item) for item in self.references(loaded)]
        elif self.floor:
            found += [case for _, case in self.controls(kind)[1]]
        return list({case.key: case for case in found}.values())

    def samples(self, loaded: Loaded) -> list[tuple[ClipItem, Case]]:
        """Each sample of a metric with its case."""
        kind, pairs = loaded.entry.kind, self.pairing.pairs
        if kind == "pair":
            return [(made, Case(left=made, right=real)) for made, real in pairs]
        if kind == "sets":
            if loaded.metric.paired:
                pairs = self.pairing.first_per_reference()
                return [(made, Case(left=made)) for made, _ in pairs]
            return [(made, Case(left=made)) for made in self.generated.items]
        prompts = {made.name: real.report for made, real in pairs if real.report}
        prompts |= {made.name: made.report for made in self.generated.items if made.report}
        with_prompt = [item for item in self.generated.items if item.name in prompts]
        if kind == "clip_text":
            return [(i, Case(left=i, text=prompts[i.name])) for i in with_prompt]
        return [
            (i, Case(text=self.candidates[i.name], against=prompts[i.name]))
            for i in with_prompt
            if i.name in self.candidates
        ]

    def without_candidate(self) -> dict[str, str]:
        """Reasons by name of the generated clips whose report nobody read."""
        return {
            item.name: "the table of candidate reports has none for it"
            for item in self.generated.items
            if item.name not in self.candidates
        }

    def references(self, loaded: Loaded) -> list[ClipItem]:
        """The real clips that a distance of sets is measured to."""
        if loaded.metric.paired:
            return [real for _, real in self.pairing.first_per_reference()]
        return list(self.reference.items)

    def controls(self, kind: str) -> tuple[str, list[tuple[ClipItem, Case]]]:
        """What stands for "real against real", with its cases; named by the real clip."""
        items = self.reference.items
        reported = [item for item in items if item.report]
        if kind == "clip_text":
            pairs = [(item, Case(left=item, text=item.report)) for item in reported]
            return "real clip beside its own report", pairs
        if kind == "text":
            others = bootstrap.partners([i.report or "" for i in reported], seed=self.seed)
            return "report of another exam beside the report: the level of chance", [
                (item, Case(text=reported[j].report, against=item.report))
                for item, j in zip(reported, others, strict=True)
                if j is not None
            ]
        siblings = _siblings(items)
        if len(siblings) >= len(items) / 2:
            return "real clip beside another real clip of the same report", [
                (items[i], Case(left=items[j], right=items[i])) for i, j in siblings
            ]
        others = bootstrap.partners(self.reference_groups(), seed=self.seed)
        return "real clip beside a real clip of another patient: the level of chance", [
            (item, Case(left=items[j], right=item))
            for item, j in zip(items, others, strict=True)
            if j is not None
        ]

    def reference_groups(self) -> list[str]:
        """Cluster of every reference."""
        return [group_of(item) for item in self.reference.items]

    def groups(self) -> dict[str, str]:
        """Cluster of every generated clip: that of its reference, else its own."""
        groups = {item.name: group_of(item) for item in self.generated.items}
        return groups | {made.name: group_of(real) for made, real in self.pairing.pairs}

    def clustered_by(self) -> str:
        """What the clusters are."""
        items = self.reference.items
        if all(item.patient for item in items):
            return "patient"
        return "report" if all(item.report for item in items) else "clip"


def group_of(item: ClipItem) -> str:
    """Patient, else report, else the clip itself."""
    return item.patient or pairing.plain(item.report or "") or item.name


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The numbers of one metric, as JSON, and the value of every clip.

    Attributes:
      loaded: the metric.
      record: what results.json says.
      per_clip: value by name of the generated clip; empty for distances of sets.
      chosen: the generated clip of the best, median and worst value, by those words.
    """

    loaded: Loaded
    record: dict[str, Any]
    per_clip: dict[str, float]
    chosen: dict[str, str]


def outcome(plan: Plan, loaded: Loaded, get: Get, look: Look) -> Outcome:
    """The numbers of one metric from its stored rows; rows that failed are left out and counted."""
    samples = [(item, row) for item, case in plan.samples(loaded) if (row := get(case)) is not None]
    per_clip: dict[str, float] = {}
    if loaded.entry.kind == "sets":
        record = _of_sets(plan, loaded, samples, get)
    else:
        record, per_clip = _of_rows(plan, loaded, samples, get)
    entry, metric = loaded.entry, loaded.metric
    paper = dataclasses.asdict(entry.paper) if entry.paper else None
    record |= {
        "title": entry.title, "kind": entry.kind, "unit": entry.unit,
        "definition": entry.definition, "higher_is_better": metric.higher_is_better,
        "settings": {f.name: _plain(getattr(metric, f.name)) for f in dataclasses.fields(metric)},
        "network": entry.network, "weights": dict(sorted(loaded.weights.items())),
        "frames": look.frames, "size": list(look.size), "paper": paper,
        "unmeasured": len(plan.samples(loaded)) - len(samples),
    }  # fmt: skip
    if entry.kind == "text":
        record["unmeasured"] += len(plan.without_candidate())
    return Outcome(loaded, record, per_clip, _chosen(per_clip, metric.higher_is_better))


def _of_rows(
    plan: Plan, loaded: Loaded, samples: Sequence[tuple[ClipItem, np.ndarray]], get: Get
) -> tuple[dict[str, Any], dict[str, float]]:
    metric, groups = loaded.metric, plan.groups()
    if not samples:
        return _nothing(0, 0), {}
    rows = np.stack([row for _, row in samples])
    interval = bootstrap.bootstrap(
        lambda places: metric.value(rows[places])[metric.name],
        [groups[item.name] for item, _ in samples], seed=plan.seed, replicates=plan.replicates,
    )  # fmt: skip
    values = metric.value(rows)
    per_clip = {item.name: float(metric.value(row[None])[metric.name]) for item, row in samples}
    numbers = [v for v in per_clip.values() if math.isfinite(v)]
    record = {
        "value": _number(values[metric.name]), "values": _numbers(values),
        "sd_of_clips": _number(np.std(numbers, ddof=1)) if len(numbers) > 1 else None,
        "n": len(samples), "n_reference": len({real.name for _, real in plan.pairing.pairs}),
        "interval": _interval(interval, plan, metric), "floor": _floor_of_rows(plan, loaded, get),
    }  # fmt: skip
    return record, per_clip


def _floor_of_rows(plan: Plan, loaded: Loaded, get: Get) -> dict[str, Any] | None:
    if not plan.floor:
        return None
    what, cases = plan.controls(loaded.entry.kind)
    rows = [row for _, case in cases if (row := get(case)) is not None]
    if not rows:
        return None
    if loaded.metric.of_sample:
        what = "real clips by themselves"
    value = loaded.metric.value(np.stack(rows))[loaded.metric.name]
    return {"what": what, "value": _number(value), "n": len(rows)}


def _of_sets(
    plan: Plan, loaded: Loaded, samples: Sequence[tuple[ClipItem, np.ndarray]], get: Get
) -> dict[str, Any]:
    metric = loaded.metric
    references = [
        (item, row) for item in plan.references(loaded) if (row := get(Case(left=item))) is not None
    ]
    if metric.paired:
        samples, references = _both(plan, samples, references)
    if min(len(samples), len(references)) < 2:
        return _nothing(len(samples), len(references))
    made, real = (np.stack([row for _, row in side]) for side in (samples, references))
    groups = plan.groups()
    sample_groups = [groups[item.name] for item, _ in samples]
    real_groups = [group_of(item) for item, _ in references]

    def value(a: np.ndarray, b: np.ndarray) -> float:
        return metric.value(made[a], real[b])[metric.name]

    shares = metric.per_sample(made, real)
    if shares is not None:
        interval = bootstrap.bootstrap(
            lambda places: float(shares[places].mean()), sample_groups,
            seed=plan.seed, replicates=plan.replicates,
        )  # fmt: skip
    else:
        interval = bootstrap.half_samples(
            value, sample_groups, real_groups, seed=plan.seed, replicates=_replicates(plan, made)
        )
    values = metric.value(made, real)
    if metric.paired or not plan.floor:
        floor = _chance(values, len(made))
    else:
        floor = _floor_of_sets(plan, metric, made, real, real_groups)
    return {
        "value": _number(values[metric.name]), "values": _numbers(values),
        "n": len(made), "n_reference": len(real),
        "interval": _interval(interval, plan, metric), "floor": floor,
    }  # fmt: skip


def _both(
    plan: Plan, samples: Sequence[tuple[ClipItem, np.ndarray]],
    references: Sequence[tuple[ClipItem, np.ndarray]],
) -> tuple[list[tuple[ClipItem, np.ndarray]], list[tuple[ClipItem, np.ndarray]]]:  # fmt: skip
    """The pairs of which both rows were measured, in one order."""
    made = {item.name: (item, row) for item, row in samples}
    real = {item.name: (item, row) for item, row in references}
    pairs = [
        (made[a.name], real[b.name])
        for a, b in plan.pairing.first_per_reference()
        if a.name in made and b.name in real
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _floor_of_sets(
    plan: Plan, metric: Any, made: np.ndarray, real: np.ndarray, groups: Sequence[str]
) -> dict[str, Any] | None:
    """Real against real, and generated against real, both with `n` clips on either side."""
    wanted = min(len(made), len(real) // 2)
    if wanted < MIN_HALF:
        return None
    draws = [bootstrap.halves(groups, wanted, seed=plan.seed, draw=d) for d in range(FLOOR_DRAWS)]
    count = min(min(map(len, draw)) for draw in draws)
    if count < MIN_HALF:
        return None
    floors, same_n = [], []
    for number, (one, other) in enumerate(draws):
        rng = np.random.default_rng(np.random.SeedSequence([plan.seed, number]))
        some = np.sort(rng.permutation(len(made))[:count])
        floors.append(metric.value(real[one[:count]], real[other[:count]])[metric.name])
        same_n.append(metric.value(made[some], real[other[:count]])[metric.name])
    return {
        "what": f"two disjoint sets of real clips, mean of {FLOOR_DRAWS} draws",
        "value": _number(np.mean(floors)), "lowest": _number(np.min(floors)),
        "highest": _number(np.max(floors)), "n": count,
        "generated_at_this_n": _number(np.mean(same_n)),
    }  # fmt: skip


def _chance(values: Mapping[str, float], count: int) -> dict[str, Any] | None:
    """The level of chance that a metric computes itself, under a name that ends so."""
    level = [value for name, value in values.items() if name.endswith("_by_chance")]
    return (
        {"what": "the level of chance", "value": _number(level[0]), "n": count} if level else None
    )


def _siblings(items: Sequence[ClipItem]) -> list[tuple[int, int]]:
    """For every clip whose report another clip shares, the next of them."""
    places: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.report:
            places.setdefault(pairing.plain(item.report), []).append(index)
    return [
        (i, group[(k + 1) % len(group)])
        for group in places.values()
        if len(group) > 1
        for k, i in enumerate(group)
    ]


def _chosen(per_clip: Mapping[str, float], higher_is_better: bool) -> dict[str, str]:
    known = {name: value for name, value in per_clip.items() if math.isfinite(value)}
    if not known:
        return {}
    order = sorted(
        known, key=lambda name: (-known[name] if higher_is_better else known[name], name)
    )
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def _replicates(plan: Plan, rows: np.ndarray) -> int:
    width = int(np.prod(rows.shape[1:]))
    return min(plan.replicates, 200 if width <= _WIDE else 40)


def _interval(interval: Interval, plan: Plan, metric: Any) -> dict[str, Any]:
    """As JSON; bounds from few clips may leave the range of the metric, and end there."""
    low, high = np.clip([interval.low, interval.high], *metric.value_range)
    return {
        "level": 0.95, "low": _number(low), "high": _number(high),
        "method": interval.method, "clusters": interval.clusters,
        "clustered_by": plan.clustered_by(),
    }  # fmt: skip


def _nothing(n: int, n_reference: int) -> dict[str, Any]:
    return {
        "value": None, "values": {}, "n": n, "n_reference": n_reference, "interval": None,
        "floor": None,
    }  # fmt: skip


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: Any) -> float | None:
    """JSON has no NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
