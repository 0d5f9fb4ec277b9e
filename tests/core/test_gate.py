# SPDX-License-Identifier: Apache-2.0
"""A gate reads bounds, not points; what was not evaluated does not pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.gate import Gate, at_least, at_most, not_failed
from datapipe.core.pipeline import Pipeline
from datapipe.errors import DeclarationError, GateClosed

unit = st.floats(0, 1)
estimates = (
    st.tuples(unit, unit, unit)
    .map(sorted)
    .map(lambda three: Estimate(three[1], three[0], three[2], n=9, method="test"))
)


def noise(measure: Estimate, verdict: str = "clean", kind: str = "labels.noise") -> Finding:
    return Finding(kind, verdict, measure, "looked")


def opens(gate: Gate, context, *findings: Finding) -> bool:
    try:
        made = gate.run(empty(), replace(context, findings=findings))
    except GateClosed:
        return False
    assert made.findings[0].verdict == "clean"
    return True


@given(estimates, unit)
def test_at_most_reads_the_upper_bound(measure, bound):
    assert at_most(bound).holds(noise(measure)) is (measure.high <= bound)


@given(estimates, unit)
def test_at_least_reads_the_lower_bound(measure, bound):
    assert at_least(bound).holds(noise(measure)) is (measure.low >= bound)


@given(estimates, unit, unit)
def test_a_wider_limit_never_closes_what_a_narrower_one_opened(measure, one, other):
    narrow, wide = sorted((one, other))
    if at_most(narrow).holds(noise(measure)):
        assert at_most(wide).holds(noise(measure))
    if at_least(wide).holds(noise(measure)):
        assert at_least(narrow).holds(noise(measure))


def test_a_small_sample_does_not_pass_by_luck():
    assert not at_most(0.05).holds(noise(Estimate.rate(0, 20)))
    assert at_most(0.05).holds(noise(Estimate.rate(0, 200)))


@pytest.mark.parametrize("limit", [at_most(1.0), at_least(0.0), not_failed()])
def test_not_evaluated_passes_only_where_it_is_optional(limit):
    unknown = noise(Estimate.unknown(method="no data"), "not_evaluated")
    assert not limit.holds(unknown)
    assert replace(limit, optional=True).holds(unknown)


def test_verdicts():
    fine = Estimate.rate(0, 100)
    assert not_failed().holds(noise(fine, "suspect"))
    assert not not_failed().holds(noise(fine, "fail"))


def test_a_pattern_that_matches_nothing_closes_the_gate(context):
    gate = Gate({"poisoning.*": at_most(0.5)})
    assert not opens(gate, context)
    assert not opens(gate, context, noise(Estimate.rate(0, 100)))
    assert opens(Gate({"poisoning.*": at_most(0.5, optional=True)}), context)


def test_of_one_kind_the_newest_look_counts(context):
    gate = Gate({"labels.noise": at_most(0.05)})
    dirty, clean = noise(Estimate.rate(30, 100)), noise(Estimate.rate(0, 1000))
    assert not opens(gate, context, clean, replace(dirty, look=1))
    assert opens(gate, context, dirty, replace(clean, look=1))
    assert not opens(gate, context, dirty, clean)


def test_a_closed_gate_says_which_limits_and_carries_the_findings(context):
    findings = (
        noise(Estimate.rate(30, 100)),
        noise(Estimate.unknown(method="-"), "not_evaluated", "synthetic.share"),
        noise(Estimate.rate(0, 1000), kind="dedup.exact"),
    )
    limits = {"labels.*": at_most(0.05), "synthetic.*": at_most(0.5), "dedup.*": at_most(0.1)}
    with pytest.raises(GateClosed) as closed:
        Gate(limits).run(empty(), replace(context, findings=findings))
    assert closed.value.exit_code == 3
    assert [f.kind for f in closed.value.findings] == ["labels.noise", "synthetic.share", "gate"]
    for words in ("labels.noise 0.3", "breaks at most 0.05", "synthetic.share was not evaluated"):
        assert words in closed.value.message
    assert "dedup" not in closed.value.message


def test_a_gate_says_once_that_something_was_not_evaluated(context):
    findings = (Finding.not_evaluated("labels.noise", "the label has one class"),)
    with pytest.raises(GateClosed) as closed:
        Gate({"labels.*": at_most(0.05)}).run(empty(), replace(context, findings=findings))
    assert "labels.noise was not evaluated: the label has one class" in closed.value.message


def test_a_gate_without_limits_is_a_mistake():
    assert Gate().check()
    assert Gate({"a.*": 0.5}).check() == [
        "gate: the limit for 'a.*' is 0.5; use at_most(...) or at_least(...)"
    ]
    assert Gate({"a.*": at_most(0.5)}).check() == []


def test_equal_gates_have_equal_hashes():
    one = Gate({"a": at_most(1), "b": at_least(0)})
    other = Gate({"b": at_least(0), "a": at_most(1)})
    assert one == other
    assert hash(one) == hash(other)


def test_findings_of_one_look_stand_side_by_side_and_a_later_look_supersedes() -> None:
    """A clean reader must not hide a failed one beside it; a second look after cleaning counts."""
    bad = Finding("ingest.missing_labels", "fail", Estimate.rate(9, 10), "bad", look=0)
    good = Finding("ingest.missing_labels", "clean", Estimate.rate(0, 10), "good", look=0)
    again = Finding("ingest.missing_labels", "clean", Estimate.rate(0, 900), "again", look=3)
    gate = Gate({"ingest.*": at_most(0.5)})
    with pytest.raises(GateClosed):
        gate.run(empty(), Context(0, Path(), findings=[bad, good]))
    assert gate.run(empty(), Context(0, Path(), findings=[bad, good, again])).findings


@pytest.mark.parametrize("bound", ["x", float("nan"), None])
def test_a_bound_that_is_no_number_is_told_before_anything_runs(bound):
    (told,) = Gate({"a.*": at_most(bound)}).check()
    assert told == f"gate: the limit for 'a.*' is {bound!r}; use at_most(...) or at_least(...)"


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (["labels.*"], "is no dictionary of kinds to limits"),
        ("labels.*", "is no dictionary of kinds to limits"),
        (None, "is no dictionary of kinds to limits"),
        ({3: at_most(0.1)}, "3 is no pattern of kinds, such as 'labels.*'"),
        ({"": at_most(0.1)}, "'' is no pattern of kinds, such as 'labels.*'"),
    ],
)
def test_limits_of_another_form_are_told(limits, told):
    (said,) = Gate(limits).check()
    assert told in said
    with pytest.raises(DeclarationError, match="gate: "):
        Pipeline("p", [Gate(limits)]).plan(pa.table({"a": [1]}))
