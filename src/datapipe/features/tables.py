# SPDX-License-Identifier: Apache-2.0
"""Table columns into one matrix of numbers, and the choice of features by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.features.hashing import hashed_tfidf
from datapipe.features.images import pixel_matrix

MOST_CATEGORIES = 32
"""Values of a column that get a column of their own; the rest share one of frequencies."""

Kind = Literal["image", "text", "table", "none"]


@dataclass(frozen=True, eq=False)
class Features:
    """What a model may learn from, as numbers.

    Args:
        values: float32, shape (n, d); finite everywhere.
        kind: `image`, `text`, `table`, or `none` when no column can be used.
        incomplete: bool, shape (n,); rows of which some value was missing.

    Example:
        >>> Features(np.zeros((2, 1), np.float32), "table", np.zeros(2, bool)).kind
        'table'
    """

    values: NDArray[np.float32]
    kind: Kind
    incomplete: NDArray[np.bool_]


def features_of(data: Dataset, *, dims: int = 1024) -> Features:
    """The features that the roles point to: images, else texts, else the columns without a role.

    Args:
        data: Any rows.
        dims: Columns into which a text is hashed.

    Returns:
        Pixels as they are, hashed TF-IDF, or standardised columns.

    Example:
        >>> import pyarrow as pa
        >>> features_of(Dataset.of(pa.table({"age": [30, 40, None]}))).incomplete.tolist()
        [False, False, True]
    """
    if "image" in data.roles:
        pixels = pixel_matrix(data)
        return Features(pixels.values, "image", np.asarray(pixels.missing.any(axis=1)))
    if "text" in data.roles:
        texts = data.values("text")
        empty = texts.is_null().to_numpy()
        return Features(hashed_tfidf(texts, dims=dims), "text", empty)
    values, names = numeric_features(data)
    incomplete = np.zeros(len(data), bool)
    if names:
        usable = [n for n in data.features if single_valued(data.types[n])]
        frame = data.frame(usable)
        incomplete = frame.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    return Features(values, "table" if names else "none", incomplete)


def numeric_features(
    data: Dataset, columns: Sequence[str] | None = None
) -> tuple[NDArray[np.float32], list[str]]:
    """Columns as standardised numbers.

    Numbers and times are centred on their mean and scaled by their standard deviation; a missing
    one reads as the mean and gets an indicator column. Categories become indicators of their most
    frequent values; the rarer ones share one column that holds their frequency.

    Args:
        data: Any rows.
        columns: Which columns; None for those without a role.

    Returns:
        float32 of shape (n, d), and the d names, such as `age`, `age is missing`, `job=clerk`.

    Example:
        >>> import pyarrow as pa
        >>> made = numeric_features(Dataset.of(pa.table({"a": [1, 3], "b": ["x", "y"]})))
        >>> made[1], made[0].tolist()
        (['a', 'b=x', 'b=y'], [[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    """
    wanted = data.features if columns is None else list(columns)
    frame = data.frame([n for n in wanted if single_valued(data.types[n])])
    parts: list[NDArray[np.float32]] = []
    names: list[str] = []
    for column in frame:
        if column.dtype.is_numeric() or column.dtype.is_temporal():
            made = _numbers(column)
        else:
            made = _categories(column)
        for name, values in made.items():
            names.append(name)
            parts.append(values.astype(np.float32))
    if not parts:
        return np.zeros((frame.height or len(data), 0), np.float32), []
    return np.column_stack(parts), names


def single_valued(kind: pl.DataType) -> bool:
    """Whether a column of a table is looked into: a cell is one number, time or word.

    Args:
        kind: The type of the column.

    Returns:
        False for lists, arrays, structs, bytes and columns without a value.

    Example:
        >>> single_valued(pl.Date()), single_valued(pl.List(pl.Int8))
        (True, False)
    """
    word = kind in (pl.String, pl.Boolean) or isinstance(kind, pl.Categorical | pl.Enum)
    return kind.is_numeric() or kind.is_temporal() or word


def _numbers(column: pl.Series) -> dict[str, NDArray[np.float64]]:
    physical = column.to_physical() if column.dtype.is_temporal() else column
    values = physical.cast(pl.Float64).to_numpy().astype(np.float64, copy=True)
    gone = ~np.isfinite(values)
    known = values[~gone]
    largest = float(np.abs(known).max(initial=0.0))
    if largest > 0:  # squares of huge numbers would overflow
        values /= largest
        known = values[~gone]
    centre, scale = (float(known.mean()), float(known.std())) if known.size else (0.0, 0.0)
    values[gone] = centre
    made = {column.name: (values - centre) / (scale if scale > 0 else 1.0)}
    if gone.any():
        made[f"{column.name} is missing"] = gone.astype(np.float64)
    return made


def _categories(column: pl.Series) -> dict[str, NDArray[np.float64]]:
    words = column.cast(pl.String).rename("value")
    counts = (
        words.value_counts(name="n").drop_nulls().sort(["n", "value"], descending=[True, False])
    )
    kept = counts["value"].head(MOST_CATEGORIES).to_list()
    made = {
        f"{column.name}={v}": (words == v).fill_null(value=False).to_numpy().astype(np.float64)
        for v in kept
    }
    if counts.height > MOST_CATEGORIES:
        share = words.to_frame().join(counts, on="value", how="left", maintain_order="left")["n"]
        rare = (~words.is_in(kept)) & words.is_not_null()
        frequency = share.fill_null(0).to_numpy() / max(len(words), 1)
        made[f"{column.name} frequency"] = np.where(rare.fill_null(value=False), frequency, 0.0)
    if words.null_count():
        made[f"{column.name} is missing"] = words.is_null().to_numpy().astype(np.float64)
    return made
