# SPDX-License-Identifier: Apache-2.0
"""Columns of boxes: lists of `{label, box}` and, where predicted, `score`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from datapipe.errors import Malformed, SchemaMismatch
from datapipe.measure.box_issues import Boxes, BoxIssues
from datapipe.stages.labels._judging import Bools, Floats, Ints

FOUND = ("label", "box", "score")
"""What a predicted box holds."""
SIDES = 4


@dataclass(frozen=True, eq=False)
class Column:
    """The boxes of a column, one after the other: whose they are, and their classes by name."""

    image: Ints
    names: pl.Series
    corners: Floats
    score: Floats


def boxes_of(values: pl.Series, place: Ints, fields: tuple[str, ...]) -> Column:
    """Take a column of lists of boxes apart; what is missing or no box is refused with its row."""
    inner = values.dtype.inner if isinstance(values.dtype, pl.List) else None
    held = {f.name: f.dtype for f in inner.fields} if isinstance(inner, pl.Struct) else {}
    if not all(f in held for f in fields) or not isinstance(held.get("box"), pl.List | pl.Array):
        raise SchemaMismatch(
            f"the column {values.name!r} holds {values.dtype}, lists of boxes are needed",
            hint=f"give each box as {{{', '.join(fields)}}}, its box as [x1, y1, x2, y2]",
        )
    if values.null_count():
        row = int(place[int(values.is_null().arg_max() or 0)])
        raise _odd(row, f"the list of {values.name!r} is missing")
    image = np.repeat(np.arange(len(values)), values.list.len().to_numpy()).astype(np.int64)
    each = values.filter(values.list.len() > 0).explode()
    frame = each.struct.unnest() if each.len() else pl.DataFrame(schema=held)
    box = frame["box"]
    box = box.arr.to_list() if isinstance(box.dtype, pl.Array) else box
    whole = (box.list.len() == SIDES).fill_null(value=False) & frame["label"].is_not_null()
    if not whole.all():
        row = int(place[image[int((~whole).arg_max() or 0)]])
        raise _odd(row, "a box has no label or not four corners")
    flat = box.list.explode() if each.len() else pl.Series([], dtype=pl.Float64)
    corners = _numbers(flat).reshape(-1, SIDES)
    score = _numbers(frame["score"]) if "score" in fields else np.ones(image.size)
    wrong = ~np.isfinite(corners).all(1) | (corners[:, 2:] < corners[:, :2]).any(1)
    wrong |= ~((score >= 0) & (score <= 1))
    if wrong.any():
        said = "a box ends before it begins, a corner is missing, or a score lies outside [0, 1]"
        raise _odd(int(place[image[int(wrong.argmax())]]), said)
    return Column(image, frame["label"].cast(pl.String), corners, score)


def _numbers(values: pl.Series) -> Floats:
    made: Floats = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return made


def _odd(row: int, said: str) -> Malformed:
    return Malformed(
        f"row {row}: {said}",
        code="DP-DATA-065",
        hint="give corners as [x1, y1, x2, y2], an empty list to an image without boxes",
    )


def in_classes(given: Column, found: Column) -> tuple[Boxes, Boxes, list[str]]:
    """Both columns with the classes numbered, and the classes' names."""
    names = pl.concat([given.names, found.names]).unique().sort()
    made = [
        Boxes(
            c.image,
            c.names.replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64).to_numpy(),
            c.corners,
            c.score,
        )
        for c in (given, found)
    ]
    return made[0], made[1], names.to_list()


def box_reasons(
    given: Boxes, found: Boxes, names: list[str], made: BoxIssues
) -> Iterator[tuple[int, float, str]]:
    """Image, quality and words of every issue."""

    def numbers(boxes: Boxes, flags: Bools) -> Iterator[tuple[int, int, int]]:
        first = np.searchsorted(boxes.image, boxes.image)
        for i in np.flatnonzero(flags).tolist():
            yield i, int(boxes.image[i]), int(i - first[i])

    for i, image, nth in numbers(given, made.is_swapped):
        kind, likely = names[given.kind[i]], names[made.likely[i]]
        instead = f", {likely} likely" if likely != kind else ", and another class on the same box"
        yield image, float(made.classed[i]), f"box {nth}: {kind} given{instead}"
    for i, image, nth in numbers(given, made.is_badly_located):
        told = f"box {nth}: {names[given.kind[i]]} badly located"
        yield image, float(made.located[i]), told
    for i, image, _ in numbers(found, made.is_overlooked):
        corners = ", ".join(f"{x:g}" for x in found.corners[i].round(1))
        told = f"overlooked: {names[found.kind[i]]} at [{corners}]"
        yield image, float(made.overlooked[i]), told
