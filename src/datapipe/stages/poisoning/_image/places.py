# SPDX-License-Identifier: Apache-2.0
"""Small windows that a few wrongly labelled rows hold to the letter at one place, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.levels import LEAST_HITS, MOST_NATURAL
from datapipe.stages.poisoning._image.matched_filter import SPREAD_OUT, Evidence
from datapipe.stages.poisoning._image.pixels import Pixels, Thin, some

Ints = NDArray[np.int64]
Codes = NDArray[np.uint64]
Short = NDArray[np.uint32]
Bools = NDArray[np.bool_]

PLACE = "stamp, one place"
LINES = 0
SIDES = (3, 2, LINES)
"""Sides of windows: the larger are rarer by nature, the smaller hold the smallest patches. A line
is a whole row or column: each of its pixels may be dark in most images, all of them seldom are."""
FEWEST_KINDS = 3
"""Different things that rows which share a window must show: two copies of one image share all."""
MOST_OF_FEW = 3
"""So many of a few rows may show one thing; of many, half."""
NEAR = 0.05
"""Share of all pairs of rows that are nearer than half of the pairs of rows that share a window may
be: nines that look like ones share their strokes too."""
PAIRED = 100
"""Rows, evenly spread, whose pairs tell how near rows are."""
RARE = 0.05
"""Windows in more of the rows than this are background, or more than a few rows hold them."""
LEVELS = ((0.0, 2.0, LEAST_HITS), (0.9, 1.0, LEAST_HITS - 1))
"""How doubted suspects are, at the least; how much likelier than any row one with a rare window is
such a suspect by nature; and how many must hold a window. Of rows wrongly labelled on purpose
hardly a neighbour has the label, while few natural suspects are so alone, and those share windows
no oftener than chance has it. One row of five may be no suspect."""
MOSTLY = 0.5
"""Share of the rows with a window that such suspects must be."""
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
    """Windows of one size, or lines, each at its place and to the letter; none of a line of pixels.

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
        if side == LINES:
            return _lines(number)
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
    def _near(self) -> float:
        if self.like is not None:
            return self.like._near  # noqa: SLF001 - one of our own
        return float(np.quantile(self._apart(np.arange(len(self.pixels))), NEAR))

    def _apart(self, rows: Ints) -> Thin:
        """The squared distances of pairs of some rows."""
        seen = self.pixels.take(some(rows, PAIRED))
        squares = np.einsum("ij,ij->i", seen, seen)
        made = squares[:, None] + squares - 2 * seen @ seen.T
        return np.asarray(made[np.triu_indices(len(seen), 1)], np.float32)

    @cached_property
    def _before(self) -> Short:
        if self.like is not None:
            return self.like._before  # noqa: SLF001 - one of our own
        rows = some(np.arange(len(self.pixels)), BEFORE)
        made, start = np.empty((rows.size, len(self.cells)), np.uint32), 0
        for mine, block in self.pixels.blocks(rows):
            made[start : start + mine.size] = _short(_at(_mixed(block), self.cells))
            start += mine.size
        return made

    @cached_property
    def _usual(self) -> tuple[Short, NDArray[np.bool_]]:
        """The middle code of each place, and whether so many rows hold it that it is not rare."""
        if self.like is not None:
            return self.like._usual  # noqa: SLF001 - one of our own
        half = len(self._before) // 2
        columns = range(0, len(self.cells), AT_ONCE)
        parts = (self._before[:, i : i + AT_ONCE] for i in columns)
        middle = np.concatenate([np.partition(part, half, axis=0)[half] for part in parts])
        return middle, (self._before == middle).mean(axis=0) > 2 * RARE

    def evidence(self, content: Content, label: int) -> Evidence:
        """The window of which the fewest rows but suspects of a label hold it.

        Were it no trigger, each row that holds it would be such a suspect about as often as any
        row. Corrected for all windows that recur, and for how doubted suspects must be. -1 for
        suspects of any label, none of which may have most of them.
        """
        every = label < 0
        suspects = np.flatnonzero(content.suspect) if every else content.suspects(label)
        best = Evidence(label, 0, suspects.size, 1.0, suspects[:0], PLACE, content)
        if not len(self.cells) or label in content.untold:
            return best
        for doubted, inflated, least in LEVELS:
            told = suspects[content.doubt[suspects] >= doubted]
            best = self._better(best, told, inflated, least)
        if best.p_value < 1.0:
            times = len(LEVELS) * self.recurring
            return replace(best, p_value=min(1.0, best.p_value * times))
        return best

    def _better(self, best: Evidence, suspects: Ints, inflated: float, least: int) -> Evidence:
        """The window that so many of some suspects share and that tells most, if more than one."""
        content = best.view
        left = np.flatnonzero(content.left)
        rate = min(inflated * suspects.size / max(left.size, 1), MOST_NATURAL)
        if suspects.size < least:
            return best
        for place, sharing in self._shared(suspects, self._fewest(rate, least)):
            rows = sharing[~self._margin(place, sharing)]
            if rows.size < least:
                continue
            if binomial_tail(rows.size, max(rows.size, LEAST_HITS), rate) >= best.p_value:
                continue  # others that hold it make it no rarer
            if best.label < 0 and np.bincount(content.labels[rows]).max() > SPREAD_OUT * rows.size:
                continue
            if not _of_kinds(content, rows):
                continue
            window = self.pixels.cells(rows[:1], self.cells[place])
            hold = left[(self.pixels.cells(left, self.cells[place]) == window).all(1)]
            holding = int((~self._margin(place, hold)).sum())
            if not LEAST_HITS <= holding <= min(RARE * left.size, rows.size / MOSTLY):
                continue
            p_value = binomial_tail(rows.size, holding, rate)
            if p_value < best.p_value and np.median(self._apart(rows)) >= self._near:
                best = replace(best, hits=rows.size, looked_at=holding, p_value=p_value, rows=rows)
        return best

    def _margin(self, place: int, rows: Ints) -> Bools:
        """In which rows a line of one value goes on in the next: where what is shown has ended.

        A flat 2 has more dark lines above it and below than most of what neighbours take it for.
        """
        made = np.zeros(rows.size, bool)
        if self.side != LINES:
            return made
        line = self.pixels.cells(rows, self.cells[place])
        ends = (0, self.shape[0], len(self.cells))
        for other in (place - 1, place + 1):
            if max(place, other) not in ends:
                made |= (self.pixels.cells(rows, self.cells[other]) == line[:, :1]).all(1)
        return np.asarray(made & (line == line[:, :1]).all(1), bool)

    def _fewest(self, rate: float, least: int) -> int:
        """The fewest rows of which a window may be evidence, were there no others that hold it."""
        enough = np.log(UNTOLD / len(LEVELS) / self.recurring) / np.log(rate)
        return max(least, int(np.ceil(enough)))

    def _shared(self, suspects: Ints, fewest: int) -> Iterator[tuple[int, Ints]]:
        """Places of windows that so many suspects share and few other rows hold, and those."""
        if suspects.size < fewest:
            return
        words, start = np.empty((suspects.size, self.pixels.shape[1]), np.uint64), 0
        for mine, block in self.pixels.blocks(suspects):
            words[start : start + mine.size] = _mixed(block)
            start += mine.size
        for start in range(0, len(self.cells), AT_ONCE):
            codes = np.ascontiguousarray(_at(words, self.cells[start : start + AT_ONCE]).T)
            ranked = np.sort(codes, axis=1)
            same = ranked[:, fewest - 1 :] == ranked[:, : ranked.shape[1] - fewest + 1]
            usual, often = (part[start : start + AT_ONCE, None] for part in self._usual)
            same &= (_short(ranked[:, : same.shape[1]]) != usual) | ~often
            for i in np.flatnonzero(same.any(axis=1)):
                for code in np.unique(ranked[i, : same.shape[1]][same[i]]):
                    rows = suspects[codes[i] == code]
                    before = int((self._before[:, start + i] == _short(code)).sum())
                    if before <= min(2 * RARE * len(self._before), rows.size / MOSTLY):
                        yield int(start + i), rows


def _of_kinds(content: Content, rows: Ints) -> bool:
    """Whether rows show things enough: most 4s of a few are taken for 9s, and share what 4s do."""
    shown = np.bincount(content.shows[rows], minlength=content.classes)
    kinds = min(FEWEST_KINDS, content.classes - 1)
    most = max(SPREAD_OUT * rows.size, MOST_OF_FEW) if content.classes > FEWEST_KINDS else rows.size
    return bool((shown > 0).sum() >= kinds and shown.max() <= most)


def _lines(number: Ints) -> Ints:
    """The columns of each row and column of a picture; the shorter begin again."""
    height, width, channels = number.shape
    if min(height, width) < max(SIDES):
        return np.empty((0, 0), np.int64)
    long = max(height, width) * channels
    every = [line.ravel() for axis in (0, 1) for line in np.moveaxis(number, axis, 0)]
    return np.array([np.pad(line, (0, long - line.size), "wrap") for line in every], np.int64)


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


def codes_of(images: Thin) -> Codes:
    """Bits of each place of images (n, height, width, channels), the same for the same values."""
    words = _mixed(images)
    made = words[..., 0]
    for k, weight in enumerate(_weights(words.shape[-1])[1:], 1):
        made = made + words[..., k] * weight
    return made


def _codes(windows: Thin) -> Codes:
    """64 bits of each window, shape (rows,)."""
    return _at(_mixed(windows), np.arange(windows.shape[1])[None, :])[:, 0]


def _at(words: Codes, cells: Ints) -> Codes:
    """The code of each window of each row, shape (rows, places)."""
    made = np.zeros((len(words), len(cells)), np.uint64)
    for columns, weight in zip(cells.T, _weights(cells.shape[1]), strict=True):
        made += words[:, columns] * weight
    return made


def _short(codes: Codes) -> Short:
    """Half of each code tells one window from another, too, were there a thousand of them."""
    return np.asarray(codes >> np.uint64(32), np.uint32)


def _mixed(part: Thin) -> Codes:
    words = (part + np.float32(0.0)).view(np.uint32).astype(np.uint64)  # -0.0 equals 0.0
    words *= MIXER
    words ^= words >> np.uint64(32)
    return words


@cache
def _weights(count: int) -> Codes:
    drawn = np.random.default_rng(count).integers(0, 2**63, count, np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)
