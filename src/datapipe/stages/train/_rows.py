# SPDX-License-Identifier: Apache-2.0
"""What every trainer needs before its first batch: labels, held-out rows, encoded rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ORDINAL_BITS, ROW_ID
from datapipe.errors import DataError, Malformed, SchemaMismatch, in_a_line
from datapipe.features.encoding import Encoded, Encoding, fit_encoding

ROWS_LEAST = 10
CLASSES_MOST = 1000
WEIGHT_MOST = 1e6
"""Larger weights of rows would overflow when they are summed."""
Ints = NDArray[np.int64]
Ids = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows ready for a network.

    `y` is int64 of shape (n,), -1 for a class that the training rows do not have; `weights` is
    float32 of shape (n,); `row_ids` is uint64 of shape (n,).
    """

    x: Encoded
    y: Ints
    weights: NDArray[np.float32]
    row_ids: pl.Series

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Training and held-out rows, how they were encoded, and the classes by number."""

    train: Rows
    held_out: Rows
    encoding: Encoding
    classes: tuple[Any, ...]
    numbers: Ints
    """Place of each training row in the data set, for columns that only one trainer reads."""


def prepare(
    data: Dataset,
    *,
    holdout: float,
    split_seed: int,
    test: str = "",
    row_local: bool = False,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Prepared:
    """Check the labels, hold rows out, fit the encoding on the rest, and encode both."""
    labels = _labels(data)
    classes = _classes(labels)
    y = _numbered(labels, classes)
    row_ids = data.row_ids
    held = (
        np.zeros(len(y), bool)
        if test
        else held_out(related_rows(data), y, in_reading_order(data), holdout, split_seed)
    )
    train, out = np.flatnonzero(~held), np.flatnonzero(held)
    if len(np.unique(y[train])) < 2:
        raise _one_class()
    encoding = fit_encoding(data, rows=train, row_local=row_local, ranges=ranges)
    x, weights = encoding.encode(data.frame(encoding.columns)), _weights(data)
    return Prepared(
        train=_some(x, y, weights, row_ids, train),
        held_out=(
            _test_rows(Path(test), data.roles.one("label"), encoding, classes)
            if test
            else _some(x, y, weights, row_ids, out)
        ),
        encoding=encoding,
        classes=classes,
        numbers=train,
    )


def _some(
    x: Encoded, y: Ints, weights: NDArray[np.float32], row_ids: pl.Series, index: Ints
) -> Rows:
    return Rows(_kept(x, index), y[index], weights[index], row_ids[index])


def _kept(x: Encoded, index: Ints) -> Encoded:
    """The rows of an index, still sparse when they were."""
    if x.dense is not None:
        return Encoded(x.shape, x.dense[index])
    lengths = x.starts[index + 1] - x.starts[index]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    held = np.repeat(x.starts[index] - starts[:-1], lengths) + np.arange(starts[-1])
    return Encoded(x.shape, None, starts, x.columns[held], x.values[held])


def _labels(data: Dataset) -> pl.Series:
    """The labels, with every reason why no classifier can be trained on them."""
    labels = data.values("label")
    if len(labels) < ROWS_LEAST:
        raise DataError(
            f"{len(labels)} rows are too few to train on: at least {ROWS_LEAST} are needed",
            code="DP-TRAIN-001",
            hint="give more rows",
        )
    if labels.null_count():
        raise DataError(
            f"label column {labels.name!r}: {labels.null_count()} labels are missing",
            code="DP-TRAIN-001",
            hint="set rows without a label aside before training",
        )
    if labels.dtype.is_float():
        whole = labels.is_finite() & (labels == labels.floor())
        if not whole.all():
            raise DataError(
                f"label column {labels.name!r} holds fractions: these trainers classify",
                code="DP-TRAIN-001",
                hint="give classes, such as integers or strings",
            )
        return labels.cast(pl.Int64)
    if labels.dtype.is_nested():
        raise SchemaMismatch(
            f"label column {labels.name!r} is {labels.dtype}; one class per row is expected",
            hint="aggregate the labels first, for instance with DawidSkene()",
        )
    return labels.cast(pl.String) if isinstance(labels.dtype, (pl.Categorical, pl.Enum)) else labels


def _classes(labels: pl.Series) -> tuple[Any, ...]:
    found = labels.unique().sort()
    if len(found) < 2:
        raise _one_class()
    if len(found) > min(CLASSES_MOST, len(labels) // 2):
        raise DataError(
            f"label column {labels.name!r} has {len(found)} classes in {len(labels)} rows",
            code="DP-TRAIN-001",
            hint="name the column of classes with label=COLUMN; a key or a number is none",
        )
    plain = (
        found if found.dtype.is_integer() or found.dtype == pl.Boolean else found.cast(pl.String)
    )
    return tuple(plain.to_list())


def _one_class() -> DataError:
    return DataError(
        "all training rows have one class: there is nothing to tell apart",
        code="DP-TRAIN-001",
        hint="give rows of at least two classes",
    )


def _numbered(labels: pl.Series, classes: tuple[Any, ...]) -> Ints:
    """Each label's place among the classes, -1 for one that is not among them."""
    names = pl.Series([str(c) for c in classes], dtype=pl.String)
    places = pl.Series(range(len(classes)), dtype=pl.Int64)
    words = labels.cast(pl.String)
    found = words.replace_strict(names, places, default=-1, return_dtype=pl.Int64)
    return found.fill_null(-1).to_numpy()


def _weights(data: Dataset) -> NDArray[np.float32]:
    if "weight" not in data.roles:
        return np.ones(len(data), np.float32)
    weights = data.values("weight").cast(pl.Float32).to_numpy()
    if not (((weights >= 0) & (weights <= WEIGHT_MOST)).all() and weights.any()):
        raise DataError(
            f"weight column {data.roles.one('weight')!r}: weights must lie in"
            f" [0, {WEIGHT_MOST:g}] and not all be 0",
            code="DP-TRAIN-001",
            hint="mend the weights, or give the column no role",
        )
    return np.asarray(weights)


def _test_rows(path: Path, label: str, encoding: Encoding, classes: tuple[Any, ...]) -> Rows:
    """The rows of a test file; their ids are their places in it."""
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Malformed(
            f"the test file {path} cannot be read: {in_a_line(error)}",
            hint="give a Parquet file with the columns of the training rows",
        ) from error
    if label not in frame.columns or not frame.height:
        raise SchemaMismatch(
            f"the test file {path} has {frame.height} rows and no column {label!r}"
            if label not in frame.columns
            else f"the test file {path} has no rows",
            hint="give a Parquet file with the columns of the training rows",
        )
    labels = frame[label].cast(pl.Int64) if frame[label].dtype.is_float() else frame[label]
    ids = frame[ROW_ID] if ROW_ID in frame.columns else pl.Series(range(frame.height))
    ones = np.ones(frame.height, np.float32)
    return Rows(encoding.encode(frame), _numbered(labels, classes), ones, ids.cast(pl.UInt64))


def related_rows(data: Dataset) -> Ints:
    """A number per row, int64 of shape (n,), equal for rows that must stay on one side.

    Rows are related when they are about one subject, share an id, or have the same content: an
    exact copy of a training row among the held-out ones would flatter the accuracy.
    """
    content = data.roles.all("image") or data.roles.all("text")[:1] or tuple(data.features)
    keys = [[c] for role in ("subject", "id") for c in data.roles.all(role)]
    keys += [list(content)] if content else []
    wanted = sorted({c for key in keys for c in key})
    frame = (
        data.frame(wanted).with_row_index("_group").with_columns(pl.col("_group").cast(pl.Int64))
    )
    hashed = frame.select(
        "_group",
        *(
            pl.when(pl.all_horizontal(pl.col(c).is_null() for c in key))
            .then(pl.col("_group").cast(pl.UInt64))
            .otherwise(pl.struct(key).hash())
            .alias(str(i))
            for i, key in enumerate(keys)
        ),
    )
    while True:  # the smallest number spreads over each key until nothing moves
        before = hashed["_group"]
        for i in range(len(keys)):
            hashed = hashed.with_columns(pl.col("_group").min().over(str(i)))
        if hashed["_group"].equals(before):
            return before.to_numpy()


def in_reading_order(data: Dataset) -> Ids:
    """The row ids as a fresh store would give them: its sources numbered 1, 2, … as they were read.

    A store numbers the sources it has met; which rows are held out must not depend on the others.
    """
    ids: Ids = data.row_ids.to_numpy().astype(np.uint64)
    numbers = ids >> np.uint64(ORDINAL_BITS)
    fresh = numbers.copy()
    for place, source in enumerate(data.sources, start=1):
        fresh[numbers == source.number] = place
    ordinals = ids & np.uint64((1 << ORDINAL_BITS) - 1)
    return (fresh << np.uint64(ORDINAL_BITS)) | ordinals


def held_out(
    groups: Ints, y: Ints, row_ids: NDArray[np.uint64], share: float, seed: int
) -> NDArray[np.bool_]:
    """Which rows are held out: whole groups, the same share of every class.

    A group's place in line is a hash of its first row's id, so that setting some rows aside hardly
    changes which of the others are held out, and every model of a run has the same ones.
    """
    frame = pl.DataFrame({"group": groups, "y": y, "place": _shuffled(row_ids, seed)})
    line = (
        frame.group_by("group")
        .agg(pl.col("y").first(), pl.col("place").first(), pl.len().alias("rows"))
        .sort("y", "place")
        .with_columns(
            (pl.col("rows").cum_sum().over("y") - pl.col("rows") / 2).alias("middle"),
            (pl.col("rows").sum().over("y") * share).alias("wanted"),
        )
    )
    chosen = line.filter((pl.col("middle") < pl.col("wanted")) & (pl.col("rows") > 0))["group"]
    return np.isin(groups, chosen.to_numpy())


def _shuffled(row_ids: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Well mixed 64-bit numbers of the row ids.

    References: Steele, Lea & Flood, 2014, Fast splittable pseudorandom number generators.
    """
    start = np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = row_ids.astype(np.uint64) + start
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
