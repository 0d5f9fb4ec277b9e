# SPDX-License-Identifier: Apache-2.0
"""Columns that copy the label: one value for each class, or the very same numbers.

With such a column beside it no label contradicts its row, however wrong it is.
"""

from __future__ import annotations

from collections import Counter
from math import lgamma, log

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.features.tables import single_valued

ALPHA = 1e-6
"""How likely some column of a table may match its label by chance, for it not to be named."""


def label_copies(data: Dataset) -> list[str]:
    """The columns without a role that copy the label of a table, row by row.

    A column that has one value for each class does so when a shuffled one would hardly ever: few
    rows, or values that are all different, as of a key, prove nothing. Where the label is a number,
    the same numbers are a copy.

    Args:
        data: Rows with the role `label`.

    Returns:
        Their names; none where there are texts or images to judge labels by.

    Example:
        >>> import pyarrow as pa
        >>> from datapipe.core.roles import Roles
        >>> table = pa.table({"y": [0, 1] * 20, "z": ["no", "yes"] * 20, "x": [*range(40)]})
        >>> label_copies(Dataset.of(table, Roles.of(label="y")))
        ['z']
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


def without_copies(data: Dataset) -> tuple[Dataset, list[str]]:
    """The rows without the columns that copy their label, and the names of these.

    Args:
        data: Rows with the role `label`.

    Returns:
        The same rows where no column copies it.

    Example:
        >>> import pyarrow as pa
        >>> from datapipe.core.roles import Roles
        >>> table = pa.table({"y": [0, 1] * 20, "z": ["no", "yes"] * 20, "x": [*range(40)]})
        >>> rest, copies = without_copies(Dataset.of(table, Roles.of(label="y")))
        >>> rest.features, copies
        (['x'], ['z'])
    """
    copies = label_copies(data)
    if not copies:
        return data, []
    return data.with_frame(data.scan(row_id=True).drop(copies)), copies


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
