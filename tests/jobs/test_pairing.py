"""Which clip belongs to which reference."""

import pytest

from ffa_sora_jax.jobs.clips import ClipItem, ClipSet
from ffa_sora_jax.jobs.pairing import pair


def clips(**reports):
    items = [ClipItem(name.replace("_", "-"), name, None, report=r) for name, r in reports.items()]
    return ClipSet(tuple(items), "somewhere", True)


def names(pairing):
    return [(made.name, real.name) for made, real in pairing.pairs]


def test_by_name_with_and_without_the_seed():
    found = pair(clips(a_s0="", a_s12="", b=""), clips(a="", b="", c=""), "name")
    assert names(found) == [("a-s0", "a"), ("a-s12", "a"), ("b", "b")] and not found.alone


def test_a_name_that_ends_like_a_seed_is_a_name_first():
    found = pair(clips(a_s1=""), clips(a="", a_s1=""), "name")
    assert names(found) == [("a-s1", "a-s1")]


def test_by_report_the_kth_belongs_to_the_kth_and_starts_over():
    made = clips(m1="x", m2="x", m3="x", m4="y", m5="z")
    found = pair(made, clips(r1="x", r2="x ", r3="y"), "report")
    assert names(found) == [("m1", "r1"), ("m2", "r2"), ("m3", "r1"), ("m4", "r3")]
    assert found.alone == {"m5": "has no partner: no reference has its report"}


def test_auto_takes_names_if_they_fit_and_reports_otherwise():
    by_name = pair(clips(a="x", b="y"), clips(a="y", b="x"))
    assert by_name.rule == "name" and names(by_name) == [("a", "a"), ("b", "b")]
    by_report = pair(clips(m1="x", m2="y"), clips(a="y", b="x"))
    assert by_report.rule == "report" and names(by_report) == [("m1", "b"), ("m2", "a")]


def test_auto_takes_names_where_more_is_found_by_them():
    found = pair(clips(a=None, b=None, stranger=None), clips(a=None, b=None))
    assert found.rule == "name" and len(found.pairs) == 2 and list(found.alone) == ["stranger"]


def test_by_order():
    assert names(pair(clips(m1="", m2=""), clips(a="", b=""), "order"))[1] == ("m2", "b")
    with pytest.raises(ValueError, match=r"as many generated clips \(1\)"):
        pair(clips(m1=""), clips(a="", b=""), "order")


def test_one_pair_per_reference_for_sets():
    found = pair(clips(a_s0="", a_s1="", b_s0=""), clips(a="", b=""), "name")
    firsts = [(made.name, real.name) for made, real in found.first_per_reference()]
    assert sorted(firsts) == [("a-s0", "a"), ("b-s0", "b")]


def test_unknown_rule():
    with pytest.raises(ValueError, match="Did you mean 'report'"):
        pair(clips(a=""), clips(a=""), "reports")
