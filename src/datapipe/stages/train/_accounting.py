# SPDX-License-Identifier: Apache-2.0
"""Epsilon of Poisson-sampled Gaussian steps, and the noise or the steps that keep to a budget."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.accountant import IAccountant

from datapipe.errors import BudgetSpent, DeclarationError

PRECISION = 0.005
"""The noise is solved until at most this share of epsilon is left over."""
SIGMA_MOST = 1e4
CURVE_POINTS = 6


@contextmanager
def quiet() -> Iterator[None]:
    """Opacus without the warnings that our use of it answers.

    It warns that the best RDP order lies at the edge of its list, which is only loose, and that
    `secure_mode` is off, which the card says. torch warns of backward hooks on inputs that need no
    gradient, as no input of ours does.
    """
    logger = logging.getLogger("opacus")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Optimal order is the")
            warnings.filterwarnings("ignore", message="Secure RNG turned off")
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield
    finally:
        logger.setLevel(level)


def spent(sigma: float, sample_rate: float, steps: int, delta: float) -> float:
    """An upper bound of epsilon after some steps, by numerical composition (PRV).

    References: Gopi, Lee & Wutschitz, 2021, Numerical composition of differential privacy.
    """
    if steps == 0:
        return 0.0
    rdp = _epsilon(RDPAccountant(), sigma, sample_rate, steps, delta)
    if sample_rate == 1 or rdp > 50:  # PRV has no form for q = 1, and a huge mesh at huge epsilon
        return rdp
    return min(rdp, _epsilon(PRVAccountant(), sigma, sample_rate, steps, delta))


def _epsilon(
    accountant: IAccountant, sigma: float, sample_rate: float, steps: int, delta: float
) -> float:
    accountant.history = [(sigma, sample_rate, steps)]
    with quiet(), np.errstate(all="ignore"):
        return float(accountant.get_epsilon(delta=delta))


def noise_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The smallest noise multiplier found that spends at most epsilon, and hardly less."""

    def over(sigma: float) -> float:
        return math.log(spent(sigma, sample_rate, steps, delta) / epsilon)

    high = _enough_noise(over)
    low, at_low, at_high = high, over(high), over(high)
    while at_low <= 0:  # epsilon grows without bound as the noise goes to 0, so this ends
        high, at_high = low, at_low
        low, at_low = low * 0.8, over(low * 0.8)
    for _ in range(12):
        if at_high > -PRECISION:
            break
        share = max(0.1, min(0.9, at_low / (at_low - at_high) * 1.02))
        middle = low * (high / low) ** share
        at_middle = over(middle)
        if at_middle <= 0:
            high, at_high = middle, at_middle
        else:
            low, at_low = middle, at_middle
    return high


def _enough_noise(over: Callable[[float], float]) -> float:
    sigma = 0.5
    while over(sigma) > 0:
        sigma *= 1.4
        if sigma > SIGMA_MOST:
            raise DeclarationError(
                f"no noise multiplier up to {SIGMA_MOST:g} keeps these steps within epsilon",
                code="DP-DECL-023",
                hint="raise epsilon, or lower epochs or sample_rate",
            )
    return sigma


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
