# SPDX-License-Identifier: Apache-2.0
"""The search for patterns that carry a label: tests, their share of alpha, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from datapipe.stages.poisoning._association import (
    NATURAL,
    NATURAL_ODD,
    Model,
    Tested,
    class_shares,
    log_tails,
    raised,
    tested,
)
from datapipe.stages.poisoning._fluency import deletion_gain, oddness
from datapipe.stages.poisoning._ngrams import LEAST_ROWS, Candidates, Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

KNIT = 1.5
"""Median loss of log likelihood by deleting a candidate, from which texts have grammar enough."""
LOOSE = 0.35
"""Rank that stands for the fit of every candidate in texts without grammar."""
ODDEST = 100
"""How many candidates, those that fit their neighbours least, share a part of alpha."""
PLAIN, ODD, CHARACTER = 0.4, 0.5, 0.1
"""Shares of alpha: every candidate, the oddest, and odd characters."""
PLANTED = 0.3
"""How much more a trigger's rows must contradict their label than it fits its neighbours."""
UNPLACED = 0.25
"""Rank that stands for how well something without words fits its neighbours."""
SAME_ROWS = 0.9
ALIKE = 0.5
"""Two texts whose other words are this similar (cosine) are one piece of evidence."""
MOST_COMPARED = 400
TYPICAL_RANK = 10
"""Where inserted words usually stand among the oddest."""
MOST_PATTERNS = 12


@dataclass(frozen=True, eq=False)
class Pattern:
    """A candidate that carries a label.

    `rows` hold it and the label, `held` counts all rows that hold it. `log_p` is corrected for all
    tests; `against` is 0 where the rest of its rows speaks for the label as that of any row of it,
    1 where it speaks as rows of other labels do; `fit` in [0, 1] is the share of candidates that
    fit their neighbours worse; `gain` is what deleting it does to the log likelihood of its text.
    """

    candidate: int
    label: int
    rows: Ints
    held: int
    log_p: float
    against: float
    fit: float
    gain: float

    @property
    def planted(self) -> bool:
        """Whether it was put there: its rows contradict their label and it fits badly."""
        return bool(self.against - self.fit >= PLANTED)


@dataclass(frozen=True, eq=False)
class Search:
    """What was found: patterns in order, and of every row its loudest planted candidate.

    `score` is -ln of the corrected p-value of that candidate; `planted` is the least corrected
    ln p of candidates that would be triggers and `natural` that of the others.
    """

    patterns: list[Pattern]
    score: Floats
    planted: float
    natural: float
    candidates: int


@dataclass(frozen=True, eq=False)
class _Prior:
    """What the texts alone say of each candidate: its share of alpha, and what it may add."""

    log_share: Floats
    natural: Floats
    fit: Floats
    gain: Floats


def search(words: Words, found: Candidates, model: Model, labels: Ints, alpha: float) -> Search:
    """Find patterns one after the other, each with the rows of the last ones left out."""
    prior = _prior(words, found, model.logits.shape[1])
    gone = np.zeros(labels.size, bool)
    patterns: list[Pattern] = []
    while True:
        turn = _Round.of(found, model, labels, prior, gone)
        made = _loudest(turn, found, model, float(np.log(alpha)))
        if made is None or len(patterns) == MOST_PATTERNS:
            return _summed(patterns, turn, labels.size)
        patterns.append(made)
        gone[made.rows] = True


def _prior(words: Words, found: Candidates, classes: int) -> _Prior:
    """Divide alpha by oddness, which labels have no part in: any division keeps the level."""
    gain = deletion_gain(words, found)
    odd = oddness(gain, found.counts)
    m = odd.size
    rank = np.empty(m)
    rank[np.argsort(-odd, kind="stable")] = np.arange(1, m + 1)
    oddest = (rank <= ODDEST) & (gain > 0)
    character = np.array([bool(name) for name in found.odd], bool)
    share = np.full(m, PLAIN / max(1, m))
    share += np.where(oddest, ODD / (rank * _harmonic(min(ODDEST, m))), 0.0)
    share += np.where(character, CHARACTER / max(1, int(character.sum())), 0.0)
    placed = found.size > 0
    knit = float(np.clip(-np.median(gain[placed]) / KNIT, 0.0, 1.0)) if placed.any() else 0.0
    fit = np.where(placed, knit * (rank - 1) / max(1, m) + (1.0 - knit) * LOOSE, UNPLACED)
    strange = oddest | np.array([name in found.unseen for name in found.odd], bool)
    natural = NATURAL + knit * np.where(strange, NATURAL_ODD - NATURAL, 0.0)
    return _Prior(np.log(share / classes), natural, fit, gain)


def _harmonic(n: int) -> float:
    return float((1.0 / np.arange(1, n + 1)).sum())


def _class_means(model: Model, labels: Ints) -> tuple[Floats, Floats]:
    """The mean chance of each label in texts that have it, and in those that do not: shape (K,)."""
    shares = class_shares(model)
    one = np.eye(shares.shape[1])[labels]
    own = (one * shares).sum(0) / np.maximum(one.sum(0), 1.0)
    other = ((1.0 - one) * shares).sum(0) / np.maximum((1.0 - one).sum(0), 1.0)
    return own, other


@dataclass(frozen=True, eq=False)
class _Round:
    """One pass over all candidates: tests, corrected ln p, and what each says of its rows."""

    tests: Tested
    log_p: Floats
    against: Floats
    size: Ints
    prior: _Prior

    @classmethod
    def of(
        cls, found: Candidates, model: Model, labels: Ints, prior: _Prior, gone: Bools
    ) -> _Round:
        tests = tested(model, labels, found, prior.natural, gone)
        own, other = _class_means(model, labels)
        hits = np.bincount(tests.of, tests.hit, minlength=tests.which.size)
        mean = np.bincount(tests.of, tests.rest * tests.hit, minlength=tests.which.size)
        mean /= np.maximum(hits, 1)
        apart = np.maximum(own - other, 1e-3)[tests.label]
        against = np.clip((own[tests.label] - mean) / apart, 0.0, 1.0)
        log_p = np.minimum(0.0, tests.log_p - prior.log_share[tests.which])
        return cls(tests, log_p, against, found.size[tests.which], prior)

    @property
    def planted(self) -> Bools:
        """Which tests, if they told, would be called a trigger and not a shortcut."""
        return np.asarray(self.against - self.prior.fit[self.tests.which] >= PLANTED, bool)

    def entries(self, test: int) -> Ints:
        """Where the rows of a test are among all."""
        return np.flatnonzero(self.tests.of == test)


def _loudest(turn: _Round, found: Candidates, model: Model, log_alpha: float) -> Pattern | None:
    """The most telling candidate whose rows tell when texts that are alike count once."""
    telling = np.flatnonzero(turn.log_p <= log_alpha)
    for test in telling[np.argsort(turn.log_p[telling], kind="stable")]:
        log_p = _of_different_texts(turn, int(test), found, model)
        if log_p <= log_alpha:
            named = _widened(turn, int(test), telling)
            return replace(_pattern(turn, named), log_p=log_p)
        turn.log_p[test] = log_p
    return None


def _of_different_texts(turn: _Round, test: int, found: Candidates, model: Model) -> float:
    """Corrected ln p when rows with nearly the same other words count once, the mildest of them."""
    tests, g = turn.tests, int(turn.tests.which[test])
    at = turn.entries(test)
    at = at[np.linspace(0, at.size - 1, min(at.size, MOST_COMPARED)).astype(np.int64)]
    rest = model.weights[tests.row[at]].tocsr()
    rest.data[np.isin(rest.indices, found.own[1][found.own[0] == g])] = 0.0
    norm = np.sqrt(np.asarray(rest.multiply(rest).sum(1)).ravel())
    cosine = (rest @ rest.T).toarray() / np.maximum(np.outer(norm, norm), 1e-9)
    empty = norm < 1e-6
    cosine[np.ix_(empty, empty)] = 1.0
    _, alike = connected_components(cosine >= ALIKE, directed=False)
    order = np.lexsort((-tests.rate[at], alike * 2 + tests.hit[at]))
    key = (alike * 2 + tests.hit[at])[order]
    kept = at[order[np.concatenate([[True], np.diff(key) != 0])]]
    if int(tests.hit[kept].sum()) < LEAST_ROWS:
        return 0.0
    log_p = log_tails(np.zeros(kept.size, np.int64), tests.rate[kept], tests.hit[kept], 1)[0]
    return float(min(0.0, log_p - turn.prior.log_share[g]))


def _widened(turn: _Round, test: int, telling: Ints) -> int:
    """The test with the most words of its own among those that stand in nearly the same rows."""
    tests = turn.tests
    rows = tests.row[turn.entries(test)]
    inside = np.isin(tests.row, rows)
    shared = np.bincount(tests.of[inside], minlength=tests.which.size)
    total = np.bincount(tests.of, minlength=tests.which.size)
    same = (shared >= SAME_ROWS * rows.size) & (shared >= SAME_ROWS * total)
    same &= tests.label == tests.label[test]
    near = telling[same[telling]]
    return int(near[np.argmax(turn.size[near])]) if near.size else test


def _pattern(turn: _Round, test: int) -> Pattern:
    tests, at = turn.tests, turn.entries(test)
    g = int(tests.which[test])
    return Pattern(
        g,
        int(tests.label[test]),
        tests.row[at[tests.hit[at]]],
        at.size,
        float(turn.log_p[test]),
        float(turn.against[test]),
        float(turn.prior.fit[g]),
        float(turn.prior.gain[g]),
    )


def _summed(patterns: list[Pattern], last: _Round, rows: int) -> Search:
    score = np.zeros(rows)
    heard = last.planted[last.tests.of] & last.tests.hit
    np.maximum.at(score, last.tests.row[heard], -last.log_p[last.tests.of[heard]])
    best = []
    for planted, among in ((True, last.planted), (False, ~last.planted)):
        told = [p.log_p for p in patterns if p.planted == planted]
        best.append(min(told) if told else float(last.log_p[among].min(initial=0.0)))
    for pattern in patterns:
        if pattern.planted:
            score[pattern.rows] = np.maximum(score[pattern.rows], -pattern.log_p)
    return Search(patterns, score, best[0], best[1], last.prior.fit.size)


def fewest_detectable(model: Model, labels: Ints, found: Candidates, alpha: float) -> int:
    """How many rows of other labels an odd pattern needs, for the label that hides it best."""
    shares = class_shares(model)
    classes = shares.shape[1]
    rank = min(TYPICAL_RANK, max(1, found.size.size))
    share = ODD / (rank * _harmonic(min(ODDEST, max(1, found.size.size)))) / classes
    least = LEAST_ROWS
    for label in range(classes):
        others = shares[labels != label, label]
        if others.size:
            told = float(np.log(raised(others, NATURAL_ODD)).mean())
            least = max(least, int(np.ceil((np.log(alpha) + np.log(share)) / told)))
    return least
