# SPDX-License-Identifier: Apache-2.0
"""Models that make rows of a table: a mixture of normal distributions, or a normal copula.

A mixture knows groups of rows that keep together; a copula knows each column by its own values, and
how columns move together. Both are fitted in milliseconds, because a forecast fits hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TableModelName = Literal["mixture", "copula"]

PARTS = 6
ROUNDS, ENOUGH = 20, 1e-3
"""Rounds of expectation-maximisation, and the gain in nats a row that is worth no more of them."""
RIDGE = 1e-3
KNOTS, GRID, WIDTH = 200, 512, 0.5
"""Points that a column is known by, that its curve is drawn at, and the kernel's width in spreads
over the fifth root of the rows (Silverman's rule for a logistic kernel)."""
EDGE = 1e-6
"""Chances nearer to 0 or 1 than this have no normal score."""
LOG_TAU = math.log(2 * math.pi)


class TableModel(Protocol):
    """What a model of rows can do."""

    def log_density(self, rows: Floats) -> Floats:
        """Natural logarithm of the density at each row, shape (n,)."""
        ...

    def drawn(self, n: int, rng: np.random.Generator) -> Floats:
        """Rows that the model makes, shape (n, d)."""
        ...


@dataclass(frozen=True)
class Mixture:
    """Normal distributions side by side.

    Args:
        weights: float64, shape (k,), summing to 1.
        means: float64, shape (k, d).
        roots: float64, shape (k, d, d); lower Cholesky factors of the covariances.
    """

    weights: Floats
    means: Floats
    roots: Floats

    def log_density(self, rows: Floats) -> Floats:
        """Natural logarithm of the density at each row, shape (n,)."""
        joint = self.joint(rows)
        top = joint.max(0)
        return np.asarray(top + np.log(np.exp(joint - top).sum(0)), np.float64)

    def joint(self, rows: Floats) -> Floats:
        """Log density of each part at each row, weight included, shape (k, n)."""
        inverse = np.linalg.inv(self.roots)
        steps = np.matmul(rows[None] - self.means[:, None], inverse.transpose(0, 2, 1))
        volume = np.log(np.einsum("kii->ki", self.roots)).sum(1)
        density = -0.5 * (np.square(steps).sum(2) + rows.shape[1] * LOG_TAU) - volume[:, None]
        return np.asarray(density + np.log(self.weights)[:, None], np.float64)

    def drawn(self, n: int, rng: np.random.Generator) -> Floats:
        """Rows that the model makes, shape (n, d)."""
        part = rng.choice(self.weights.size, n, p=self.weights / self.weights.sum())
        steps = rng.standard_normal((n, self.means.shape[1]))
        moved = np.einsum("nij,nj->ni", self.roots[part], steps)
        return np.asarray(self.means[part] + moved, np.float64)


def mixture(rows: Floats, rng: np.random.Generator) -> Mixture:
    """The mixture that makes the rows likely, by expectation-maximisation.

    Args:
        rows: float64, shape (n, d).
        rng: Draws where the parts begin.

    References:
        Dempster, Laird & Rubin, 1977, Maximum likelihood from incomplete data.
        Arthur & Vassilvitskii, 2007, k-means++: the advantages of careful seeding.
        Fraley & Raftery, 2007, Bayesian regularization for normal mixture estimation.
    """
    parts = max(1, min(PARTS, rows.shape[0] // (4 * rows.shape[1])))
    near = np.square(rows[:, None] - _beginnings(rows, parts, rng)[None]).sum(2).argmin(1)
    prior = np.cov(rows.T).reshape(2 * rows.shape[1:]) * parts ** (-2 / rows.shape[1])
    made = _parts(rows, np.eye(parts)[near].T, prior)
    last = -np.inf
    for _ in range(ROUNDS):
        joint = made.joint(rows)
        top = joint.max(0)
        held = np.exp(joint - top)
        total = held.sum(0)
        now = float((top + np.log(total)).mean())
        if now - last < ENOUGH:
            break
        last, made = now, _parts(rows, held / total, prior)
    return made


def _beginnings(rows: Floats, parts: int, rng: np.random.Generator) -> Floats:
    """Rows far from each other."""
    chosen = [rows[rng.integers(rows.shape[0])]]
    gap = np.square(rows - chosen[0]).sum(1)
    for _ in range(1, parts):
        chance = gap / gap.sum() if gap.sum() > 0 else np.full(gap.size, 1 / gap.size)
        chosen.append(rows[rng.choice(gap.size, p=chance)])
        gap = np.minimum(gap, np.square(rows - chosen[-1]).sum(1))
    return np.array(chosen)


def _parts(rows: Floats, held: Floats, prior: Floats) -> Mixture:
    """The parts that hold so much of each row, `held` of shape (k, n).

    Every part also holds a few rows spread as its share of all rows would be: else a part of few
    rows is a spike, and rows beside it look impossible whatever was lost.
    """
    size, belief = held.sum(1) + 1e-9, rows.shape[1] + 2
    means = held @ rows / size[:, None]
    square = np.matmul((held[:, :, None] * rows[None]).transpose(0, 2, 1), rows[None])
    within = square - np.einsum("k,ki,kj->kij", size, means, means)
    spread = (within + belief * prior) / (size + belief)[:, None, None]
    roots = np.linalg.cholesky(spread + RIDGE * np.eye(rows.shape[1]))
    return Mixture(size / size.sum(), means, roots)


@dataclass(frozen=True)
class Copula:
    """Columns with distributions of their own, tied by a normal copula.

    Args:
        grid: float64, shape (d, g), rising; values of each column.
        scores: float64, shape (d, g); the normal quantile of the chance to lie below them.
        density: float64, shape (d, g); log density there.
        root: float64, shape (d, d); lower Cholesky factor of the scores' correlations.
    """

    grid: Floats
    scores: Floats
    density: Floats
    root: Floats

    def log_density(self, rows: Floats) -> Floats:
        """Natural logarithm of the density at each row, shape (n,)."""
        alone = _read(rows, self.grid, self.density).sum(1)
        scores = _read(rows, self.grid, self.scores)
        steps = scores @ np.linalg.inv(self.root).T
        tied = 0.5 * (np.square(scores) - np.square(steps)).sum(1)
        return np.asarray(alone + tied - np.log(np.diag(self.root)).sum(), np.float64)

    def drawn(self, n: int, rng: np.random.Generator) -> Floats:
        """Rows that the model makes, shape (n, d)."""
        scores = rng.standard_normal((n, self.root.shape[0])) @ self.root.T
        return _read(scores, self.scores, self.grid)


def copula(rows: Floats, rng: np.random.Generator) -> Copula:  # noqa: ARG001 - learners are alike
    """The copula of rows; each column is smoothed so that its spread stays.

    Args:
        rows: float64, shape (n, d).
        rng: Not drawn from.

    References:
        Nelsen, 2006, An introduction to copulas.
        Silverman & Young, 1987, The bootstrap: to smooth or not to smooth?
    """
    grid, scores, density = (np.array(c) for c in zip(*map(_column, rows.T), strict=True))
    seen = _read(rows, grid, scores)
    spread = np.sqrt(np.square(seen).mean(0)) + 1e-9
    tied = (seen / spread).T @ (seen / spread) / rows.shape[0]
    root = np.linalg.cholesky((tied + RIDGE * np.eye(rows.shape[1])) / (1 + RIDGE))
    return Copula(grid, scores, density, root)


def _column(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Values, their normal scores and the log density, by a logistic kernel."""
    n, spread = min(KNOTS, values.size), max(float(values.std()), 1e-6)
    knots = np.quantile(values, (np.arange(n) + 0.5) / n)
    width = WIDTH * spread * n**-0.2
    inner = spread / math.hypot(spread, width * math.pi / math.sqrt(3))  # the kernel's own spread
    knots, width = values.mean() + (knots - values.mean()) * inner, width * inner
    grid = np.linspace(knots[0] - 14 * width, knots[-1] + 14 * width, GRID)
    below = 1.0 / (1.0 + np.exp(np.clip((knots - grid[:, None]) / width, -36, 36)))
    density = np.log((below * (1.0 - below)).mean(1) / width)
    chances = np.clip(below.mean(1), EDGE, 1 - EDGE)
    return grid, np.array([NormalDist().inv_cdf(p) for p in chances]), density


def _read(rows: Floats, at: Floats, values: Floats) -> Floats:
    """Each column of the rows looked up in a curve of its own."""
    read = [np.interp(x, a, v) for x, a, v in zip(rows.T, at, values, strict=True)]
    return np.column_stack(read)


LEARNERS: dict[TableModelName, Callable[[Floats, np.random.Generator], TableModel]] = {
    "mixture": mixture,
    "copula": copula,
}
