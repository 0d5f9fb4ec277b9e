# SPDX-License-Identifier: Apache-2.0
"""Rows that a stage can be tried on: ordinary ones, and the awkward kinds that real files hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.core.stage import Stage

WORDS = (
    "amber birch cedar delta ember fable grove haven inlet joist",
    "quartz raven sable tidal umber vivid willow xenon yonder zephyr",
)
AWKWARD = (
    "",
    " ",
    "\x00",
    "נכון",
    "🙂🙃",
    "e\u0301",
    "x" * 5000,
    "=1+1",
    "\ufeff",
    "<b>",
    "NaN",
    "\n",
)
CANARY = "zqx-canary-person"
"""A value of the subject column; it must turn up in no sentence."""


def ordinary_rows(stage: Stage, *, n: int = 150) -> Dataset:
    """Rows with every role the stage asks for, two classes that can be told apart, two features.

    Args:
        stage: Its `needs` decide which role columns there are.
        n: How many rows, >= 1.

    Returns:
        The rows, the same on every call.

    Example:
        >>> class Asks(Stage):
        ...     needs = ("label", "text|image")
        >>> ordinary_rows(Asks()).names
        ['label', 'text', 'x0', 'x1']
    """
    columns = _columns(n)
    roles = sorted({need.split("|")[0] for need in stage.needs})
    frame = pl.DataFrame({name: columns[name] for name in [*roles, "x0", "x1"]})
    return Dataset.of(frame, Roles({role: (role,) for role in roles}))


def _columns(n: int) -> dict[str, pl.Series]:
    rng = np.random.default_rng(20)
    label = rng.integers(0, 2, n)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    words = [[*rng.choice(WORDS[y].split(), 12), str(i)] for i, y in enumerate(label)]
    pictures = rng.uniform(0, 4, (n, 64)) + 8 * (np.arange(64) % 2 == label[:, None])
    subjects = [f"person {i % 50}" if i % 50 else CANARY for i in range(n)]
    return {
        "id": pl.Series([f"item {i // 3}" for i in range(n)]),
        "text": pl.Series([" ".join(w) for w in words]),
        "image": pl.Series(pictures.round(2).tolist(), dtype=pl.List(pl.Float64)),
        "label": pl.Series(label),
        "annotator": pl.Series([f"a{i % 3}" for i in range(n)]),
        "group": pl.Series([f"g{g}" for g in rng.integers(0, 2, n)]),
        "subject": pl.Series(subjects),
        "source": pl.Series([f"s{i % 2}" for i in range(n)]),
        "weight": pl.Series(np.ones(n)),
        "time": pl.Series([start + timedelta(hours=i) for i in range(n)]),
        "x0": pl.Series(label + rng.normal(0, 0.2, n)),
        "x1": pl.Series(rng.normal(0, 1, n)),
    }


def _with(data: Dataset, make: Callable[[pl.DataFrame], pl.DataFrame]) -> Dataset:
    return Dataset.of(make(data.frame(row_id=True)), data.roles)


def no_rows(data: Dataset) -> Dataset:
    """The same columns without a row.

    Args:
        data: Any rows.

    Returns:
        A data set of length 0.

    Example:
        >>> len(no_rows(ordinary_rows(Stage())))
        0
    """
    return _with(data, lambda frame: frame.clear())


def one_row(data: Dataset) -> Dataset:
    """The first row alone.

    Args:
        data: At least one row.

    Returns:
        A data set of length 1.

    Example:
        >>> len(one_row(ordinary_rows(Stage())))
        1
    """
    return _with(data, lambda frame: frame.head(1))


def all_null(data: Dataset) -> Dataset:
    """The same columns and types, every value null.

    Args:
        data: Any rows.

    Returns:
        As many rows.

    Example:
        >>> all_null(ordinary_rows(Stage())).frame()["x0"].null_count()
        150
    """
    return _with(
        data, lambda f: f.with_columns(pl.lit(None, f[c].dtype).alias(c) for c in data.names)
    )


def one_class(data: Dataset) -> Dataset:
    """The same rows with one label.

    Args:
        data: Rows, with or without the role `label`.

    Returns:
        As many rows.

    Example:
        >>> class Asks(Stage):
        ...     needs = ("label",)
        >>> one_class(ordinary_rows(Asks())).values("label").n_unique()
        1
    """
    columns = data.roles.all("label")
    return _with(data, lambda frame: frame.with_columns(pl.col(c).first() for c in columns))


def awkward_text(data: Dataset) -> Dataset:
    """Strings that break careless code, in every string column: empty, NUL, right to left, huge.

    Args:
        data: Any rows.

    Returns:
        As many rows.

    Example:
        >>> class Asks(Stage):
        ...     needs = ("text",)
        >>> awkward_text(ordinary_rows(Asks())).values("text")[3] == AWKWARD[3]
        True
    """
    strings = [name for name, kind in data.types.items() if kind == pl.String]
    values = pl.Series([AWKWARD[i % len(AWKWARD)] for i in range(len(data))], dtype=pl.String)
    return _with(data, lambda frame: frame.with_columns(values.alias(name) for name in strings))


def wide_types(data: Dataset) -> Dataset:
    """Further feature columns of awkward types: decimal, uint64, NaN and infinities, dates, lists.

    Args:
        data: Any rows.

    Returns:
        As many rows and eight more columns.

    Example:
        >>> len(wide_types(ordinary_rows(Stage())).names)
        10
    """
    n = len(data)
    special = [float("nan"), float("inf"), -0.0, 1e308, 5e-324]
    day = datetime(1900, 1, 1, tzinfo=UTC)
    added = {
        "decimal": pl.Series([Decimal("0.10")] * n, dtype=pl.Decimal(30, 2)),
        "uint64": pl.Series([2**64 - 1 - i for i in range(n)], dtype=pl.UInt64),
        "special": pl.Series([special[i % 5] for i in range(n)], dtype=pl.Float64),
        "small": pl.Series([i % 3 - 1 for i in range(n)], dtype=pl.Int8),
        "day": pl.Series([(day + timedelta(days=i)).date() for i in range(n)], dtype=pl.Date),
        "yes": pl.Series([i % 2 == 0 for i in range(n)], dtype=pl.Boolean),
        "list": pl.Series([[i] * (i % 3) for i in range(n)], dtype=pl.List(pl.Int64)),
        "empty": pl.Series([None] * n, dtype=pl.Null),
    }
    return _with(data, lambda frame: frame.with_columns(**added))


def shuffled(data: Dataset) -> Dataset:
    """The same rows, ids included, in another order.

    Args:
        data: Any rows.

    Returns:
        As many rows.

    Example:
        >>> data = ordinary_rows(Stage())
        >>> sorted(shuffled(data).row_ids) == sorted(data.row_ids)
        True
    """
    order = np.random.default_rng(5).permutation(len(data))
    return _with(data, lambda frame: frame[order])


def part(data: Dataset, start: int, stop: int) -> Dataset:
    """A run of rows, ids included.

    Args:
        data: Any rows.
        start: 0-based first row.
        stop: The row after the last.

    Returns:
        The rows of the half-open range.

    Example:
        >>> part(ordinary_rows(Stage()), 5, 7).row_ids.to_list()
        [5, 6]
    """
    return Dataset.of(data.frame(row_id=True)[start:stop], data.roles)
