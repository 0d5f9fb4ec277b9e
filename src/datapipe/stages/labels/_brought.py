# SPDX-License-Identifier: Apache-2.0
"""Out-of-fold probabilities that a data set brings along: whose columns they are, and passes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.measure.label_scan import Scan, pruned
from datapipe.measure.label_sources import InMemory, Probabilities, Source, Streamed
from datapipe.measure.noise_floor import streamed_floor
from datapipe.measure.noise_models import FITTED_ROWS, NoiseModel, noise_model
from datapipe.measure.second_opinion import second_opinion, worth_asking
from datapipe.stages.labels._judging import Floats, Ints, Judgement, Labelled

OFF = 1e-5
"""How far the probabilities of a row may be from 1 together before they are brought back to it."""
FAR = 1e-2
"""From here on rows are brought back before the mask too; up to it cleanlab takes them as they are,
and so does the mask."""
HELD_VALUES = 2**22
"""Up to so many probabilities are held in memory; more are read anew for every pass."""
BATCH_VALUES = 2**18
PERMUTED_ROWS = 10
"""Rows a class from which on columns that fit another order of the classes are told."""


def judged_by_columns(
    data: Dataset, rows: Labelled, columns: tuple[str, ...], context: Context
) -> Judgement | str:
    """Judge labels by out-of-fold probabilities that the data set brings along.

    The mask and the joint are the reference's; rows are ranked by the model of label noise under
    which left-out labels are likeliest.
    """
    brought = Brought.of(data, rows, columns)
    checks = brought.checked()
    order = matched(rows, brought)
    given, brought = order.classes, brought.in_order(order.columns)
    if checks.flat:
        return "every row has the same probabilities: they tell nothing of any label"
    mended = brought.source(given, mend=checks.off > 0)
    found = pruned(mended if checks.off == 0 or checks.far else brought.source(given, mend=False))
    if not order.sure:
        _refuse_permuted(given, found.scan, brought.width)
    model, error, weight = _ranked(given, mended, context)
    rival = np.empty(given.size)
    for span, block in mended.blocks():
        others = block.copy()
        others[np.arange(len(block)), given[span]] = -1.0
        rival[span] = others.max(1)
    return Judgement(
        given,
        order.names,
        np.asarray(found.scan.own, np.float64),
        np.maximum(rival, 0.0),
        error,
        found.scan.leading.astype(np.int64),
        found.mask,
        1.0 - float(np.trace(found.joint)) / given.size,
        streamed_floor(mended, found.scan).estimate(),
        {
            "classifier": "given",
            "rows_renormalised": checks.off,
            "noise_model": model.name,
            "second_opinion": weight,
            "noise_model_scores": {n: s.to_json() for n, s in model.scores.items()},
        },
    )


def _ranked(given: Ints, source: Source, context: Context) -> tuple[NoiseModel, Floats, float]:
    """How doubtful each label is, by which model, with what share of a second opinion."""
    if worth_asking(given.size, source.classes):
        p = source.take(np.arange(given.size))
        asked = second_opinion(given, p, context.rng("noise"))
        return asked.model, asked.model.judge(given, asked.probabilities).error, asked.weight
    sample = np.arange(given.size)
    if sample.size > FITTED_ROWS:
        picked = context.rng("sample").choice(sample.size, FITTED_ROWS, replace=False)
        sample = np.sort(picked)
    model = noise_model(given[sample], source.take(sample), context.rng("noise"))
    error = np.empty(given.size)
    for span, block in source.blocks():
        error[span] = model.judge(given[span], block).error
    return model, error, 0.0


@dataclass(frozen=True)
class _Checks:
    """What one pass over the probabilities saw.

    `off` rows do not sum to 1, `far` if by much; `flat`: no row differs from another.
    """

    off: int
    far: bool
    flat: bool


@dataclass(frozen=True, eq=False)
class Brought:
    """Where the probabilities of the judged rows lie."""

    data: Dataset
    columns: tuple[str, ...]
    place: Ints
    width: int

    @classmethod
    def of(cls, data: Dataset, rows: Labelled, columns: tuple[str, ...]) -> Brought:
        try:
            asked = Roles({"image": columns}).resolved(data.names, where="probabilities")
        except SchemaMismatch as error:  # a pattern of names is spelt out as for pixels
            error.message = error.message.removesuffix(" for the role 'image'")
            raise
        named = asked.all("image")
        first = _values(data.scan().select(named).head(1).collect())
        return cls(data, named, rows.place, first.shape[1])

    def in_order(self, columns: tuple[str, ...]) -> Brought:
        """The same with its columns in another order."""
        return replace(self, columns=columns)

    def read(self, *, mend: bool) -> Iterator[Probabilities]:
        """The judged rows' probabilities in order, some rows at a time."""
        start = 0
        for batch in self.data.batches(max(1, BATCH_VALUES // self.width), columns=self.columns):
            stop = start + batch.num_rows
            low, high = np.searchsorted(self.place, (start, stop))
            if high > low:
                frame = pl.DataFrame(pl.from_arrow(batch))
                values = _values(frame, start)
                if values.shape[1] != self.width:
                    raise _ragged(self.columns[0])
                values = values[self.place[low:high] - start]
                yield _mended(values) if mend else values
            start = stop

    def source(self, given: Ints, *, mend: bool) -> Source:
        """The probabilities for passes: in memory where they are few, else read each time."""
        if given.size * self.width <= HELD_VALUES:
            return InMemory(given, np.concatenate(list(self.read(mend=mend))))
        return Streamed(given, self.width, lambda: self.read(mend=mend))

    def checked(self) -> _Checks:
        """Refuse what is no probability; tell what has to be mended."""
        off, far, flat, start = 0, False, True, 0
        first: Any = None
        for block in self.read(mend=False):
            bad = ~(np.isfinite(block).all(1) & (block >= 0).all(1))
            sums = block.sum(1, dtype=np.float64)
            bad |= sums <= 0
            if bad.any():
                raise self._malformed(int(self.place[start + int(bad.argmax())]), int(bad.sum()))
            gap = np.abs(sums - 1.0)
            off += int((gap > OFF).sum())
            far |= bool((gap > FAR).any() or (block > 1.0).any())
            first = block[0] if first is None else first
            flat &= bool((block == first).all())
            start += len(block)
        return _Checks(off, far, flat)

    def _malformed(self, row: int, more: int) -> Malformed:
        name = self.columns[0] if len(self.columns) == 1 else ", ".join(self.columns[:2]) + ", …"
        others = f", and at least {more - 1} more like it" if more > 1 else ""
        return Malformed(
            f"row {row}: the probabilities in {name} are missing, infinite, negative or all zero"
            f"{others}; numbers in [0, 1] that sum to 1 were expected",
            code="DP-DATA-061",
            hint="mend or leave out these rows; for logits, apply a softmax first",
        )


def _mended(values: Probabilities) -> Probabilities:
    made: Probabilities = values / values.sum(1, keepdims=True)
    return made


def _values(frame: pl.DataFrame, start: int = 0) -> Probabilities:
    """Probabilities of one list column, or of one column a class; single precision stays so."""
    if frame.width == 1 and frame.dtypes[0].is_nested():
        return _of_lists(frame.to_series(), start)
    odd = [n for n, kind in frame.schema.items() if not kind.is_numeric()]
    if odd:
        raise SchemaMismatch(
            f"the column {odd[0]!r} is no number", hint="name one list column, or one a class"
        )
    narrow = all(kind in (pl.Float32, pl.Float16) for kind in frame.dtypes)
    kind = pl.Float32 if narrow else pl.Float64
    filled = frame.select(pl.all().cast(kind).fill_null(float("nan")))
    return np.ascontiguousarray(filled.to_numpy())


def _of_lists(values: pl.Series, start: int) -> Probabilities:
    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    if not isinstance(lists.dtype, pl.List) or not lists.dtype.inner.is_numeric():
        raise SchemaMismatch(
            f"the column {values.name!r} holds {values.dtype}, lists of numbers are needed"
        )
    widths = lists.list.len().fill_null(0)
    odd = (widths != widths[0]) | (widths == 0)
    if odd.any():
        raise _ragged(values.name, start + int(odd.arg_max() or 0))
    narrow = lists.dtype.inner in (pl.Float32, pl.Float16)
    flat = lists.explode().cast(pl.Float32 if narrow else pl.Float64)
    return flat.fill_null(float("nan")).to_numpy().reshape(len(values), int(widths[0]))


def _ragged(name: str, row: int | None = None) -> SchemaMismatch:
    where = "" if row is None else f" (see row {row})"
    return SchemaMismatch(
        f"the lists of {name!r} are missing or differ in length{where}",
        hint="give every row one probability a class",
    )


@dataclass(frozen=True, eq=False)
class Matched:
    """Which column each class is: `columns` in the classes' order, `names` of their classes.

    `sure` where every column carries the name of a class that is there.
    """

    classes: Ints
    names: tuple[str, ...]
    columns: tuple[str, ...]
    sure: bool = False


def matched(rows: Labelled, brought: Brought) -> Matched:
    """Columns that are named after the classes are taken by name, in whatever order they stand.

    Otherwise a class that is a number is the column of that number, and as many columns as classes
    are those of the sorted classes.
    """
    width, columns = brought.width, brought.columns
    numbers = [_whole(name) for name in rows.names]
    plain = [n if k is None else str(k) for n, k in zip(rows.names, numbers, strict=True)]
    cores = _cores(plain, columns) if width == len(columns) > 1 else None
    if cores is not None:
        classes, named = cores
        order = sorted(range(width), key=lambda k: (_whole(named[k]) or 0, named[k]))
        place = np.array([[named[k] for k in order].index(c) for c in classes], np.int64)
        own = dict(zip(place.tolist(), rows.names, strict=True))
        names = tuple(own.get(i, named[k]) for i, k in enumerate(order))
        moved = tuple(columns[k] for k in order)
        return Matched(place[rows.classes], names, moved, len(rows.names) == width)
    if all(k is not None and k < width for k in numbers):
        place = np.array(numbers, np.int64)
        own = dict(zip(place.tolist(), rows.names, strict=True))
        names = tuple(own.get(k, str(k)) for k in range(width))
        return Matched(place[rows.classes], names, columns)
    if width != len(rows.names):
        raise SchemaMismatch(
            f"there are {width} columns of probabilities for {len(rows.names)} classes",
            hint="give one column a class, named after it, or in the order of the sorted classes",
        )
    return Matched(rows.classes, rows.names, columns)


def _whole(name: str) -> int | None:
    """The number that a class is, `3` and `3.0` alike."""
    match = re.fullmatch(r"(\d+)(\.0+)?", name)
    return int(match[1]) if match else None


def _cores(classes: list[str], columns: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """The classes, and the columns' names without the words that all of them share.

    None where some class has no column of its name.
    """
    head, tail = _shared(columns), _shared([c[::-1] for c in columns])
    for cut in range(head, -1, -1):
        for end in range(tail, -1, -1):
            cores = [c[cut : len(c) - end] for c in columns]
            if set(classes) <= set(cores):
                return classes, cores
    numbered = _endings(classes), _endings(columns)  # classes c0, c1, … in columns p0, p1, …
    return numbered if numbered[0] and set(numbered[0]) <= set(numbered[1]) else None


def _shared(texts: Sequence[str]) -> int:
    """How many first letters all texts have in common."""
    first, last = min(texts), max(texts)
    same = [a == b for a, b in zip(first, last, strict=False)]
    return same.index(False) if False in same else len(same)


def _endings(texts: Sequence[str]) -> list[str]:
    """The numbers that texts end in; empty where one has none or the words before differ."""
    parts = [re.fullmatch(r"(.*?)(\d+)", t) for t in texts]
    if not all(parts) or len({p[1] for p in parts if p}) != 1:
        return []
    return [str(int(p[2])) for p in parts if p]


def _refuse_permuted(given: Ints, scan: Scan, width: int) -> None:
    """Refuse columns that stand in another order than the classes: all labels would look wrong."""
    seen = np.bincount(scan.leading.astype(np.int64) * width + given, minlength=width * width)
    table = seen.reshape(width, width)
    agrees, could = int(np.trace(table)), int(table.max(1).sum())
    present = int((table.sum(0) > 0).sum())
    if given.size >= PERMUTED_ROWS * present and could >= given.size / 2 and agrees < could / 2:
        raise SchemaMismatch(
            f"the likeliest column is the label's own in {agrees / given.size:.0%} of the rows, and"
            f" would be in {could / given.size:.0%} if the columns stood in another order",
            code="DP-DATA-062",
            hint="give one column a class, named after it: then their order does not matter",
        )
