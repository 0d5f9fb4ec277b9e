# SPDX-License-Identifier: Apache-2.0
"""Small windows of pixels that recur anywhere in images of one label: patches that move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.matched_filter import SPREAD_OUT, Evidence, several_kinds
from datapipe.stages.poisoning._image.pixels import BLOCK_BYTES, Pixels, some

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ONE_LABEL, WRONG_LABELS = "window of one label", "window of wrong labels"
SIDE = 3
TONES = 4
"""Steps of brightness; a window is the same where each pixel is on the same step."""
BUCKETS = 1 << 22
SHARED = 7
"""Buckets are numbered within those that share all but so many bits: a byte each."""
ACROSS, DOWN, MIXER = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35), np.uint32(0x9E3779B1)
SHIFT = np.uint32(10)
"""Odd numbers that mix tones into 32 bits, of which the upper 22 tell the bucket."""
FEWEST = 8
"""Windows in fewer images than this are not looked at."""
MOST_AT_ONCE = 240
"""Images that are looked at together: so many and `FEWEST` can be counted in a byte."""
COMMONEST = 0.25
"""Share of images; what more of them hold is background."""
WRONG = 0.2
"""Largest share of images with one window that show something else than their label by nature."""
PURE = 0.7
"""Largest share that have one label by nature, where other labels' windows do not say more."""
AS_PURE = 0.8
"""A window is part of a patch where it goes with the label nearly as often as the most telling one.
"""
UNTOLD = 0.1
"""Which rows hold windows that tell less than this is not asked."""
TRIES = 3
"""So many labels are asked whose most telling windows are no patch."""
PLACED = 120
"""Rows, evenly spread, in which is looked for where a window lies."""
CLOSE, CLOSELY = 0.3, 0.9
"""A patch's windows lie within this share of the side of a picture, in so many of its rows."""
STILL, FREE = 0.5, 0.6
"""A patch stays in one place in this share of its rows, or moves as widely as this share of what
any place would do: parts of what a class looks like lie in between."""
MANY = 20
"""Images a window must be in for its label's share to speak for what is natural."""
SWAPPED = 0.25
"""Share of the rows of two classes that the rarer direction of a natural confusion has at least."""
SMOOTH = 0.8
"""Neighbouring pixels of a picture differ by less than this share of what any two differ by."""


@dataclass(frozen=True, eq=False)
class Recurring:
    """Windows that go with a label: which rows hold one, and the most telling window.

    `label` is -1 where they go with wrong labels of any class.
    """

    label: int
    p_value: float
    hits: int
    looked_at: int
    rows: Ints
    window: list[float]
    test: str

    def evidence(self, content: Content, times: int) -> Evidence:
        """The same as evidence, its p-value corrected for so many tests."""
        p_value = min(1.0, times * self.p_value)
        return Evidence(
            self.label, self.hits, self.looked_at, p_value, self.rows, self.test, content
        )


def looks_like_pictures(pixels: Pixels, shape: tuple[int, int, int]) -> bool:
    """Whether pixels that lie side by side are alike; shuffled pixels and embeddings are not."""
    height, width, channels = shape
    if min(height, width) < 2 * SIDE or not len(pixels):
        return False
    rows = np.arange(0, len(pixels), max(1, len(pixels) // 500))
    some = pixels.take(rows).reshape(-1, height, width, channels)
    beside = 0.5 * sum(np.abs(np.diff(some, axis=axis)).mean() for axis in (1, 2))
    rng = np.random.default_rng(0)
    flat = some.reshape(len(some), -1)
    apart = np.abs(flat - flat[:, rng.permutation(flat.shape[1])]).mean()
    return bool(beside < SMOOTH * apart)


def recurring(pixels: Pixels, shape: tuple[int, int, int], content: Content) -> list[Recurring]:
    """Windows that stand mostly in images whose label is wrong, or only in those of one label.

    Args:
        pixels: Shape (n, d).
        shape: (height, width, channels) with a product of d.
        content: What the images show.

    Returns:
        The most telling evidence of each of both tests, p-values corrected for all windows; none
        where that is not like a patch.
    """
    look = _Look.of(pixels, shape, content)
    found = look.candidates()
    held, wrong, labels = look.counted(found)
    rare = held < COMMONEST * int(content.left.sum())
    found, held, wrong, labels = found[rare], held[rare], wrong[rare], labels[rare]
    if not found.size:
        return []
    made = []
    for by_label in (False, True):
        one = _most_telling(look, found, held, wrong, labels, by_label=by_label)
        made.extend([one] if one is not None else [])
    return made


@dataclass(frozen=True, eq=False)
class _Look:
    pixels: Pixels
    shape: tuple[int, int, int]
    content: Content
    low: float
    step: float

    @classmethod
    def of(cls, pixels: Pixels, shape: tuple[int, int, int], content: Content) -> _Look:
        low, high = pixels.range()
        return cls(pixels, shape, content, low, (high - low) / TONES or 1.0)

    def codes(self) -> Iterator[tuple[Ints, NDArray[np.int32]]]:
        """The rows and buckets of the windows of each image, each once, block by block."""
        size_bytes = min(BLOCK_BYTES, MOST_AT_ONCE * 4 * self.pixels.shape[1])
        for mine, block in self.pixels.blocks(np.flatnonzero(self.content.left), size_bytes):
            flat = _buckets(self._tones(block)).reshape(mine.size, -1)
            flat.sort(axis=1)
            new = np.ones(flat.shape, bool)
            new[:, 1:] = flat[:, 1:] != flat[:, :-1]
            yield np.repeat(mine, new.sum(1)), flat[new]

    def candidates(self) -> Ints:
        """Buckets that enough images hold."""
        counts = np.zeros(BUCKETS, np.uint8)
        for _, bucket in self.codes():
            np.add.at(counts, bucket, np.uint8(1))
            counts[bucket[counts[bucket] > FEWEST]] = FEWEST
        return np.flatnonzero(counts == FEWEST)

    def counted(self, found: Ints) -> tuple[Ints, Ints, Ints]:
        """Of each bucket: images, images with a wrong label, and images of each label."""
        k = self.content.classes
        first = np.searchsorted(found, np.arange(0, BUCKETS, 1 << SHARED))
        rank = np.zeros(BUCKETS, np.uint8)  # 0 for no bucket of these
        rank[found] = 1 + np.arange(found.size) - first[found >> SHARED]
        labels = np.zeros(found.size * k, np.int64)
        wrong = np.zeros(found.size, np.int64)
        for row, bucket in self.codes():
            ranked = rank[bucket]
            there = ranked > 0
            mine = row[there]
            which = first[bucket[there] >> SHARED] + ranked[there] - 1
            np.add.at(labels, which * k + self.content.labels[mine], 1)
            np.add.at(wrong, which[self.content.suspect[mine]], 1)
        table = labels.reshape(-1, k)
        return table.sum(1), wrong, table

    def holding(self, buckets: Ints) -> Bools:
        """Which rows hold a window of one of some buckets."""
        wanted = np.zeros(BUCKETS, bool)
        wanted[buckets] = True
        made = np.zeros(self.content.labels.size, bool)
        for row, bucket in self.codes():
            made[row[wanted[bucket]]] = True
        return made

    def picture(self, bucket: int, row: int) -> list[float]:
        """The pixels of the window of a bucket in a row."""
        image = self.pixels.take(np.array([row])).reshape(self.shape)
        there = np.argwhere(_buckets(self._tones(image[None]))[0] == bucket)
        if not len(there):
            return []
        i, j = there[0]
        part = image[i : i + SIDE, j : j + SIDE]
        return [round(float(v), 4) for v in part.ravel()]

    def lie_as_a_patch(self, buckets: Ints, rows: Ints) -> bool:
        """Whether windows lie close together in each row, and in one place of all or anywhere.

        A part of what a class looks like lies about where it belongs, and a texture all over.
        """
        shown = some(rows, PLACED)
        held = np.isin(_buckets(self._tones(self.pixels.take(shown))), buckets)
        first, apart = [], []
        for one in held:
            there = np.argwhere(one)
            if len(there):
                first.append(there.min(0))
                apart.append(int(np.ptp(there, axis=0).max()))
        if not first:
            return False
        close = np.array(apart) <= max(CLOSE * min(self.shape[:2]), 2 * SIDE)
        still = np.unique(first, axis=0, return_counts=True)[1].max() / len(first)
        anywhere = (np.array(held.shape[1:]) - 1) / np.sqrt(12.0)
        free = float((np.std(first, axis=0) / np.maximum(anywhere, 1e-9)).max())
        return bool(close.mean() >= CLOSELY and (still >= STILL or free >= FREE))

    def _tones(self, rows: NDArray[np.float32]) -> NDArray[np.uint32]:
        tone = ((rows - self.low) / self.step).astype(np.uint32)
        return np.minimum(tone, TONES - 1).reshape(-1, *self.shape)


def _buckets(tone: NDArray[np.uint32]) -> NDArray[np.int32]:
    """The bucket of each window of tones (n, height, width, channels): three in a line, then three
    lines, so that a line is read once.
    """
    wide = tone[..., 0]
    for k in range(1, tone.shape[3]):
        wide = wide * np.uint32(TONES) + tone[..., k]
    line = _folded([wide[:, :, j : wide.shape[2] - SIDE + 1 + j] for j in range(SIDE)], ACROSS)
    code = _folded([line[:, i : line.shape[1] - SIDE + 1 + i] for i in range(SIDE)], DOWN)
    return np.asarray((code * MIXER) >> SHIFT, np.int32)


def _folded(parts: list[NDArray[np.uint32]], by: np.uint32) -> NDArray[np.uint32]:
    made = parts[0]
    for part in parts[1:]:
        made = made * by + part
    return made


def _most_telling(
    look: _Look, found: Ints, held: Ints, wrong: Ints, labels: Ints, *, by_label: bool
) -> Recurring | None:
    """The windows that go most with a label, if they are a patch or lie on several kinds."""
    content = look.content
    if by_label:
        hits, natural = labels.max(1), _natural_purity(held, labels)
    else:
        usual = float(content.suspect.sum()) / max(1, int(content.left.sum()))
        hits = wrong
        natural = np.full(content.classes, max(WRONG, min(3.0 * usual, 2 * WRONG)))
    own = labels.argmax(1)
    tails = np.ones(found.size)
    for i in np.flatnonzero(hits > natural[own] * held):
        tails[i] = binomial_tail(int(hits[i]), int(held[i]), float(natural[own[i]]))
    share, test = hits / np.maximum(held, 1), ONE_LABEL if by_label else WRONG_LABELS
    for _ in range(TRIES):
        best = int(np.argmin(tails))
        p_value = min(1.0, float(tails[best]) * found.size)
        if p_value >= UNTOLD:
            break
        label = int(own[best])
        telling = (share >= AS_PURE * share[best]) & (tails * found.size <= max(p_value, 1e-4))
        if not by_label and labels[best, label] <= 0.5 * held[best]:
            label = -1
        elif label >= 0:
            telling &= own == label
        held_by = look.holding(found[telling]) & content.left
        held_by &= content.labels == label if label >= 0 else content.labels != content.shows
        rows = np.flatnonzero(held_by)
        if label < 0 and _swapped(content, rows):
            tails[own == own[best]] = 1.0
            continue
        several = not by_label and several_kinds(content, rows)
        if rows.size and (several or look.lie_as_a_patch(found[telling], rows)):
            window = look.picture(int(found[best]), int(rows[0]))
            return Recurring(label, p_value, int(hits[best]), int(held[best]), rows, window, test)
        tails[own == own[best]] = 1.0
    return None


def _swapped(content: Content, rows: Ints) -> bool:
    """Whether most rows are of two classes that neighbours take for each other.

    So are those with a thing that hides what tells the two apart, as dark glasses do.
    """
    confused = np.zeros((content.classes, content.classes), np.int64)
    np.add.at(confused, (content.shows[rows], content.labels[rows]), 1)
    both = confused + confused.T
    worst = np.unravel_index(both.argmax(), both.shape)
    lesser = min(confused[worst], confused[worst[::-1]])
    return bool(both[worst] > SPREAD_OUT * rows.size and lesser > SWAPPED * both[worst])


def _natural_purity(held: Ints, labels: Ints) -> Floats:
    """For each label the share that windows of other labels have of theirs, at least `PURE`.

    In some data sets classes look so different that their windows are their own: two more such
    labels are enough, for the purest of the others may have a pattern, too.
    """
    own, share = labels.argmax(1), labels.max(1) / held
    often = held >= MANY
    made = np.full(labels.shape[1], PURE)
    tops = np.full(made.size, PURE)
    for k in np.unique(own[often]):
        tops[k] = np.quantile(share[often & (own == k)], 0.99)
    for k in range(made.size):
        other, all_of_others = np.sort(np.delete(tops, k)), share[often & (own != k)]
        if all_of_others.size:
            second = float(other[-2]) if other.size > 1 else PURE
            made[k] = max(PURE, second, float(np.quantile(all_of_others, 0.99)))
    return made
