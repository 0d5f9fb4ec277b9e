# SPDX-License-Identifier: Apache-2.0
"""Fitted preprocessing: rows to numbers in a way that is kept with a model and applied again.

What is fitted (means, categories) is part of the description, so that a model reloaded elsewhere
sees new rows exactly as it saw the rows that trained it. A *row-local* encoding looks at nothing
but the row itself: it learns nothing from the data, which private training relies on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import DataError, SchemaMismatch, nearest
from datapipe.features.columns import buckets_of, matrix, rule_of, width_of
from datapipe.features.hashing import WORD
from datapipe.features.images import pixel_matrix

EncodingKind = Literal["image", "text", "table"]
Floats = NDArray[np.float32]

TEXT_BUCKETS = 2048
"""Buckets that words are hashed into."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows as numbers, dense or sparse, taken batch by batch.

    Args:
        shape: Shape of one row.
        dense: float32 of shape (n, *shape), or None.
        starts: int64 of shape (n + 1,): where each row begins in `columns` and `values`.
        columns: int32 of shape (nnz,).
        values: float32 of shape (nnz,).

    Example:
        >>> Encoded((2,), np.eye(2, dtype=np.float32)).take(np.array([1])).tolist()
        [[0.0, 1.0]]
    """

    shape: tuple[int, ...]
    dense: Floats | None = None
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    columns: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    values: Floats = field(default_factory=lambda: np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.starts) - 1 if self.dense is None else len(self.dense)

    def take(self, index: NDArray[np.integer[Any]]) -> Floats:
        """Some rows, dense.

        Args:
            index: Row numbers, shape (k,); a row may come more than once.

        Returns:
            float32 of shape (k, *shape).

        Example:
            >>> sparse = Encoded((3,), None, np.array([0, 1, 1]), np.array([2], np.int32),
            ...                  np.array([5.0], np.float32))
            >>> sparse.take(np.array([0, 1])).tolist()
            [[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]
        """
        if self.dense is not None:
            return np.asarray(self.dense[index], np.float32)
        lengths = self.starts[index + 1] - self.starts[index]
        rows = np.repeat(np.arange(len(index)), lengths)
        before = np.repeat(np.cumsum(lengths) - lengths, lengths)
        held = np.repeat(self.starts[index], lengths) + np.arange(len(rows)) - before
        out = np.zeros((len(index), *self.shape), np.float32)
        out[rows, self.columns[held]] = self.values[held]
        return out


@dataclass(frozen=True)
class Encoding:
    """How rows become numbers; `to_json` is all that is needed to do it again.

    Args:
        kind: `image`, `text` or `table`.
        shape: Shape of one encoded row.
        columns: The columns it reads, in order.
        settings: What was fitted or chosen; JSON values only.

    Example:
        >>> data = Dataset.of(pl.DataFrame({"a": [1.0, 3.0], "y": [0, 1]}), Roles.of(label="y"))
        >>> fitted = fit_encoding(data)
        >>> Encoding.from_json(fitted.to_json()).encode(data.frame()).take(np.array([0])).tolist()
        [[-1.0]]
    """

    kind: EncodingKind
    shape: tuple[int, ...]
    columns: tuple[str, ...]
    settings: Mapping[str, Any]

    def encode(self, frame: pl.DataFrame) -> Encoded:
        """Turn rows into numbers.

        Args:
            frame: Rows with the columns of this encoding; others are ignored.

        Returns:
            The encoded rows, in order.

        Raises:
            SchemaMismatch: A column is not there.
            DataError: A value is missing or not finite, or pictures have another size

        Example:
            >>> words = Encoding("text", (8,), ("t",), {"buckets": 8})
            >>> words.encode(pl.DataFrame({"t": ["a a"]})).take(np.array([0])).sum(1).tolist()
            [1.0]
        """
        for name in self.columns:
            if name not in frame.columns:
                raise SchemaMismatch(
                    f"the model reads the column {name!r}, which is not there",
                    hint=nearest(name, frame.columns),
                )
        if self.kind == "image":
            return Encoded(self.shape, standardised(_pixels(frame, self.columns), self.shape))
        if self.kind == "text":
            return _hashed_words(frame[self.columns[0]], int(self.settings["buckets"]))
        return Encoded(self.shape, matrix(frame, self.settings["columns"]))

    def to_json(self) -> dict[str, Any]:
        """The whole description as JSON values.

        Returns:
            A dictionary with kind, shape, columns and settings.

        Example:
            >>> Encoding("text", (8,), ("t",), {"buckets": 8}).to_json()["shape"]
            [8]
        """
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "columns": list(self.columns),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Encoding:
        """Read what `to_json` wrote.

        Args:
            form: The dictionary.

        Returns:
            The encoding.

        Example:
            >>> Encoding.from_json(Encoding("text", (8,), ("t",), {"buckets": 8}).to_json()).kind
            'text'
        """
        return cls(form["kind"], tuple(form["shape"]), tuple(form["columns"]), form["settings"])


def fit_encoding(
    data: Dataset,
    *,
    rows: NDArray[np.integer[Any]] | None = None,
    row_local: bool = False,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Encoding:
    """Choose and fit the encoding of a data set by its roles: image, else text, else table.

    Args:
        data: The rows.
        rows: Numbers of the rows to fit on, shape (k,); None for all. Give the training rows, so
            that nothing is learned from the held-out ones.
        row_local: Learn nothing from the rows: tables are squashed by asinh and hashed instead of
            standardised and listed. Images and texts are always encoded row by row.
        ranges: Publicly known (low, high) of numeric columns; they are mapped to [-1, 1].

    Returns:
        The encoding.

    Raises:
        SchemaMismatch: There is no image, no text and no column that could be a feature.
        DataError: A value is missing or not finite.

    Example:
        >>> data = Dataset.of(pl.DataFrame({"a": [1.0, 3.0], "y": [0, 1]}), Roles.of(label="y"))
        >>> fit_encoding(data).shape
        (1,)
    """
    if "image" in data.roles:
        columns = data.roles.all("image")
        return Encoding("image", picture_shape(data.frame(columns), columns), columns, {})
    if "text" in data.roles:
        column = data.roles.one("text")
        return Encoding("text", (TEXT_BUCKETS,), (column,), {"buckets": TEXT_BUCKETS})
    frame = data.frame(data.features)
    fitted = frame if rows is None else frame[rows]
    known = ranges or {}
    settings = [
        s for c in frame.columns if (s := rule_of(fitted[c], known.get(c), row_local=row_local))
    ]
    if not settings:
        raise SchemaMismatch(
            "no column can be learned from: none plays the role text or image, and no other"
            " column holds numbers, booleans, dates or short strings",
            hint="name a column with text=COLUMN or image=COLUMN, or add numeric columns",
        )
    width = sum(width_of(s) for s in settings)
    return Encoding("table", (width,), tuple(s["name"] for s in settings), {"columns": settings})


def picture_shape(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[int, ...]:
    """The (channels, height, width) of a picture, as told by its type or its number of pixels.

    Args:
        frame: The rows.
        columns: The columns of the role `image`.

    Returns:
        (channels, height, width); (values,) when the number of values is no square nor three.

    Raises:
        SchemaMismatch: The columns hold no pixels, or pictures of different sizes.

    Example:
        >>> picture_shape(pl.DataFrame({"p": [[0] * 64]}), ["p"])
        (1, 8, 8)
    """
    dtype = frame.schema[columns[0]]
    if len(columns) == 1 and isinstance(dtype, pl.Array) and len(dtype.shape) in (2, 3):
        sides = dtype.shape
        return (1, *sides) if len(sides) == 2 else (sides[2], sides[0], sides[1])
    height, width, channels = pixel_matrix(_pictures(frame.head(1), columns)).shape
    return (channels, height, width) if height > 1 else (height * width * channels,)


def _pictures(frame: pl.DataFrame, columns: Sequence[str]) -> Dataset:
    return Dataset.of(frame.select(columns), Roles({"image": tuple(columns)}))


def _pixels(frame: pl.DataFrame, columns: Sequence[str]) -> Floats:
    """The raw pixels, shape (n, pixels), channels last; refused when one is missing."""
    read = pixel_matrix(_pictures(frame, columns))
    bad = int(read.missing.any(axis=1).sum())
    if bad:
        raise DataError(
            f"image column {columns[0]!r}: {bad} of {frame.height} pictures have missing or"
            " infinite pixels",
            code="DP-ENC-001",
            hint="set these rows aside before training",
        )
    return read.values


def standardised(flat: Floats, shape: tuple[int, ...]) -> Floats:
    """Each picture with mean 0 and variance 1, channels first.

    It looks at one picture at a time, so that it neither leaks nor shifts when rows are removed.

    Args:
        flat: float32 of shape (n, pixels), channels last.
        shape: (channels, height, width) or (values,).

    Returns:
        float32 of shape (n, *shape).

    Raises:
        DataError: The pictures have another number of pixels than the shape.

    Example:
        >>> standardised(np.array([[0, 0, 2, 2]], np.float32), (1, 2, 2)).ravel().tolist()
        [-1.0, -1.0, 1.0, 1.0]
    """
    if flat.shape[1] != math.prod(shape):
        raise DataError(
            f"pictures have {flat.shape[1]} values, the model was trained on {math.prod(shape)}",
            code="DP-ENC-002",
            hint="resize the pictures to the size that the model knows",
        )
    spread = flat.std(axis=1, keepdims=True)
    centred = (flat - flat.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-6)
    if len(shape) == 3:
        channels, height, width = shape
        centred = centred.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(centred.reshape(-1, *shape), dtype=np.float32)


def _hashed_words(texts: pl.Series, buckets: int) -> Encoded:
    """Counts of hashed words, damped by a square root, each row of length 1.

    References: Weinberger et al., 2009, Feature hashing for large scale multitask learning.
    """
    if texts.null_count():
        raise DataError(
            f"text column {texts.name!r}: {texts.null_count()} texts are missing",
            code="DP-ENC-001",
            hint="set these rows aside before training",
        )
    words = (
        pl.DataFrame({"word": texts.cast(pl.String).str.to_lowercase().str.extract_all(WORD)})
        .with_row_index("row")
        .explode("word")
        .drop_nulls("word")
    )
    counts = (
        words.join(buckets_of(words["word"], buckets), on="word")
        .group_by("row", "bucket")
        .agg(pl.len().sqrt().alias("count"))
        .sort("row", "bucket")
        .with_columns(pl.col("count") / (pl.col("count") ** 2).sum().sqrt().over("row"))
    )
    lengths = np.bincount(counts["row"].to_numpy(), minlength=len(texts))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = counts["count"].cast(pl.Float32).to_numpy()
    return Encoded((buckets,), None, starts, counts["bucket"].to_numpy().astype(np.int32), values)


def _named(columns: Sequence[str]) -> str:
    return repr(columns[0]) if len(columns) == 1 else f"{columns[0]!r} … {columns[-1]!r}"
