# SPDX-License-Identifier: Apache-2.0
"""Epsilon of Poisson-sampled Gaussian steps, and the noise or the steps that keep to a budget."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp as renyi
from opacus.accountants.analysis.prv import Domain

from datapipe.errors import BudgetSpent, DeclarationError

PRECISION = 0.005
"""The noise is solved until at most this share of epsilon is left over."""
SIGMA_MOST = 1e4
SEARCH_STEPS = 12
LOOSE_FROM = 50.0
"""From this epsilon on the loose bound is used: the tight one needs much memory, says nothing."""
CURVE_POINTS = 6
ORDERS = tuple(RDPAccountant.DEFAULT_ALPHAS)
WHOLE_ORDERS = (*range(2, 64), 128, 256, 512)
"""Orders whose divergence is a short sum; enough to say where a search begins."""


@contextmanager
def quiet() -> Iterator[None]:
    """Opacus without the warnings that our use of it answers.

    It warns that the best RDP order lies at the edge of its list, which is only loose, and that
    `secure_mode` is off, which the card says. torch warns of backward hooks on inputs that need no
    gradient, as no input of ours does. numpy warns of logarithms of 0 in densities that underflow.
    """
    logger = logging.getLogger("opacus")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.filterwarnings("ignore", message="Optimal order is the")
            warnings.filterwarnings("ignore", message="Secure RNG turned off")
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield
    finally:
        logger.setLevel(level)


@lru_cache(maxsize=4096)  # a search, its check and the curve ask for the same points
def spent(sigma: float, sample_rate: float, steps: int, delta: float) -> float:
    """An upper bound of epsilon after some steps, by numerical composition (PRV).

    References: Gopi, Lee & Wutschitz, 2021, Numerical composition of differential privacy.
    """
    if steps == 0:
        return 0.0
    rdp = loosely_spent(sigma, sample_rate, steps, delta)
    if sample_rate == 1 or rdp > LOOSE_FROM:
        return rdp
    error = min(0.01, max(0.001, rdp / 200))  # it is added to the bound, so small for a small one
    with quiet():
        prv = _Composed()
        prv.history = [(sigma, sample_rate, steps)]
        return min(rdp, float(prv.get_epsilon(delta, eps_error=error)))


def loosely_spent(
    sigma: float, sample_rate: float, steps: int, delta: float, orders: tuple[float, ...] = ORDERS
) -> float:
    """A looser upper bound by Renyi divergences; one noise is paid for once.

    References: Mironov, Talwar & Zhang, 2019, Renyi differential privacy of the sampled Gaussian
    mechanism.
    """
    with quiet():
        divergences = _divergences(sigma, sample_rate, orders) * steps
        return float(renyi.get_privacy_spent(orders=orders, rdp=divergences, delta=delta)[0])


@lru_cache(maxsize=256)
def _divergences(sigma: float, sample_rate: float, orders: tuple[float, ...]) -> NDArray[Any]:
    """The Renyi divergence of one step at each order, of shape (orders,)."""
    made = renyi.compute_rdp(q=sample_rate, noise_multiplier=sigma, steps=1, orders=orders)
    return np.asarray(made)


class _Composed(PRVAccountant):  # type: ignore[misc]  # Opacus ships no types
    """Opacus's accountant, which finds its domain from divergences that are known already.

    Opacus computes them anew for every number of steps, which takes twenty times as long as the
    composition itself. The domain is the same (Gopi, Lee & Wutschitz, 2021, remark 5.6).
    """

    def _get_domain(
        self, prvs: list[Any], num_self_compositions: list[int], eps_error: float,
        delta_error: float,
    ) -> Domain:  # fmt: skip
        (prv,), (steps,) = prvs, num_self_compositions
        widest = max(
            loosely_spent(prv.noise_multiplier, prv.sample_rate, steps, delta_error / 4),
            loosely_spent(prv.noise_multiplier, prv.sample_rate, 1, delta_error / (8 * steps)),
            eps_error,
        )
        mesh = eps_error / np.sqrt(steps * np.log(12 / delta_error) / 2)
        return Domain.create_aligned(-widest - 3, widest + 3, mesh)


def noise_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The smallest noise multiplier found that spends at most epsilon, and hardly less."""

    def over(sigma: float) -> float:
        return math.log(spent(sigma, sample_rate, steps, delta) / epsilon)

    high = _roughly_enough(max(epsilon, 1.0), delta, sample_rate, steps)
    while over(high) > 0:  # the loose bound never gets far below 1, so small epsilons start there
        high *= 1.5
        if high > SIGMA_MOST:
            raise DeclarationError(
                f"no noise multiplier up to {SIGMA_MOST:g} keeps {steps} steps within epsilon",
                code="DP-TRAIN-012",
                hint="raise epsilon, or lower epochs or sample_rate",
            )
    at_high, low, at_low = over(high), 0.0, 0.0
    for _ in range(SEARCH_STEPS):
        if at_high > -PRECISION:
            break
        if low:  # epsilon falls about as a power of the noise: a straight line in logarithms
            share = min(0.9, max(0.1, 1.05 * at_low / (at_low - at_high)))
            middle = low * (high / low) ** share
        else:
            middle = high * math.exp(max(at_high, -1.0) * 0.8)
        at_middle = over(middle)
        if at_middle <= 0:
            high, at_high = middle, at_middle
        else:
            low, at_low = middle, at_middle
    return high


def _roughly_enough(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """A noise multiplier that suffices by the loose bound, found by halving an interval."""

    def too_little(sigma: float) -> bool:
        return loosely_spent(sigma, sample_rate, steps, delta, WHOLE_ORDERS) > epsilon

    low, high = 0.0, 0.5
    while too_little(high) and high < SIGMA_MOST:
        low, high = high, high * 2
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        if too_little(middle):
            low = middle
        else:
            high = middle
    return high


def steps_within(
    epsilon: float, delta: float, sigma: float, sample_rate: float, planned: int
) -> int:
    """How many of the planned steps may be taken with this noise before epsilon is reached."""
    low, high = 0, planned + 1  # `low` steps keep to the budget, `high` steps are not allowed
    step = planned
    while high - low > 1:
        if spent(sigma, sample_rate, step, delta) <= epsilon:
            low = step
        else:
            high = step
        step = (low + high) // 2
    if low == 0:
        raise BudgetSpent(
            f"one step with noise_multiplier={sigma:g} spends more than epsilon={epsilon:g}",
            code="DP-PRIV-002",
            hint="raise noise_multiplier or leave it out: then it is solved for epsilon",
            epsilon=spent(sigma, sample_rate, 1, delta),
            delta=delta,
        )
    return low


def curve(sigma: float, sample_rate: float, steps: int, delta: float) -> list[list[float]]:
    """Pairs of (steps, epsilon spent by then), for a report's picture."""
    marks = sorted({max(1, round(steps * (i + 1) / CURVE_POINTS)) for i in range(CURVE_POINTS)})
    return [[k, spent(sigma, sample_rate, k, delta)] for k in marks]


def admitted(already: float, asked: float, budget: float, delta: float) -> None:
    """Refuse a training that would take the data over its budget, before it starts."""
    if already + asked > budget * (1 + 1e-9):
        raise BudgetSpent(
            f"epsilon {already:g} was spent on this data; {asked:g} more would exceed"
            f" the budget of {budget:g}",
            code="DP-PRIV-001",
            hint="ask for less epsilon, or declare a larger budget=",
            epsilon=already + asked,
            delta=delta,
        )
