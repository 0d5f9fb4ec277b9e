# SPDX-License-Identifier: Apache-2.0
"""How many labels are wrong whatever a model is sure of: the floor of its disagreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.detection import binomial_tail
from datapipe.measure.distributions import chi2_tail
from datapipe.measure.label_scan import Scan
from datapipe.measure.label_sources import Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHARES = np.concatenate([[1e-4], np.arange(1, 9) * 0.0025, np.arange(5, 20) * 0.005,
                         np.arange(10, 62, 2) * 0.01])  # fmt: skip
"""Floors that are tried."""
NONE = np.zeros(SHARES.size)
MOST_ROWS = 20_000
ROUNDS = 10
DROP = 1.92
"""Fall of the log likelihood that ends a 95 % interval."""


LEVEL = 0.6
"""The surest quarter must err at least this often, against the next, to count as level with it."""
FEW = 0.15
"""Where no more of all labels contradict, hardly any rows are hard, and what seems level is."""
SHOWN = 1.0
"""By so many standard errors the surest third must be above that, against the next, for the share
to be shown level; else evidence must stand by both readings."""


@dataclass(frozen=True, eq=False)
class NoiseFloor:
    """The share of labels that are wrong however sure a model is, from one of two readings.

    Where the surest half of the predictions is contradicted no less at its top than at its bottom,
    its `rate` is the floor. Where contradictions still grow rare, the floor is what the fitted
    curve leaves over, known by its profile likelihood. Where few rows tell the one from the other,
    the lower bound is the lower one of both.

    Args:
        rate: How often the surest predictions are contradicted.
        level: Whether that share has stopped falling.
        log_likelihoods: float64, one for each of `SHARES`.

    Example:
        >>> NoiseFloor(Estimate.rate(50, 500), True, np.zeros(SHARES.size)).estimate().value
        0.1
    """

    rate: Estimate
    level: bool
    log_likelihoods: Floats

    def estimate(self) -> Estimate:
        """The likeliest floor.

        Returns:
            A rate in [0, 1]; Wilson's interval, or that of the profile likelihood.

        Example:
            >>> peak = -np.abs(SHARES - 0.1) * 200
            >>> e = NoiseFloor(Estimate.rate(50, 500), False, peak).estimate()
            >>> e.low < 0.1 < e.high
            True
        """
        if self.rate.n == 0 or (self.level and not self.log_likelihoods.any()):
            return self.rate
        curve = self._of_curve()
        if self.level:
            return replace(self.rate, low=min(self.rate.low, curve.low))
        return curve

    def _of_curve(self) -> Estimate:
        best = int(self.log_likelihoods.argmax())
        inside = np.flatnonzero(self.log_likelihoods >= self.log_likelihoods[best] - DROP)
        low = 0.0 if inside[0] == 0 else float(SHARES[inside[0]])
        high = float(SHARES[min(inside[-1] + 1, SHARES.size - 1)])
        value = 0.0 if best == 0 else float(SHARES[best])
        return Estimate(value, low, high, n=self.rate.n, method="profile likelihood")

    def p_value(self, tolerance: float) -> float:
        """Evidence that the floor lies above a tolerance.

        Args:
            tolerance: A share in [0, 1].

        Returns:
            A probability: a binomial tail where the share is level, else the one-sided likelihood
            ratio test; the larger of both where both were asked for.

        Example:
            >>> made = NoiseFloor(Estimate.rate(50, 500), True, np.zeros(SHARES.size))
            >>> made.p_value(0.02) < 1e-6, made.p_value(0.2) > 0.5
            (True, True)
        """
        if self.rate.n == 0:
            return 1.0
        if self.level:
            tail = binomial_tail(round(self.rate.value * self.rate.n), self.rate.n, tolerance)
            return max(tail, self._by_curve(tolerance)) if self.log_likelihoods.any() else tail
        return self._by_curve(tolerance)

    def _by_curve(self, tolerance: float) -> float:
        best = int(self.log_likelihoods.argmax())
        if SHARES[best] <= tolerance:
            return 1.0
        at = float(np.interp(tolerance, SHARES, self.log_likelihoods))
        fall = float(self.log_likelihoods[best]) - at
        return 0.5 * chi2_tail(2.0 * max(fall, 0.0), 1.0)


def noise_floor(labels: Ints, probabilities: Floats, *, both: bool = False) -> NoiseFloor:
    """Read off how often labels contradict a model, however sure it is.

    Hard rows and wrong labels look alike, except that hard rows become rare as a model grows surer
    and wrong labels do not. Among the surest half that share is level, and is the floor, or it
    still falls; then disagreement is fitted as a logistic function of the log odds between the two
    likeliest classes, above a constant. The level share holds the few hard rows that are left, so
    that it may lie a little high.

    Args:
        labels: int, shape (n,).
        probabilities: float, shape (n, K); out of fold.
        both: Whether the curve is fitted even where the share is shown to be level. A weak model's
            share falls so slowly that it may look level; evidence must stand by both readings then.

    Returns:
        Both readings, and which of them counts.

    Raises:
        DeclarationError: The shapes do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> sure = rng.uniform(0.5, 1.0, 4000)
        >>> p = np.column_stack([sure, 1 - sure])
        >>> y = (rng.random(4000) > sure).astype(np.int64)
        >>> noisy = np.where(rng.random(4000) < 0.1, 1 - y, y)
        >>> noise_floor(y, p).estimate().low, noise_floor(noisy, p).estimate().low > 0.03
        (0.0, True)

    References:
        Berkson & Gage, 1952, Survival curve for cancer patients following treatment (a share that
        no covariate explains); Murphy & van der Vaart, 2000, On profile likelihood.
    """
    if probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise DeclarationError(
            f"{probabilities.shape} probabilities and {len(labels)} labels do not fit"
        )
    if len(labels) == 0:
        return NoiseFloor(Estimate.unknown(method="no rows"), level=True, log_likelihoods=NONE)
    chosen, sure = probabilities.argmax(1), probabilities.max(1)
    return _read_off(labels, chosen, sure, lambda rows: probabilities[rows], both=both)


def streamed_floor(source: Source, scan: Scan) -> NoiseFloor:
    """What `noise_floor` reads off, from probabilities that need not lie in memory.

    Args:
        source: Labels and probabilities.
        scan: What one pass over them left.

    Returns:
        Both readings, and which of them counts.

    Example:
        >>> from datapipe.measure.label_scan import scanned
        >>> from datapipe.measure.label_sources import InMemory
        >>> source = InMemory(np.array([0, 1] * 50), np.tile(np.eye(2), (50, 1)))
        >>> streamed_floor(source, scanned(source)).estimate().value
        0.0
    """
    top = np.asarray(scan.top, np.float64)
    return _read_off(source.labels, scan.leading.astype(np.int64), top, source.take)


def _read_off(
    labels: Ints,
    chosen: Ints,
    sure: Floats,
    take: Callable[[Ints], NDArray[np.floating[Any]]],
    *,
    both: bool = False,
) -> NoiseFloor:
    rate, level, shown = _surest(labels, chosen, sure)
    if shown and not both:
        return NoiseFloor(rate, level, NONE)
    rows = np.arange(0, len(labels), max(1, -(-len(labels) // MOST_ROWS)))
    kept, given = np.asarray(take(rows), np.float64), labels[rows]
    return NoiseFloor(rate, level, _profile(given, kept))


def _profile(given: Ints, kept: Floats) -> Floats:
    """The log likelihood of each floor that is tried."""
    top = np.sort(kept, axis=1)[:, -2:] + 1e-4
    sure = np.log(top[:, -1] / top[:, 0])
    wrong = kept.argmax(1) != given
    features = np.column_stack([np.ones_like(sure), sure])
    weights = np.array([0.0, -1.0])
    profile = np.empty(SHARES.size)
    for i, share in enumerate(SHARES):
        profile[i], weights = _fitted(features, wrong, float(share), weights)
    return profile


def _surest(labels: Ints, chosen: Ints, sure: Floats) -> tuple[Estimate, bool, bool]:
    """How often the surest predictions of each class are contradicted, whether that seems level,
    and whether it is shown to be.

    Of three depths, half, quarter and tenth, the one with the least upper bound counts.
    """
    rank = np.empty(len(labels))
    for k in np.unique(chosen):
        rows = np.flatnonzero(chosen == k)
        rank[rows[np.argsort(sure[rows], kind="stable")]] = (np.arange(rows.size) + 0.5) / rows.size
    wrong = labels != chosen
    rates = []
    for depth in (0.5, 0.75, 0.9):
        among = rank >= depth
        rates.append(Estimate.rate(int(wrong[among].sum()), int(among.sum())))
    top, below = wrong[rank >= 0.75], wrong[(rank >= 0.5) & (rank < 0.75)]
    shares = [(part.sum() + 0.5) / max(part.size, 1) for part in (top, below)]
    known = [r for r in rates if r.n]
    level = bool(shares[0] >= LEVEL * shares[1])
    shown = level and (bool(wrong.mean() <= FEW) or _shown(wrong, rank))
    return min(known, key=lambda rate: rate.high), level, shown


def _shown(wrong: NDArray[np.bool_], rank: Floats) -> bool:
    """Whether the surest third of each class errs as often as the next beyond what chance does."""
    top, below = wrong[rank >= 2 / 3], wrong[(rank >= 1 / 3) & (rank < 2 / 3)]
    odd = [part.sum() + 0.5 for part in (top, below)]
    ratio = (odd[0] / max(top.size, 1)) / (odd[1] / max(below.size, 1))
    return bool(np.log(ratio / LEVEL) >= SHOWN * np.sqrt(1 / odd[0] + 1 / odd[1]))


def _fitted(
    features: Floats, wrong: NDArray[np.bool_], share: float, weights: Floats
) -> tuple[float, Floats]:
    """EM for the curve above one floor, started from the last floor's curve."""
    for _ in range(ROUNDS):
        curve = _logistic(features @ weights)
        owed = np.where(wrong, curve / (share + (1 - share) * curve), 0.0)
        for _ in range(2):
            curve = _logistic(features @ weights)
            spread = np.maximum(curve * (1 - curve), 1e-6)
            square = (features * spread[:, None]).T @ features + 1e-3 * np.eye(2)
            step = np.linalg.solve(square, features.T @ (owed - curve) - 1e-3 * weights)
            weights = weights + np.clip(step, -2.0, 2.0)
    chance = np.clip(share + (1 - share) * _logistic(features @ weights), 1e-9, 1 - 1e-9)
    return float(np.log(np.where(wrong, chance, 1 - chance)).sum()), weights


def _logistic(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30, 30))), np.float64)
