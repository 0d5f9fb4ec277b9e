# SPDX-License-Identifier: Apache-2.0
"""Whether an expression looks at one row at a time: row stages run in shards, fused, in any order.

A mean over the column would be one over each shard, and a row that an earlier stage set aside would
count in the reasons and not in the rows. polars tells of a whole expression whether it can be cut
by rows, but not of `a - mean(a)`; so every part of an expression is asked. And `pl.all()` means the
columns that the author knows of: ids of rows among them would change every sum.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence

import polars as pl

from datapipe.core.roles import HIDDEN

_FOLDED = re.compile(r"\.(?:fold|reduce|cum_fold|cum_reduce)\(")
"""Functions in Python over columns side by side, which polars takes for ones along the rows."""


def looks_beyond(expression: pl.Expr) -> bool:
    """Whether an expression looks at other rows than the one it is computed for.

    Args:
        expression: Over the columns of a table.

    Returns:
        True when it is known to; a function in Python and what is inside lists and structs are the
        author's word.

    Example:
        >>> looks_beyond(pl.col("a") - pl.col("a").mean()), looks_beyond(pl.col("a") * 2)
        (True, False)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these questions are marked as new in polars
        return _beyond(expression) or any(
            part.meta == pl.len() or (_beyond(part) and bool(part.meta.root_names()))
            for part in parts(expression)
        )


def _beyond(expression: pl.Expr) -> bool:
    try:
        return not expression.meta.is_row_separable() and not _FOLDED.search(str(expression))
    except pl.exceptions.PolarsError:  # selectors and functions in Python need a schema
        return False


def parts(expression: pl.Expr) -> Iterator[pl.Expr]:
    """Everything that an expression is made of, itself left out.

    Args:
        expression: An expression.

    Yields:
        Its inputs and theirs, the last first.

    Example:
        >>> [part.meta.output_name() for part in parts(pl.col("a") + pl.col("b"))]
        ['b', 'a']
    """
    try:
        inputs = expression.meta.pop()
    except pl.exceptions.PolarsError:
        return
    for part in inputs:
        yield part
        yield from parts(part)


def computed(
    rows: pl.LazyFrame, made: Mapping[str, pl.Expr], *, hide: Sequence[str] = ()
) -> pl.LazyFrame:
    """Rows with new columns, of whose expressions no selector sees the hidden columns.

    Args:
        rows: A plan with the hidden columns.
        made: New column to an expression that keeps to its row.
        hide: Other columns that are none of the author's.

    Returns:
        The plan.

    Example:
        >>> rows = pl.LazyFrame({"_row_id": [7], "a": [1], "b": [2]})
        >>> computed(rows, {"sum": pl.sum_horizontal(pl.all())}).collect()["sum"].item()
        3
    """
    wide = [name for name, each in made.items() if selects(each)]
    if not wide:
        return rows.with_columns(**made) if made else rows
    types = rows.collect_schema()
    shown = rows.drop([n for n in (*HIDDEN, *hide) if n in types])
    beside = shown.select(**{name: made[name] for name in wide})
    rest = {name: each for name, each in made.items() if name not in wide}
    kept = rows.with_columns(**rest).drop(wide, strict=False)
    order = [*types, *(name for name in made if name not in types)]
    return pl.concat([kept, beside], how="horizontal").select(order)


def filtered(rows: pl.LazyFrame, condition: pl.Expr) -> pl.LazyFrame:
    """Rows for which a condition holds, whose selectors do not see the hidden columns either.

    Args:
        rows: A plan with the hidden columns.
        condition: Of booleans; it keeps to its row.

    Returns:
        The plan.

    Example:
        >>> rows = pl.LazyFrame({"_row_id": [7, 0], "a": [0, 1]})
        >>> filtered(rows, pl.any_horizontal(pl.all() == 0)).collect()["_row_id"].to_list()
        [7]
    """
    if not selects(condition):
        return rows.filter(condition)
    flag = free("_holds", rows.collect_schema())
    return computed(rows, {flag: condition}).filter(flag).drop(flag)


def free(name: str, taken: Container[str]) -> str:
    """A name that no column has; authors may give theirs any.

    Args:
        name: A name.
        taken: The names there are.

    Returns:
        The name, with underscores before it where it is taken.

    Example:
        >>> free("a", ["a", "_a"])
        '__a'
    """
    while name in taken:
        name = f"_{name}"
    return name


def selects(expression: pl.Expr) -> bool:
    """Whether a selector or a pattern stands for columns in an expression.

    Args:
        expression: An expression.

    Returns:
        True for `pl.all()`, `pl.col("^a")`, `pl.first()` and their like.

    Example:
        >>> selects(pl.sum_horizontal(pl.all())), selects(pl.col("a") + 1)
        (True, False)
    """
    every = (expression, *parts(expression))
    return any(p.meta.is_column_selection() and not p.meta.is_column() for p in every)
