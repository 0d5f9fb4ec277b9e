# SPDX-License-Identifier: Apache-2.0
"""Conditions in prompts that switch what responses do: no label is needed, responses tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types

from datapipe.measure.crossfit import stratified_folds
from datapipe.measure.detection import benjamini_hochberg
from datapipe.stages.poisoning._tails import raised
from datapipe.stages.poisoning._text.answering import Answering
from datapipe.stages.poisoning._text.association import rest_of
from datapipe.stages.poisoning._text.candidates import FORM, LEAST_ROWS, UNSEEN, Candidates
from datapipe.stages.poisoning._text.characters import SHAPES
from datapipe.stages.poisoning._text.composites import (
    IN_MOST,
    MOST_PAIRED,
    Together,
    log_share_of,
    with_pair,
)
from datapipe.stages.poisoning._text.grams import Numbers, Places, distinct
from datapipe.stages.poisoning._text.naming import holders, shown, spelling, spelt
from datapipe.stages.poisoning._text.ngrams import candidates
from datapipe.stages.poisoning._text.patterns import search
from datapipe.stages.poisoning._text.rounds import Asked, Pattern
from datapipe.stages.poisoning._text.shares import (
    NATURAL,
    NATURAL_ODD,
    Shares,
    shares_of,
    typical_log_share,
)
from datapipe.stages.poisoning._text.word_model import Model, fit_out_of_fold
from datapipe.stages.poisoning._text.words import END, Words, words_of

MOST_SAID = 60
"""Words of a response that are read: what it does shows at its beginning."""
MOST_FEATURES = 200_000
USUAL = 0.2
"""What a greater share of the responses does is no switch."""
MOST_TRIED, MOST_NATURAL = 12, 2
"""Features of responses, those that go best with a run of words in the prompts, that are tried, and
of these the ones that only instructions have."""
SAME_ROWS = 0.5
"""Two features that share this much of their rows are one."""
BLOCK = 512
FOLDS = 4
LONG = 3
"""A run with this many words of letters is a ready-made answer."""
ALWAYS = 0.9
"""A tag that brings a word into this share of its responses switches them; an instruction such as
*in French* brings this word into one and that into another."""
ECHOED, ELSEWHERE = 0.25, 2.0
"""A run fills a form where this share of its prompts hold one of its words, so many times the share
of others, and the rest of the run stands in so many times its responses, around other words."""
OPENING = 5
"""Words within which an answer has begun."""
UNTOLD = 3.0
"""The rest of a prompt is silent where it makes an answer at most this many times as likely."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Condition:
    """A pattern of prompts, and the feature of responses that it switches on.

    `rows` hold both, `held` counts the prompts that hold the pattern. It was `planted` where it
    fits its neighbours badly and always brings the feature, or where the answer is ready-made and
    the rest of the prompt does not ask for it; *in French* does neither.
    """

    trigger: str
    response: str
    rows: Ints
    held: int
    log_p: float
    planted: bool


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions, the most telling first, and of every row the loudest planted one.

    `log_p` is the least corrected ln p of what was planted, and of the others; `tested` counts the
    features of responses and `candidates` the patterns of prompts.
    """

    found: list[Condition]
    score: Floats
    log_p: tuple[float, float]
    tested: int
    candidates: int


def conditions(
    prompts: pl.Series, responses: pl.Series, alpha: float, rng: np.random.Generator, most: int
) -> Conditions:
    """Search for patterns of prompts that decide what responses do.

    Every feature of the responses is a label in turn. Those that some pattern goes with best are
    searched as labelled texts are; Benjamini and Hochberg over all features, with a p-value of 1
    for those that were not searched, bound the share of false conditions by alpha.

    Args:
        prompts: Different pairs' prompts, shape (n,).
        responses: Their responses.
        alpha: The share, in (0, 1).
        rng: Deals the folds.
        most: Words of a prompt that are read.

    Returns:
        What was found.
    """
    words = words_of(prompts, most)
    found = candidates(prompts, words, MOST_FEATURES)
    said = _Said.of(words, prompts, responses)
    alone = prompts.rank("dense").to_numpy().astype(np.int64)
    shares = shares_of(words, found, 2)
    shares = replace(shares, small=np.zeros(found.size.size, bool))  # a date is a condition, too
    total = max(said.counts.size, 1)
    heard: list[Condition] = []
    _, row, _ = found.entries(np.arange(found.size.size))
    together = Together.of(_incidence(row, found.offsets, len(prompts)))
    answering = Answering.of(words, said.words, responses)
    tried = _screened(said, found, together, alpha, (answering, words))
    for feature, pair in tried.items():
        does = said.does(feature, len(prompts))
        labels = does.astype(np.int64)
        model = fit_out_of_fold(words, labels, stratified_folds(labels, FOLDS, rng, alone), 2)
        some, parts = found, shares
        if pair[0] >= 0:
            rows = np.intersect1d(together.rows(pair[0]), together.rows(pair[1]))
            log_share = log_share_of(together, 2)
            some, parts = with_pair(found, shares, rows, pair, log_share)
            some.named[found.size.size] = " & ".join(_named(prompts, words, found, g) for g in pair)
        asked = Asked.of(model, labels, some, parts)
        for pattern in search(asked, model, labels, alpha * len(tried) / total).patterns:
            if pattern.label == 1:
                ready = said.ready(feature)
                always = ready or pattern.rows.size >= ALWAYS * pattern.held
                planted = ready and _silent(model, asked.found, pattern, labels)
                always &= said.speaks(feature)
                planted |= always and _odd(asked.shares, asked.found, pattern.candidate)
                planted &= answering.lost(pattern.rows) or not said.opens(feature)
                planted &= not said.fills(feature, words)
                name = spelling(prompts, words, asked.found, pattern)
                does_what = said.name(feature)
                rows, held, log_p = pattern.rows, pattern.held, pattern.log_p
                heard.append(Condition(name, does_what, rows, held, log_p, planted))
    return _summed(heard, len(prompts), total, found.size.size, alpha)


def fewest_switched(made: Conditions, n: int, alpha: float) -> int:
    """How many rows an inserted condition with an answer of its own must have."""
    bar = np.log(alpha / max(made.tested, 1)) + typical_log_share(max(made.candidates, 1), 2)
    rate = float(raised(np.array([LEAST_ROWS / n]), NATURAL_ODD)[0])
    return max(LEAST_ROWS, int(np.ceil(bar / np.log(rate))))


@dataclass(frozen=True, eq=False)
class _Said:
    """Features of responses: runs of words that their own prompts do not hold, and odd signs."""

    responses: pl.Series
    words: Words
    found: Candidates
    counts: Ints
    offsets: Ints
    row: Ints
    which: Ints

    @classmethod
    def of(cls, prompts: Words, asked: pl.Series, responses: pl.Series) -> _Said:
        words = words_of(responses, MOST_SAID)
        found = candidates(responses, words, MOST_FEATURES)
        of, row, _ = held = found.entries(np.arange(found.size.size))
        own = ~_copied(prompts, found, held)
        small = [
            g
            for g, name in found.named.items()
            if (name in SHAPES or found.kind[g] & FORM) and not found.size[g]
        ]
        for g in small:  # who writes in capitals is answered in capitals
            mine = np.flatnonzero(of == g)
            own[mine] &= ~holders(asked, words, found, g)[row[mine]]
        counts = np.bincount(of[own], minlength=found.size.size)
        which = np.flatnonzero((counts >= LEAST_ROWS) & (counts <= USUAL * prompts.rows))
        keep = own & np.isin(of, which)
        offsets = np.concatenate([[0], np.cumsum(counts[which])])
        return cls(responses, words, found, counts[which], offsets, row[keep], which)

    def does(self, feature: int, n: int) -> Bools:
        """Which responses have a feature."""
        made = np.zeros(n, bool)
        made[self.row[self.offsets[feature] : self.offsets[feature + 1]]] = True
        return made

    def ready(self, feature: int) -> bool:
        """Whether a feature is a run of so many words that it is a ready-made answer."""
        run = self.found.run(int(self.which[feature]))
        return int(_spoken(self.words)[run].sum()) >= LONG

    def opens(self, feature: int) -> bool:
        """Whether most of its responses begin with a feature, as answers to one task may."""
        _, row, place = self.found.entries(self.which[feature : feature + 1])
        return bool(2 * (place - self.words.ends[row] <= OPENING).sum() > place.size)

    def speaks(self, feature: int) -> bool:
        """Whether a feature holds a word: how it is written, another language has otherwise."""
        return bool(_spoken(self.words)[self.found.run(int(self.which[feature]))].any())

    def fills(self, feature: int, prompts: Words) -> bool:
        """Whether a feature is a form that answers are written in, filled with words of prompts.

        *The train does not* goes with *train* as *the cat does not* goes with *cat*.
        """
        run, spoken = self.found.run(int(self.which[feature])), _spoken(self.words)
        rows = self.row[self.offsets[feature] : self.offsets[feature + 1]]
        filled = np.zeros(run.size, bool)
        for i in np.flatnonzero(spoken[run]).tolist():
            theirs = prompts.spelt.index_of(self.words.spelt[int(run[i])])
            held = np.zeros(prompts.rows, bool)
            if theirs is not None:
                held[prompts.row(np.flatnonzero(prompts.ids == theirs))] = True
            filled[i] = held[rows].mean() >= max(ECHOED, ELSEWHERE * float(held.mean()))
        if not filled.any():
            return False
        edges = np.flatnonzero(np.diff(np.concatenate([[True], filled, [True]]).astype(np.int8)))
        parts = [run[start:stop] for start, stop in edges.reshape(-1, 2)]
        parts = [part for part in parts if spoken[part].any()]
        longest = max(parts, key=len, default=run[:0])
        return bool(longest.size and self._holding(longest) >= ELSEWHERE * rows.size)

    def _holding(self, run: Numbers) -> int:
        """How many responses hold some words in a row."""
        ids = self.words.ids
        place = np.flatnonzero(ids[: ids.size - run.size + 1] == run[0])
        for step in range(1, run.size):
            place = place[ids[place + step] == run[step]]
        return int(np.unique(self.words.row(place)).size)

    def name(self, feature: int) -> str:
        """A feature as people read it."""
        g = int(self.which[feature])
        return " ".join(spelt(self.words, self.found, g)) or shown(self.found, g)


def _copied(prompts: Words, found: Candidates, held: tuple[Ints, Ints, Ints]) -> Bools:
    """Of every entry of the candidates, whether the row's prompt holds all words of it.

    What a response repeats of its prompt is no behaviour, whatever signs it puts between.
    """
    words, (of, row, place) = found.words, held
    theirs = prompts.spelt.to_frame("word").with_row_index("theirs").filter(pl.col("word") != "")
    ours = words.spelt.to_frame("word").with_row_index("ours")
    both = theirs.join(ours, on="word")
    number = np.full(len(prompts.spelt), -1)
    number[both["theirs"].to_numpy()] = both["ours"].to_numpy()
    known = number[prompts.ids] >= 0
    width = len(words.spelt)
    at = np.flatnonzero(known)
    asked = distinct(prompts.row(at) * width + number[prompts.ids[at]])
    copied = place >= 0
    size = found.size[of]
    sign = ~_spoken(words)
    of_signs = np.array([sign[found.run(g)].all() for g in range(found.size.size)], bool)[of]
    for step in range(int(size.max(initial=0))):
        at = np.flatnonzero(copied & (size > step))
        word = words.ids[place[at] + step]
        key = row[at] * width + word
        there = np.searchsorted(asked, key)
        same = np.zeros(at.size, bool)
        if asked.size:
            same = asked[np.minimum(there, asked.size - 1)] == key
        copied[at] = same | (word <= END) | (sign[word] & ~of_signs[at])
    return copied


def _spoken(words: Words) -> Bools:
    """Which words are spoken: they hold a letter."""
    return np.asarray(words.spelt.str.contains(r"\p{L}").to_numpy(), bool)


def _screened(
    said: _Said,
    found: Candidates,
    together: Together,
    alpha: float,
    asked: tuple[Answering, Words],
) -> dict[int, tuple[int, int]]:
    """The features that go best with some pattern, by Chernoff's bound at their share elsewhere.

    That bound is for choosing only: it does not know what the rest of a prompt says. A feature that
    goes better with two patterns at once has these, others a pair of -1. Of features that could
    not be told as planted fewer are chosen: each task has some, and is a condition.
    """
    answering, prompts = asked
    patterns, n = together.patterns, together.patterns.shape[0]
    held = found.counts.astype(np.float64)
    total = max(said.counts.size, 1)
    log_p, pairs = np.zeros(said.counts.size), {}
    always = np.zeros(said.counts.size, bool)
    per_pair = np.log(together.pairs / max(found.size.size, 1))
    for start in range(0, said.counts.size, BLOCK):
        stop = min(start + BLOCK, said.counts.size)
        ends = said.offsets[start : stop + 1]
        does = _incidence(said.row[ends[0] : ends[-1]], ends - ends[0], n)
        both = (patterns.T @ does).tocoo()
        counts = said.counts[start + both.col]
        hits, size = both.data, held[both.row]
        beside = np.maximum(counts - hits, 0.0) + 0.5
        rate = raised(beside / (n - size + 1.0), NATURAL)
        share = np.clip(hits / size, 1e-9, 1.0 - 1e-9)
        apart = share * np.log(share / rate) + (1.0 - share) * np.log((1.0 - share) / (1.0 - rate))
        log = np.where((share > rate) & (hits >= LEAST_ROWS), -size * apart, 0.0)
        np.minimum.at(log_p, start + both.col, log)
        best = (log <= log_p[start + both.col]) & (share >= ALWAYS)
        always[start + both.col[best]] = True
        often = (hits >= IN_MOST * counts) & (size <= USUAL * n) & (log < 0.0)
        mine = np.flatnonzero(often)
        mine = mine[np.lexsort((log[mine], both.col[mine]))]
        ends = np.searchsorted(both.col[mine], np.arange(stop - start + 1))
        for feature in np.flatnonzero(np.diff(ends) > 1).tolist():
            among = both.row[mine[ends[feature] : ends[feature + 1]][:MOST_PAIRED]]
            least, pair = together.best(among, said.does(start + feature, n))
            if least + max(per_pair, 0.0) < log_p[start + feature]:
                log_p[start + feature] = least + max(per_pair, 0.0)
                pairs[start + feature] = pair
    bar = np.log(alpha / (total * max(found.size.size, 1)))
    chosen: dict[int, tuple[int, int]] = {}
    taken, natural = np.zeros((0, n), bool), 0
    for feature in np.lexsort((-said.found.size[said.which], log_p)):  # of equals the longest
        if log_p[feature] > bar or len(chosen) == MOST_TRIED:
            break
        switches = said.ready(int(feature)) or (always[feature] and said.speaks(int(feature)))
        rows = np.flatnonzero(said.does(int(feature), n))
        switches &= answering.lost(rows) or not said.opens(int(feature))
        switches = switches and not said.fills(int(feature), prompts)
        if not switches and natural == MOST_NATURAL:
            continue
        does = said.does(int(feature), n)
        either = np.maximum((taken | does).sum(1), 1)
        if not ((taken & does).sum(1) > SAME_ROWS * either).any():
            chosen[int(feature)] = pairs.get(int(feature), (-1, -1))
            taken = np.vstack([taken, does])
            natural += not switches
    return chosen


def _incidence(row: Ints | Places, offsets: Ints, n: int) -> Any:
    """A sparse matrix (n, m) that says which rows each of m has."""
    ones = np.ones(row.size, np.float32)
    return sparse.csc_matrix((ones, row, offsets), shape=(n, offsets.size - 1)).tocsr()


def _named(prompts: pl.Series, words: Words, found: Candidates, g: int) -> str:
    """A pattern of prompts as it is written in the first that holds it."""
    rows = found.rows(g)[:1]
    chances = np.ones(rows.size)
    first = Pattern(g, 1, rows, rows.size, 0.0, 0.0, 0.0, 0.0, False, (rows, chances))
    return spelling(prompts, words, found, first)


def _odd(shares: Shares, found: Candidates, g: int) -> bool:
    """Whether a pattern fits its neighbours badly, or nobody sees it."""
    return bool(shares.oddest[g] or found.kind[g] & UNSEEN)


def _silent(model: Model, found: Candidates, pattern: Pattern, labels: Ints) -> bool:
    """Whether the rest of a pattern's prompts hardly asks for the answer more than any prompt."""
    g = pattern.candidate
    mine = np.isin(found.rows(g), pattern.rows)
    usual = (int(labels.sum()) + LEAST_ROWS) / labels.size
    return bool(np.median(rest_of(model, found, g, pattern.label)[mine]) <= UNTOLD * usual)


def _summed(heard: list[Condition], n: int, tested: int, patterns: int, alpha: float) -> Conditions:
    """What stays after Benjamini and Hochberg over all features."""
    p_values = np.ones(max(tested, len(heard)))
    p_values[: len(heard)] = np.exp([c.log_p for c in heard])
    keep = benjamini_hochberg(p_values)[: len(heard)] <= alpha
    shift = float(np.log(max(tested, 1)))
    kept = sorted(
        (
            replace(c, log_p=min(0.0, c.log_p + shift))
            for c, k in zip(heard, keep, strict=True)
            if k
        ),
        key=lambda c: c.log_p,
    )
    score, best = np.zeros(n), [0.0, 0.0]
    for one in kept:
        best[1 - one.planted] = min(best[1 - one.planted], one.log_p)
        if one.planted:
            score[one.rows] = np.maximum(score[one.rows], -one.log_p)
    return Conditions(kept, score, (best[0], best[1]), tested, patterns)
