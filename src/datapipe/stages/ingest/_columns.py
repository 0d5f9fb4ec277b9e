# SPDX-License-Identifier: Apache-2.0
"""The types of text columns: a column becomes numbers only if every value survives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from datapipe.core.roles import ROW_ID

Rule = Callable[[str], pl.Expr]
"""From a column's name to an expression."""
SAMPLE_ROWS = 2_000
EXACT_INTEGER = 2**53
DECIMAL = r"^-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
SPECIAL = ("NaN", "nan", "inf", "-inf", "Infinity", "-Infinity")
TRUTHS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))


def _text(name: str) -> pl.Expr:
    """The column with empty texts as nulls: a number column cannot keep them apart."""
    column = pl.col(name)
    return pl.when(column == "").then(None).otherwise(column)


def _integer(name: str) -> pl.Expr:
    """Whole numbers whose text comes back exactly: `007`, `+1` and 2**70 are no integers."""
    text = _text(name)
    return text.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(text)


def _decimal(name: str) -> pl.Expr:
    """Decimals that a float64 holds: finite, not rounded from a large integer, not lost to 0."""
    text = _text(name)
    value = text.cast(pl.Float64, strict=False)
    whole = ~text.str.contains("[eE]")
    exact = ~whole | (value.abs() < EXACT_INTEGER)  # 2**53 + 1 has been rounded to 2**53 by now
    kept = (value != 0) | ~text.str.contains("^[^eE]*[1-9]")
    return text.is_in(SPECIAL) | (text.str.contains(DECIMAL) & value.is_finite() & exact & kept)


def _number_of(kind: pl.DataType) -> Rule:
    return lambda name: _text(name).cast(kind)


def _truth(words: tuple[str, str]) -> Rule:
    return lambda name: _text(name).is_in(words)


def _truth_of(words: tuple[str, str]) -> Rule:
    return lambda name: _text(name) == words[0]


RULES: tuple[tuple[Rule, Rule], ...] = (
    (_integer, _number_of(pl.Int64())),
    (_decimal, _number_of(pl.Float64())),
    *((_truth(words), _truth_of(words)) for words in TRUTHS),
)
"""Whether a value may become this type, and how it does; the first rule that all values keep."""


def lossless(frame: pl.LazyFrame, names: Sequence[str]) -> list[pl.Expr]:
    """Casts for those text columns that may become integers, floats or booleans without loss."""
    casts: list[pl.Expr] = []
    left = list(names)
    for holds, cast in RULES:
        fit = _all_hold(frame, left, holds)
        casts.extend(cast(name).alias(name) for name in fit)
        left = [n for n in left if n not in fit]
    return casts


def filled(frame: pl.LazyFrame, names: Iterable[str]) -> tuple[int, list[str]]:
    """How many rows there are, and the columns with any value; one that is empty stays text."""
    some = [_text(n).is_not_null().any().alias(n) for n in names]
    told = frame.select(pl.col(ROW_ID).len(), *some).collect(engine="streaming").row(0, named=True)
    rows = int(told.pop(ROW_ID))
    return rows, [n for n, any_value in told.items() if any_value]


def _all_hold(frame: pl.LazyFrame, names: list[str], holds: Rule) -> list[str]:
    """The columns where every value holds; the first rows are asked first, as most columns fail."""
    left = names
    for part in (frame.head(SAMPLE_ROWS), frame):
        if not left:
            break
        every = [holds(n).fill_null(True).all().alias(n) for n in left]
        told = part.select(every).collect(engine="streaming").row(0, named=True)
        left = [n for n, fits in told.items() if fits]
    return left
