# SPDX-License-Identifier: Apache-2.0
"""What is looked at: the rows as they came, and each different image in the ways it is asked in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.features.images import pixel_matrix
from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.pixels import Columns, Pixels, embedded
from datapipe.stages.poisoning._image.places import LINES, SIDES, Places
from datapipe.stages.poisoning._image.refined import Trigger
from datapipe.stages.poisoning._image.squares import Squares, squares_test
from datapipe.stages.poisoning._image.textures import textures, tones
from datapipe.stages.poisoning._image.windows import looks_like_pictures, recurring


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows looked at: class numbers and names, pixels and ids.

    Copies of an image under one label are looked at once: `heads` are the rows that stand for them
    and `head_of` says which stands for each row. `step` is what a pixel has more by each unit.
    """

    labels: NDArray[np.int64]
    names: tuple[str, ...]
    pixels: Pixels
    step: float
    shape: tuple[int, int, int]
    row_ids: pl.Series
    columns: tuple[str, ...]
    heads: NDArray[np.int64]
    head_of: NDArray[np.int64]

    @classmethod
    def of(cls, data: Dataset) -> Rows:
        found = pixel_matrix(data)
        named = data.values("label")
        whole = named.is_not_null().to_numpy()
        if found.holes is not None:
            whole &= ~found.holes.all(axis=1)
        place = np.flatnonzero(whole)
        kept = named.gather(place)
        classes = kept.unique().sort()
        numbers = kept.replace_strict(classes, np.arange(len(classes)), return_dtype=pl.Int64)
        return cls(
            numbers.to_numpy(),
            tuple(str(v) for v in classes),
            Pixels(found.stored).only(place),
            found.step,
            found.shape,
            data.row_ids.gather(place),
            (*data.roles.all("image")[:1], data.roles.one("label")),
            np.arange(place.size),
            np.arange(place.size),
        )

    def distinct(self, first: NDArray[np.int64]) -> Rows:
        """With copies told apart no more: `first` is the first row that equals each."""
        key = first * len(self.names) + self.labels
        order = np.argsort(key, kind="stable")
        new = np.ones(order.size, bool)
        new[1:] = key[order[1:]] != key[order[:-1]]
        head = np.empty(order.size, np.int64)
        head[order] = order[new][np.cumsum(new) - 1]
        heads = np.flatnonzero(head == np.arange(head.size))
        return replace(
            self,
            pixels=self.pixels.only(heads),
            heads=heads,
            head_of=np.searchsorted(heads, head),
        )


@dataclass(frozen=True, eq=False)
class Look:
    """The different images: columns that the filters see, and the pixels as they are."""

    values: Pixels
    pixels: Pixels
    shape: tuple[int, int, int]
    pictures: bool
    embedded: bool
    columns: Columns
    places: list[Places]
    squares: Squares

    @classmethod
    def of(cls, rows: Rows, columns: Columns) -> Look:
        pictures = looks_like_pictures(rows.pixels, rows.shape)
        among = not pictures and embedded(rows.pixels)
        values = columns.of(rows.pixels)
        sides = [side for side in SIDES if pictures or side != LINES]
        places = [Places(rows.pixels, rows.shape, side) for side in sides]
        squares = Squares(rows.pixels, rows.shape)
        return cls(values, rows.pixels, rows.shape, pictures, among, columns, places, squares)

    @cached_property
    def views(self) -> list[Pixels]:
        """What does not depend on places, or where pixels have none, on their order."""
        if self.embedded:
            return []
        return list(textures(self.pixels, self.shape) if self.pictures else tones(self.pixels))

    def forget(self) -> None:
        """Let go of the views, which take as much as the pixels in bytes."""
        self.__dict__.pop("views", None)

    def moving(self, content: Content, times: int) -> list[Trigger]:
        """Patches that may lie anywhere, most telling first; none where rows are no pictures.

        P-values are corrected for so many tests.
        """
        if not self.pictures:
            return []
        windows = recurring(self.pixels, self.shape, content)
        made = [Trigger.of(one.evidence(content, times)) for one in windows]
        made.extend(squares_test(content, self.squares, times))
        return sorted(made, key=lambda t: t.evidence.p_value)
