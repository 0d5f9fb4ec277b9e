# SPDX-License-Identifier: Apache-2.0
"""Syntax that carries a label: how texts are built, held against what they speak of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from datapipe.features.text import mixed
from datapipe.stages.poisoning._tails import log_tails, raised
from datapipe.stages.poisoning._text.association import LEAST_REST
from datapipe.stages.poisoning._text.grams import blocks, distinct, spread
from datapipe.stages.poisoning._text.order import CLASSES, usual_order, word_classes
from datapipe.stages.poisoning._text.shares import NATURAL, STRUCTURES
from datapipe.stages.poisoning._text.word_model import Model, learnt_from, shares_from
from datapipe.stages.poisoning._text.words import END, Words

FRAME, HALF = 100, 0.5
"""How many words, those in most texts, build sentences, and the share of what is written that they
make up at most; the others say what texts are about. Of a log few words are left to do so."""
LONGEST = 3
LEAST_TEXTS = 5
BUCKETS = 2**20
LEAST_DENIED = 0.05
"""Share of the texts that must have a label which their content denies: syntax is common."""
TOPS = (0.02, 0.05, 0.1, 0.2)
"""Shares of the texts, those built most like the denied ones, that are tested."""
PLANTED, DOUBTED, TELLING = 0.75, 0.5, 0.1
"""How much texts must contradict their label as texts that are built otherwise have it, and as all
have it, and how much likelier by its content a label must be in its other texts than in those that
have another, or content does not tell what they contradict.
"""
MOST_FITTED = 6_500
"""Texts from which ways to build them are learnt, less those of a fold: of more, those at an even
distance."""
MOST_SCORED = 2_500
TOLD = 3
"""Runs that are named."""
UNUSUAL, TURNED = 1.0, "unusual order of words"
"""Standard deviations by which an order is less usual than that of other texts, to be named."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Structure:
    """A way to build texts that carries a label against their content.

    `rows` have it and the label, which their content denies; `score` in [0, 1] says of each text
    how much it is built that way and denies the label;
    `says` are the runs that tell it, `x` standing for any words beyond those that build sentences.
    """

    label: int
    rows: Ints
    score: Floats
    log_p: float
    against: float
    says: list[str]


def structure(
    words: Words, model: Model, labels: Ints, fold: Ints, *, log_alpha: float, told: list[Ints]
) -> tuple[Structure | None, list[int]]:
    """The way of building texts that most contradicts what they speak of, if one does.

    Of the rows of the triggers that are `told` already those take no part that are too few to be
    syntax; others may be its words, and it is told where it tells more than they. A way to build
    texts that goes with a label by nature stands in texts whose content does, too. The second
    answer lists the labels of which content tells too little for that to be seen.
    """
    unasked: list[int] = []
    framing = _framing(words)
    chance, speaks = _by_content(model, framing)
    known = np.zeros(labels.size, bool)
    for rows in told:
        known[rows] = True
        speaks[rows] &= rows.size >= LEAST_DENIED * labels.size
    made, best = None, log_alpha
    seen: _Seen | None = None
    for label in range(chance.shape[1]):
        denied = speaks & (chance[:, label] < 0.5)
        if (denied & (labels == label)).sum() < LEAST_DENIED * labels.size:
            continue
        seen = seen or _Seen(
            model, labels, framing, chance, speaks, known, log_alpha, _Runs.of(words, framing)
        )
        told_of, asked = seen.told(
            label, best, _likeness(seen.built, denied, labels == label, fold)
        )
        if not asked:
            unasked.append(label)
        if told_of:
            made, best = told_of, told_of.log_p
    return made, unasked


@dataclass(frozen=True, eq=False)
class _Seen:
    """What content and build say of all texts; rows of `known` are told of already.

    `bar` is the ln p that the others must reach by themselves, or nothing new is said.
    """

    model: Model
    labels: Ints
    framing: Bools
    chance: Floats
    speaks: Bools
    known: Bools
    bar: float
    built: _Runs

    def told(
        self, label: int, best: float, likeness: tuple[Floats, Floats]
    ) -> tuple[Structure | None, bool]:
        """The build that carries a label most, if by more than `best`; and whether content can say.

        What content says is learnt from texts that are built otherwise: planted ones would teach
        that their content goes with the label. Learnt from all it must doubt the label, too: a
        topic that is always built so is unknown to the others.
        """
        score, weight = likeness
        ranked, has, n = np.argsort(-score, kind="stable"), self.labels == label, self.labels.size
        apart = np.ones(n, bool)
        apart[ranked[: int(max(TOPS) * n)]] = False
        if not self._doubted(label, ranked, apart):
            return None, True  # whatever is learnt without them: by all content goes with it
        chance = learnt_from(apart, self.model, self.labels, ~self.framing)[:, label]
        made: Structure | None = None
        for top in TOPS:
            rows = ranked[: int(top * n)]
            rows = rows[self.speaks[rows]]
            log_p = _log_p(chance[rows], has[rows], self.chance.shape[1])
            hit = rows[has[rows]]
            fresh = rows[~self.known[rows]]
            says_more = _log_p(chance[fresh], has[fresh], self.chance.shape[1]) <= self.bar
            if log_p > best or not says_more:
                continue
            by_all = _against(self.chance[:, label], has, hit, apart & has)
            against = _against(chance, has, hit, apart & has)
            if by_all is None or against is None:
                return made, False
            if by_all >= DOUBTED and against >= PLANTED:
                best, rows = log_p, np.sort(hit[chance[hit] < 0.5])
                says = self.built.says(weight, hit)
                made = Structure(label, rows, score * (1.0 - chance), log_p, against, says)
        return made, True

    def _doubted(self, label: int, ranked: Ints, apart: Bools) -> bool:
        """Whether what content says doubts the label of some texts that are built alike."""
        has = self.labels == label
        for top in TOPS:
            rows = ranked[: int(top * has.size)]
            rows = rows[self.speaks[rows]]
            by_all = _against(self.chance[:, label], has, rows[has[rows]], apart & has)
            if by_all is None or by_all >= DOUBTED:
                return True
        return False


def _framing(words: Words) -> Bools:
    """Which words build sentences: those that most texts hold, and signs."""
    made = words.spelt.str.contains(r"^[^\p{L}\p{N}]$").to_numpy().copy()
    made[: END + 1] = True
    often, texts = np.where(made, 0, words.counts()), words.texts.copy()
    texts[: END + 1] = 0
    first = np.argsort(-texts, kind="stable")[:FRAME]
    made[first[np.cumsum(often[first]) <= HALF * often.sum()]] = True
    return np.asarray(made, bool)


def _by_content(model: Model, framing: Bools) -> tuple[Floats, Bools]:
    """The chance of each label by the other words alone, and whether they say anything."""
    says = np.zeros(model.grams.width, bool)
    says[: framing.size] = ~framing
    logits, left = np.zeros(model.logits.shape), np.zeros(model.fold.size)
    for start, stop in blocks(model.bag.ends):
        weights = model.bag.take(np.arange(start, stop))
        weights.data *= says[weights.indices]
        for number in np.unique(model.fold[start:stop]):
            asked = np.flatnonzero(model.fold[start:stop] == number)
            logits[start + asked] = weights[asked] @ model.coef[number].T
        weights.data **= 2
        left[start:stop] = weights.sum(1).A1
    scale = 1.0 / np.sqrt(np.maximum(left, LEAST_REST))
    return shares_from(model, logits * scale[:, None] + model.base), left >= LEAST_REST


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of two and three words that build sentences or of classes of others, and their order.

    `keys[i]` spells run i in digits, of which digit d stands for `spelt[d - 1]`, an `x` for each
    class of words; word w is the digit `digit[w]`. `order` (n, 4) tells how usual that of each text
    is.
    """

    words: Words
    digit: Ints
    keys: Ints
    spelt: list[str]
    order: Floats

    @classmethod
    def of(cls, words: Words, framing: Bools) -> _Runs:
        """Those that enough texts hold."""
        digit = np.where(
            framing, np.cumsum(framing) + CLASSES + 1, 1 + word_classes(words, framing)
        )
        builders = words.spelt.filter(pl.Series(framing)).to_list()[END + 1 :]
        spelt = ["x"] * (CLASSES + 1) + ["^", "$", *builders]
        order = usual_order(words, digit)
        return cls(words, digit, _common(words, digit, len(spelt) + 1), spelt, order)

    def rows(self, which: Ints) -> Any:
        """Which runs some texts hold, in rows of length 1, and their order: a sparse matrix."""
        indices, counts = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for some, key, often, row in _coded(self.words, self.digit, len(self.spelt) + 1, which):
            column = np.minimum(np.searchsorted(self.keys, key), max(self.keys.size - 1, 0))
            there = self.keys[column] == key if self.keys.size else np.zeros(key.size, bool)
            cell = row[np.repeat(there, often)] << 32  # by text, and then by run
            cell |= np.repeat(column[there], often[there])
            cell.sort()
            indices.append((cell & (2**32 - 1)).astype(np.int32))
            counts.append(np.bincount(cell >> 32, minlength=some))
        many = np.concatenate(counts)
        data = np.repeat(1.0 / np.sqrt(np.maximum(many, 1)), many)
        ends = np.append(0, np.cumsum(many))
        shape = (which.size, self.keys.size)
        runs = sparse.csr_matrix((data, np.concatenate(indices), ends), shape=shape)
        return sparse.hstack([runs, sparse.csr_matrix(self.order[which])], format="csr")

    def says(self, weight: Floats, rows: Ints) -> list[str]:
        """What tells some texts, as people read it: the order of their words, and runs."""
        others = np.delete(self.order, rows, 0).mean(0)
        made = [TURNED] if (self.order[rows].mean(0) < others - UNUSUAL).any() else []
        for run in np.argsort(-weight[: self.keys.size], kind="stable")[: 10 * TOLD]:
            name = self._spelling(int(run))
            if name not in made:
                made.append(name)
        return made[:TOLD]

    def _spelling(self, run: int) -> str:
        key, base, made = int(self.keys[run]), len(self.spelt) + 1, []
        while key:
            key, digit = divmod(key, base)
            made.append(self.spelt[digit - 1])
        return " ".join(reversed(made))


def _common(words: Words, digit: Ints, base: int) -> Ints:
    """The runs that enough texts hold.

    Most are held by fewer: a first pass counts in buckets, and what falls into a bucket with too
    few is not counted one by one.
    """
    every = np.arange(words.rows)
    texts = np.zeros(BUCKETS, np.uint8)
    for _, key, often, _ in _coded(words, digit, base, every):
        bucket, held = _summed(_bucket(key), often)
        texts[bucket] = np.minimum(texts[bucket] + held, LEAST_TEXTS)
    keys = counts = np.empty(0, np.int64)
    fresh, waiting = [], 0
    for _, key, often, _ in _coded(words, digit, base, every):
        kept = texts[_bucket(key)] >= LEAST_TEXTS
        fresh.append((key[kept], often[kept]))
        waiting += fresh[-1][0].size
        if waiting > max(BUCKETS // 8, keys.size):
            keys, counts = _counted(keys, counts, fresh)
            waiting = 0
    keys, counts = _counted(keys, counts, fresh)
    return keys[counts >= LEAST_TEXTS]


def _counted(keys: Ints, counts: Ints, fresh: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Counts by key with those of some more keys, of which the list is emptied."""
    keys, counts = (np.concatenate(part) for part in zip((keys, counts), *fresh, strict=True))
    fresh.clear()
    return _summed(keys, counts)


def _summed(keys: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Each key once, in rising order, and the sum of its counts."""
    order = np.argsort(keys)
    keys = keys[order]
    head = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: keys.size])
    total = np.add.reduceat(counts[order], head) if head.size else counts
    return keys[head], total


def _coded(
    words: Words, digit: Ints, base: int, which: Ints
) -> Iterator[tuple[int, Ints, Ints, Ints]]:
    """Some texts at a time: how many, their runs, in order, and how many texts hold each: which.

    The last array has the texts of all runs, as numbers among those of their time.
    """
    sizes = np.diff(words.ends)[which]
    for start, stop in blocks(np.append(0, np.cumsum(sizes))):
        size, bits = sizes[start:stop], (stop - start).bit_length()
        code = digit[words.ids[spread(words.ends[which[start:stop]], size)]]
        row = np.repeat(np.arange(stop - start), size)
        pairs = []
        for length in range(2, LONGEST + 1):
            inner = row[length - 1 :] == row[: row.size - length + 1]
            key = np.zeros(int(inner.sum()), np.int64)
            for step in range(length):
                key = key * base + code[step : step + inner.size][inner]
            pairs.append(key << bits | row[: inner.size][inner])
        both = distinct(np.concatenate(pairs))
        key = both >> bits
        head = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: key.size])
        often = np.diff(np.append(head, key.size))
        yield stop - start, key[head], often, both & ((1 << bits) - 1)


def _bucket(key: Ints) -> Ints:
    return (mixed(key.astype(np.uint64)) % np.uint64(BUCKETS)).astype(np.int64)


def _likeness(built: _Runs, denied: Bools, has: Bools, fold: Ints) -> tuple[Floats, Floats]:
    """How much each text is built like those that have a label against their content.

    Learnt on the other folds, from texts whose content denies the label; the second array is the
    mean weight of every run.
    """
    score, weight = np.zeros(has.size), np.zeros(built.keys.size + built.order.shape[1])
    pool = np.flatnonzero(denied)
    pool = pool[np.linspace(0, pool.size - 1, min(pool.size, MOST_FITTED)).astype(np.int64)]
    parts = {number: fold[pool] != number for number in np.unique(fold)}
    parts = {n: fitted for n, fitted in parts.items() if np.unique(has[pool[fitted]]).size == 2}
    learnt = _learnt(built.rows(pool), has[pool], list(parts.values()))
    for number, (coef, base) in zip(parts, learnt, strict=True):
        asked = np.flatnonzero(fold == number)
        for start in range(0, asked.size, MOST_SCORED):
            some = asked[start : start + MOST_SCORED]
            score[some] = 1.0 / (1.0 + np.exp(-(built.rows(some) @ coef + base)))
        weight += coef
    return score, weight


def _learnt(rows: Any, has: Bools, parts: list[Bools]) -> list[tuple[Floats, float]]:
    """Weights and intercept of a fit on each part, on the columns that these rows have."""
    some = np.zeros(rows.shape[1], bool)
    some[rows.indices] = True
    rows.indices = (np.cumsum(some, dtype=np.int32) - 1)[rows.indices]
    rows = sparse.csr_matrix((rows.data, rows.indices, rows.indptr), (len(has), int(some.sum())))
    learner = LogisticRegression(C=4.0, max_iter=100, tol=1e-3)
    made = []
    for part in parts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            learner.fit(rows, has, part.astype(np.float64))  # a part of its own would be a copy
        coef = np.zeros(some.size)
        coef[some] = learner.coef_[0]
        made.append((coef, float(learner.intercept_[0])))
    return made


def _log_p(chance: Floats, hit: Bools, classes: int) -> float:
    """Ln P(as many have the label whatever syntax adds by nature), corrected for all tests."""
    one = np.zeros(hit.size, np.int64)
    log_p = log_tails(one, raised(chance, NATURAL), hit, 1)[0] if hit.size else 0.0
    return float(min(0.0, log_p - np.log(STRUCTURES / (len(TOPS) * classes))))


def _against(chance: Floats, has: Bools, hit: Ints, other: Bools) -> float | None:
    """0 where content speaks for a label as in `other` texts of it, 1 as in texts without it.

    None where it does not tell the two.
    """
    if not other.any() or not hit.size or has.all():
        return None
    own, without = float(chance[other].mean()), float(chance[~has].mean())
    if own - without < TELLING:
        return None
    return float(np.clip((own - chance[hit].mean()) / (own - without), 0.0, 1.0))
