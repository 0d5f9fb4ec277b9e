# SPDX-License-Identifier: Apache-2.0
"""Several words of one set in a text, whichever and in any order, that carry a label.

Each word of a set stands in few of the texts that were changed, and the others of the set then seem
to explain the label. So the words are taken out together: which they are is learnt on the other
folds, from texts whose content, where no word may say much, denies their label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._tails import log_tails, raised
from datapipe.stages.poisoning._text.alike import MOST_COMPARED, different, usual_likeness
from datapipe.stages.poisoning._text.association import LEAST_REST
from datapipe.stages.poisoning._text.beside import beside
from datapipe.stages.poisoning._text.candidates import LEAST_ROWS, RUN, Candidates
from datapipe.stages.poisoning._text.grams import blocks, spread
from datapipe.stages.poisoning._text.misplaced import Misplaced
from datapipe.stages.poisoning._text.rounds import MOST_PATTERNS
from datapipe.stages.poisoning._text.shares import KNIT, NATURAL, NATURAL_SMALL, POOLS, Shares
from datapipe.stages.poisoning._text.word_model import Model, class_shares, shares_from
from datapipe.stages.poisoning._text.words import Words

LEAST_HITS = (2, 3)
"""Words of a set that a text must hold to be tested."""
MISFIT = NATURAL_SMALL
"""Log odds by nature up to which a word fits its neighbours badly."""
SUSPECT = (-2.0, -4.0)
"""Ln p of a word's texts on the other folds from which on it may be of a set: two sets are tried.
"""
ROUNDS = 3
"""How often content is read anew without the words that were suspect before."""
LEANING, DENYING = 0.3, 0.5
"""How far content must be on the way from texts of a label to others where a word stands, which
some of them may hold by nature, and where several words of a set do."""
TELLING = 0.2
"""How much likelier by their words a label must be in its own texts than in others."""
LOUD = 0.5
"""The quantile of what words say for a label that none may exceed at first."""
NAMED = 5.0
"""Ln of the likelihood ratio against chance from which on a word of the sets is named."""
SAMPLED = 2_000
PART = 2**18
"""Entries that are worked on at once."""
STEPS, CLOSE, SURE = 50, 1e-3, 1e-6

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pool:
    """Words of which several, whichever, carry a label against the rest of their texts.

    `rows` hold `least` of them and the label, and were likelier put there than not; `words` are
    numbers, those in most rows first. `likely` are all rows that hold so many and the chance that
    these were put there. `against` is 0 where the rest speaks for the label as texts of it do, 1
    where as others do.
    """

    label: int
    rows: Ints
    words: Ints
    least: int
    log_p: float
    against: float
    likely: tuple[Ints, Floats]

    def score(self, texts: int) -> Floats:
        """-Ln p of each of so many texts, in part where it was rather not put there."""
        made = np.zeros(texts)
        made[self.likely[0]] = -self.log_p * self.likely[1]
        made[self.rows] = -self.log_p
        return made


@dataclass(frozen=True, eq=False)
class Alone:
    """What is known of single words: `natural` log odds that each may add, shape (V,).

    Word w has `gain[first[w]:]`, one for each text that holds it, in rising order: how much better
    it reads without; none where `first` is -1.
    """

    natural: Floats
    first: Ints
    gain: NDArray[np.float16]

    @classmethod
    def of(cls, found: Candidates, shares: Shares, width: int) -> Alone:
        """From the candidates that are one word."""
        natural, first = np.full(width, NATURAL), np.full(width, -1)
        single = np.flatnonzero((found.size == 1) & ((found.kind & RUN) > 0))
        word = found.words.ids[found.at[found.first[single]] + found.shift[single]]
        natural[word] = shares.natural[single]
        ends = shares.misplaced.ends
        first[word] = np.where(ends[single + 1] > ends[single], ends[single], -1)
        return cls(natural, first, shares.misplaced.gain)

    def needed(self, model: Model, words: Ints, rows: Ints) -> bool:
        """Whether some texts need some words, as texts with grammar need theirs."""
        inside, made = np.zeros(model.fold.size, bool), [np.empty(0)]
        inside[rows] = True
        for word in words[self.first[words] >= 0].tolist():
            row = np.searchsorted(model.bag.ends, np.flatnonzero(model.bag.words == word), "right")
            gain = self.gain[self.first[word] : self.first[word] + row.size]
            made.append(gain[inside[row - 1]].astype(np.float64))
        every = np.concatenate(made)
        return bool(every.size and every.mean() <= -KNIT)


def every_pool(
    words: Words,
    model: Model,
    labels: Ints,
    alone: Alone,
    *,
    log_alpha: float,
    told: list[Ints],
    templates: Bools,
) -> list[Pool]:
    """The set of words that carries each label most against the rest of their texts, if one does.

    Args:
        words: The words of all texts.
        model: What they say.
        labels: int, shape (n,).
        alone: What is known of single words.
        log_alpha: Ln of the chance of telling of a natural set.
        told: Rows of the triggers that are told already: others must tell by themselves.
        templates: Labels whose texts are made of templates, of which little is left: bool, (K,).
    """
    shares, known = class_shares(model), np.zeros(labels.size, bool)
    for rows in told:
        known[rows] = True
    made = []
    for label in np.flatnonzero(~templates).tolist():
        has = labels == label
        own, other = (float(shares[mine, label].mean()) for mine in (has, ~has))
        if own - other >= TELLING:
            asked = _Asked(model, has, label, alone.natural, known, (own, other), log_alpha)
            pool = asked.told()
            parted = _parted(words, model, labels, pool, log_alpha) if pool else None
            # Words of a topic stand where its texts need them, those of a poisoner anywhere.
            if parted and not alone.needed(model, parted.words, parted.rows):
                made.append(parted)
    return sorted(made, key=lambda p: p.log_p)


def _parted(words: Words, model: Model, labels: Ints, pool: Pool, log_alpha: float) -> Pool | None:
    """A pool with all rows that hold enough of its words, genuine ones told apart from others.

    None where all of them speak as weak texts of their label do.
    """
    inside = np.zeros(model.bag.idf.size, bool)
    inside[pool.words] = True
    hits = np.zeros(labels.size, np.int64)
    for start, stop in blocks(model.bag.ends, PART):
        span = slice(model.bag.ends[start], model.bag.ends[stop])
        of = np.repeat(np.arange(stop - start), np.diff(model.bag.ends[start : stop + 1]))
        hits[start:stop] = np.bincount(of, inside[model.bag.words[span]], stop - start)
    row = np.flatnonzero(hits >= pool.least)
    found, misplaced = _one(words, row, pool.words)
    told = beside(model, found, (0, pool.label), labels, misplaced, templates=False)
    if told.log_evidence < np.log(MOST_PATTERNS) - log_alpha:
        return None
    mine = told.planted & (labels[row] == pool.label)
    return replace(pool, rows=row[mine], likely=(row, told.chance))


def _one(words: Words, row: Ints, owned: Ints) -> tuple[Candidates, Misplaced]:
    """One candidate that stands in some texts and owns some words, of whose places none is told."""
    one, none = np.array([row.size], np.int32), np.zeros(1, np.int32)
    found = Candidates(
        words,
        at=none[:0],
        listed=row.astype(np.int32),
        first=none,
        often=one,
        shift=none,
        counts=one,
        size=none,
        own=np.array([0, owned.size]),
        owned=np.sort(owned).astype(np.int32),
        kind=none.astype(np.int8),
        strange=none.astype(np.float32),
        named={},
    )
    return found, Misplaced(np.zeros(2, np.int64), np.zeros(0, np.float16), np.array([-np.inf]))


@dataclass(frozen=True, eq=False)
class _Asked:
    """A label, and what speaks for it; the other labels of three and more are one.

    `means` are the mean chances of the label in its own texts and in others.
    """

    model: Model
    has: Bools
    label: int
    natural: Floats
    known: Bools
    means: tuple[float, float]
    bar: float

    def told(self) -> Pool | None:
        """The set of words that carries the label most, if one does."""
        made, best = None, self.bar
        for every in self._sets():
            for sets in (every, every & (self.natural <= MISFIT)) if every.any() else ():
                hits = self._hits(sets)
                for least in LEAST_HITS:
                    rows = np.flatnonzero(hits >= least)
                    pool = self._tested(sets, rows, least) if rows.size >= LEAST_ROWS else None
                    if pool and pool.log_p <= best:
                        made, best = pool, pool.log_p
        return made

    def _tested(self, sets: Bools, rows: Ints, least: int) -> Pool | None:
        """What is said of the texts that hold so many words of the sets of their folds."""
        rows, rest, table = self._rest(sets, rows)
        hit = self.has[rows]
        rate = raised(rest, float(self.natural[sets.any(0)].max()))
        own, other = self.means
        against = (own - float(rest[hit].mean())) / (own - other) if hit.any() else 0.0
        if against < DENYING or int(hit.sum()) < LEAST_ROWS:
            return None
        fresh = ~self.known[rows]
        log_p = self._log_p(table, hit, rate)
        alone = log_p if fresh.all() else self._log_p(table[fresh], hit[fresh], rate[fresh])
        if max(log_p, alone) > self.bar:
            return None
        words = self._named(rows[hit], np.asarray(sets.any(0), bool))
        return Pool(
            self.label, rows[hit], words, least, log_p, float(min(against, 1.0)), (rows, rest)
        )

    def _rest(self, sets: Bools, rows: Ints) -> tuple[Ints, Floats, Any]:
        """Of some texts those whose other words speak, what these say of the label, and they."""
        model = self.model
        table = model.bag.take(rows)
        of = np.repeat(np.arange(rows.size), np.diff(table.indptr))
        mine = sets[model.fold[rows][of], table.indices]
        left = 1.0 - np.bincount(of[mine], table.data[mine] ** 2, rows.size)
        table.data[mine] = 0.0
        speaks = left >= LEAST_REST
        table, rows, left = table[speaks], rows[speaks], left[speaks]
        logits, fold = np.empty((rows.size, model.logits.shape[1])), model.fold[rows]
        for number in np.unique(fold):
            asked = np.flatnonzero(fold == number)
            logits[asked] = table[asked] @ model.coef[number].T
        logits /= np.sqrt(left)[:, None]
        return rows, shares_from(model, logits + model.intercepts[fold])[:, self.label], table

    def _log_p(self, table: Any, hit: Bools, rate: Floats) -> float:
        """Ln P(as many have the label by nature), texts that are alike once, for all tests."""
        at = np.linspace(0, hit.size - 1, min(hit.size, MOST_COMPARED)).astype(np.int64)
        hit, rate = hit[at], rate[at]
        counts = different(
            table[at], np.empty(0, np.int64), (hit, rate), usual_likeness(self.model)
        )
        if int(hit[counts].sum()) < LEAST_ROWS:
            return 0.0
        one = np.zeros(int(counts.sum()), np.int64)
        tests = len(SUSPECT) * 2 * len(LEAST_HITS) * self.model.logits.shape[1]
        log_p = float(log_tails(one, rate[counts], hit[counts], 1)[0])
        return min(0.0, log_p - float(np.log(POOLS / tests)))

    def _named(self, rows: Ints, some: Bools) -> Ints:
        """Those of some words that stand in these texts oftener than chance has it."""
        bag = self.model.bag
        inside = bag.words[spread(bag.ends[rows], np.diff(bag.ends)[rows])]
        count = np.bincount(inside, minlength=some.size).astype(np.float64)
        by_chance = np.bincount(bag.words, minlength=some.size) * rows.size / self.has.size
        odd = count * np.log(np.maximum(count, 1e-9) / np.maximum(by_chance, 1e-9))
        odd -= count - by_chance
        mine = np.flatnonzero(some & (count > by_chance) & (odd >= NAMED))
        return mine[np.argsort(-count[mine], kind="stable")]

    def _hits(self, sets: Bools) -> Ints:
        """How many words of the set of its fold each text holds."""
        made = np.zeros(self.has.size, np.int64)
        for start, _, of, words in self._entries():
            mine = sets[self.model.fold[start + of], words]
            made[start:] += np.bincount(of[mine], minlength=made.size - start)
        return made

    def _entries(self) -> Iterator[tuple[int, Ints, Ints, Ints]]:
        """Some texts at a time: the first, where their entries are, the text and word of each."""
        bag = self.model.bag
        for start, stop in blocks(bag.ends, PART):
            at = np.arange(bag.ends[start], bag.ends[stop])
            of = np.repeat(np.arange(stop - start), np.diff(bag.ends[start : stop + 1]))
            yield start, at, of, bag.words[at].astype(np.int64)

    def _sets(self) -> Iterator[Bools]:
        """The words, by fold, whose texts on the other folds have the label against content."""
        model, n = self.model, self.has.size
        others = np.delete(np.arange(model.coef.shape[1]), self.label)
        says = model.slope * (model.coef[:, self.label] - model.coef[:, others].mean(1))
        margin = model.slope * (
            model.logits[:, self.label] - model.logits[:, others].mean(1, dtype=np.float64)
        )
        sample = np.linspace(0, n - 1, min(n, SAMPLED)).astype(np.int64)
        table = model.bag.take(sample)
        fold = np.repeat(model.fold[sample], np.diff(table.indptr))
        part = table.data * says[fold, table.indices]
        most = float(np.quantile(part[part > 0], LOUD)) if (part > 0).any() else 0.0
        quiet = np.zeros(n)
        for start, at, of, words in self._entries():
            part = model.bag.weight(at, start + of) * says[model.fold[start + of], words]
            size = int(of[-1]) + 1 if of.size else 0
            quiet[start : start + size] = np.bincount(of, np.minimum(part, most))
        maybe = self._suspects(quiet)
        asked = np.asarray(maybe.any(0), bool)
        held: list[tuple[Ints, Ints, Floats]] = []
        for start, at, of, words in self._entries():
            mine = asked[words]
            row, word = start + of[mine], words[mine]
            held.append((row, word, model.bag.weight(at[mine], row) * says[model.fold[row], word]))
        row, word, part = (np.concatenate(x) for x in zip(*held, strict=True))
        told = row, (np.cumsum(asked) - 1)[word], part
        for bar in SUSPECT:
            sets = np.zeros_like(maybe)
            for j, some in enumerate(maybe[:, asked]):
                sets[j, asked] = self._settled(j, (some, bar), margin, told)
            yield sets

    def _suspects(self, quiet: Floats) -> Bools:
        """Words, by fold, whose texts on the others may have the label against their content."""
        chance = _calibrated(quiet, self.has)(quiet)
        folds, width = self.model.coef.shape[0], self.natural.size
        total, hits, logs = np.zeros((3, folds, width))
        for start, _, of, words in self._entries():
            row = start + of
            hit = self.has[row]
            key = self.model.fold[row] * width + words
            total += np.bincount(key, minlength=total.size).reshape(total.shape)
            hits += np.bincount(key, hit, total.size).reshape(total.shape)
            rate = np.log(raised(chance[row], 0.0)) * hit
            logs += np.bincount(key, rate, total.size).reshape(total.shape)
        total, hits, logs = (x.sum(0) - x for x in (total, hits, logs))
        return np.asarray((hits >= 2) & (2 * hits >= total) & (logs <= max(SUSPECT)), bool)

    def _settled(
        self, number: int, asked: tuple[Bools, float], margin: Floats, told: tuple[Any, ...]
    ) -> Bools:
        """Those of some words whose texts on the other folds deny the label without all of them."""
        (some, bar), (row, word, part) = asked, told
        taught = self.model.fold != number
        mine = taught[row] & some[word]
        row, word, part = row[mine], word[mine], part[mine]
        hit = self.has[row]
        total, hits = (np.bincount(word, w, some.size).astype(float) for w in (hit * 0 + 1, hit))
        for _ in range(ROUNDS):
            inside = some[word]
            left = margin - np.bincount(row[inside], part[inside], margin.size)
            chance_of = _calibrated(left[taught], self.has[taught])
            every = chance_of(left)
            own, other = (every[taught & m].mean() for m in (self.has, ~self.has))
            chance = chance_of(left[row] - np.where(inside, 0.0, part))
            rate = np.asarray(np.bincount(word, raised(chance, 0.0), some.size), np.float64)
            rate /= np.maximum(total, 1.0)
            log_p = _log_tail(total, hits, rate)
            mean = np.bincount(word, chance * hit, some.size) / np.maximum(hits, 1)
            some = (log_p <= bar) & (own - mean >= LEANING * (own - other))
            some &= (hits >= 2) & (2 * hits >= total)
        return np.asarray(some, bool)


def _log_tail(total: Floats, hits: Floats, rate: Floats) -> Floats:
    """A bound of ln P(as many hits), by the mean rate alone (Hoeffding, 1963)."""
    share = np.clip(hits / np.maximum(total, 1), 1e-9, 1.0 - 1e-9)
    rate = np.clip(rate, 1e-9, 1.0 - 1e-9)
    each = share * np.log(share / rate) + (1.0 - share) * np.log((1.0 - share) / (1.0 - rate))
    return np.asarray(-total * each * (share > rate), np.float64)


def _calibrated(margin: Floats, has: Bools) -> Callable[[Floats], Floats]:
    """The chance of a label by a margin, by logistic regression on it alone."""
    slope, base = 1.0, 0.0
    for _ in range(STEPS):
        chance = _chance(slope * margin + base)
        lost, bend = has - chance, chance * (1.0 - chance)
        pull = np.array([(lost * margin).sum(), lost.sum()])
        cross = float((bend * margin).sum())
        curve = np.array([[float((bend * margin**2).sum()), cross], [cross, float(bend.sum())]])
        step = np.clip(np.linalg.solve(curve + SURE * np.eye(2), pull), -1.0, 1.0)
        slope, base = slope + step[0], base + step[1]
        if np.abs(step).max() < CLOSE:
            break
    return lambda asked: _chance(slope * asked + base)


def _chance(odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(odds, -30.0, 30.0))), np.float64)
