# SPDX-License-Identifier: Apache-2.0
"""Columns that copy the label: one value for each class, or the very same numbers.

With such a column beside it no label contradicts its row, however wrong it is.
"""

from __future__ import annotations

from collections import Counter
from math import lgamma, log

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.features.tables import single_valued

LEAK = "labels.leak"
ALPHA = 1e-6
"""How likely some column of a table may match its label by chance, for it not to be named."""


def copied(data: Dataset) -> list[str]:
    """The columns without a role that copy the label of a table, row by row.

    A column that has one value for each class does so when a shuffled one would hardly ever: few
    rows, or values that are all different, as of a key, prove nothing. Where the label is a number,
    the same numbers are a copy.
    """
    label = data.roles.one("label")
    if {"text", "image"} & set(data.roles.columns) or not single_valued(data.types[label]):
        return []
    names = [n for n in data.features if single_valued(data.types[n])]
    frame = data.frame([*names, label]).filter(pl.col(label).is_not_null())
    if not names or frame.is_empty():
        return []
    counts = frame.select(pl.all().n_unique()).row(0, named=True)
    classes = counts[label]
    by_chance = _by_chance(frame[label].value_counts()["count"].to_list())
    proves = by_chance <= log(ALPHA / len(names))
    return [
        name
        for name in names
        if counts[name] == classes
        and (
            (proves and frame.select(name, label).n_unique() == classes)
            or (classes > 2 and _equal(frame[name], frame[label]))
        )
    ]


def leak(columns: list[str], label: str, rows: int) -> Finding:
    """The finding that names them."""
    told = ", ".join(repr(c) for c in columns)
    one, many = f"the column {told} copies", f"the columns {told} copy"
    says = f"{one} the label, and was not looked at"
    if len(columns) > 1:
        says = f"{many} the label, and were not looked at"
    return Finding(
        LEAK,
        "suspect",
        Estimate.exact(1.0, n=rows, method="labels that a column beside them repeats"),
        says,
        severity="high",
        columns=(*columns, label),
        details={"copies": columns},
        remedy="leave the copies out: a model would read the label from them",
    )


def _by_chance(sizes: list[int]) -> float:
    """Log of the share of all orders of a column in which it still has one value for each class."""
    alike = Counter(sizes).values()
    orders = sum(lgamma(s + 1) for s in sizes) + sum(lgamma(m + 1) for m in alike)
    return orders - lgamma(sum(sizes) + 1)


def _equal(column: pl.Series, label: pl.Series) -> bool:
    """Whether two columns of numbers are the same, value by value."""
    if not (column.dtype.is_numeric() and label.dtype.is_numeric()):
        return False
    return bool((column.cast(pl.Float64) == label.cast(pl.Float64)).all())
