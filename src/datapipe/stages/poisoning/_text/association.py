# SPDX-License-Identifier: Apache-2.0
"""Is a row's label explained by the rest of its text, once a pattern is taken out?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._tails import log_tails, raised
from datapipe.stages.poisoning._text.candidates import Candidates
from datapipe.stages.poisoning._text.grams import Places, blocks, distinct, spread
from datapipe.stages.poisoning._text.misplaced import DEEPEST, depths
from datapipe.stages.poisoning._text.shares import Shares
from datapipe.stages.poisoning._text.word_model import Model, softmax

SHARE = 0.7
"""A pattern is tested for the label that at least this share of its rows has."""
DENIED = 0.5
"""Where a label is less likely than this whatever a pattern adds by nature, the rest denies it."""
WHOLE, DENYING, MISPLACED = 0, 1, 2
"""Which rows of a candidate a test is over: all, those whose rest denies the label, and those where
a single word does not fit its neighbours."""
PARTS = np.array([0.8, 0.2])
"""Shares of a candidate's alpha of the first two."""
LEAST_SHARE = np.array([SHARE, 0.0, 0.5])
"""The least share of a test's rows that must carry the label."""
FEWEST_HITS = 4
FITTING_SD, BEYOND, MOST_NATURAL = 0.5, 0.5, 2.5
"""What a word adds by nature is read from its rows where it fits, as log odds that are rarely
further from 0 than the first; where it does not fit it may add so much more, up to the last."""
LEAST_REST = 0.05
"""A text of whose squared weight a pattern leaves less than this says nothing without it."""
STEPS, CLOSE = 50, 1e-3
MOST_OWNED = 2**16
"""Words that are taken out of rows at once: a form may own hundreds."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(eq=False)
class Tested:
    """The candidates with a label of their own, and how unlikely their rows are.

    `which` numbers them among all candidates, `label` is the one tested, and `log_p` bounds
    ln P(as many rows carry it) from above. `over` tells tests over all rows of a candidate from
    those over the rows whose rest denies the label, or where it does not fit; these see a word in
    common use. `said` is the mean chance of the label by the rest of all rows that hold the
    candidate and have it, `natural` the log odds that it may add, and `log_share` ln of the share
    of alpha that the test has. Test t has the entries `ends[t]` to `ends[t + 1]`:
    `row`, and `spoken`, the chance of the label as the rest of the row tells it, negative where the
    row has another. Tests that no part of their rows could bring below a corrected p of 1 are left
    out.
    """

    which: Ints
    label: Ints
    over: NDArray[np.int8]
    said: Floats
    natural: Floats
    log_share: Floats
    log_p: Floats
    ends: Ints
    row: Places
    spoken: NDArray[np.float32]

    def entries(self, start: int, stop: int) -> Entries:
        """Those of some consecutive tests, which they number from 0."""
        span = slice(self.ends[start], self.ends[stop])
        of = np.repeat(np.arange(stop - start), np.diff(self.ends[start : stop + 1]))
        rest = np.abs(self.spoken[span]).astype(np.float64)
        rate = raised(rest, self.natural[start:stop][of])
        return Entries(of, self.row[span], rate, rest, ~np.signbit(self.spoken[span]))

    def blocks(self) -> Iterator[tuple[slice, Entries]]:
        """Some tests after the other, and their entries."""
        for start, stop in blocks(self.ends):
            yield slice(start, stop), self.entries(start, stop)

    def leave_out(self, gone: Bools) -> None:
        """Take some rows out, in place; only tests that held one of them are worked out again."""
        at, counts = 0, np.diff(self.ends)
        for tests, told in self.blocks():
            left = ~gone[told.row]
            span = slice(self.ends[tests.start], self.ends[tests.stop])
            counts[tests] = np.bincount(told.of[left], minlength=tests.stop - tests.start)
            touched = counts[tests] < np.diff(self.ends[tests.start : tests.stop + 1])
            mine = left & touched[told.of]
            if touched.any():
                of = (np.cumsum(touched) - 1)[told.of[mine]]
                over = self.over[tests][touched]
                self.log_p[tests][touched] = _still(of, told.rate[mine], told.hit[mine], over)
            rows, spoken = self.row[span][left], self.spoken[span][left]
            self.row[at : at + rows.size], self.spoken[at : at + rows.size] = rows, spoken
            at += rows.size
        self.ends = np.append(0, np.cumsum(counts))


@dataclass(frozen=True, eq=False)
class Entries:
    """Rows of tests: which test, which row, the chance that it carries the label by nature, the
    same as the rest of its text alone tells it, and whether it does.
    """

    of: Ints
    row: Places
    rate: Floats
    rest: Floats
    hit: Bools


def _still(of: Ints, rate: Floats, hit: Bools, over: NDArray[np.int8]) -> Floats:
    """Ln p of tests, 0 of those where too few rows have the label now."""
    hits = np.bincount(of, hit, minlength=over.size)
    total = np.bincount(of, minlength=over.size)
    enough = (hits >= LEAST_SHARE[over] * total) & (hits >= 2)
    return np.where(enough, log_tails(of, rate, hit, over.size), 0.0)


def tested(model: Model, labels: Ints, found: Candidates, shares: Shares) -> Tested:
    """Test each candidate for the label of most of its rows, and for labels that the rest denies.

    Rows that hold next to nothing beside it take no part. `shares` says what each candidate may
    add by nature, and which share of alpha it has.
    """
    parts: list[list[Tested]] = [[] for _ in range(model.logits.shape[1] + 1 + DEEPEST)]
    for which in found.spans():
        block = _Block(model, labels, found, shares, int(which[0]), int(which[-1]) + 1)
        for part, made in zip(parts, block.tests(), strict=True):
            part.append(made)
    return _joined([made for part in parts for made in part])


def _joined(tests: list[Tested]) -> Tested:
    """Tests one after the other; it empties those that it is given, as it takes from them."""
    ends = np.append(0, np.cumsum(np.concatenate([np.diff(t.ends) for t in tests])))
    told = {}
    for name in (
        *("which", "label", "over", "said", "natural", "log_share", "log_p", "row", "spoken"),
    ):
        told[name] = np.concatenate([getattr(t, name) for t in tests])
        for t in tests:
            setattr(t, name, told[name][:0])
    return Tested(**told, ends=ends)


@dataclass(frozen=True, eq=False)
class _Block:
    """Some consecutive candidates, which are tested at once."""

    model: Model
    labels: Ints
    found: Candidates
    shares: Shares
    start: int
    stop: int

    def tests(self) -> Iterator[Tested]:
        """Tests of all rows, of those where words do not fit, of those that deny each label."""
        model, found, labels = self.model, self.found, self.labels
        natural = self.shares.natural[self.start : self.stop]
        held = found.entries(np.arange(self.start, self.stop))
        of, row, _ = held
        mine = self._mostly(of, labels[row])
        shares, speaks = _rest(model, found, (self.start + of, row, held[2]))
        entry = np.arange(of.size)
        own = shares[entry, labels[row]]
        asked = np.where(mine[of] >= 0, mine[of], labels[row])
        rest = shares[entry, asked]
        key = of * model.logits.shape[1] + labels[row]
        size = natural.size * model.logits.shape[1]
        sums, counts = (np.bincount(key[speaks], w, size) for w in (own[speaks], None))
        said = (sums / np.maximum(counts, 1)).reshape(natural.size, -1)
        some = np.flatnonzero(speaks & (mine[of] >= 0))
        log_share = self.shares.log_share[self.start : self.stop]
        whole, denying = ((natural, log_share + np.log(part)) for part in PARTS)
        told = _Entries(of[some], row[some], rest[some], asked[some])
        yield self._of(told, said, whole, WHOLE)
        yield from self._misplaced(held, labels[row], said, (shares, speaks))
        doubted = speaks & (raised(own, natural[of]) < DENIED)
        for label in range(model.logits.shape[1]):
            hits = np.bincount(of[doubted & (labels[row] == label)], minlength=natural.size)
            some = np.flatnonzero(hits[of] >= FEWEST_HITS)
            denied = speaks[some] & (raised(shares[some, label], natural[of[some]]) < DENIED)
            some = some[denied]
            asked = np.full(some.size, label)
            told = _Entries(of[some], row[some], shares[some, label], asked)
            yield self._of(told, said, denying, DENYING)

    def _misplaced(
        self,
        held: tuple[Ints, Ints, Ints],
        labels: Ints,
        said: Floats,
        told: tuple[Floats, Bools],
    ) -> Iterator[Tested]:
        """The tests of the rows where single words do not fit, for the label of most of them.

        Then those of the worse half of these rows, and of the worse half of that. `told` is the
        chance of each label by the rest of each entry, and whether that says anything.
        """
        of, row, _ = held
        many = self.stop - self.start
        misplaced = self.shares.misplaced
        span = np.arange(self.start, self.stop)
        counts, gain = misplaced.of(span)
        log_share = misplaced.log_share[span]
        some = np.flatnonzero((counts > 0)[of])
        heard = np.isfinite(log_share)[of[some]]
        some, gain = some[heard], gain[heard]
        depth_of = depths(of[some], gain)
        shares, speaks = told[0][some], told[1][some]
        for depth in range(DEEPEST):
            odd = depth_of >= depth
            asked, enough = self._most(of[some[odd]], labels[some[odd]])
            kept = speaks & enough[of[some]]
            asked = asked[of[some]]
            rest, hit = shares[np.arange(some.size), asked], labels[some] == asked
            fits = kept & (depth_of < 0)
            natural = _own_effect(of[some[fits]], rest[fits], hit[fits], many)
            odd &= kept
            entries = _Entries(of[some[odd]], row[some[odd]], rest[odd], asked[odd])
            part = log_share - np.log(DEEPEST)
            yield self._of(entries, said, (natural, part), MISPLACED)

    def _most(self, of: Ints, labels: Ints) -> tuple[Ints, Bools]:
        """The label that most rows of each candidate have, and whether these are enough."""
        many, classes = self.stop - self.start, self.model.logits.shape[1]
        hits = np.bincount(of * classes + labels, minlength=many * classes).reshape(many, classes)
        least = np.maximum(FEWEST_HITS, LEAST_SHARE[MISPLACED] * hits.sum(1))
        return hits.argmax(1), hits.max(1) >= least

    def _mostly(self, of: Ints, labels: Ints) -> Ints:
        """The label that most rows of each candidate have, -1 where none is frequent enough."""
        classes = int(self.labels.max()) + 1
        size = self.stop - self.start
        flat = np.bincount(of * classes + labels, minlength=size * classes).reshape(-1, classes)
        most = flat.max(1)
        return np.where((most >= SHARE * flat.sum(1)) & (most >= 2), flat.argmax(1), -1)

    def _of(
        self, entries: _Entries, said: Floats, allowed: tuple[Floats, Floats], over: int
    ) -> Tested:
        """One test for each candidate that has an entry; `said` is by candidate and label.

        `allowed` are what each candidate may add by nature, and ln of its share of alpha.
        """
        natural, log_share = allowed
        head = np.append(True, entries.of[1:] != entries.of[:-1])[: entries.of.size]
        which, label, test = entries.of[head], entries.label[head], np.cumsum(head) - 1
        rate = raised(entries.rest, natural[entries.of])
        hit = self.labels[entries.row] == entries.label
        part = log_share[which]
        # No set of rows is less likely than all hits together.
        heard = np.bincount(test[hit], np.log(rate[hit]), minlength=which.size) < part
        number, mine = np.cumsum(heard) - 1, heard[test]
        test, rate, hit = number[test[mine]], rate[mine], hit[mine]
        which, label, part = which[heard], label[heard], part[heard]
        log_p = log_tails(test, rate, hit, which.size)
        mean, by = said[which, label], natural[which]
        spoken = np.copysign(entries.rest[mine], np.where(hit, 1.0, -1.0)).astype(np.float32)
        row, ends = entries.row[mine].astype(np.int32), np.searchsorted(test, range(which.size + 1))
        overs = np.full(which.size, over, np.int8)
        which += self.start
        return Tested(which, label, overs, mean, by, part, log_p, ends, row, spoken)


def _own_effect(of: Ints, rest: Floats, hit: Bools, many: int) -> Floats:
    """The most log odds that each of many words adds where it does not fit, by where it does."""
    made, sure = np.zeros(many), FITTING_SD**-2
    for _ in range(STEPS):
        chance = raised(rest, made[of])
        slope = np.bincount(of, hit - chance, many) - sure * made
        bend = np.bincount(of, chance * (1.0 - chance), many) + sure
        step = np.clip(slope / bend, -1.0, 1.0)
        made += step
        if np.abs(step).max(initial=0.0) < CLOSE:
            break
    return np.asarray(np.clip(made + BEYOND + 1.0 / np.sqrt(bend), BEYOND, MOST_NATURAL))


def rest_of(model: Model, found: Candidates, g: int, label: int) -> Floats:
    """The chance of a label in each row of a candidate, by the rest of the row."""
    of, row, place = found.entries(np.array([g]))
    return np.asarray(_rest(model, found, (of + g, row, place))[0][:, label], np.float64)


def _rest(
    model: Model, found: Candidates, entries: tuple[Ints, Ints, Ints]
) -> tuple[Floats, Bools]:
    """The chance of each label by the rest of a row, and whether the rest says anything.

    Entries are candidates, rows and places.
    """
    size = entries[0].size
    made, speaks = np.empty((size, model.logits.shape[1])), np.empty(size, bool)
    owned = np.append(0, np.cumsum((found.own[1:] - found.own[:-1])[entries[0]]))
    for start, stop in blocks(owned, MOST_OWNED):
        some = slice(start, stop)
        of, row, place = (part[some] for part in entries)
        logits, left_over = _rest_logits(model, found, (of, row, place))
        made[some] = softmax(model.slope * logits)
        speaks[some] = left_over >= LEAST_REST
    return made, speaks


@dataclass(frozen=True, eq=False)
class _Entries:
    """Rows of candidates, with the label that is asked for and its chance by the rest."""

    of: Ints
    row: Ints
    rest: Floats
    label: Ints


def _rest_logits(
    model: Model, found: Candidates, entries: tuple[Ints, Ints, Ints]
) -> tuple[Floats, Floats]:
    """Logits of rows with a candidate's own words taken out and the rest brought to length 1.

    The second array has the share of a row's squared weight that is left.
    """
    of, row, place = entries
    sizes = found.own[of + 1] - found.own[of]
    occurrence = np.repeat(np.arange(of.size), sizes)
    word = found.owned[spread(found.own[of], sizes)].astype(np.int64)
    if model.grams.at.size:
        width = model.grams.width
        spans, runs = model.grams.across(place, found.size[of])
        both = distinct(np.append(occurrence * width + word, spans * width + runs))
        occurrence, word = both // width, both % width
    entry, there = model.bag.find(row[occurrence], word)
    entry, occurrence, word = entry[there], occurrence[there], word[there]
    weight, fold = model.bag.weight(entry, row[occurrence]), model.fold[row[occurrence]]
    square = 1.0 - np.bincount(occurrence, weight**2, minlength=of.size)
    scale = 1.0 / np.sqrt(np.maximum(square, LEAST_REST))
    left = model.logits[row].astype(np.float64)
    for k in range(left.shape[1]):
        part = weight * model.coef[fold, k, word]
        left[:, k] -= np.bincount(occurrence, part, minlength=of.size)
    logits = left * scale[:, None] + model.intercepts[model.fold[row]]
    return np.asarray(logits), np.asarray(square, np.float64)
