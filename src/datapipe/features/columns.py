# SPDX-License-Identifier: Apache-2.0
"""The rule by which a column of a table becomes numbers, and the numbers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.errors import DataError

Floats = NDArray[np.float32]

CATEGORIES_MOST = 64
CATEGORY_ROWS = 5
"""A category seen in fewer rows is not kept: its value could name a person."""
CATEGORY_BUCKETS = 16
MIXER = 0x9E3779B1
"""Spreads CRC-32, whose low bits alone would put alike words into one bucket."""


def buckets_of(values: pl.Series, buckets: int) -> pl.DataFrame:
    """Each distinct value's bucket, by CRC-32: the same in every process and version.

    Args:
        values: Texts; missing ones are left out.
        buckets: How many there are, > 0.

    Returns:
        A frame of the values, under their own name, and `bucket`, int32 in 0..buckets-1.

    Example:
        >>> buckets_of(pl.Series("word", ["a", "a", None]), 16).shape
        (1, 2)
    """
    distinct = values.unique().drop_nulls()
    hashed = [(zlib.crc32(v.encode()) * MIXER >> 24) % buckets for v in distinct]
    return pl.DataFrame(
        {values.name: distinct, "bucket": pl.Series(hashed, dtype=pl.Int32)},
    )


def rule_of(
    series: pl.Series, known: tuple[float, float] | None, *, row_local: bool
) -> dict[str, Any] | None:
    """The rule of a column, fitted to its values unless it is row-local.

    Args:
        series: The column.
        known: The least and largest value, where they are known without looking.
        row_local: Whether nothing may be learnt from the values.

    Returns:
        JSON values; None for a type that a table model cannot learn from.

    Raises:
        DataError: A number is missing or not finite.

    Example:
        >>> rule_of(pl.Series("age", [30, 50]), (0.0, 120.0), row_local=True)["rule"]
        'ranged'
    """
    name, dtype = series.name, series.dtype
    if dtype in (pl.String, pl.Categorical) or isinstance(dtype, pl.Enum):
        if row_local:
            return {"name": name, "rule": "hashed", "buckets": CATEGORY_BUCKETS}
        counts = (
            series.cast(pl.String)
            .drop_nulls()
            .rename("value")
            .value_counts(name="rows")
            .sort(["rows", "value"], descending=[True, False])
        )
        kept = counts.filter(pl.col("rows") >= CATEGORY_ROWS)["value"].head(CATEGORIES_MOST)
        return {"name": name, "rule": "listed", "values": sorted(kept)}
    if not (dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean):
        return None
    if known is not None:
        return {"name": name, "rule": "ranged", "low": known[0], "high": known[1]}
    if row_local:
        return {"name": name, "rule": "squashed"}
    numbers = _numbers(series)
    spread = float(numbers.std())
    return {
        "name": name,
        "rule": "standardised",
        "mean": float(numbers.mean()),
        "spread": spread if spread > 0 else 1.0,
    }


def width_of(rule: Mapping[str, Any]) -> int:
    """How many numbers a column becomes.

    Args:
        rule: The column's rule.

    Returns:
        >= 1.

    Example:
        >>> width_of({"rule": "listed", "values": ["a", "b"]})  # one more for all others
        3
    """
    if rule["rule"] == "listed":
        return len(rule["values"]) + 1
    return int(rule["buckets"]) if rule["rule"] == "hashed" else 1


def matrix(frame: pl.DataFrame, rules: Sequence[Mapping[str, Any]]) -> Floats:
    """The rows as numbers, column by column.

    Args:
        frame: Rows that hold the columns of the rules.
        rules: What `rule_of` gave.

    Returns:
        float32, shape (n, sum of the widths).

    Raises:
        DataError: A number is missing or not finite.

    Example:
        >>> rows = pl.DataFrame({"age": [0, 60]})
        >>> matrix(rows, [rule_of(rows["age"], (0.0, 120.0), row_local=True)]).tolist()
        [[-1.0], [0.0]]
    """
    blocks = [_block(frame[rule["name"]], rule) for rule in rules]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _block(series: pl.Series, rule: Mapping[str, Any]) -> NDArray[Any]:
    """One column's numbers, shape (n, width)."""
    kind = rule["rule"]
    if kind in ("listed", "hashed"):
        width = width_of(rule)
        return np.eye(width, dtype=np.float32)[_category(series.cast(pl.String), rule, width)]
    numbers = _numbers(series)
    if kind == "standardised":
        numbers = (numbers - rule["mean"]) / rule["spread"]
    elif kind == "ranged":
        low, high = rule["low"], rule["high"]
        numbers = 2 * (np.clip(numbers, low, high) - low) / (high - low) - 1
    else:
        numbers = np.arcsinh(numbers)
    return numbers[:, None]


def _category(series: pl.Series, rule: Mapping[str, Any], width: int) -> NDArray[np.int64]:
    """Each row's category; unlisted and missing values share the last of the listed ones."""
    if rule["rule"] == "hashed":
        table = buckets_of(series, width)
        return (
            pl.DataFrame({series.name: series})
            .join(table, on=series.name, how="left", maintain_order="left")["bucket"]
            .fill_null(width - 1)
            .to_numpy()
            .astype(np.int64)
        )
    values = list(rule["values"])
    places = pl.Series(range(len(values)), dtype=pl.Int64)
    found = series.replace_strict(values, places, default=width - 1, return_dtype=pl.Int64)
    return found.fill_null(width - 1).to_numpy()


def _numbers(series: pl.Series) -> NDArray[np.float64]:
    """A numeric column as float64, refused when a value is missing or not finite."""
    numbers = series.to_physical().cast(pl.Float64).to_numpy()
    bad = int((~np.isfinite(numbers)).sum())
    if bad:
        raise DataError(
            f"column {series.name!r}: {bad} of {len(series)} values are missing or not finite",
            code="DP-ENC-001",
            hint="fill or set aside these rows, or leave the column out, before training",
        )
    return numbers
