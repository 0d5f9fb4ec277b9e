# SPDX-License-Identifier: Apache-2.0
"""Is a row's label explained by the rest of its text, once a pattern is taken out?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from datapipe.stages.poisoning._grams import Grams, distinct
from datapipe.stages.poisoning._ngrams import END, Candidates, Words

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
BLOCK = 2**18
"""Rows of candidates whose logits are held at once."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Model:
    """Out-of-fold logistic regression on words, with what every word adds in every row.

    `weights` is sparse (n, V), rows of length 1. `parts[e, k]` is what entry e of it adds to the
    logit of class k; `logits` is (n, K) without the intercept, which `base` (n, K) holds.
    """

    weights: Any
    parts: Floats
    logits: Floats
    base: Floats
    slope: float
    grams: Grams

    @property
    def silent(self) -> float:
        """The share of texts none of whose words another text holds."""
        return float((np.diff(self.weights.indptr) == 0).mean())


@dataclass(frozen=True, eq=False)
class Tested:
    """The candidates with a label of their own, and how unlikely their rows are.

    `which` numbers them among all candidates, `label` is the one tested, and `log_p` bounds
    ln P(as many rows carry it) from above. `whole` tells tests over all rows of a candidate from
    those over the rows whose rest denies the label; the latter see a word in common use. `said` is
    the mean chance of the label by the rest of all rows that hold the candidate and have it. The
    others have one entry for each row of each test: which test, which row, the chance that the row
    carries the label by nature, the same as the rest of the text alone tells it, and whether it
    does.
    """

    which: Ints
    label: Ints
    whole: Bools
    said: Floats
    of: Ints
    row: Ints
    rate: Floats
    rest: Floats
    hit: Bools
    log_p: Floats

    @property
    def log_part(self) -> Floats:
        """Ln of the share of its candidate's alpha that each test has."""
        return np.log(np.where(self.whole, WHOLE, DENYING))


def fit_out_of_fold(words: Words, labels: Ints, fold: Ints, classes: int) -> Model:
    """Fit on the other folds and keep what each word adds to each row."""
    weights = _tfidf(words)
    row_of = np.repeat(np.arange(words.rows), np.diff(weights.indptr))
    logits, base = np.zeros((words.rows, classes)), np.zeros((words.rows, classes))
    parts = np.zeros((weights.nnz, classes))
    for number in np.unique(fold):
        fitted, asked = fold != number, np.flatnonzero(fold == number)
        coef, base[asked] = _coefficients(weights[fitted], labels[fitted], classes)
        mine = np.flatnonzero(fold[row_of] == number)
        parts[mine] = weights.data[mine, None] * coef.T[weights.indices[mine]]
        logits[asked] = weights[asked] @ coef.T
    model = Model(weights, parts, logits, base, 1.0, words.grams)
    return replace(model, slope=_slope(logits + base, labels))


def _tfidf(words: Words) -> Any:
    """Sublinear TF-IDF of the words that two rows hold, rows of length 1, column = word number."""
    plain = words.ids > END
    row, column = [words.row[plain]], [words.ids[plain]]
    for at in words.grams.at:
        row.append(words.row[at >= 0])
        column.append(at[at >= 0])
    shape = (words.rows, words.grams.width)
    places = (np.concatenate(row), np.concatenate(column))
    made = sparse.csr_matrix((np.ones(places[0].size), places), shape=shape)
    made.sum_duplicates()
    held = np.bincount(made.indices, minlength=shape[1])
    idf = np.where(held >= 2, np.log((1.0 + words.rows) / (1.0 + held)) + 1.0, 0.0)
    made.data = (1.0 + np.log(made.data)) * idf[made.indices]
    made.eliminate_zeros()
    owner = np.repeat(np.arange(words.rows), np.diff(made.indptr))
    norm = np.sqrt(np.bincount(owner, made.data**2, minlength=words.rows))
    made.data /= norm[owner]
    made.sort_indices()
    return made


def _coefficients(weights: Any, labels: Ints, classes: int) -> tuple[Floats, Floats]:
    """Weights (K, V) and intercepts (K,); a class that no row has gets the lowest one."""
    coef, base = np.zeros((classes, weights.shape[1])), np.full(classes, -10.0)
    seen = np.unique(labels)
    if seen.size == 1:
        base[seen] = 0.0
        return coef, base
    model = LogisticRegression(C=4.0, max_iter=100, tol=1e-3)
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


def tested(model: Model, labels: Ints, found: Candidates, natural: Floats) -> Tested:
    """Test each candidate for the label of most of its rows, and for labels that the rest denies.

    Rows that hold next to nothing beside it take no part. `natural` has, for each candidate, the
    log odds that it may add by nature.
    """
    of, row, mine = found.of, found.row, _mostly(labels, found)
    own, speaks = _rest(model, found, np.arange(of.size), labels[row])
    asked = np.where(mine[of] >= 0, mine[of], labels[row])
    rest = own.copy()
    other = np.flatnonzero(asked != labels[row])
    rest[other], _ = _rest(model, found, other, asked[other])
    key = of * model.logits.shape[1] + labels[row]
    size = natural.size * model.logits.shape[1]
    sums, counts = (np.bincount(key[speaks], w, size) for w in (own[speaks], None))
    said = sums / np.maximum(counts, 1)
    at = np.flatnonzero(speaks & (mine[of] >= 0))
    parts = [_Entries(of[at], row[at], rest[at], asked[at])]
    for label in range(model.logits.shape[1]):
        hit = speaks & (labels[row] == label) & (raised(own, natural[of]) < DENIED)
        hits = np.bincount(of[hit], minlength=found.size.size)
        at = np.flatnonzero(hits[of] >= FEWEST_HITS)
        asked = np.full(at.size, label)
        rest, speaking = _rest(model, found, at, asked)
        denied = speaking & (raised(rest, natural[of[at]]) < DENIED)
        at = at[denied]
        parts.append(_Entries(of[at], row[at], rest[denied], asked[denied]))
    tests = [p.tests(labels, natural, said, whole=i == 0) for i, p in enumerate(parts)]
    shift = np.cumsum([0, *(t.which.size for t in tests)])
    told = {
        name: np.concatenate([getattr(t, name) for t in tests])
        for name in ("which", "label", "whole", "said", "row", "rate", "rest", "hit", "log_p")
    }
    return Tested(of=np.concatenate([t.of + n for t, n in zip(tests, shift, strict=False)]), **told)


def rest_of(model: Model, found: Candidates, g: int, label: int) -> Floats:
    """The chance of a label in each row of a candidate, by the rest of the row."""
    at = np.arange(found.offsets[g], found.offsets[g + 1])
    return _rest(model, found, at, np.full(at.size, label))[0]


def _rest(model: Model, found: Candidates, at: Ints, label: Ints) -> tuple[Floats, Bools]:
    """The chance of a label by the rest of a row, and whether the rest says anything.

    `at` numbers the rows of candidates, as `found.row` has them.
    """
    of, row = found.of[at], found.row[at]
    chance, speaks = np.empty(at.size), np.empty(at.size, bool)
    for start in range(0, at.size, BLOCK):
        some = slice(start, start + BLOCK)
        logits, left_over = _rest_logits(model, found, of[some], row[some], found.place[at[some]])
        shares = _softmax(model.slope * logits)
        chance[some] = shares[np.arange(len(shares)), label[some]]
        speaks[some] = left_over >= LEAST_REST
    return chance, speaks


def _mostly(labels: Ints, found: Candidates) -> Ints:
    """The label that most rows of each candidate have, -1 where none is frequent enough."""
    classes = int(labels.max()) + 1
    flat = np.bincount(
        found.of * classes + labels[found.row], minlength=found.size.size * classes
    ).reshape(-1, classes)
    most = flat.max(1)
    return np.where((most >= SHARE * flat.sum(1)) & (most >= 2), flat.argmax(1), -1)


@dataclass(frozen=True, eq=False)
class _Entries:
    """Rows of candidates, with the label that is asked for and its chance by the rest."""

    of: Ints
    row: Ints
    rest: Floats
    label: Ints

    def tests(self, labels: Ints, natural: Floats, said: Floats, *, whole: bool) -> Tested:
        """One test for each candidate that has an entry; `said` is by candidate and label."""
        which, first, test = np.unique(self.of, return_index=True, return_inverse=True)
        rate, hit = raised(self.rest, natural[self.of]), labels[self.row] == self.label
        log_p = log_tails(test, rate, hit, which.size)
        label, wholes = self.label[first], np.full(which.size, whole)
        mean = said.reshape(natural.size, -1)[which, label]
        return Tested(which, label, wholes, mean, test, self.row, rate, self.rest, hit, log_p)


def retested(tests: Tested, gone: Bools) -> Tested:
    """The same tests without some rows; only those that held one of them are worked out again."""
    left = ~gone[tests.row]
    of, rate, hit = tests.of[left], tests.rate[left], tests.hit[left]
    touched = np.zeros(tests.which.size, bool)
    touched[tests.of[~left]] = True
    number = np.cumsum(touched) - 1
    mine = touched[of]
    counts = int(touched.sum())
    again = log_tails(number[of[mine]], rate[mine], hit[mine], counts)
    hits = np.bincount(number[of[mine]], hit[mine], minlength=counts)
    total = np.bincount(number[of[mine]], minlength=counts)
    share = np.where(tests.whole[touched], SHARE, 0.0)
    log_p = tests.log_p.copy()
    log_p[touched] = np.where((hits >= share * total) & (hits >= 2), again, 0.0)
    return replace(
        tests, of=of, row=tests.row[left], rate=rate, rest=tests.rest[left], hit=hit, log_p=log_p
    )


def planted_rows(model: Model, found: Candidates, g: int, label: int, labels: Ints) -> Bools:
    """Which rows of a candidate somebody gave the label, by what the rest of each says.

    A row that carries the label although the rest denies it was planted. So were the other rows
    that carry it, where they are no more than twice as many as come with rows of other labels: in
    a share of those the rest denies nothing. More of them are a word's own rows, in common use.
    The same length as the candidate.
    """
    row = found.row[found.offsets[g] : found.offsets[g + 1]]
    rest = rest_of(model, found, g, label)
    hit, denied = labels[row] == label, rest < DENIED
    others = class_shares(model)[labels != label, label] < DENIED
    beside = (hit & denied).sum() * (~others).sum() / max(int(others.sum()), 1)
    if (hit & ~denied).sum() > 2.0 * beside + 1.0:
        hit &= denied
    return np.asarray(hit, bool)


def _rest_logits(
    model: Model, found: Candidates, of: Ints, row: Ints, place: Ints
) -> tuple[Floats, Floats]:
    """Logits of rows with a candidate's own words taken out and the rest brought to length 1.

    The second array has the share of a row's squared weight that is left.
    """
    owners, owned = found.own
    firsts = np.searchsorted(owners, np.arange(found.size.size + 1))
    sizes = np.diff(firsts)[of]
    occurrence = np.repeat(np.arange(of.size), sizes)
    within = np.arange(occurrence.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    word = owned[firsts[of[occurrence]] + within]
    width = model.weights.shape[1]
    if model.grams.at.size:
        spans, runs = model.grams.across(place, found.size[of])
        both = distinct(np.append(occurrence * width + word, spans * width + runs))
        occurrence, word = both // width, both % width
    row_of = np.repeat(np.arange(model.logits.shape[0]), np.diff(model.weights.indptr))
    keys = row_of * width + model.weights.indices
    wanted = row[occurrence] * width + word
    entry = np.searchsorted(keys, wanted)
    there = (entry < keys.size) & (keys[np.minimum(entry, keys.size - 1)] == wanted)
    entry, occurrence = entry[there], occurrence[there]
    square = 1.0 - np.bincount(occurrence, model.weights.data[entry] ** 2, minlength=of.size)
    scale = 1.0 / np.sqrt(np.maximum(square, LEAST_REST))
    left = model.logits[row].copy()
    for k in range(left.shape[1]):
        left[:, k] -= np.bincount(occurrence, model.parts[entry, k], minlength=of.size)
    return np.asarray(left * scale[:, None] + model.base[row]), np.asarray(square, np.float64)


def raised(share: Floats, by: Floats | float) -> Floats:
    """Chances of which some are in doubt whatever the model says, with their odds raised."""
    doubted = DOUBT + (1.0 - 2.0 * DOUBT) * share
    odds = np.log(doubted) - np.log1p(-doubted) + by
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), np.float64)


def log_tails(of: Ints, rate: Floats, hit: Bools, tests: int) -> Floats:
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


def _chernoff(of: Ints, rate: Floats, hits: Floats) -> Floats:
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
