# SPDX-License-Identifier: Apache-2.0
"""Small windows that a few wrongly labelled rows hold to the letter at one place, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._content import Content
from datapipe.stages.poisoning._matched_filter import LEAST_HITS, MOST_NATURAL, SPREAD_OUT, Evidence
from datapipe.stages.poisoning._pixels import Pixels, Thin, some

Ints = NDArray[np.int64]
Codes = NDArray[np.uint64]

PLACE = "stamp, one place"
SIDES = (3, 2)
"""Sides of windows: the larger are rarer by nature, the smaller hold the smallest patches."""
FEWEST_KINDS = 3
"""Different things that rows which share a window must show: two copies of one image share all."""
RARE = 0.05
"""Windows in more of the rows than this are background, or more than a few rows hold them."""
INFLATED = 2.0
"""How much likelier than any row one with a rare window is a suspect by nature."""
LOOKED_AT = 16
"""Places, evenly spread, that tell how many windows recur."""
BEFORE = 400
"""Rows, evenly spread, that tell which windows are no rare ones."""
UNTOLD = 0.1
"""Windows that cannot tell more than this, corrected for all that recur, are not looked for."""
AT_ONCE = 64
"""Places looked at together."""
MIXER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Places:
    """Windows of one size, each at its place and to the letter; none where rows are lines.

    Where pixels were shuffled they are any few, which a patch seldom fills.
    """

    pixels: Pixels
    shape: tuple[int, int, int]
    side: int
    like: Places | None = None
    """Those of data of which few rows are others: as many windows recur."""

    @cached_property
    def cells(self) -> Ints:
        """The columns of each window, shape (places, pixels of one)."""
        height, width, _ = self.shape
        side = self.side
        number = np.arange(self.pixels.shape[1]).reshape(self.shape)
        made = [
            number[i : i + side, j : j + side].ravel()
            for i in range(height - side + 1)
            for j in range(width - side + 1)
        ]
        return np.array(made, np.int64) if made else np.empty((0, 0), np.int64)

    @cached_property
    def recurring(self) -> float:
        """About how many different windows as many rows hold as may be evidence."""
        if self.like is not None:
            return self.like.recurring
        asked = some(np.arange(len(self.cells)), LOOKED_AT)
        every, most = np.arange(len(self.pixels)), RARE * len(self.pixels)
        found = 0
        for place in asked:
            codes = np.sort(_codes(self.pixels.cells(every, self.cells[place])))
            edges = np.flatnonzero(codes[1:] != codes[:-1]) + 1
            held = np.diff(np.concatenate([[0], edges, [codes.size]]))
            found += int(((held >= LEAST_HITS) & (held <= most)).sum())
        return max(found, 1) * len(self.cells) / asked.size

    @cached_property
    def _before(self) -> Codes:
        if self.like is not None:
            return self.like._before  # noqa: SLF001 - one of our own
        rows = some(np.arange(len(self.pixels)), BEFORE)
        return _at(_mixed(self.pixels.take(rows)), self.cells)

    def evidence(self, content: Content, label: int) -> Evidence:
        """The window of which the fewest rows but suspects of a label hold it.

        Were it no trigger, each row that holds it would be such a suspect about as often as any
        row. Corrected for all windows that recur. -1 for suspects of any label, none of which may
        have most of them.
        """
        every = label < 0
        suspects = np.flatnonzero(content.suspect) if every else content.suspects(label)
        best = Evidence(label, 0, suspects.size, 1.0, suspects[:0], PLACE, content)
        if suspects.size < LEAST_HITS or not len(self.cells):
            return best
        rate = min(INFLATED * suspects.size / max(int(content.left.sum()), 1), MOST_NATURAL)
        left = np.flatnonzero(content.left)
        for place, rows in self._shared(suspects, self._fewest(rate)):
            if every and np.bincount(content.labels[rows]).max() > SPREAD_OUT * rows.size:
                continue
            if np.unique(content.shows[rows]).size < min(FEWEST_KINDS, content.classes - 1):
                continue
            window = self.pixels.cells(rows[:1], self.cells[place])
            holding = int((self.pixels.cells(left, self.cells[place]) == window).all(1).sum())
            if holding > RARE * left.size:
                continue
            p_value = binomial_tail(rows.size, holding, rate)
            if p_value < best.p_value:
                best = replace(best, hits=rows.size, looked_at=holding, p_value=p_value, rows=rows)
        if best.p_value < 1.0:
            return replace(best, p_value=min(1.0, best.p_value * self.recurring))
        return best

    def _fewest(self, rate: float) -> int:
        """The fewest rows of which a window may be evidence, were there no others that hold it."""
        enough = np.log(UNTOLD / self.recurring) / np.log(rate)
        return max(LEAST_HITS, int(np.ceil(enough)))

    def _shared(self, suspects: Ints, fewest: int) -> Iterator[tuple[int, Ints]]:
        """Places of windows that so many suspects share and few other rows hold, and those."""
        if suspects.size < fewest:
            return
        words = _mixed(self.pixels.take(suspects))
        for start in range(0, len(self.cells), AT_ONCE):
            codes = _at(words, self.cells[start : start + AT_ONCE])
            order = np.argsort(codes, axis=0, kind="stable")
            ranked = np.take_along_axis(codes, order, axis=0)
            same = ranked[fewest - 1 :] == ranked[: ranked.shape[0] - fewest + 1]
            for i in np.flatnonzero(same.any(axis=0)):
                column = ranked[:, i]
                for code in np.unique(column[: same.shape[0]][same[:, i]]):
                    if (self._before[:, start + i] == code).mean() <= 2 * RARE:
                        ends = (np.searchsorted(column, code, side=s) for s in ("left", "right"))
                        yield int(start + i), np.sort(suspects[order[slice(*ends), i]])


def placed_test(content: Content, places: list[Places]) -> list[Evidence]:
    """For each label, and all: do some suspects hold a window to the letter that few others hold?

    Five rows are enough, where a filter does not hear them among natural suspects.
    """
    return [
        one.evidence(content, label)
        for one in places
        if len(one.cells)
        for label in range(-1, content.classes)
    ]


def _codes(windows: Thin) -> Codes:
    """64 bits of each window, shape (rows,)."""
    return _at(_mixed(windows), np.arange(windows.shape[1])[None, :])[:, 0]


def _at(words: Codes, cells: Ints) -> Codes:
    """The code of each window of each row, shape (rows, places)."""
    made = np.zeros((len(words), len(cells)), np.uint64)
    for columns, weight in zip(cells.T, _weights(cells.shape[1]), strict=True):
        made += words[:, columns] * weight
    return made


def _mixed(part: Thin) -> Codes:
    words = (part + np.float32(0.0)).view(np.uint32).astype(np.uint64)  # -0.0 equals 0.0
    words *= MIXER
    words ^= words >> np.uint64(32)
    return words


def _weights(count: int) -> Codes:
    drawn = np.random.default_rng(count).integers(0, 2**63, count, np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)
