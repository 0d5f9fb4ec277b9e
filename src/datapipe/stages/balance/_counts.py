# SPDX-License-Identifier: Apache-2.0
"""Columns read as classes and groups: what can be counted, and why something cannot."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

MOST_CLASSES = 100
"""A numeric column with more distinct values, most of them rare, is a quantity."""
FEW_EACH = 20
QUARTILES = 4
FEW_VALUES = 10


def class_names(labels: pl.Series) -> pl.Series | None:
    """Labels as strings; null stays null, None when the column is a quantity."""
    kind = labels.dtype
    if kind.is_float():
        labels = labels.fill_nan(None)
        if (labels.drop_nulls() % 1 != 0).any():
            return None
    if kind.is_numeric():
        distinct = labels.n_unique()
        if distinct > MOST_CLASSES and distinct * FEW_EACH > len(labels):
            return None
        whole = labels if kind.is_integer() else labels.cast(pl.Int64, strict=False)
        return whole.cast(pl.String)
    if kind.is_temporal() or kind.is_nested():
        return None
    return labels.cast(pl.String)


def group_names(values: pl.Series) -> pl.Series:
    """Groups as strings; a quantity such as an age is cut at its quartiles, a list names none."""
    if values.dtype.is_numeric() and values.n_unique() > FEW_VALUES:
        return _quartiles(values.cast(pl.Float64).fill_nan(None))
    if values.dtype.is_nested():
        return pl.Series(values.name, [None] * len(values), dtype=pl.String)
    return values.cast(pl.String)


def _quartiles(values: pl.Series) -> pl.Series:
    known = values.drop_nulls().to_numpy()
    edges = np.unique(np.quantile(known, np.linspace(0, 1, QUARTILES + 1)))
    names = [f"{a:g} to below {b:g}" for a, b in pairwise(edges)]
    names[-1] = f"{edges[-2]:g} to {edges[-1]:g}"
    at = np.searchsorted(edges[1:-1], values.fill_null(edges[0]).to_numpy(), side="right")
    made = pl.Series(values.name, np.array(names)[at], dtype=pl.String)
    return made.set(values.is_null(), None)


def in_order(names: list[str]) -> list[str]:
    """Names sorted as numbers where all of them are."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)
