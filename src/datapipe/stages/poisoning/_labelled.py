# SPDX-License-Identifier: Apache-2.0
"""The rows that have a usable label, and a model that has not seen the rows it is asked of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.features.linear import text_predictor
from datapipe.features.tables import features_of
from datapipe.measure.copies import copy_groups
from datapipe.measure.crossfit import Predict, stratified_folds
from datapipe.measure.kernel import LANDMARKS, kernel_predictor
from datapipe.measure.neighbours import principal

UNREADABLE = "no column can be learnt from: give one the role image or text"
FEWEST_ROWS = 100
WIDE = 96
COMPONENTS = 64
MOST_CLASSES = 100

Features = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows of classes that every fold can hold: their places, class numbers, and the names.

    `why` says why they cannot be judged, and is empty when they can.
    """

    place: Ints
    labels: Ints
    names: tuple[str, ...]
    why: str = ""


def nested(data: Dataset) -> str:
    """Why the labels are no classes, where they are lists or structures; else empty."""
    kind = data.types[data.roles.one("label")]
    return f"the label holds {kind}, not one value a row" if kind.is_nested() else ""


def labelled(data: Dataset, folds: int) -> Labelled:
    """Rows whose class has at least `folds` rows."""
    named = data.values("label").rename("label")
    if why := nested(data):
        none = np.empty(0, np.int64)
        return Labelled(none, none, (), why)
    counts = named.drop_nulls().value_counts(name="n").filter(pl.col("n") >= folds)
    classes = counts[named.name].sort()
    place = np.flatnonzero(named.is_in(classes.implode()).fill_null(value=False).to_numpy())
    numbers = named.gather(place).replace_strict(
        classes, np.arange(len(classes)), return_dtype=pl.Int64
    )
    names = tuple(str(c) for c in classes)
    return Labelled(place, numbers.to_numpy(), names, _too_little(named, len(classes), place.size))


def _too_little(named: pl.Series, classes: int, rows: int) -> str:
    values = named.drop_nulls().n_unique()
    if named.dtype.is_float() and values > MOST_CLASSES:
        return f"the label has {values} values: it looks like a number, not a class"
    if classes < 2 or rows < FEWEST_ROWS:
        return f"{rows} rows of {classes} classes, {FEWEST_ROWS} rows of 2 are the least"
    return ""


def beside(found: Finding, copies: list[str]) -> Finding:
    """The finding, with the columns that copy the label and were not looked at; mostly none."""
    if not copies:
        return found
    told = ", ".join(repr(c) for c in copies)
    says = f"{found.says}; what copies the label was not looked at: {told}"
    return replace(found, says=says, details={**found.details, "copies": copies})


@dataclass(frozen=True, eq=False)
class Learner:
    """A model of the label, and the fold of each row; copies of a row share a fold.

    `rows` are those that it learns from, all of them or one of equal rows with the same label;
    `one`, shape (n,), says of every labelled row which of these stands for it; `item` numbers what
    they hold, the same for equal rows.
    """

    predict: Predict
    fold: Ints
    rows: Labelled
    one: Ints
    item: Ints


def learner(
    data: Dataset,
    rows: Labelled,
    folds: int,
    context: Context,
    *,
    landmarks: int = LANDMARKS,
    widths: Sequence[float] = (1.0,),
    bayes: bool = False,
    once: Ints | None = None,
) -> Learner | None:
    """What to learn the label from by the roles; None where no column can be learnt from.

    With `once`, a number of each row, equal rows with the same label and number are learnt from
    once: a row that was written a hundred times is one witness.
    """
    features = features_of(data)
    if features.values.shape[1] == 0:
        return None
    values, one = features.values[rows.place], np.arange(rows.labels.size)
    if features.kind == "image" and values.shape[1] > WIDE:
        values = principal(values, COMPONENTS, context.rng("components")).project(values)
    copies = copy_groups(values)
    item = _distinct(values, copies)[1]
    if once is not None:
        first, one = first_of(item, rows.labels, once)
        rows = replace(rows, place=rows.place[first], labels=rows.labels[first])
        values, copies, item = values[first], copies[first], item[first]
    numbers = rows.labels
    if features.kind == "text":
        texts = data.values("text").gather(rows.place)
        predict: Predict = text_predictor(texts, numbers, len(rows.names), bayes=bayes)
    else:
        rng = context.rng("landmarks")
        predict = kernel_predictor(
            values, numbers, len(rows.names), rng, landmarks=landmarks, widths=widths
        )
    fold = stratified_folds(numbers, folds, context.rng("folds"), copies)
    return Learner(predict, fold, rows, one, item)


def first_of(*numbers: Ints) -> tuple[Ints, Ints]:
    """The first of the rows that share all numbers, and which of these each row is like."""
    frame = pl.DataFrame({str(i): n for i, n in enumerate(numbers)})
    rows = frame.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    heads = rows.select(pl.col("row").min().over(frame.columns))["row"].to_numpy()
    first, one = np.unique(heads, return_inverse=True)
    return first, one


def _distinct(values: Features, among: Ints) -> tuple[Ints, Ints]:
    """The first of the equal rows that share a number, and which of these each row equals."""
    _, group, size = np.unique(among, return_inverse=True, return_counts=True)
    alike = np.flatnonzero(size[group] > 1)
    same = np.arange(len(values))
    if alike.size:
        lines = np.ascontiguousarray(np.column_stack([values[alike], among[alike]]))
        lines = lines.view(np.dtype((np.void, lines.itemsize * lines.shape[1]))).ravel()
        _, first, member = np.unique(lines, return_index=True, return_inverse=True)
        same[alike] = alike[first[member]]
    first, one = np.unique(same, return_inverse=True)
    return first, one
