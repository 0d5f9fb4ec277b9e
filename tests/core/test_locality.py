# SPDX-License-Identifier: Apache-2.0
"""Expressions that look at one row are told from those that look at others; ids are not columns."""

from __future__ import annotations

import polars as pl
import polars.selectors as cs
import pytest

from datapipe.core.locality import computed, filtered, looks_beyond

A, B, T, L = pl.col("a"), pl.col("b"), pl.col("t"), pl.col("l")
ONE_ROW = [
    pl.lit(3),
    A.is_in([1, 2]),
    A.is_in(pl.Series([1, 2]).implode()),
    pl.when(A > 1).then(1).otherwise(B),
    A.map_elements(lambda v: v, return_dtype=pl.Int64),
    L.list.eval(pl.element().rank()).list.max(),
    pl.sum_horizontal(cs.numeric()),
    pl.fold(pl.lit(0), lambda x, y: x + y, [A, B]),
    T.str.extract_all("x").list.len(),
    A.replace_strict({1: 2}, default=None),
    pl.struct("a", "t").struct.field("a"),
    A.fill_null(0),
]
MORE_ROWS = [
    A.mean(),
    A - A.mean(),
    (A - A.mean()) / A.std(),
    A.sum().over("t"),
    A.is_duplicated(),
    ~A.is_first_distinct(),
    A.shift(1),
    A.cum_sum(),
    A.rank(),
    A.reverse(),
    A.forward_fill(),
    A.fill_null(A.mean()),
    pl.when(A.median() < A).then(1).otherwise(0),
    A.quantile(0.9) < A,
    pl.int_range(pl.len()),
    A / pl.len(),
    pl.lit(pl.Series([1, 2])),
]


@pytest.mark.parametrize("expression", ONE_ROW, ids=str)
def test_it_looks_at_one_row(expression: pl.Expr):
    assert not looks_beyond(expression)


@pytest.mark.parametrize("expression", MORE_ROWS, ids=str)
def test_it_looks_at_more(expression: pl.Expr):
    assert looks_beyond(expression)


ROWS = pl.LazyFrame({"_row_id": [70, 0], "a": [0, 1], "b": [2, 3], "t": ["x", "y"]})


def test_selectors_do_not_see_ids():
    made = {"sum": pl.sum_horizontal(cs.numeric()), "b": pl.first() + 10, "c": pl.col("a") * 2}
    frame = computed(ROWS, made).collect()
    assert frame.columns == ["_row_id", "a", "b", "t", "sum", "c"]
    assert frame["sum"].to_list() == [2, 4]
    assert frame["b"].to_list() == [10, 11]
    assert frame["_row_id"].to_list() == [70, 0]


def test_conditions_do_not_see_ids():
    left = filtered(ROWS, pl.any_horizontal(cs.numeric() == 0)).collect()
    assert left.rows() == [(70, 0, 2, "x")]
