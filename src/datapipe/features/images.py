# SPDX-License-Identifier: Apache-2.0
"""Image columns into one matrix of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.errors import SchemaMismatch


@dataclass(frozen=True, eq=False)
class PixelMatrix:
    """One row of pixels per image.

    Args:
        values: float32, shape (n, d); missing pixels hold their column's mean.
        shape: (height, width, channels) with height * width * channels = d. Guessed from d: a
            square, a square of three channels, else one line; no method may rely on it.
        missing: bool, shape (n, d); True where a pixel was null or NaN.

    Example:
        >>> PixelMatrix(np.zeros((2, 4), np.float32), (2, 2, 1), np.zeros((2, 4), bool)).shape
        (2, 2, 1)
    """

    values: NDArray[np.float32]
    shape: tuple[int, int, int]
    missing: NDArray[np.bool_]


def pixel_matrix(data: Dataset) -> PixelMatrix:
    """The pixels of the columns that play the role `image`.

    Fixed and variable lists, binary columns of uint8 pixels and one column per pixel give the same
    matrix, so that no detector needs to know how a file stores its images.

    Args:
        data: Rows with the role `image`.

    Returns:
        The pixels, in row order.

    Raises:
        SchemaMismatch: The column holds no pixels, or images of different sizes.

    Example:
        >>> import pyarrow as pa
        >>> from datapipe.core.roles import Roles
        >>> table = pa.table({"x": [[0.0, 1.0, 2.0, 3.0], [4.0, None, 6.0, 7.0]]})
        >>> found = pixel_matrix(Dataset.of(table, Roles.of(image="x")))
        >>> found.values.shape, found.shape, int(found.missing.sum())
        ((2, 4), (2, 2, 1), 1)
    """
    columns = data.roles.all("image") or (data.roles.one("image"),)
    frame = data.frame(columns)
    if len(columns) > 1:
        values = _of_columns(frame)
    elif isinstance(frame.dtypes[0], pl.List | pl.Array):
        values = _of_lists(frame.to_series())
    elif frame.dtypes[0] == pl.Binary:
        values = _of_bytes(frame.to_series())
    else:
        values = _of_columns(frame)
    missing = ~np.isfinite(values)
    return PixelMatrix(_filled(values, missing), image_shape(values.shape[1]), missing)


def image_shape(pixels: int) -> tuple[int, int, int]:
    """The likeliest shape of an image with this many values.

    Args:
        pixels: How many values an image has, >= 0.

    Returns:
        (height, width, channels): a square, a square of three channels, else one line.

    Example:
        >>> image_shape(64), image_shape(3072), image_shape(10)
        ((8, 8, 1), (32, 32, 3), (1, 10, 1))
    """
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if pixels and side * side * channels == pixels:
            return side, side, channels
    return 1, pixels, 1


def _of_columns(frame: pl.DataFrame) -> NDArray[np.float32]:
    bad = [n for n, t in frame.schema.items() if not (t.is_numeric() or t == pl.Boolean)]
    if bad:
        raise SchemaMismatch(
            f"the image column {bad[0]!r} has the type {frame.schema[bad[0]]}: it holds no pixels",
            hint="give lists of numbers, bytes of one size, or one numeric column per pixel",
        )
    return (
        frame.select(pl.all().cast(pl.Float32))
        .to_numpy()
        .astype(np.float32)
        .reshape(frame.height, frame.width)
    )


def _of_lists(column: pl.Series) -> NDArray[np.float32]:
    while isinstance(column.dtype, pl.Array) and len(column.dtype.shape) > 1:
        column = column.reshape((len(column), math.prod(column.dtype.shape)))
    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    inner = lists.dtype.inner if isinstance(lists.dtype, pl.List) else None
    if inner is None or not inner.is_numeric():
        raise SchemaMismatch(
            f"the image column {column.name!r} holds lists of {inner}",
            hint="give flat lists of numbers",
        )
    width = _one_size(lists.list.len(), column.name)
    values = np.full((len(column), width), np.nan, np.float32)
    there = lists.is_not_null().to_numpy()
    if width and there.any():
        flat = lists.drop_nulls().explode().cast(pl.Float32).to_numpy()
        values[there] = flat.reshape(-1, width)
    return values


def _of_bytes(column: pl.Series) -> NDArray[np.float32]:
    width = _one_size(column.bin.size(), column.name)
    values = np.full((len(column), width), np.nan, np.float32)
    there = column.is_not_null().to_numpy()
    raw = b"".join(column.drop_nulls().to_list())
    values[there] = np.frombuffer(raw, np.uint8).reshape(-1, width) if width else 0.0
    return values


def _one_size(sizes: pl.Series, name: str) -> int:
    found = sizes.drop_nulls().unique()
    if len(found) > 1:
        raise SchemaMismatch(
            f"the image column {name!r} holds images of {len(found)} sizes"
            f" ({min(found.to_list())} to {max(found.to_list())} values)",
            hint="decode and resize the images to one size first",
        )
    return int(found.item()) if len(found) else 0


def _filled(values: NDArray[np.float32], missing: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Missing pixels take their column's mean, so that they speak for nothing."""
    if not missing.any():
        return values
    clean = np.where(missing, 0.0, values)
    means = clean.sum(0) / np.maximum((~missing).sum(0), 1)
    return np.where(missing, means, values).astype(np.float32)
