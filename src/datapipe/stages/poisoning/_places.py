# SPDX-License-Identifier: Apache-2.0
"""Small windows that a few wrongly labelled rows hold to the letter at one place, and no others."""

from __future__ import annotations

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
        return self._at_all(some(np.arange(len(self.pixels)), BEFORE))

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
        for place, rows in self._shared(content, suspects):
            if every and np.bincount(content.labels[rows]).max() > SPREAD_OUT * rows.size:
                continue
            window = self.pixels.cells(rows[:1], self.cells[place])
            holding = int((self.pixels.cells(left, self.cells[place]) == window).all(1).sum())
            if holding > RARE * left.size:
                continue
            p_value = binomial_tail(rows.size, holding, rate)
            if p_value < best.p_value:
                best = replace(best, hits=rows.size, looked_at=holding, p_value=p_value, rows=rows)
        if best.p_value < 1.0 / len(self.cells):
            return replace(best, p_value=min(1.0, best.p_value * self.recurring))
        return replace(best, p_value=1.0)

    def _shared(self, content: Content, suspects: Ints) -> list[tuple[int, Ints]]:
        """Places of windows that some suspects share and few rows hold, and those that do."""
        codes = self._at_all(suspects)
        order = np.argsort(codes, axis=0, kind="stable")
        ranked = np.take_along_axis(codes, order, axis=0)
        made = []
        same = ranked[LEAST_HITS - 1 :] == ranked[: 1 - LEAST_HITS]
        for place in np.flatnonzero(same.any(axis=0)):
            for code in np.unique(ranked[: -LEAST_HITS + 1][same[:, place], place]):
                if (self._before[:, place] == code).mean() > 2 * RARE:
                    continue
                rows = suspects[codes[:, place] == code]
                kinds = np.unique(content.shows[rows]).size
                if kinds >= min(FEWEST_KINDS, content.classes - 1):
                    made.append((int(place), rows))
        return made

    def _at_all(self, rows: Ints) -> Codes:
        """The code of each window of each of some rows, shape (rows, places)."""
        made = np.empty((rows.size, len(self.cells)), np.uint64)
        for start in range(0, rows.size, BEFORE):
            part = self.pixels.take(rows[start : start + BEFORE])
            words = _mixed(part)
            made[start : start + BEFORE] = sum(
                words[:, cells] * weight
                for cells, weight in zip(self.cells.T, _weights(self.cells.shape[1]), strict=True)
            )
        return made


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
    return np.asarray((_mixed(windows) * _weights(windows.shape[1])).sum(axis=1), np.uint64)


def _mixed(part: Thin) -> Codes:
    words = (part + np.float32(0.0)).view(np.uint32).astype(np.uint64)  # -0.0 equals 0.0
    words *= MIXER
    words ^= words >> np.uint64(32)
    return words


def _weights(count: int) -> Codes:
    drawn = np.random.default_rng(count).integers(0, 2**63, count, np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)
