# SPDX-License-Identifier: Apache-2.0
"""Plain squares of one value, anywhere in images of one label: thick strokes hold few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.levels import LEAST_HITS, MOST_NATURAL
from datapipe.stages.poisoning._image.matched_filter import SPREAD_OUT, Evidence
from datapipe.stages.poisoning._image.pixels import Pixels, some
from datapipe.stages.poisoning._image.places import codes_of
from datapipe.stages.poisoning._image.refined import Trigger

Ints = NDArray[np.int64]
Codes = NDArray[np.uint64]
Bools = NDArray[np.bool_]

SQUARE = "square, anywhere"
LEAST_SIDE, MOST_SIDE = 3, 8
FEWEST_KINDS = 3
"""Different things that rows which share a square must show."""
INFLATED = 3.0
"""How much likelier than any row that shows the same a row with a square is a suspect by nature:
neighbours are less sure of thick strokes."""
OWN = 0.02
"""Chance beyond which rows of a label with a square are doubted as often as its others are."""
COMMONEST = 0.25
"""Squares in more of the rows than this are background."""
SELDOM = 0.01
"""Values of which squares are in at most this share of the rows are asked together as well: those
of a patch may be other ones on each row.
"""
ASKED = 200
"""Rows, evenly spread, that tell the value of the background."""
UNTOLD = 0.1
"""Which rows hold squares that tell less than this is not asked."""


@dataclass(frozen=True, eq=False)
class Squares:
    """Every square of one value but the background's: its side, at least 3, and that value.

    A larger square holds the smaller ones.
    """

    pixels: Pixels
    shape: tuple[int, int, int]

    @cached_property
    def held(self) -> list[Ints]:
        """The rows that hold each different square, of those that enough rows hold to tell.

        Behind them those that hold one of any value that is seldom, one side after the other.
        """
        found = list(self._found())
        if not found:
            return []
        rows, sides, codes = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.lexsort((rows, codes, sides))
        rows, sides, codes = rows[order], sides[order], codes[order]
        edges = np.flatnonzero((sides[1:] != sides[:-1]) | (codes[1:] != codes[:-1])) + 1
        parts = np.split(rows, edges)
        size = np.diff(edges, prepend=0, append=rows.size)
        seldom = np.repeat(size <= max(LEAST_HITS, SELDOM * len(self.pixels)), size)
        pooled = [np.unique(rows[seldom & (sides == side)]) for side in np.unique(sides)]
        return [p for p in parts + pooled if LEAST_HITS <= p.size <= COMMONEST * len(self.pixels)]

    def told(self, content: Content, label: int, times: int) -> Trigger:
        """The square that suspects of a label hold most beyond what they are of its rows by nature.

        Were it no trigger, each row that holds it would be such a suspect about as often as any
        row that shows the same. A binomial of the mean rate has no lighter tail than draws of
        unequal rates (Hoeffding, 1956). Corrected for all squares and as many tests as told; -1 for
        suspects of any label, none of which may have most of them.
        """
        mine = content.suspect & ((content.labels == label) if label >= 0 else True)
        shown = np.bincount(content.shows[content.left], minlength=content.classes)
        hit = np.bincount(content.shows[mine], minlength=content.classes)
        rates = np.minimum(INFLATED * hit / np.maximum(shown, 1), MOST_NATURAL)
        none = np.empty(0, np.int64)
        best, all_holding = Evidence(label, 0, int(mine.sum()), 1.0, none, SQUARE, content), none
        for every in self.held if best.looked_at >= LEAST_HITS else []:
            holding = every[content.left[every]]
            rows = holding[mine[holding]]
            if rows.size < LEAST_HITS or _one_sided(content, rows, label):
                continue
            rate = float(rates[content.shows[holding]].mean())
            p_value = binomial_tail(rows.size, holding.size, rate)
            if label >= 0 and _as_doubted(content, label, holding, mine) > OWN:
                continue
            if p_value < best.p_value:
                best = replace(best, hits=rows.size, p_value=p_value)
                all_holding = holding
        p_value = min(1.0, best.p_value * max(len(self.held), 1) * times)
        return _carried(replace(best, p_value=p_value), all_holding)

    def _found(self) -> Iterator[tuple[Ints, Ints, Codes]]:
        """Rows, sides and values, block by block: a square is four of the next smaller side."""
        for mine, block in self.pixels.blocks():
            code = codes_of(block.reshape(mine.size, *self.shape))
            first, *others = _corners(code)
            flat = first != self._background
            for one in others:
                flat &= first == one
            for side in range(LEAST_SIDE, min(MOST_SIDE, *self.shape[:2]) + 1):
                flat = np.logical_and.reduce(_corners(flat))
                row, down, across = np.nonzero(flat)
                if not row.size:
                    break
                key = np.stack([row.astype(np.uint64), code[row, down, across]])
                rows, codes = np.unique(key, axis=1)
                yield mine[rows.astype(np.int64)], np.full(rows.size, side), codes

    @cached_property
    def _background(self) -> np.uint64:
        rows = some(np.arange(len(self.pixels)), ASKED)
        part = codes_of(self.pixels.take(rows).reshape(rows.size, *self.shape))
        values, counts = np.unique(part, return_counts=True)
        return np.uint64(values[counts.argmax()])


def squares_test(content: Content, squares: Squares, times: int) -> list[Trigger]:
    """For each label, and all: do suspects hold a plain square oftener than nature has it?

    P-values are corrected for so many tests, and for all labels.
    """
    labels = range(-1, content.classes)
    return [squares.told(content, label, times * len(labels)) for label in labels]


def _one_sided(content: Content, rows: Ints, label: int) -> bool:
    """Whether rows show too few things, or of rows of any label most have one."""
    if np.unique(content.shows[rows]).size < min(FEWEST_KINDS, content.classes - 1):
        return True
    return label < 0 and bool(np.bincount(content.labels[rows]).max() > SPREAD_OUT * rows.size)


def _as_doubted(content: Content, label: int, holding: Ints, suspect: Bools) -> float:
    """Chance that rows of a label with a square are suspects as often as its others are.

    Where the class itself has the square, as one that is so bright that light is cut off, those of
    its rows that neighbours mistake have it, too.
    """
    held = np.zeros(suspect.size, bool)
    held[holding] = True
    own = (content.labels == label) & content.left
    rest, doubted = int((own & ~held).sum()), int((suspect & ~held).sum())
    rate = min(INFLATED * (doubted + 1) / (rest + 2), MOST_NATURAL)
    return binomial_tail(int((suspect & held).sum()), int((own & held).sum()), rate)


def _corners(part: NDArray[Any]) -> list[NDArray[Any]]:
    """Each place of images (n, height, width), and what lies right of it, below it and both."""
    high, wide = part.shape[1] - 1, part.shape[2] - 1
    return [part[:, i : high + i, j : wide + j] for i in (0, 1) for j in (0, 1)]


def _carried(evidence: Evidence, holding: Ints) -> Trigger:
    """The rows with a square that carry the label for it; the others of the label rank below them.

    Genuine rows of the label carry it where twice as many as of other labels hold the square, for
    then neighbours that hold it, too, vouch for their label.
    """
    content, label = evidence.view, evidence.label
    held = np.zeros(content.labels.size, bool)
    if evidence.p_value < UNTOLD:
        held[holding] = True
    own = content.labels == label if label >= 0 else content.labels != content.shows
    others, genuine = content.genuine & ~own, content.genuine & own
    natural = float(held[others].mean()) if others.any() else 1.0
    vouched = (held & genuine).sum() > 2.0 * natural * genuine.sum() + LEAST_HITS
    rows = np.flatnonzero(held & own & (vouched | ~content.genuine))
    scores = np.where(held & own, -np.log(max(evidence.p_value, 1e-300)), 0.0)
    return Trigger(label, replace(evidence, rows=rows), rows, scores)
