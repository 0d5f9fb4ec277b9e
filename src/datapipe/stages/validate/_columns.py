# SPDX-License-Identifier: Apache-2.0
"""The columns that rules are about: those of the data, and a few that are computed from them.

`NAME.missing` counts the nulls and NaN in a row's list, array or columns (missing pixels), and
`NAME.length` the items, characters or bytes; NAME is a column, or a role such as `image`.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.errors import SchemaMismatch, nearest

MADE = (".missing", ".length")


def expressions(data: Dataset, names: Iterable[str]) -> list[pl.Expr]:
    """An expression for each name; a name that nothing stands behind is an error.

    Args:
        data: The rows; nothing is read.
        names: Names of columns, or computed ones.

    Returns:
        Expressions with these names as output names.

    Raises:
        SchemaMismatch: There is no such column.

    Example:
        >>> d = Dataset.of(pl.DataFrame({"image": [[1.0, float("nan")], [None, None]]}))
        >>> d.scan().select(expressions(d, ["image.missing"])).collect()["image.missing"].to_list()
        [1, 2]
    """
    return [_expression(data, name).alias(name) for name in dict.fromkeys(names)]


def exists(data: Dataset, name: str) -> bool:
    """Whether a column, or one to compute, can be had.

    Args:
        data: The rows; nothing is read.
        name: Its name.

    Returns:
        True when `expressions` would give it.

    Example:
        >>> exists(Dataset.of(pl.DataFrame({"a": [1]})), "b.missing")
        False
    """
    return name in data.names or bool(_behind(data, name))


def _expression(data: Dataset, name: str) -> pl.Expr:
    if name in data.names:
        return pl.col(name)
    behind = _behind(data, name)
    if not behind:
        raise SchemaMismatch(
            f"validate.expect: there is no column {name!r}",
            code="DP-DATA-040",
            hint=f"{nearest(name, data.names)}; {name}.missing and .length are computed"
            if "." not in name
            else nearest(name.rpartition(".")[0], [*data.names, *data.roles.columns]),
        )
    make = _missing if name.endswith(".missing") else _length
    return pl.sum_horizontal(make(column, data.types[column]) for column in behind)


def _behind(data: Dataset, name: str) -> tuple[str, ...]:
    """The columns a computed one is made from, empty when there are none."""
    stem, dot, what = name.rpartition(".")
    if dot + what not in MADE:
        return ()
    return (stem,) if stem in data.names else data.roles.all(stem)


def _missing(column: str, kind: pl.DataType) -> pl.Expr:
    """How many values are null or NaN; a row without any list misses at least one."""
    if not isinstance(kind, (pl.List, pl.Array)):
        return _gone(pl.col(column), kind).cast(pl.UInt32)
    inner = kind.inner
    gone = _gone(pl.element(), inner if isinstance(inner, pl.DataType) else inner())
    return _as_list(column, kind).list.eval(gone).list.sum().cast(pl.UInt32).fill_null(1)


def _length(column: str, kind: pl.DataType) -> pl.Expr:
    if isinstance(kind, (pl.List, pl.Array)):
        return _as_list(column, kind).list.len()
    if kind == pl.Binary:
        return pl.col(column).bin.size()
    return pl.col(column).cast(pl.String).str.len_chars()


def _as_list(column: str, kind: pl.DataType) -> pl.Expr:
    return pl.col(column).arr.to_list() if isinstance(kind, pl.Array) else pl.col(column)


def _gone(values: pl.Expr, kind: pl.DataType) -> pl.Expr:
    return values.is_null() | values.is_nan() if kind.is_float() else values.is_null()
