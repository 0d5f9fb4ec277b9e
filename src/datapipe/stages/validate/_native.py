# SPDX-License-Identifier: Apache-2.0
"""The common rules as polars expressions, all of them in one pass over the columns.

Only rules whose answer is the same as that of Great Expectations are here; a rule with a condition,
or on a type where the two might differ, is left to it. Null and NaN are missing, as in pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from datapipe.stages.validate._suite import Answer, Rule

Kwargs = Mapping[str, Any]
Make = Callable[[pl.Expr, pl.DataType, Kwargs], pl.Expr | None]


def answers(frame: pl.DataFrame, rules: Sequence[Rule]) -> dict[int, Answer]:
    """Evaluate what can be evaluated here.

    Args:
        frame: The columns the rules read; at least one row.
        rules: The rules.

    Returns:
        An answer by number for every rule that has one here; the others are not in it.

    Example:
        >>> rule = Rule(0, "expect_column_values_to_be_between", {"column": "a", "max_value": 5})
        >>> answers(pl.DataFrame({"a": [1, 9, None]}), [rule])[0].broken.tolist()
        [False, True, False]
    """
    found: dict[int, Answer] = {}
    masks: dict[int, pl.Expr] = {}
    figures: dict[int, pl.Expr] = {}
    for rule in rules:
        if rule.type in _TABLE and set(rule.kwargs) <= _TABLE_KWARGS:
            found[rule.number] = _counted(rule, frame.height)
        elif rule.type in _ROWS:
            mask = _mask(rule, frame.schema)
            if mask is not None:
                masks[rule.number] = mask
        elif rule.type in _COLUMN and _plain(rule, frame.schema, _BOUNDS):
            kind = frame.schema[rule.columns[0]]
            figures[rule.number] = _COLUMN[rule.type](_present(pl.col(rule.columns[0]), kind))
    made = frame.select(
        *(m.fill_null(value=False).alias(f"m{n}") for n, m in masks.items()),
        *(_looked(r, frame.schema).alias(f"n{r.number}") for r in rules if r.number in masks),
        *(f.alias(f"f{n}") for n, f in figures.items()),
    )
    for rule in rules:
        if rule.number in masks:
            found[rule.number] = _rows_answer(rule, made)
        elif rule.number in figures:
            observed = made[f"f{rule.number}"][0]
            holds = observed is not None and _within(observed, rule.kwargs)
            found[rule.number] = Answer(holds, observed=observed)
    return found


def _mask(rule: Rule, schema: pl.Schema) -> pl.Expr | None:
    """Which rows break a rule; None where Great Expectations must be asked."""
    make, allowed = _ROWS[rule.type]
    if not _plain(rule, schema, allowed | {"mostly"}, numbers_only=False):
        return None
    column = rule.columns[0]
    return make(_present(pl.col(column), schema[column]), schema[column], rule.kwargs)


def _plain(
    rule: Rule, schema: pl.Schema, allowed: frozenset[str], *, numbers_only: bool = True
) -> bool:
    """Whether a rule has no arguments but the usual ones, on a type that is understood."""
    if len(rule.columns) != 1 or not set(rule.kwargs) <= allowed | {"column"}:
        return False
    kind = schema[rule.columns[0]]
    number = kind.is_integer() or kind.is_float()
    return number if numbers_only else number or kind in _FLAT


def _present(values: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """The values with NaN as null."""
    return values.fill_nan(None) if kind.is_float() else values


def _looked(rule: Rule, schema: pl.Schema) -> pl.Expr:
    if rule.type in _ABOUT_NULLS:
        return pl.len()
    return _present(pl.col(rule.columns[0]), schema[rule.columns[0]]).count()


def _rows_answer(rule: Rule, made: pl.DataFrame) -> Answer:
    broken = made[f"m{rule.number}"].to_numpy()
    looked = int(made[f"n{rule.number}"][0])
    mostly = float(rule.kwargs.get("mostly") or 1.0)
    kept = looked - int(broken.sum())
    return Answer(looked == 0 or kept / looked >= mostly, looked=looked, broken=broken)


def _counted(rule: Rule, rows: int) -> Answer:
    wanted = rule.kwargs.get("value")
    holds = rows == wanted if wanted is not None else _within(rows, rule.kwargs)
    return Answer(holds, observed=rows)


def _within(value: float, bounds: Kwargs) -> bool:
    low, high = bounds.get("min_value"), bounds.get("max_value")
    above = low is None or (value > low if bounds.get("strict_min") else value >= low)
    below = high is None or (value < high if bounds.get("strict_max") else value <= high)
    return bool(above and below)


def _between(values: pl.Expr, kind: pl.DataType, bounds: Kwargs) -> pl.Expr | None:
    limits = [bounds.get("min_value"), bounds.get("max_value")]
    if kind in _FLAT or not all(v is None or _is_number(v) for v in limits):
        return None
    return _outside(values, bounds, "min_value", "max_value")


def _outside(values: pl.Expr, bounds: Kwargs, low: str, high: str) -> pl.Expr:
    least, most = bounds.get(low), bounds.get(high)
    broken = pl.lit(value=False)
    if least is not None:
        broken |= values <= least if bounds.get("strict_min") else values < least
    if most is not None:
        broken |= values >= most if bounds.get("strict_max") else values > most
    return broken


def _not_null(values: pl.Expr, _kind: pl.DataType, _: Kwargs) -> pl.Expr | None:
    return values.is_null()


def _null(values: pl.Expr, _kind: pl.DataType, _: Kwargs) -> pl.Expr | None:
    return values.is_not_null()


def _unique(values: pl.Expr, _kind: pl.DataType, _: Kwargs) -> pl.Expr | None:
    return values.is_not_null() & values.is_duplicated()


def _in_set(values: pl.Expr, kind: pl.DataType, kwargs: Kwargs) -> pl.Expr | None:
    member = _member(values, kind, kwargs)
    return None if member is None else values.is_not_null() & ~member


def _not_in_set(values: pl.Expr, kind: pl.DataType, kwargs: Kwargs) -> pl.Expr | None:
    return _member(values, kind, kwargs)


def _member(values: pl.Expr, kind: pl.DataType, kwargs: Kwargs) -> pl.Expr | None:
    """Membership, where every value of the set has the column's kind of type."""
    wanted = kwargs.get("value_set")
    if not isinstance(wanted, (list, tuple)) or not wanted:
        return None
    if kind == pl.String and all(isinstance(v, str) for v in wanted):
        return values.is_in(pl.Series(wanted, dtype=pl.String).implode())
    small = all(_is_number(v) and abs(v) < 2**53 for v in wanted)
    if kind not in _FLAT and small:
        return values.cast(pl.Float64).is_in(pl.Series(wanted, dtype=pl.Float64).implode())
    return None


def _length_between(values: pl.Expr, kind: pl.DataType, kwargs: Kwargs) -> pl.Expr | None:
    lengths = values.str.len_chars().cast(pl.Int64)
    return _outside(lengths, kwargs, "min_value", "max_value") if kind == pl.String else None


def _length_equal(values: pl.Expr, kind: pl.DataType, kwargs: Kwargs) -> pl.Expr | None:
    wanted = kwargs.get("value")
    if kind != pl.String or not _is_number(wanted):
        return None
    return values.str.len_chars() != wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_FLAT = (pl.String, pl.Boolean)
_BOUNDS = frozenset({"min_value", "max_value", "strict_min", "strict_max"})
_NONE: frozenset[str] = frozenset()
_ROWS: dict[str, tuple[Make, frozenset[str]]] = {
    "expect_column_values_to_be_between": (_between, _BOUNDS),
    "expect_column_values_to_not_be_null": (_not_null, _NONE),
    "expect_column_values_to_be_null": (_null, _NONE),
    "expect_column_values_to_be_unique": (_unique, _NONE),
    "expect_column_values_to_be_in_set": (_in_set, frozenset({"value_set"})),
    "expect_column_values_to_not_be_in_set": (_not_in_set, frozenset({"value_set"})),
    "expect_column_value_lengths_to_be_between": (_length_between, _BOUNDS),
    "expect_column_value_lengths_to_equal": (_length_equal, frozenset({"value"})),
}
_ABOUT_NULLS = {"expect_column_values_to_not_be_null", "expect_column_values_to_be_null"}
_COLUMN: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "expect_column_mean_to_be_between": lambda values: values.mean(),
    "expect_column_min_to_be_between": lambda values: values.min(),
    "expect_column_max_to_be_between": lambda values: values.max(),
}
_TABLE = {"expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"}
_TABLE_KWARGS = {"min_value", "max_value", "strict_min", "strict_max", "value"}
