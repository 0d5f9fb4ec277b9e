# SPDX-License-Identifier: Apache-2.0
"""How far out the most careless of many honest sources lies, with all doubt of how they differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln  # type: ignore[import-untyped]  # it ships no types

MOST_LIARS = 0.2
"""Share of the sources that may be liars."""
MOST_ASKED = 20
"""So many sources at most, the farthest out, are asked whether they are."""
SPREADS = np.geomspace(0.03, 3.0, 30)
"""Standard deviation of honest rates, over their mean."""
USUAL_SPREAD = 0.4
"""Scale of what is expected of it, half of a normal: of eight crowds of people, without those far
out, it was .03 to .8, and that is the root mean square."""
MEANS = np.geomspace(0.1, 5.0, 40)
"""Mean of honest rates, over the rate of all rows."""
RATES = np.linspace(-8.0, 7.0, 226)
"""Logarithms of rates, over that of all rows."""
LIKELY = 1e-9
"""Means and spreads less likely than this, of all, are not asked."""
MOST_EVENTS = 400.0
"""Surprises that one row may count for: a sum without skew is that of very many small ones."""
TINY = 1e-300

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def farthest_of_honest(pool: Floats, excess: Floats, sizes: Ints) -> Floats:
    """The chance that the farthest of as many honest sources lies as far out as each one does.

    A sum over rows is counted in surprises: that number of equal ones, each a Poisson event, which
    has its mean, variance and skewness. Honest rates have a gamma distribution, so that counts are
    negative binomial. Its mean and spread are not known: how likely each pair makes the sources
    that lie less far out, times what is expected of a spread, weighs what it foretells of the
    farthest of all. As liars hide each other, the next ones are asked, too, and speak for all
    those beyond.

    Args:
        pool: float64, shape (n,): of all rows.
        excess: float64, shape (m,): of the rows of each source, beyond what is to be expected.
        sizes: int64, shape (m,): how many rows each has.

    Returns:
        float64, shape (m,): corrected for all sources.

    References:
        Geisser, 1993, Predictive inference; Gelman, 2006, Prior distributions for variance
        parameters in hierarchical models; Rosner, 1983, Percentage points for a generalized ESD
        many-outlier procedure.
    """
    crowd = Crowd.of(pool, excess, sizes)
    made, least = np.ones(sizes.size), 1.0
    if crowd is None:
        return made
    for far in range(crowd.asked, 0, -1):
        one = int(crowd.order[far - 1])
        said = crowd.farthest(crowd.honest(crowd.order[:far]), one, float(crowd.counts[one]))
        least = min(least, said)
        made[one] = least
    return made


@dataclass(frozen=True, eq=False)
class Crowd:
    """Sources by the surprises that are `usual` in their rows and the `counts` that they have.

    `density`, shape (m, g), is that of each one's count, in logarithms, for each mean and spread;
    `mixed`, shape (g, rates), are the distributions of rates. `order`: the farthest out first.
    """

    usual: Floats
    counts: Floats
    order: Ints
    mixed: Floats
    prior: Floats
    density: Floats
    step: float

    @classmethod
    def of(cls, pool: Floats, excess: Floats, sizes: Ints) -> Crowd | None:
        """From sums over rows, as `farthest_of_honest` takes them; None where no row surprises."""
        base = float(pool.mean())
        second, third = (float(((pool - base) ** power).mean()) for power in (2, 3))
        if second <= 0.0:
            return None
        step = max(third / second, float(np.sqrt(second / MOST_EVENTS)))
        usual: Floats = sizes.astype(np.float64) * second / step**2
        counts: Floats = np.maximum(usual + excess / step, 0.0)
        mean, spread = (grid.ravel() for grid in np.meshgrid(MEANS, SPREADS))
        mixed = _gamma(mean[:, None], 1.0 / spread[:, None] ** 2)
        prior = np.log(spread) - 0.5 * (spread / USUAL_SPREAD) ** 2  # the grid is even in logs
        events = _density(counts[:, None], usual[:, None] * np.exp(RATES))
        density = np.log(np.maximum(events @ mixed.T, TINY))
        order = np.argsort(-counts / usual, kind="stable")
        made = cls(usual, counts, order, mixed, prior, density, step)
        order = np.argsort(made.tails(made.honest(order[: made.asked])), kind="stable")
        return replace(made, order=order)

    @property
    def asked(self) -> int:
        """So many, the farthest out, are asked whether they are liars."""
        return min(max(int(MOST_LIARS * self.counts.size), 1), MOST_ASKED)

    def honest(self, away: Ints) -> Floats:
        """How likely each mean and spread is, shape (g,), where some sources may be no honest ones.

        Of these no more is known than that none has a lower rate than the others.
        """
        near = np.setdiff1d(np.arange(self.counts.size), away)
        told = self.prior + self.density[near].sum(0)
        most = float((self.counts[near] / self.usual[near]).max(initial=0.0))
        most = min(most, float((self.counts[away] / self.usual[away]).min()))
        usual, many = np.unique(self.usual[away], return_counts=True)
        edge = _tail(usual[:, None] * most, usual[:, None] * np.exp(RATES)) @ self.mixed.T
        told = told + many @ np.log(np.maximum(edge, TINY))
        weight = np.exp(told - told.max())
        return np.asarray(weight / weight.sum(), np.float64)

    def farthest(self, honest: Floats, source: int, count: float) -> float:
        """The chance that any of as many honest sources is as unusual as one with such a count."""
        kept = honest > LIKELY
        usual = self.usual[source] * np.exp(RATES)
        beyond = np.minimum(self.mixed[kept] @ _tail(np.array(count), usual), 1.0 - 1e-12)
        return float(honest[kept] @ -np.expm1(self.counts.size * np.log1p(-beyond)))

    def tails(self, honest: Floats) -> Floats:
        """How likely each source's count, or a larger one, is of an honest one."""
        rates = honest @ self.mixed
        return _tail(self.counts[:, None], self.usual[:, None] * np.exp(RATES)) @ rates

    def count(self, source: int, excess: float) -> float:
        """The count that a source would have with another sum over its rows."""
        return max(float(self.usual[source]) + excess / self.step, 0.0)


def _gamma(mean: Floats, shape: Floats) -> Floats:
    """A gamma distribution of rates with a mean and a shape, at the `RATES`."""
    logs = shape * (RATES - np.log(mean)) - shape * np.exp(RATES) / mean  # of the logarithms
    made = np.exp(logs - logs.max(1, keepdims=True))
    return np.asarray(made / made.sum(1, keepdims=True), np.float64)


def _tail(counts: Floats, expected: Floats) -> Floats:
    """P(a Poisson count >= counts)."""
    made = gammainc(np.maximum(counts, 1e-9), expected)
    return np.asarray(np.where(counts > 0.0, made, 1.0), np.float64)


def _density(counts: Floats, expected: Floats) -> Floats:
    """A Poisson density, at counts that need not be whole."""
    return np.asarray(np.exp(counts * np.log(expected) - expected - gammaln(counts + 1.0)))
