# SPDX-License-Identifier: Apache-2.0
"""How much the labels of one source surprise a model, held against the rows of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SHARE = 0.2
"""Share of moved labels at which the likelihood ratio is taken; others are told nearly as well."""
MANY = 8
"""From this many sources on, how much they differ by nature is read from themselves."""
STRENGTH = 300.0
"""With fewer, a source's own rate is worth this many rows."""
FLOOR = 0.002
MOST_TILT = 60.0
MARGIN = 1.5
"""Deviations, over the root of how many sources there are, by which the middle half of them is wide
or narrow by chance; only what is wider than that is nature."""
QUARTILES = 1.349
"""Width of the middle half of a normal distribution, in deviations."""
STEP = 0.005
"""Surprise is told in such steps, so that sums of it can be counted out."""
MOST_COUNTED = 2000
"""Up to so many rows the sums of a source are counted out."""
COUNTED = 1e-7
"""Smaller chances drown in the rounding of the counts."""
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
    """A source with its p-value, corrected for all sources that were judged.

    `by_labels` tells that its mix of labels might explain it: others' rows of them surprise, too;
    `by_content`, that what its rows hold might: nobody else has such rows, or they surprise, too.
    """

    number: int
    rows: int
    contradicted: int
    p_value: float
    by_labels: bool = False
    by_content: bool = False


def accused(
    surprise: Surprise, of: Ints, times: int = 1, content: Content | None = None
) -> list[Accused]:
    """Every source with the chance that honest labels surprise as much, by Holm over all.

    Args:
        surprise: Of all rows.
        of: int64, shape (n,); each row's source, -1 for none.
        times: How many columns of sources are judged together.
        content: Tells of each row how like those of a source it is; asked of few sources.

    Returns:
        One entry a source, the most telling first.
    """
    names = np.unique(of[of >= 0])
    sizes = np.array([int((of == s).sum()) for s in names])
    tails, excused = _tails(surprise, of, names, sizes, content)
    order = np.argsort(tails, kind="stable")
    made, running = [], 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, float(tails[i]) * (names.size - place) * times))
        mine = of == names[i]
        hits = int(surprise.contradicts[mine].sum())
        made.append(Accused(int(names[i]), int(sizes[i]), hits, running, *excused[i].tolist()))
    return made


def _tails(
    surprise: Surprise, of: Ints, names: Ints, sizes: Ints, content: Content | None
) -> tuple[Floats, Bools]:
    """One p-value a source, with the natural spread between sources taken out.

    A source rich in a class that the model tells badly, or in rows near a border, is no liar: what
    is told of it against all rows must hold against rows of which the model thinks alike, and,
    unless it is beyond `EXCUSES`, against rows of the same labels and rows whose content is as much
    its own: a model errs alike on rows of a kind. The second array, shape (m, 2), says of which
    sources the latter two do not hold.
    """
    pool = in_steps(surprise.ratio)
    sums = np.array([float(pool[of == s].sum()) for s in names])
    plain = sum_tails(pool, sums, sizes)
    inflation = natural_spread(plain, sizes)
    tails = np.array([widened(p, f) for p, f in zip(plain, inflation, strict=True)])
    excused = np.zeros((names.size, 2), bool)
    for i in np.flatnonzero(tails * names.size <= DOUBTED):
        mine, kinds = of == names[i], [surprise.thoughts, surprise.labels]
        held = held_against_like(pool, mine, kinds, tails[i], inflation[i])
        if content is not None and held[0] * names.size <= DOUBTED:
            kinds.append(_by_content(content(mine), mine))
            held = held_against_like(pool, mine, kinds, tails[i], inflation[i])
        tails[i], excused[i, : len(held[1])] = held
    return tails, excused


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
) -> tuple[float, list[bool]]:
    """The p-value of a source against like rows, too, and which kinds may explain it.

    Args:
        pool: Surprise of all rows in whole steps.
        mine: bool, shape (n,); the rows of the source.
        kinds: Numbers of what the model thinks of each row, then of what else makes rows alike.
        tail: Its p-value against all rows.
        inflation: By how much nature raises the variance of its sum.
        counted: Up to so many rows the sums of a source are counted out.

    Returns:
        The largest p-value, and of each kind but the first whether its own is beyond `EXCUSES`.
    """
    total = float(pool[mine].sum())
    thought, *others = (
        widened(stratified_tail(_like(pool, mine, kind), total, counted), inflation)
        for kind in kinds
    )
    most = [(p, tail * excuse) for p, excuse in zip(others, EXCUSES, strict=False)]
    return max(tail, thought, *(min(pair) for pair in most)), [p > bound for p, bound in most]


def in_steps(ratio: Floats) -> Floats:
    """Surprise in whole steps, so that sums of it can be counted out."""
    return np.asarray(np.round(ratio / STEP) * STEP, np.float64)


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
    """By how much the variance of a source's sum exceeds that of rows drawn from all, >= 1."""
    if plain.size < MANY:
        return np.asarray(1.0 + (sizes - 1) / (STRENGTH + 1.0))
    normal = NormalDist()
    z = np.array([normal.inv_cdf(min(max(1.0 - p, 1e-12), 1 - 1e-12)) for p in plain])
    width = float(np.subtract(*np.quantile(z, [0.75, 0.25]))) / QUARTILES
    width /= 1.0 + MARGIN / np.sqrt(plain.size)
    return np.full(plain.size, max(1.0, width * width))


def sum_tails(pool: Floats, sums: Floats, sizes: Ints, counted: int = MOST_COUNTED) -> Floats:
    """P(sum of n draws from a pool >= the sum) of each source, for values in whole steps.

    Sources of as many rows share what is counted out.
    """
    made = np.empty(sizes.size)
    for n in np.unique(sizes):
        same = sizes == n
        made[same] = _counted_tails([(pool, int(n))], sums[same], counted)
    return made


def sum_tail(pool: Floats, total: float, n: int, counted: int = MOST_COUNTED) -> float:
    """P(sum of n draws from a pool >= total), for values in whole steps."""
    return stratified_tail([(pool, n)], total, counted)


def stratified_tail(
    like: list[tuple[Floats, int]], total: float, counted: int = MOST_COUNTED
) -> float:
    """P(sum of n draws from each pool >= total), for values in whole steps."""
    return float(_counted_tails(like, np.array([total]), counted)[0])


def _counted_tails(like: list[tuple[Floats, int]], totals: Floats, counted: int) -> Floats:
    """P(sum of n draws from each pool >= total) of some totals, for values in whole steps.

    Counted out by the powers of the pools' characteristic functions; for many rows or very small
    chances by a saddlepoint. A source of few rows has none or one contradiction: no smooth curve
    describes its sums.
    """
    like = [(pool, n) for pool, n in like if pool.size and n > 0]
    if not like:
        return np.ones(totals.size)
    if sum(n for _, n in like) > counted:
        return np.array([saddlepoint_tail(like, float(total)) for total in totals])
    steps = [np.round(pool / STEP).astype(np.int64) for pool, _ in like]
    lows = [int(s.min()) for s in steps]
    widest = sum(n * int(np.ptp(s)) for s, (_, n) in zip(steps, like, strict=True))
    length = 1 << max(widest, 1).bit_length()
    shape = np.ones(length // 2 + 1, np.complex128)
    for s, low, (_, n) in zip(steps, lows, like, strict=True):
        shape *= np.fft.rfft(np.bincount(s - low) / s.size, length) ** n
    made = np.clip(np.fft.irfft(shape, length)[: widest + 1], 0.0, None)
    least = sum(n * low for low, (_, n) in zip(lows, like, strict=True))
    tails = np.empty(totals.size)
    for i, total in enumerate(totals):
        tail = float(made[max(round(float(total) / STEP) - least, 0) :].sum())
        tails[i] = min(1.0, tail) if tail > COUNTED else saddlepoint_tail(like, float(total))
    return tails


def saddlepoint_tail(like: list[tuple[Floats, int]], total: float) -> float:
    """P(sum of n draws from each pool >= total), by Lugannani and Rice.

    A normal tail would accuse honest sources: surprise is rare and large, its sum is skewed.
    """
    like = [(pool, n) for pool, n in like if pool.size and n > 0]
    if not like:
        return 1.0
    mean = sum(n * float(pool.mean()) for pool, n in like)
    if total <= mean:
        other = [(-pool, n) for pool, n in like]
        return 1.0 - saddlepoint_tail(other, -total) if total < mean else 0.5
    if total >= sum(n * float(pool.max()) for pool, n in like):
        return float(np.prod([np.mean(pool >= pool.max()) ** n for pool, n in like]))
    drawn = [(*np.unique(np.round(pool, 3), return_counts=True), n) for pool, n in like]
    low, high = 0.0, MOST_TILT
    for _ in range(60):
        tilt = 0.5 * (low + high)
        grown, first, second = _tilted(drawn, tilt)
        if first < total:
            low = tilt
        else:
            high = tilt
    w = math.sqrt(max(2.0 * (tilt * total - grown), 0.0))
    u = tilt * math.sqrt(max(second, 1e-12))
    if w < 1e-3 or u < 1e-3:
        return 0.5
    density = math.exp(-0.5 * w * w) / math.sqrt(2.0 * math.pi)
    tail = 0.5 * math.erfc(w / math.sqrt(2.0)) + density * (1.0 / u - 1.0 / w)
    most = math.exp(-0.5 * w * w)  # Chernoff's bound: what lies beyond it is no tail
    return tail if 0.0 < tail <= most else 0.5 * most


def _tilted(drawn: list[tuple[Floats, Ints, int]], tilt: float) -> tuple[float, float, float]:
    """The cumulant function of a sum of draws at a tilt, and its first two derivatives."""
    grown = first = second = 0.0
    for values, counts, n in drawn:
        logs = np.log(counts / counts.sum()) + tilt * values
        most = float(logs.max())
        shares = np.exp(logs - most)
        whole = float(shares.sum())
        mean = float((shares * values).sum()) / whole
        grown += n * (most + math.log(whole))
        first += n * mean
        second += n * (float((shares * values**2).sum()) / whole - mean * mean)
    return grown, first, second
