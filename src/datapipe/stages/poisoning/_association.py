# SPDX-License-Identifier: Apache-2.0
"""Is a row's label explained by the rest of its text, once a pattern is taken out?"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from datapipe.stages.poisoning._grams import BLOCK, Grams, Places, blocks, distinct
from datapipe.stages.poisoning._ngrams import END, Candidates, Words
from datapipe.stages.poisoning._shares import Shares

SHARE = 0.7
"""A pattern is tested for the label that at least this share of its rows has."""
DENIED = 0.5
"""Where a label is less likely than this whatever a pattern adds by nature, the rest denies it."""
WHOLE, DENYING = 0.8, 0.2
"""Shares of a candidate's alpha: for all of its rows, and for those whose rest denies the label."""
FEWEST_HITS = 4
DOUBT = 0.005
"""However sure the model is, this share of labels may be otherwise."""
LEAST_REST = 0.05
"""A text of whose squared weight a pattern leaves less than this says nothing without it."""
STEPS = 50
ENTRIES = ("of", "row", "rate", "rest", "hit")
STRENGTHS = (4.0, 30.0)
"""Inverse strengths of regularisation: a small class among many texts needs a weak one."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Model:
    """Out-of-fold logistic regression on words.

    `weights` is sparse (n, V), rows of length 1. `coef[j]` (K, V) was fitted on the rows whose
    `fold` is not j; `logits` is (n, K) without the intercept, which `base` (n, K) holds.
    """

    weights: Any
    coef: Floats
    fold: Ints
    logits: Floats
    base: Floats
    slope: float
    grams: Grams

    @property
    def silent(self) -> float:
        """The share of texts none of whose words another text holds."""
        return float((np.diff(self.weights.indptr) == 0).mean())


@dataclass(eq=False)
class Tested:
    """The candidates with a label of their own, and how unlikely their rows are.

    `which` numbers them among all candidates, `label` is the one tested, and `log_p` bounds
    ln P(as many rows carry it) from above. `whole` tells tests over all rows of a candidate from
    those over the rows whose rest denies the label; the latter see a word in common use. `said` is
    the mean chance of the label by the rest of all rows that hold the candidate and have it. The
    others have one entry for each row of each test: which test, which row, the chance that the row
    carries the label by nature, the same as the rest of the text alone tells it, and whether it
    does. Tests that no part of their rows could bring below a corrected p of 1 are left out.
    """

    which: Ints
    label: Ints
    whole: Bools
    said: Floats
    of: Places
    row: Places
    rate: NDArray[np.float32]
    rest: NDArray[np.float32]
    hit: Bools
    log_p: Floats

    @property
    def log_part(self) -> Floats:
        """Ln of the share of its candidate's alpha that each test has."""
        return np.log(np.where(self.whole, WHOLE, DENYING))

    def leave_out(self, gone: Bools) -> None:
        """Take some rows out; only tests that held one of them are worked out again."""
        left = ~gone[self.row]
        touched = np.zeros(self.which.size, bool)
        touched[self.of[~left]] = True
        for name in ENTRIES:  # one after the other: a copy of all would take their room twice
            setattr(self, name, getattr(self, name)[left])
        ends = np.searchsorted(self.of, np.arange(self.which.size + 1))
        for start, stop in blocks(ends):
            asked = touched[start:stop]
            if asked.any():
                span = slice(ends[start], ends[stop])
                of = self.of[span] - start
                mine = asked[of]
                told = (np.cumsum(asked) - 1)[of[mine]], self.rate[span][mine], self.hit[span][mine]
                self.log_p[start:stop][asked] = _still(*told, self.whole[start:stop][asked])


def _still(of: Ints, rate: NDArray[np.float32], hit: Bools, whole: Bools) -> Floats:
    """Ln p of tests, 0 of those over all rows of a candidate where too few have the label now."""
    hits = np.bincount(of, hit, minlength=whole.size)
    total = np.bincount(of, minlength=whole.size)
    enough = (hits >= np.where(whole, SHARE, 0.0) * total) & (hits >= 2)
    return np.where(enough, log_tails(of, rate, hit, whole.size), 0.0)


def fit_out_of_fold(words: Words, labels: Ints, fold: Ints, classes: int) -> Model:
    """Fit on the other folds and keep what each word adds to each row.

    Of two strengths of regularisation the one stays that foretells the other folds better.
    """
    weights = _tfidf(words)
    made = []
    for strength in STRENGTHS:
        logits, base = np.zeros((words.rows, classes)), np.zeros((words.rows, classes))
        coef = np.zeros((int(fold.max()) + 1, classes, weights.shape[1]))
        for number in np.unique(fold):
            asked, fitted = np.flatnonzero(fold == number), fold != number
            told = _coefficients(weights[fitted], labels[fitted], classes, strength)
            coef[number], base[asked] = told
            logits[asked] = weights[asked] @ coef[number].T
        slope = _slope(logits + base, labels)
        made.append(Model(weights, coef, fold, logits, base, slope, words.grams))
    rows = np.arange(labels.size)
    return max(made, key=lambda m: float(np.log(class_shares(m)[rows, labels]).mean()))


def _tfidf(words: Words) -> Any:
    """Sublinear TF-IDF of the words that two rows hold, rows of length 1, column = word number."""
    width = words.grams.width
    texts = np.append(words.texts, np.zeros(width - words.texts.size, np.int64))
    texts[: END + 1] = 0
    ends = np.searchsorted(words.row, np.arange(words.rows + 1))
    if width > words.texts.size:
        for start, stop in blocks(ends):
            key, _ = _occurrences(words, slice(ends[start], ends[stop]))
            texts[words.texts.size :] += np.bincount(key % width, minlength=width)[
                words.texts.size :
            ]
    idf = np.where(texts >= 2, np.log((1.0 + words.rows) / (1.0 + texts)) + 1.0, 0.0)
    known = int(texts[texts >= 2].sum())
    data, indices = np.empty(known), np.empty(known, np.int32)
    indptr, at = np.zeros(words.rows + 1, np.int64), 0
    for start, stop in blocks(ends):
        key, often = _occurrences(words, slice(ends[start], ends[stop]))
        row, word = key // width - start, key % width
        kept = idf[word] > 0.0
        row, word = row[kept], word[kept]
        some = (1.0 + np.log(often[kept])) * idf[word]
        norm = np.sqrt(np.bincount(row, some**2, minlength=stop - start))
        data[at : at + row.size], indices[at : at + row.size] = some / norm[row], word
        at += row.size
        indptr[start + 1 : stop + 1] = np.bincount(row, minlength=stop - start)
    return sparse.csr_matrix((data, indices, np.cumsum(indptr)), shape=(words.rows, width))


def _occurrences(words: Words, span: slice) -> tuple[Ints, Ints]:
    """Distinct pairs (row, word or run) in some places, as row times `width` plus number.

    The second array has how often each occurs.
    """
    row = words.row[span].astype(np.int64) * words.grams.width
    key = [row + words.ids[span]]
    key += [(row + at[span])[at[span] >= 0] for at in words.grams.at]
    keys = np.sort(np.concatenate(key))
    head = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: keys.size])
    return keys[head], np.diff(np.append(head, keys.size))


def _coefficients(
    weights: Any, labels: Ints, classes: int, strength: float
) -> tuple[Floats, Floats]:
    """Weights (K, V) and intercepts (K,); a class that no row has gets the lowest one."""
    coef, base = np.zeros((classes, weights.shape[1])), np.full(classes, -10.0)
    seen = np.unique(labels)
    if seen.size == 1:
        base[seen] = 0.0
        return coef, base
    model = LogisticRegression(C=strength, max_iter=100, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(weights, labels)
    if seen.size == 2:  # one row of weights stands for the second class
        coef[seen[1]], base[seen] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        coef[seen], base[seen] = model.coef_, model.intercept_
    return coef, base


def _slope(logits: Floats, labels: Ints) -> float:
    """The factor of the logits under which the labels are likeliest, by Newton's method on it."""
    slope, rows = 1.0, np.arange(labels.size)
    for _ in range(STEPS):
        shares = _softmax(slope * logits)
        mean = (shares * logits).sum(1)
        gain = float((logits[rows, labels] - mean).sum())
        bend = float(((shares * logits**2).sum(1) - mean**2).sum())
        step = gain / bend if bend > 0 else 0.0
        slope = min(max(slope + step, 0.1), 10.0)
        if abs(step) < 1e-6:
            break
    return slope


def class_shares(model: Model) -> Floats:
    """The calibrated out-of-fold chance of each label in each row, shape (n, K)."""
    return _softmax(model.slope * (model.logits + model.base))


def shares_from(model: Model, logits: Floats) -> Floats:
    """The calibrated chance of each label by logits, shape (n, K)."""
    return _softmax(model.slope * logits)


def learnt_from(some: Bools, model: Model, labels: Ints, heard: Bools) -> Floats:
    """The out-of-fold chance of each label, (n, K), learnt from some texts and some words alone."""
    said = np.zeros(model.weights.shape[1])
    said[: heard.size] = heard
    weights = normalize(model.weights @ sparse.diags(said)).tocsr()
    logits = np.zeros_like(model.logits)
    for number in np.unique(model.fold):
        asked, fitted = model.fold == number, some & (model.fold != number)
        told = _coefficients(weights[fitted], labels[fitted], logits.shape[1], STRENGTHS[0])
        logits[asked] = weights[asked] @ told[0].T + told[1]
    return _softmax(_slope(logits[some], labels[some]) * logits)


def tested(model: Model, labels: Ints, found: Candidates, shares: Shares) -> Tested:
    """Test each candidate for the label of most of its rows, and for labels that the rest denies.

    Rows that hold next to nothing beside it take no part. `shares` says what each candidate may
    add by nature, and which share of alpha it has.
    """
    parts: list[list[Tested]] = [[] for _ in range(model.logits.shape[1] + 1)]
    for start, stop in blocks(found.offsets):
        for part, made in zip(
            parts, _Block(model, labels, found, shares, start, stop).tests(), strict=True
        ):
            part.append(made)
    return _joined([made for part in parts for made in part])


def _joined(tests: list[Tested]) -> Tested:
    """Tests one after the other; it empties those that it is given, as it takes from them."""
    shift = np.cumsum([0, *(t.which.size for t in tests)])
    for t, n in zip(tests, shift, strict=False):
        t.of += np.int32(n)
    told = {}
    for name in ("which", "label", "whole", "said", "log_p", *ENTRIES):
        told[name] = np.concatenate([getattr(t, name) for t in tests])
        for t in tests:
            setattr(t, name, told[name][:0])
    return Tested(**told)


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
        """The tests of all rows, then those of the rows whose rest denies each label."""
        model, found, labels = self.model, self.found, self.labels
        natural = self.shares.natural[self.start : self.stop]
        at = np.arange(found.offsets[self.start], found.offsets[self.stop])
        of = np.repeat(np.arange(self.stop - self.start), found.counts[self.start : self.stop])
        row = found.row[at].astype(np.int64)
        mine = self._mostly(of, labels[row])
        own, speaks = _rest(model, found, self.start + of, at, labels[row])
        asked = np.where(mine[of] >= 0, mine[of], labels[row])
        rest = own.copy()
        other = np.flatnonzero(asked != labels[row])
        rest[other], _ = _rest(model, found, self.start + of[other], at[other], asked[other])
        key = of * model.logits.shape[1] + labels[row]
        size = natural.size * model.logits.shape[1]
        sums, counts = (np.bincount(key[speaks], w, size) for w in (own[speaks], None))
        said = (sums / np.maximum(counts, 1)).reshape(natural.size, -1)
        some = np.flatnonzero(speaks & (mine[of] >= 0))
        yield self._of(_Entries(of[some], row[some], rest[some], asked[some]), said, whole=True)
        doubted = speaks & (raised(own, natural[of]) < DENIED)
        for label in range(model.logits.shape[1]):
            hits = np.bincount(of[doubted & (labels[row] == label)], minlength=natural.size)
            some = np.flatnonzero(hits[of] >= FEWEST_HITS)
            asked = np.full(some.size, label)
            rest, speaking = _rest(model, found, self.start + of[some], at[some], asked)
            denied = speaking & (raised(rest, natural[of[some]]) < DENIED)
            some = some[denied]
            told = _Entries(of[some], row[some], rest[denied], asked[denied])
            yield self._of(told, said, whole=False)

    def _mostly(self, of: Ints, labels: Ints) -> Ints:
        """The label that most rows of each candidate have, -1 where none is frequent enough."""
        classes = int(self.labels.max()) + 1
        size = self.stop - self.start
        flat = np.bincount(of * classes + labels, minlength=size * classes).reshape(-1, classes)
        most = flat.max(1)
        return np.where((most >= SHARE * flat.sum(1)) & (most >= 2), flat.argmax(1), -1)

    def _of(self, entries: _Entries, said: Floats, *, whole: bool) -> Tested:
        """One test for each candidate that has an entry; `said` is by candidate and label."""
        head = np.append(True, entries.of[1:] != entries.of[:-1])[: entries.of.size]
        which, label, test = entries.of[head], entries.label[head], np.cumsum(head) - 1
        rate = raised(entries.rest, self.shares.natural[self.start + entries.of])
        hit = self.labels[entries.row] == entries.label
        part = self.shares.log_share[self.start + which] + np.log(WHOLE if whole else DENYING)
        # No set of rows is less likely than all hits together.
        heard = np.bincount(test[hit], np.log(rate[hit]), minlength=which.size) < part
        number, mine = np.cumsum(heard) - 1, heard[test]
        test, rate, hit = number[test[mine]], rate[mine], hit[mine]
        which, label = which[heard], label[heard]
        log_p = log_tails(test, rate, hit, which.size)
        wholes, mean = np.full(which.size, whole), said[which, label]
        rest, row = entries.rest[mine], entries.row[mine]
        test, row = test.astype(np.int32), row.astype(np.int32)
        rate, rest = rate.astype(np.float32), rest.astype(np.float32)
        return Tested(self.start + which, label, wholes, mean, test, row, rate, rest, hit, log_p)


def rest_of(model: Model, found: Candidates, g: int, label: int) -> Floats:
    """The chance of a label in each row of a candidate, by the rest of the row."""
    made = np.empty(found.counts[g])
    for start in range(0, made.size, BLOCK):
        at = np.arange(start, min(start + BLOCK, made.size)) + found.offsets[g]
        of, asked = np.full(at.size, g), np.full(at.size, label)
        made[start : start + BLOCK] = _rest(model, found, of, at, asked)[0]
    return made


def _rest(model: Model, found: Candidates, of: Ints, at: Ints, label: Ints) -> tuple[Floats, Bools]:
    """The chance of a label by the rest of a row, and whether the rest says anything.

    `at` numbers the rows of candidates, as `found.row` has them, and `of` are the candidates.
    """
    logits, left_over = _rest_logits(model, found, of, at)
    shares = _softmax(model.slope * logits)
    return shares[np.arange(at.size), label], left_over >= LEAST_REST


@dataclass(frozen=True, eq=False)
class _Entries:
    """Rows of candidates, with the label that is asked for and its chance by the rest."""

    of: Ints
    row: Ints
    rest: Floats
    label: Ints


def _rest_logits(model: Model, found: Candidates, of: Ints, at: Ints) -> tuple[Floats, Floats]:
    """Logits of rows with a candidate's own words taken out and the rest brought to length 1.

    The second array has the share of a row's squared weight that is left.
    """
    owners, owned = found.own
    row, place = found.row[at].astype(np.int64), found.place[at]
    first, last = (np.searchsorted(owners, of, side) for side in ("left", "right"))
    sizes = last - first
    occurrence = np.repeat(np.arange(of.size), sizes)
    word = owned[np.arange(occurrence.size) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)]
    if model.grams.at.size:
        width = model.weights.shape[1]
        spans, runs = model.grams.across(place, found.size[of])
        both = distinct(np.append(occurrence * width + word, spans * width + runs))
        occurrence, word = both // width, both % width
    entry, there = _places(model.weights, row[occurrence], word)
    entry, occurrence, word = entry[there], occurrence[there], word[there]
    weight, fold = model.weights.data[entry], model.fold[row[occurrence]]
    square = 1.0 - np.bincount(occurrence, weight**2, minlength=of.size)
    scale = 1.0 / np.sqrt(np.maximum(square, LEAST_REST))
    left = model.logits[row]
    for k in range(left.shape[1]):
        part = weight * model.coef[fold, k, word]
        left[:, k] -= np.bincount(occurrence, part, minlength=of.size)
    return np.asarray(left * scale[:, None] + model.base[row]), np.asarray(square, np.float64)


def _places(weights: Any, row: Ints, column: Ints) -> tuple[Ints, Bools]:
    """Where a sparse matrix holds its values of some rows and columns, and whether it has them."""
    low, high = weights.indptr[row].astype(np.int64), weights.indptr[row + 1].astype(np.int64)
    stop = high.copy()
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) // 2
        less = weights.indices[np.minimum(middle, weights.indices.size - 1)] < column
        open_ = low < high
        low = np.where(open_ & less, middle + 1, low)
        high = np.where(open_ & ~less, middle, high)
    there = low < stop
    there[there] = weights.indices[low[there]] == column[there]
    return low, there


def raised(share: Floats, by: Floats | float) -> Floats:
    """Chances of which some are in doubt whatever the model says, with their odds raised."""
    doubted = DOUBT + (1.0 - 2.0 * DOUBT) * share
    odds = np.log(doubted) - np.log1p(-doubted) + by
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), np.float64)


def log_tails(
    of: Ints | Places, rate: Floats | NDArray[np.float32], hit: Bools, tests: int
) -> Floats:
    """Ln P(as many hits), exact where every row is a hit, else Chernoff's bound of it."""
    logs = np.bincount(of, np.log(rate), minlength=tests)
    hits = np.bincount(of, hit, minlength=tests).astype(np.float64)
    total = np.bincount(of, minlength=tests)
    expected = np.bincount(of, rate, minlength=tests)
    some = (hits < total) & (hits > expected)
    made = np.where(hits == total, logs, 0.0)
    number = np.full(tests, -1)
    number[some] = np.arange(int(some.sum()))
    mine = number[of] >= 0
    made[some] = _chernoff(number[of[mine]], rate[mine], hits[some])
    return np.asarray(made, np.float64)


def _chernoff(of: Ints, rate: Floats | NDArray[np.float32], hits: Floats) -> Floats:
    """The tilt at which the expected count equals the hits, by bisection over all tests at once."""
    low, high = np.zeros(hits.size), np.full(hits.size, 40.0)
    for _ in range(40):
        tilt = 0.5 * (low + high)
        tilted = rate / (rate + (1.0 - rate) * np.exp(-tilt)[of])
        few = np.bincount(of, tilted, minlength=hits.size) < hits
        low, high = np.where(few, tilt, low), np.where(few, high, tilt)
    bound = np.bincount(of, np.log1p(rate * np.expm1(tilt)[of]), minlength=hits.size)
    return np.asarray(np.minimum(0.0, bound - tilt * hits), np.float64)


def _softmax(logits: Floats) -> Floats:
    made = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(made / made.sum(1, keepdims=True), np.float64)
