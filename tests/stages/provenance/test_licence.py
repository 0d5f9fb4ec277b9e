# SPDX-License-Identifier: Apache-2.0
"""LicenceRule: SPDX expressions, undeclared licences, consent."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.ancestry import joined
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.source import Source
from datapipe.stages import LicenceRule
from datapipe.stages.provenance._spdx import allows

CONTEXT = Context(0, Path())


def rows_of(*sources):
    ids = [(s.number << 40) + i for s in sources for i in range(s.rows)]
    frame = pl.DataFrame({"_row_id": pl.Series(ids, dtype=pl.UInt64), "v": range(len(ids))})
    return Dataset(frame.lazy(), sources=sources)


def judged(data, **rule):
    licence, consent = LicenceRule(**rule).run(data, CONTEXT).findings
    return licence, consent


@pytest.mark.parametrize(
    ("expression", "met"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND CC-BY-4.0", True),
        ("MIT AND (GPL-3.0-only OR CC-BY-4.0)", True),
        ("GPL-3.0-only OR MIT AND GPL-2.0-only", False),
        ("MIT WITH some-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("GPL-2.0-only WITH other-exception", False),
        ("MIT OR", False),
        ("(MIT", False),
        ("MIT MIT", False),
        ("", False),
        ("Vendor terms, 2024", True),
        ("(" * 500 + "MIT" + ")" * 500, False),
    ],
)
def test_expressions(expression, met):
    allowed = (
        "MIT", "CC-BY-4.0", "GPL-2.0-only WITH Classpath-exception-2.0", "Vendor terms, 2024"
    )  # fmt: skip
    assert allows(expression, allowed) is met


@given(st.recursive(
    st.sampled_from(["MIT", "GPL-3.0-only"]).map(lambda x: (x, x == "MIT")),
    lambda inner: st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(
        lambda t: (
            f"({t[0][0]} {t[1]} {t[2][0]})",
            (t[0][1] and t[2][1]) if t[1] == "AND" else (t[0][1] or t[2][1]),
        )
    ),
    max_leaves=8,
))  # fmt: skip
def test_expressions_mean_what_logic_says(pair):
    expression, met = pair
    assert allows(expression, ["MIT"]) is met


def test_sources_are_judged_and_their_rows_marked():
    data = rows_of(
        Source("good", "a", licence="MIT", number=1, rows=4),
        Source("bad", "b", licence="CC-BY-NC-4.0", number=2, rows=3),
        Source("mute", "c", number=3, rows=3),
    )
    licence, consent = judged(data, allowed="MIT")
    assert licence.verdict == "fail"
    assert (licence.measure.value, licence.measure.n) == (0.6, 10)
    assert {r >> 40 for r in licence.flagged["row_id"]} == {2, 3}
    assert licence.rows.height == 10
    assert [s["source"] for s in licence.details["sources"]] == ["bad", "mute"]
    assert consent.verdict == "clean"


def test_an_undeclared_licence_is_not_allowed():
    licence, _ = judged(rows_of(Source("mute", "c", number=1, rows=2)), allowed=["MIT"])
    assert licence.verdict == "suspect"
    assert licence.flagged.height == 2


@pytest.mark.parametrize(
    ("declared", "required", "verdict"),
    [
        ("granted", True, "clean"),
        ("", True, "suspect"),
        ("", False, "clean"),
        ("denied", False, "fail"),
        ("denied", True, "fail"),
    ],
)
def test_consent(declared, required, verdict):
    data = rows_of(Source("s", "s", licence="MIT", consent=declared, number=1, rows=2))
    licence, consent = judged(data, allowed=["MIT"], consent=required)
    assert (licence.verdict, consent.verdict) == ("clean", verdict)


def test_a_source_without_rows_left_breaks_no_rule():
    good = Source("good", "a", licence="MIT", number=1, rows=2)
    gone = Source("gone", "b", licence="GPL-3.0-only", consent="denied", number=2)
    licence, consent = judged(rows_of(good, gone), allowed="MIT")
    assert (licence.verdict, consent.verdict) == ("clean", "clean")


def test_rows_without_sources_are_not_evaluated():
    licence, consent = judged(empty(), allowed=["MIT"])
    assert (licence.verdict, consent.verdict) == ("not_evaluated", "not_evaluated")


def test_a_rule_that_allows_nothing_is_a_declaration_problem():
    assert LicenceRule().check()
    assert LicenceRule(allowed="MIT", on_finding="relabel").check()
    assert not LicenceRule(allowed="MIT").check()


@pytest.mark.parametrize("how", ["inner", "left"])
def test_a_joined_row_is_bound_by_all_the_sources_it_was_made_from(how):
    texts = rows_of(Source("texts", "a", licence="MIT", number=1, rows=4))
    people = rows_of(
        Source("fine", "b", licence="MIT", number=2, rows=2),
        Source("refused", "c", licence="CC-BY-NC-4.0", consent="denied", number=3, rows=1),
    )
    both = joined(texts.scan(row_id=True), people.scan(row_id=True), on="v", how=how)
    data = Dataset(both, sources=(*texts.sources, *people.sources))
    licence, consent = judged(data, allowed="MIT")
    for finding in (licence, consent):
        assert finding.verdict == "fail"
        assert finding.flagged["row_id"].to_list() == [(1 << 40) + 2]
        assert finding.rows.height == (3 if how == "inner" else 4)
        assert [s["source"] for s in finding.details["sources"]] == ["refused"]
