# SPDX-License-Identifier: Apache-2.0
"""Image columns into one matrix of pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.errors import SchemaMismatch

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

TONES = 256
"""Pixels of so many tones, evenly spaced, are kept as bytes."""
ENCODED = {"PNG": b"\x89PNG\r\n", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "WebP": b"RIFF"}
"""How files of pictures start."""
BLOCK_BYTES = 2**18
"""About what is read at once."""
ASKED = 20_000
"""Pixels whose tones tell the step between two."""


@dataclass(frozen=True, eq=False)
class PixelMatrix:
    """One row of pixels per image.

    Pixels of at most 256 evenly spaced tones, as in nearly all pictures, are kept as the numbers of
    their tones: a byte each, to the letter.

    Args:
        stored: uint8 numbers of tones, or float32 pixels; shape (n, d).
        shape: (height, width, channels) with height * width * channels = d. Guessed from d: a
            square, a square of three channels, else one line; no method may rely on it.
        holes: bool, shape (n, d), True where a pixel was null or NaN; None where none was. Such
            pixels hold their column's mean.
        tones: float32, shape (256,), the pixel of each number; None where pixels are stored.

    Example:
        >>> made = PixelMatrix(np.ones((2, 4), np.uint8), (2, 2, 1), None, np.arange(256) / 255)
        >>> round(float(made.values[0, 0]), 4), made.missing.any()
        (0.0039, np.False_)
    """

    stored: Floats | Codes
    shape: tuple[int, int, int]
    holes: NDArray[np.bool_] | None = None
    tones: Floats | None = None

    @property
    def values(self) -> Floats:
        """All pixels, in an array of their own: float32, shape (n, d)."""
        return np.array(self.stored if self.tones is None else self.tones[self.stored], np.float32)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where a pixel was null or NaN: bool, shape (n, d)."""
        return np.zeros(self.stored.shape, bool) if self.holes is None else self.holes

    @property
    def step(self) -> float:
        """How much brighter a pixel is by when what is stored is larger by one."""
        return 1.0 if self.tones is None else float(self.tones[-1] - self.tones[0]) / (TONES - 1)


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
    width = _width(frame)
    coded = _coded(frame, width)
    if coded is not None:
        return PixelMatrix(coded[0], image_shape(width), None, coded[1])
    values = _pixels(frame, width)
    missing = ~np.isfinite(values)
    if not missing.any():
        return PixelMatrix(values, image_shape(width))
    return PixelMatrix(_filled(values, missing), image_shape(width), missing)


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


def _coded(frame: pl.DataFrame, width: int) -> tuple[Codes, Floats] | None:
    """The number of each pixel's tone, and the tones; None where that loses anything."""
    made = np.empty((frame.height, width), np.uint8)
    tones: _Tones | None = None
    for start, block in _blocks(frame, width):
        tones = tones or _Tones.of(block)
        if tones is None or not tones.put(block, made[start : start + len(block)]):
            return None
    return (made, tones.whole()) if tones is not None else None


@dataclass(eq=False)
class _Tones:
    """Evenly spaced tones, as far as they were met."""

    low: np.float32
    step: np.float32
    known: Floats

    @classmethod
    def of(cls, block: Floats) -> _Tones | None:
        """What some pixels tell of the tones; None where they are not evenly spaced."""
        if not block.size or not np.isfinite(low := block.min()):
            return None
        some = np.unique(block.ravel()[:: max(1, block.size // ASKED)])
        apart = np.diff(some)
        step = np.float32(apart.min() if apart.size else 1.0)
        if some[-1] - low > (TONES - 0.5) * step:
            return None
        return cls(low, step, np.full(TONES, np.nan, np.float32))

    def put(self, block: Floats, out: Codes) -> bool:
        """Write the numbers of some pixels; False where one is no tone to the letter."""
        place = block - self.low
        place /= self.step
        np.rint(place, out=place)
        if not (place.min() >= 0 and place.max() < TONES):  # also where one is missing
            return False
        out[...] = place
        strange = self.known[out] != block
        if strange.any():
            number, value = out[strange], block[strange]
            new = np.isnan(self.known[number])
            self.known[number[new]] = value[new]
            return bool((self.known[number] == value).all())
        return True

    def whole(self) -> Floats:
        """All tones, those not met in their places between the others."""
        even = self.low + self.step * np.arange(TONES, dtype=np.float32)
        return np.where(np.isnan(self.known), even, self.known).astype(np.float32)


def _blocks(frame: pl.DataFrame, width: int) -> Iterator[tuple[int, Floats]]:
    rows = max(1, BLOCK_BYTES // (4 * max(1, width)))
    for start in range(0, frame.height, rows):
        yield start, _pixels(frame.slice(start, rows), width)


def _width(frame: pl.DataFrame) -> int:
    """How many pixels each image has."""
    dtype = frame.dtypes[0]
    if frame.width > 1 or not isinstance(dtype, pl.List | pl.Array | pl.Binary):
        bad = [n for n, t in frame.schema.items() if not (t.is_numeric() or t == pl.Boolean)]
        if bad:
            raise SchemaMismatch(
                f"the image column {bad[0]!r} has the type {frame.schema[bad[0]]}: it holds no"
                " pixels",
                hint="give lists of numbers, bytes of one size, or one numeric column per pixel",
            )
        return frame.width
    column = frame.to_series()
    if isinstance(dtype, pl.Binary):
        _refuse_encoded(column)
        return _one_size(column.bin.size(), column.name)
    inner = dtype.inner
    while isinstance(dtype, pl.Array) and isinstance(inner, pl.Array):
        inner = inner.inner
    if inner is None or not inner.is_numeric():
        raise SchemaMismatch(
            f"the image column {column.name!r} holds lists of {inner}",
            hint="give flat lists of numbers",
        )
    if isinstance(dtype, pl.Array):
        return math.prod(dtype.shape)
    return _one_size(column.list.len(), column.name)


def _refuse_encoded(column: pl.Series) -> None:
    """Refuse files of pictures: their bytes are no pixels, even where all are of one size."""
    for kind, start in ENCODED.items():
        if 2 * int(column.bin.starts_with(start).sum()) > len(column):
            raise SchemaMismatch(
                f"the image column {column.name!r} holds {kind} files, which are not decoded",
                hint="decode the images to pixels of one size first, or give embeddings",
            )


def _pixels(frame: pl.DataFrame, width: int) -> Floats:
    """Some images, missing pixels as NaN: shape (n, width); a view of the frame where it can be."""
    dtype = frame.dtypes[0]
    if frame.width > 1 or not isinstance(dtype, pl.List | pl.Array | pl.Binary):
        made = frame.select(pl.all().cast(pl.Float32)).to_numpy()
        return np.asarray(made, np.float32).reshape(frame.height, width)
    column = frame.to_series()
    there = column.is_not_null().to_numpy()
    flat = _flat(column.drop_nulls())
    if there.all():
        return flat.reshape(-1, width) if width else np.empty((len(column), 0), np.float32)
    values = np.full((len(column), width), np.nan, np.float32)
    if width:
        values[there] = flat.reshape(-1, width)
    return values


def _flat(column: pl.Series) -> Floats:
    """The pixels of images one after the other."""
    if column.dtype == pl.Binary:
        return np.frombuffer(b"".join(column.to_list()), np.uint8).astype(np.float32)
    if not len(column):
        return np.empty(0, np.float32)
    numbers = column.reshape((-1,)) if isinstance(column.dtype, pl.Array) else column.explode()
    return np.asarray(numbers.cast(pl.Float32).to_numpy(), np.float32)


def _one_size(sizes: pl.Series, name: str) -> int:
    found = sizes.drop_nulls().unique()
    if len(found) > 1:
        raise SchemaMismatch(
            f"the image column {name!r} holds images of {len(found)} sizes"
            f" ({min(found.to_list())} to {max(found.to_list())} values)",
            hint="decode and resize the images to one size first",
        )
    return int(found.item()) if len(found) else 0


def _filled(values: Floats, missing: NDArray[np.bool_]) -> Floats:
    """Missing pixels take their column's mean, so that they speak for nothing."""
    clean = np.where(missing, 0.0, values)
    means = clean.sum(0) / np.maximum((~missing).sum(0), 1)
    return np.where(missing, means, values).astype(np.float32)
