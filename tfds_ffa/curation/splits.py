"""Which split an exam belongs to: a pure function of its patient and the salt.

A patient's number u in [0, 1) is a salted hash of the patient id, so a patient is in one split,
and adding exams or patients later moves nobody. Exams without a patient id are grouped by the
hash of their report, because the clips of one report are of one patient.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ffa_sora_jax.common.names import check_keys
from tfds_ffa.curation.deidentify import Hasher
from tfds_ffa.curation.reasons import Problem
from tfds_ffa.curation.table import ExamRow, patient_key

UNSEEN = "unseen"
SPLITS = ("train", "validation", "test", UNSEEN)
RATIOS: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Splits:
    """The split of every usable row.

    Attributes:
      of_line: line -> split.
      group_of_line: line -> salted hash of the patient, or of the report where there is none.
      problems: one for each row that got no split, and remarks on others.
    """

    of_line: Mapping[int, str]
    group_of_line: Mapping[int, str]
    problems: list[Problem]

    def table(self) -> dict[str, dict[str, int]]:
        """split -> number of exams and of groups (patients)."""
        exams = Counter(self.of_line.values())
        groups = Counter(
            split for split, _ in {(s, self.group_of_line[i]) for i, s in self.of_line.items()}
        )
        return {name: {"exams": exams[name], "groups": groups[name]} for name in SPLITS}


def assign(
    groups: Iterable[str],
    hasher: Hasher,
    ratios: Mapping[str, float] = RATIOS,
    explicit: Mapping[str, str] | None = None,
    unseen: Collection[str] = (),
) -> dict[str, str]:
    """group -> split, independent of all other groups.

    Args:
      groups: hashed patients (or reports).
      hasher: holder of the salt.
      ratios: split -> share; shares add up to 1.
      explicit: group -> split, honoured as it is.
      unseen: groups that are held out, whatever else is said.

    Raises:
      ValueError: unknown split, or shares that do not add up to 1.
    """
    check_keys("split", ratios, SPLITS)
    check_keys("split", (explicit or {}).values(), SPLITS)
    if min(ratios.values()) < 0 or abs(sum(ratios.values()) - 1) > 1e-9:
        raise ValueError(f"Shares of the splits must be >= 0 and add up to 1: {dict(ratios)}.")
    found = {}
    for group in groups:
        if group in unseen:
            found[group] = UNSEEN
        elif explicit and group in explicit:
            found[group] = explicit[group]
        else:
            found[group] = _by_share(_unit(hasher, group), ratios)
    return found


def split_rows(
    rows: Sequence[ExamRow],
    hasher: Hasher,
    ratios: Mapping[str, float] = RATIOS,
    unseen_diseases: Sequence[str] = (),
) -> Splits:
    """Splits rows by patient, or by report where there is no patient id.

    Raises:
      ValueError: a disease to hold out that no row has.
    """
    groups = {row.line: group_of(row, hasher) for row in rows}
    wishes = _wishes(rows, groups)
    problems = []
    for row in rows:
        if len(wishes[groups[row.line]]) > 1 and row.patient_id is None:
            # One wording in two splits is no proof of one patient: "normal" is said of many.
            problems.append(Problem.at("report_overlap", row.where))
            split = row.split or min(wishes[groups[row.line]])
            groups[row.line] = hasher.hashed("report in split", groups[row.line] + split)
    wishes = _wishes(rows, groups)
    clashes = {group for group, names in wishes.items() if len(names) > 1}
    explicit = {group: min(names) for group, names in wishes.items() if len(names) == 1}
    unseen = _unseen_groups(rows, groups, unseen_diseases)
    of_group = assign(set(groups.values()) - clashes, hasher, ratios, explicit, unseen)
    of_line = {}
    for row in rows:
        group = groups[row.line]
        if group in clashes:
            problems.append(Problem.at("split_conflict", row.where))
        else:
            of_line[row.line] = of_group[group]
    return Splits(of_line, {line: groups[line] for line in of_line}, problems)


def group_of(row: ExamRow, hasher: Hasher) -> str:
    """The hashed patient of a row, or its hashed report where there is no patient id."""
    if row.patient_id is not None:
        return hasher.hashed("patient", patient_key(row.patient_id))
    return hasher.hashed("report", " ".join(_plain(row.report).split()))


def has_disease(row: ExamRow, name: str) -> bool:
    """Whether the diagnosis names a disease; the report counts where there is no diagnosis.

    Words must be whole in English; a longer diagnosis that contains the name counts too.
    """
    text, wanted = _plain(row.diagnosis or row.report), _plain(name).strip()
    # Not \b: a Chinese character beside the name is a letter, but no part of it.
    whole = rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9])"
    return re.search(whole if wanted.isascii() else re.escape(wanted), text) is not None


def _wishes(rows: Sequence[ExamRow], groups: Mapping[int, str]) -> dict[str, set[str]]:
    """Group -> splits that the table names for it."""
    wishes: dict[str, set[str]] = {group: set() for group in groups.values()}
    for row in rows:
        if row.split:
            wishes[groups[row.line]].add(row.split)
    return wishes


def _unseen_groups(
    rows: Sequence[ExamRow], groups: Mapping[int, str], diseases: Sequence[str]
) -> set[str]:
    unseen: set[str] = set()
    for name in diseases:
        if not _plain(name).strip():
            raise ValueError("A disease to hold out is empty; give its name.")
        found = {groups[row.line] for row in rows if has_disease(row, name)}
        if not found:
            raise ValueError(
                f"No row has the disease {name!r}, which is to be held out. Spell it as in the "
                "diagnosis column."
            )
        unseen |= found
    return unseen


def _plain(text: str) -> str:
    """One spelling per text: composed, lower case, single blanks, plain hyphens."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\s_\-]+", " ", text)


def _unit(hasher: Hasher, group: str) -> float:
    return int(hasher.hashed("split", group)[:13], 16) / 16**13  # 52 bits: exact as a float


def _by_share(u: float, ratios: Mapping[str, float]) -> str:
    shares = [(name, ratios[name]) for name in SPLITS if ratios.get(name)]
    end = 0.0
    for name, share in shares:
        end += share
        if u < end:
            return name
    return shares[-1][0]  # the shares' sum may round to less than 1
