"""Which generated clip is compared with which reference.

    name     ID, or ID-s7 with the seed at the end, belongs to the reference ID
    report   the k-th generated clip of a report (by name) belongs to the k-th reference with the
             same report, and starts over when there are more generated clips than references
    order    the k-th belongs to the k-th; needs as many of both
    auto     "name" if it finds a partner for every generated clip, else "report"

Several generated clips may belong to one reference, and several references to one report: 387 test
videos of the paper share 193 reports. Each generated clip is one row of a paired metric; clips of
one patient are resampled together, so many samples of few reports do not narrow the interval.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.jobs.clips import ClipItem, ClipSet

RULES = ("auto", "name", "report", "order")
_SEED = re.compile(r"-s\d+$")


@dataclasses.dataclass(frozen=True)
class Pairing:
    """The pairs, and what has no partner.

    Attributes:
      rule: "name", "report" or "order".
      pairs: (generated, reference) in the order of the generated clips.
      alone: reason by name of generated clips without a partner.
    """

    rule: str
    pairs: tuple[tuple[ClipItem, ClipItem], ...]
    alone: Mapping[str, str]

    def first_per_reference(self) -> tuple[tuple[ClipItem, ClipItem], ...]:
        """One pair per reference, for metrics that pair two sets of equal size."""
        return tuple({real.name: (made, real) for made, real in reversed(self.pairs)}.values())[
            ::-1
        ]


def pair(generated: ClipSet, reference: ClipSet, rule: str = "auto") -> Pairing:
    """Pairs two sets of clips.

    Raises:
      ValueError: unknown rule, or "order" with unequal numbers.
    """
    if rule not in RULES:
        raise ValueError(unknown_name("pairing rule", rule, RULES))
    made, real = generated.items, reference.items
    if rule == "auto":
        by_name = _paired("name", made, _by_name(real))
        rule = "report" if by_name.alone else "name"
        if not by_name.alone:
            return by_name
        by_report = _paired("report", made, _by_report(made, real))
        return by_name if len(by_name.pairs) > len(by_report.pairs) else by_report
    if rule == "order":
        if len(made) != len(real):
            raise ValueError(
                f"--pair order needs as many generated clips ({len(made)}) as references "
                f"({len(real)})."
            )
        return Pairing("order", tuple(zip(made, real, strict=True)), {})
    return _paired(rule, made, _by_name(real) if rule == "name" else _by_report(made, real))


def plain(report: str) -> str:
    """Reports are the same whatever white space stands between their words."""
    return " ".join(report.split())


def _paired(
    rule: str, made: Sequence[ClipItem], partner: Callable[[ClipItem], ClipItem | None]
) -> Pairing:
    pairs, alone = [], {}
    for item in made:
        if (found := partner(item)) is not None:
            pairs.append((item, found))
        elif rule == "report" and item.report is None:
            alone[item.name] = "has no partner: no report is known of it, and no reference its name"
        else:
            alone[item.name] = f"has no partner: no reference has its {rule}"
    return Pairing(rule, tuple(pairs), alone)


def _by_name(real: Sequence[ClipItem]) -> Callable[[ClipItem], ClipItem | None]:
    names = {item.name: item for item in real}
    return lambda item: names.get(item.name) or names.get(_SEED.sub("", item.name))


def _by_report(
    made: Sequence[ClipItem], real: Sequence[ClipItem]
) -> Callable[[ClipItem], ClipItem | None]:
    references, chosen = _grouped(real), {}
    for report, items in _grouped(made).items():
        for k, item in enumerate(items):
            if options := references.get(report):
                chosen[item.name] = options[k % len(options)]
    return lambda item: chosen.get(item.name)


def _grouped(items: Sequence[ClipItem]) -> dict[str, list[ClipItem]]:
    groups: dict[str, list[ClipItem]] = {}
    for item in sorted(items, key=lambda item: item.name):
        if item.report:
            groups.setdefault(plain(item.report), []).append(item)
    return groups
