# SPDX-License-Identifier: Apache-2.0
"""How much the labels of one source surprise a model, held against the rows of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._honest import farthest_of_honest
from datapipe.stages.poisoning._sums import (
    MOST_COUNTED,
    in_steps,
    mid_tails,
    stratified_tail,
    sum_tail,
    sum_tails,
)

SHARE = 0.2
"""Share of moved labels at which the likelihood ratio is taken; others are told nearly as well."""
MANY = 8
"""From this many sources on, how much they differ by nature is read from themselves."""
STRENGTH = 300.0
"""With fewer, a source's own rate is worth this many rows."""
FLOOR = 0.002
MARGIN = 1.5
"""Deviations, over the root of how many sources there are, by which the middle half of them is wide
or narrow by chance; only what is wider than that is nature."""
QUARTILES = 1.349
"""Width of the middle half of a normal distribution, in deviations."""
DOUBTED = 0.5
"""Sources less likely than this, all being judged, are held against like rows, too."""
FEWEST_OTHERS = 10
"""Rows of others that tell what a kind of row is like."""
EXCUSES = (1e5, 1e3)
"""By how much a chance is raised at most because rows with the same labels, or with like content,
are told as badly: a liar's own rows are told as badly as a rare class, too."""
BINS, FEWEST_OF_BIN = 4, 30
"""Into so many kinds by certainty the rows of a likely class are parted, of so many rows each."""
QUARTERS = (0.25, 0.5, 0.75)
"""Where the rows of a source are parted by how much its own their content is."""
TAUGHT = 0.05
"""A source that has this share of the rows of a label teaches the model what it says of it."""
MOST_UNTAUGHT = 8
"""So many sources at most are held against a model that did not learn from them."""
NO_EXCUSE = (math.inf, math.inf)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Content = Callable[[Bools], Floats]
"""How likely the content of each row is that of a source, which has the rows given."""


@dataclass(frozen=True, eq=False)
class Surprise:
    """What a model that has not seen a row thinks of its label.

    `ratio` is the log likelihood ratio of a moved label, less its mean over the labels that the
    model deems possible: 0 on average whatever a row holds. `moved` is what it would be on average
    had the label of the row been moved. `unlikely` is the chance of any other label. `thoughts`
    numbers what the model thinks of a row: its likeliest class, and how sure of it it is.
    `ratios`, shape (n, K), is what `ratio` would be under each label.
    """

    ratio: Floats
    ratios: Floats
    moved: Floats
    unlikely: Floats
    likeliest: Ints
    contradicts: Bools
    labels: Ints
    thoughts: Ints

    @classmethod
    def of(cls, labels: Ints, shares: Floats) -> Surprise:
        """From given labels, shape (n,), and out-of-fold chances, shape (n, K)."""
        k = shares.shape[1]
        p = np.maximum(shares, FLOOR)
        p = p / p.sum(1, keepdims=True)
        each = np.log((1.0 - SHARE) + SHARE * (1.0 - p) / ((k - 1) * p))
        mean = (p * each).sum(1)
        other = ((1.0 - p) * each).sum(1) / (k - 1)
        rows = np.arange(labels.size)
        own = shares[rows, labels]
        likeliest = shares.argmax(1)
        contradicts = (likeliest != labels) & (shares.max(1) > 2.0 * own)
        return cls(
            ratio=each[rows, labels] - mean,
            ratios=each - mean[:, None],
            moved=other - mean,
            unlikely=1.0 - own,
            likeliest=likeliest,
            contradicts=contradicts,
            labels=labels,
            thoughts=_thoughts(likeliest, shares.max(1)),
        )


Untaught = Callable[[Bools], Surprise]
"""What a model that did not learn from the rows given makes of all rows."""


def _thoughts(likeliest: Ints, sure: Floats) -> Ints:
    """Numbers rows by their likeliest class, and within it by how sure the model is of it."""
    made = likeliest * BINS
    for k in np.unique(likeliest):
        mine = np.flatnonzero(likeliest == k)
        bins = min(BINS, max(1, mine.size // FEWEST_OF_BIN))
        made[mine[np.argsort(sure[mine], kind="stable")]] += (
            np.arange(mine.size) * bins // mine.size
        )
    return made


@dataclass(frozen=True)
class Accused:
    """A source with two p-values, corrected for all sources that were judged.

    `by_chance` is how likely honest labels surprise as much; `by_spread`, how likely the most
    careless of as many honest sources does, where these differ as most of the sources do.
    `by_labels` tells that its mix of labels might explain it: others' rows of them surprise, too;
    `by_content`, that what its rows hold might: nobody else has such rows, or they surprise, too.
    """

    number: int
    rows: int
    contradicted: int
    by_chance: float
    by_spread: float
    by_labels: bool = False
    by_content: bool = False

    @property
    def p_value(self) -> float:
        """The larger of both."""
        return max(self.by_chance, self.by_spread)


def accused(
    surprise: Surprise,
    of: Ints,
    times: int = 1,
    content: Content | None = None,
    untaught: Untaught | None = None,
) -> list[Accused]:
    """Every source with the chance that honest labels surprise as much, by Holm over all.

    Nor may the most careless of as many honest sources be likely to surprise as much, where most of
    them differ as these do.

    Args:
        surprise: Of all rows.
        of: int64, shape (n,); each row's source, -1 for none.
        times: How many columns of sources are judged together.
        content: Tells of each row how like those of a source it is; asked of few sources.
        untaught: Gives the surprise of all rows by a model that did not learn from a source; asked
            of few sources.

    Returns:
        One entry a source, the most telling first.
    """
    names = np.unique(of[of >= 0])
    sizes = np.array([int((of == s).sum()) for s in names])
    tails, excused, honest = _tails(surprise, of, names, content, untaught)
    order = np.argsort(tails, kind="stable")
    made, running = [], 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, float(tails[i]) * (names.size - place) * times))
        mine = of == names[i]
        hits = int(surprise.contradicts[mine].sum())
        found = running, min(1.0, float(honest[i]) * times)
        by_labels, by_content = (bool(x) for x in excused[i])
        made.append(Accused(int(names[i]), int(sizes[i]), hits, *found, by_labels, by_content))
    return sorted(made, key=lambda one: one.p_value)


def _tails(
    surprise: Surprise,
    of: Ints,
    names: Ints,
    content: Content | None,
    untaught: Untaught | None,
) -> tuple[Floats, Bools, Floats]:
    """One p-value a source, with the natural spread between sources taken out.

    A source rich in a class that the model tells badly, or in rows near a border, is no liar: what
    is told of it against all rows must hold against rows of which the model thinks alike, and,
    unless it is beyond `EXCUSES`, against rows of the same labels and rows whose content is as much
    its own: a model errs alike on rows of a kind. The second array, shape (m, 2), says of which
    sources the latter two do not hold; the third, how likely the farthest of as many honest sources
    lies as far out: that one is corrected for all of them.

    A source with many rows of a label teaches the model its lie, which is then no surprise: where
    its labels contradict more often than others', a model that did not learn from it is asked, too.
    As that one knows nothing of what only this source has, nothing is beyond any excuse then.
    """
    pool = in_steps(surprise.ratio)
    sizes = np.array([int((of == s).sum()) for s in names])
    sums = np.array([float(pool[of == s].sum()) for s in names])
    plain = sum_tails(pool, sums, sizes)
    level = mid_tails(pool, sums, sizes, plain)
    inflation = natural_spread(level, sizes)
    tails = np.array([widened(p, f) for p, f in zip(plain, inflation, strict=True)])
    excused = np.zeros((names.size, 2), bool)
    for i in np.flatnonzero(tails * names.size <= DOUBTED):
        mine, kinds = of == names[i], [surprise.thoughts, surprise.labels]
        held = held_against_like(pool, mine, kinds, tails[i], inflation[i])
        if content is not None and held[0] * names.size <= DOUBTED:
            kinds.append(_by_content(content(mine), mine))
            held = held_against_like(pool, mine, kinds, tails[i], inflation[i])
        tails[i], excused[i, : len(held[1])] = held
    honest = differing(surprise, pool, of, names)
    if untaught is not None:
        for one in _teachers(surprise, of, names):
            mine = of == names[one]
            told = untaught(mine)
            alone = 2.0 * _alone(told, mine, inflation[one], content, tails[one])
            if alone < tails[one]:
                tails[one], excused[one] = alone, False
                far = differing(told, in_steps(told.ratio), of, names)
                honest[one] = min(honest[one], 2.0 * float(far[one]))
    return tails, excused, honest


def differing(surprise: Surprise, pool: Floats, of: Ints, names: Ints) -> Floats:
    """`farthest_of_honest`; 0 where sources are too few to say how much they differ."""
    if names.size < MANY:
        return np.zeros(names.size)
    sizes = np.array([int((of == s).sum()) for s in names])
    excess = np.array([least_excess(pool, of == s, surprise.thoughts) for s in names])
    return farthest_of_honest(pool, excess, sizes)


def least_excess(pool: Floats, mine: Bools, kind: Ints) -> float:
    """By how much a source's sum exceeds that of as many rows, and of others of the same kinds.

    One rich in rows of which the model knows little says nothing of how honest people differ.
    """
    total, base, size = float(pool[mine].sum()), float(pool.mean()), int(kind.max()) + 1
    own = np.bincount(kind[mine], minlength=size)
    many = np.bincount(kind[~mine], minlength=size)
    told = np.bincount(kind[~mine], pool[~mine], minlength=size) / np.maximum(many, 1)
    told = np.where(many >= FEWEST_OTHERS, told, base)
    return total - max(float(own.sum()) * base, float(own @ told))


def _teachers(surprise: Surprise, of: Ints, names: Ints) -> list[int]:
    """The sources that may have taught the model what it thinks of their labels, odd ones first."""
    total = np.maximum(np.bincount(surprise.labels), 1)
    found = []
    for i, name in enumerate(names):
        mine = of == name
        own = np.bincount(surprise.labels[mine], minlength=total.size)
        hits, n = int(surprise.contradicts[mine].sum()), int(mine.sum())
        others = (surprise.contradicts[~mine].sum() + 1.0) / ((~mine).sum() + 1.0)
        tail = binomial_tail(hits, n, min(1.0, float(others)))
        if (own >= TAUGHT * total).any() and tail * names.size <= DOUBTED:
            found.append((tail, i))
    return [i for _, i in sorted(found)[:MOST_UNTAUGHT]]


def _alone(
    surprise: Surprise, mine: Bools, inflation: float, content: Content | None, bar: float
) -> float:
    """The p-value of a source by a model that did not learn from it."""
    pool, kinds = in_steps(surprise.ratio), [surprise.thoughts, surprise.labels]
    tail = widened(sum_tail(pool, float(pool[mine].sum()), int(mine.sum())), inflation)
    if 2.0 * tail >= bar:
        return 1.0
    if content is not None:
        kinds.append(_by_content(content(mine), mine))
    return held_against_like(pool, mine, kinds, tail, inflation, excuses=NO_EXCUSE)[0]


def _by_content(like: Floats, mine: Bools) -> Ints:
    """Numbers rows by how like those of a source they are, each number for a quarter of its own."""
    return np.searchsorted(np.quantile(like[mine], QUARTERS), like, side="right").astype(np.int64)


def held_against_like(
    pool: Floats,
    mine: Bools,
    kinds: Sequence[Ints],
    tail: float,
    inflation: float,
    *,
    counted: int = MOST_COUNTED,
    excuses: tuple[float, float] = EXCUSES,
) -> tuple[float, list[bool]]:
    """The p-value of a source against like rows, too, and which kinds may explain it.

    Args:
        pool: Surprise of all rows in whole steps.
        mine: bool, shape (n,); the rows of the source.
        kinds: Numbers of what the model thinks of each row, then of what else makes rows alike.
        tail: Its p-value against all rows.
        inflation: By how much nature raises the variance of its sum.
        counted: Up to so many rows the sums of a source are counted out.
        excuses: By how much each kind but the first may raise it.

    Returns:
        The largest p-value, and of each kind but the first whether its own is beyond its excuse.
    """
    total = float(pool[mine].sum())
    thought, *others = (
        widened(stratified_tail(_like(pool, mine, kind), total, counted), inflation)
        for kind in kinds
    )
    most = [(p, tail * excuse) for p, excuse in zip(others, excuses, strict=False)]
    return max(tail, thought, *(min(pair) for pair in most)), [p > bound for p, bound in most]


def _like(pool: Floats, mine: Bools, kinds: Ints) -> list[tuple[Floats, int]]:
    """Of each kind of rows a source has: what the others' are like, and how many it has.

    Its own would vouch for themselves where it brought most of a rare label. Of a kind that hardly
    anybody else has, nothing is known of honest ones but its own. Where no row of others surprises
    as much as one of its own, the next might: one joins them, as in Laplace's rule of succession.
    """
    made = []
    for k in np.unique(kinds[mine]):
        own, others = pool[(kinds == k) & mine], pool[(kinds == k) & ~mine]
        like = np.append(others, own.max()) if own.max() > others.max(initial=-np.inf) else others
        like = like if others.size >= FEWEST_OTHERS else pool[kinds == k]
        made.append((like, own.size))
    return made


def widened(p_value: float, inflation: float) -> float:
    """A one-sided p-value, with the variance of its statistic raised."""
    if not 0.0 < p_value < 1.0:
        return p_value
    z = -NormalDist().inv_cdf(p_value)
    return 0.5 * math.erfc(z / math.sqrt(2.0 * inflation))


def natural_spread(plain: Floats, sizes: Ints) -> Floats:
    """By how much the variance of each source's sum exceeds that of rows drawn from all, >= 1.

    What sets sources apart sets all their rows apart: variance grows with their number, and large
    honest sources lie farther out than small ones.
    """
    return _inflated(sizes, likeness(plain, sizes))


def _inflated(sizes: Ints, alike: float) -> Floats:
    return np.asarray(1.0 + (sizes - 1) * alike, np.float64)


def likeness(plain: Floats, sizes: Ints) -> float:
    """How alike rows of one source are by nature: the correlation of what a model makes of two.

    With few sources it is that of rates worth `STRENGTH` rows; else such that the middle half of
    the sources is as wide as chance has it.
    """
    if plain.size < MANY:
        return 1.0 / (STRENGTH + 1.0)
    return _as_wide(plain, sizes, (0.25, 0.75), QUARTILES * (1.0 + MARGIN / np.sqrt(plain.size)))


def _as_wide(plain: Floats, sizes: Ints, between: tuple[float, float], usual: float) -> float:
    """How alike rows of one are, such that sources are as wide as `usual` between quantiles."""
    normal = NormalDist()
    z = np.array([normal.inv_cdf(min(max(1.0 - p, 1e-12), 1 - 1e-12)) for p in plain])

    def wide(alike: float) -> bool:
        scaled = z / np.sqrt(1.0 + (sizes - 1) * alike)
        return bool(np.diff(np.quantile(scaled, between)).item() > usual)

    low, high = 0.0, 1.0
    if not wide(low):
        return low
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high
