# SPDX-License-Identifier: Apache-2.0
"""Predicates over the columns of a table, the rows that they hold for, and how they read in SQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LEAST_ROWS = 5
FEWEST_PLANTED = 8
"""Fewer rows than this are not called planted."""
PURE = 0.7
"""Share of its rows that have one label, from which a predicate is tested for it."""
MOST_VALUES = 2000
"""Values of a column that are looked at one by one; the rarest beyond them are not."""
BINS = 10
MANY_VALUES = 20
"""From this many different numbers on, a column is looked at in bins, too."""
EXACT = 2.0**53
"""Up to here whole numbers are exact in floating point."""
MOST_PAIRS = 4000
"""Pairs of columns that are looked at; a wider table is searched in part."""


@dataclass(frozen=True, eq=False)
class Column:
    """One column in values or bins: `code[i]` is that of row i, -1 for what is too rare.

    `where[code]` is the predicate in SQL. `numbers` has the value of each row where values have an
    order, NaN for none, and is empty where they have none. `nans`: whether NaN is a value, too.
    """

    name: str
    code: Ints
    where: tuple[str, ...]
    binned: bool = False
    numbers: Floats = field(default_factory=lambda: np.empty(0))
    kind: pl.DataType | type[pl.DataType] = pl.Float64
    nans: bool = False

    @property
    def quantity(self) -> bool:
        """Whether it has fractions, or is a time: whole numbers may be codes, without an order."""
        return self.kind.is_temporal() or self.decimal

    @property
    def decimal(self) -> bool:
        """Whether it has numbers with fractions."""
        known = self.numbers[np.isfinite(self.numbers)]
        return bool((known != np.round(known)).any())

    def between(self, low: float, high: float) -> str:
        """A range in SQL: of quantities to below its upper end, of whole numbers with it."""
        name = _operand(self.name, self.kind)
        if self.decimal:
            return f"{name} >= {low!r} AND {name} < {high!r}{_finite(name, nans=self.nans)}"
        first, last = int(low) - _inexact(low), int(high) + _inexact(high)
        if self.kind.is_temporal():
            return f"{name} BETWEEN {_shown(first, self.kind)} AND {_shown(last, self.kind)}"
        return f"{name} BETWEEN {first} AND {last}{_finite(name, nans=self.nans)}"

    def placed(self, code: int) -> bool:
        """Whether a value has others next to it: a category has none, nor has a missing number."""
        return self.numbers.size > 0 and bool(np.isfinite(self.numbers[self.code == code]).any())


@dataclass(frozen=True)
class Predicate:
    """One column's value, or two columns' values, by numbers of columns and codes."""

    columns: tuple[int, ...]
    codes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Cells:
    """All predicates over one column or one pair: `cell[i]` is that of row i, -1 for none."""

    columns: tuple[int, ...]
    width: int
    cell: Ints

    def predicate(self, cell: int) -> Predicate:
        codes = (cell,) if len(self.columns) == 1 else (cell // self.width, cell % self.width)
        return Predicate(self.columns, codes)


def columns_of(frame: pl.DataFrame) -> list[Column]:
    """The columns that predicates are made of: values, and numbers in bins besides."""
    made = []
    for series in frame:
        plain = _values(series)
        if plain is not None:
            made.append(plain)
        binned = _bins(series)
        if binned is not None:
            made.append(binned)
    return made


def every_cell(columns: list[Column]) -> Iterator[Cells]:
    """Single columns, then pairs of different ones."""
    for i, column in enumerate(columns):
        yield Cells((i,), len(column.where), column.code)
    for i, j in pairs_of(columns)[:MOST_PAIRS]:
        width = len(columns[j].where)
        both = columns[i].code * width + columns[j].code
        there = (columns[i].code >= 0) & (columns[j].code >= 0)
        yield Cells((i, j), width, np.where(there, both, -1))


def pairs_of(columns: list[Column]) -> list[tuple[int, int]]:
    """All pairs of different columns, by their numbers."""
    several = combinations(range(len(columns)), 2)
    return [(i, j) for i, j in several if columns[i].name != columns[j].name]


def holds(columns: list[Column], predicate: Predicate) -> Bools:
    """The rows that a predicate holds for."""
    pairs = zip(predicate.columns, predicate.codes, strict=True)
    return np.asarray(np.logical_and.reduce([columns[c].code == v for c, v in pairs]), bool)


def where(columns: list[Column], predicate: Predicate) -> str:
    """A predicate as the condition of a SQL WHERE clause."""
    pairs = zip(predicate.columns, predicate.codes, strict=True)
    return " AND ".join(columns[c].where[v] for c, v in pairs)


def _values(series: pl.Series) -> Column | None:
    counts = (
        pl.DataFrame({"v": series})
        .group_by("v")
        .agg(n=pl.len())
        .filter(pl.col("n") >= LEAST_ROWS)
        .sort(["n", "v"], descending=[True, False], nulls_last=True)
        .head(MOST_VALUES)
    )
    if counts.height == 0 or counts.height == 1 == series.n_unique():
        return None
    kept = counts.select("v").with_row_index("code")
    joined = pl.DataFrame({"v": series}).join(
        kept, on="v", how="left", nulls_equal=True, maintain_order="left"
    )
    code = joined["code"].cast(pl.Int64).fill_null(-1).to_numpy()
    told = tuple(_equals(kept["v"].alias(series.name), place) for place in range(kept.height))
    if not (series.dtype.is_numeric() or series.dtype.is_temporal()):
        return Column(series.name, code, told)
    ordered = series.to_physical() if series.dtype.is_temporal() else series
    numbers = ordered.cast(pl.Float64).fill_null(np.nan).to_numpy()
    nans = _has_nan(series)
    return Column(series.name, code, told, numbers=numbers, kind=series.dtype, nans=nans)


def _bins(series: pl.Series) -> Column | None:
    if not (series.dtype.is_numeric() or series.dtype.is_temporal()):
        return None
    values = (series.to_physical() if series.dtype.is_temporal() else series).cast(pl.Float64)
    known = values.is_finite().fill_null(value=False).to_numpy()
    numbers = values.to_numpy()
    if np.unique(numbers[known]).size < MANY_VALUES:
        return None
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, BINS + 1), method="lower"))
    if edges.size < 3:
        return None
    code = np.full(numbers.size, -1)
    code[known] = np.clip(np.searchsorted(edges, numbers[known], side="right") - 1, 0, None)
    code = np.minimum(code, edges.size - 2)
    name = _operand(series.name, series.dtype)
    shown, nans = [_shown(e, series.dtype) for e in edges], _has_nan(series)
    last, finite = edges.size - 2, _finite(name, nans=nans)
    told = tuple(
        f"{name} >= {shown[i]}" + ("" if i == last else f" AND {name} < {shown[i + 1]}") + finite
        for i in range(last + 1)
    )
    kind = series.dtype
    return Column(series.name, code, told, binned=True, numbers=numbers, kind=kind, nans=nans)


def _shown(value: float, kind: pl.DataType | type[pl.DataType]) -> str:
    """A number in SQL; a time from its physical number."""
    if kind.is_temporal():
        return _time(pl.Series([int(value)], dtype=pl.Int64).cast(kind))
    return str(int(value)) if kind.is_integer() else repr(float(value))


def _time(one: pl.Series) -> str:
    """A time in SQL, to the nanosecond: Python's own times end at microseconds."""
    if isinstance(one.dtype, pl.Duration):
        return str(one.to_physical()[0])
    shown = one.dt.to_string("%H:%M:%S%.f") if one.dtype == pl.Time else one.cast(pl.String)
    return f"'{shown[0]}'"


def _inexact(value: float) -> int:
    """How far whole numbers may lie from what they are in floating point: nanoseconds are many."""
    return int(np.spacing(abs(value))) // 2 if abs(value) > EXACT else 0


def _has_nan(series: pl.Series) -> bool:
    return series.dtype.is_float() and bool(series.is_nan().any())


def _finite(name: str, *, nans: bool) -> str:
    """Read from Parquet, NaN passes the upper end of a range: DuckDB trusts its greatest value."""
    return f" AND isfinite({name})" if nans else ""


def _equals(values: pl.Series, place: int) -> str:
    """A column's value, of some, in SQL."""
    quoted, one = _quoted(values.name), values[place : place + 1]
    if one.null_count():
        return f"{quoted} IS NULL"
    if values.dtype.is_temporal():
        return f"{_operand(values.name, values.dtype)} = {_time(one)}"
    value = one[0]
    if isinstance(value, bool):
        return f"{quoted} = {str(value).upper()}"
    if isinstance(value, int | float) and math.isfinite(value):
        return f"{quoted} = {value!r}"
    if isinstance(value, float) and math.isnan(value):  # of Parquet `= 'nan'` finds none
        return f"CAST({quoted} AS VARCHAR) = 'nan'"
    text = str(value).replace("'", "''")
    return f"{quoted} = '{text}'"


def _operand(name: str, kind: pl.DataType | type[pl.DataType]) -> str:
    """A column in SQL: of durations, how many units they have.

    DuckDB reads a duration of Arrow as an interval, but of Parquet as the whole number of units
    that is stored there.
    """
    quoted = _quoted(name)
    if not isinstance(kind, pl.Duration):
        return quoted
    unit = {"ns": " * 1000", "us": "", "ms": " // 1000"}[kind.time_unit]
    stored, told = (f"TRY_CAST(CAST({quoted} AS VARCHAR) AS {t})" for t in ("BIGINT", "INTERVAL"))
    return f"COALESCE({stored}, epoch_us({told}){unit})"


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
