# SPDX-License-Identifier: Apache-2.0
"""Findings: verdicts, row tables, q-values and a JSON form without NaN."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.estimate import Estimate
from datapipe.core.finding import (
    ROW_SCHEMA,
    VERDICTS,
    Finding,
    scored_rows,
    with_q_values,
    worst,
)
from datapipe.errors import DeclarationError

NONE = Estimate.rate(0, 9)
p_values = st.lists(st.none() | st.floats(0, 1), max_size=12)


def found(p_value: float | None = None, verdict: str = "clean") -> Finding:
    return Finding("a.b", verdict, NONE, "looked", p_value=p_value)


def naive_q_values(ps: list[float]) -> list[float]:
    """Benjamini-Hochberg as it is defined: the least m p(j) / j over the ranks from i on."""
    ordered = sorted(ps)
    m = len(ps)
    return [
        min([1.0, *(ordered[j] * m / (j + 1) for j in range(m) if ordered[j] >= p)]) for p in ps
    ]


@given(p_values)
def test_q_values_are_as_defined(ps):
    made = with_q_values([found(p) for p in ps])
    tested = [p for p in ps if p is not None]
    expected = iter(naive_q_values(tested))
    for p, finding in zip(ps, made, strict=True):
        if p is None:
            assert finding.q_value is None
        else:
            assert finding.q_value == pytest.approx(next(expected))


def test_q_values_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    ps = np.random.default_rng(1).uniform(0, 1, 40) ** 3
    made = [f.q_value for f in with_q_values([found(float(p)) for p in ps])]
    assert made == pytest.approx(list(stats.false_discovery_control(ps)))


@given(st.lists(st.sampled_from(VERDICTS), max_size=5))
def test_the_worst_verdict_wins(verdicts):
    expected = max(verdicts, key=VERDICTS.index) if verdicts else "not_evaluated"
    assert worst(verdicts) == expected


def test_not_evaluated_is_worse_than_clean():
    assert worst(["clean", "not_evaluated"]) == "not_evaluated"


@pytest.mark.parametrize("bad", [{"verdict": "ok"}, {"p_value": 1.5}, {"p_value": -0.1}])
def test_a_broken_finding_cannot_be_made(bad):
    with pytest.raises(DeclarationError):
        found(**bad)


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.booleans()), max_size=20))
def test_the_row_table_has_the_promised_columns(rows):
    ids = [i << 40 for i in range(len(rows))]
    table = scored_rows(ids, [s for s, _ in rows], flagged=[f for _, f in rows], reason="odd")
    assert dict(table.schema) == ROW_SCHEMA
    assert table["row_id"].to_list() == ids
    assert table.filter("flagged").height == sum(f for _, f in rows)
    assert set(table.filter("flagged")["reason"]) <= {"odd"}
    assert set(table.filter(~pl.col("flagged"))["reason"]) <= {""}


def test_arrays_series_and_lists_make_the_same_table():
    ids, scores, flags = [7, 8], [0.1, 0.9], [False, True]
    one = scored_rows(ids, scores, flagged=flags, suggested=["3", None], p_values=[0.5, 0.01])
    two = scored_rows(
        np.array(ids, np.uint64),
        np.array(scores),
        flagged=np.array(flags),
        suggested=pl.Series(["3", None]),
        p_values=np.array([0.5, 0.01]),
    )
    assert one.equals(two)


def test_flagged_rows():
    table = scored_rows([1, 2], [0.0, 1.0], flagged=[False, True])
    assert Finding("a.b", "suspect", NONE, "", rows=table).flagged["row_id"].to_list() == [2]
    assert found().flagged.is_empty()


def test_a_verdict_taken_back_keeps_rows_and_details_and_loses_its_severity():
    rows = scored_rows([1, 2], [0.0, 1.0], flagged=[False, True])
    alarm = Finding(
        "a.b", "suspect", Estimate.rate(1, 2), "1 of 2", "high", rows=rows, details={"pair": "x"}
    )
    back = alarm.withdrawn("an alarm takes 20 rows", method="underpowered")
    assert (back.verdict, back.severity, back.measure.method) == (
        "not_evaluated", "info", "underpowered",
    )  # fmt: skip
    assert (back.measure.n, back.details, back.rows) == (2, {"pair": "x"}, rows)
    assert back.says == "not evaluated: an alarm takes 20 rows"
    assert back.reason == "an alarm takes 20 rows"
    assert alarm.reason == alarm.says


def test_json_holds_no_nan():
    details = {"nan": math.nan, "deep": [{"inf": np.float64("inf")}], "n": np.int64(3)}
    unknown = Estimate.unknown(method="no reference")
    form = Finding("a.b", "not_evaluated", unknown, "no reference", details=details).to_json()
    text = json.dumps(form, allow_nan=False)
    again = json.loads(text)
    assert again["details"] == {"nan": None, "deep": [{"inf": None}], "n": 3}
    assert again["measure"]["value"] is None
    promised = {"kind", "verdict", "severity", "measure", "p_value", "q_value", "says", "details"}
    assert promised | {"remedy"} <= again.keys()
