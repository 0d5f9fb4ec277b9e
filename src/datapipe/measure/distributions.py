# SPDX-License-Identifier: Apache-2.0
"""Tails and quantiles of the distributions that intervals and tests need, without scipy."""

from __future__ import annotations

import math
from collections.abc import Callable

from datapipe.errors import DeclarationError

TINY = 1e-300
"""Stands for zero in a continued fraction, where a zero would divide."""
CLOSE = 1e-15
MOST_STEPS = 100_000
"""A continued fraction takes about sqrt(a + b) steps, so this covers ten thousand million rows."""


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): P(X <= x) of a beta variable.

    Args:
        x: The point, in [0, 1].
        a: First shape, > 0.
        b: Second shape, > 0.

    Returns:
        A probability.

    Raises:
        DeclarationError: A shape is not positive.

    Example:
        >>> round(beta_cdf(0.5, 2, 3), 4)
        0.6875

    References:
        Lentz, 1976, Generating Bessel functions in Mie scattering calculations.
    """
    if a <= 0 or b <= 0:
        raise DeclarationError(f"beta_cdf(a={a}, b={b}): both shapes must be positive")
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    front = math.exp(log_front)
    if x < (a + 1) / (a + b + 2):  # here the fraction converges fast, else use the symmetry
        return front * _beta_fraction(x, a, b) / a
    return 1.0 - front * _beta_fraction(1.0 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Lentz's continued fraction of the incomplete beta function."""
    c, d = 1.0, 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1))
    total = d
    for m in range(1, MOST_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1.0 / _nonzero(1.0 + term * d)
            c = _nonzero(1.0 + term / c)
            step *= d * c
        total *= step
        if abs(step - 1.0) < CLOSE:
            break
    return total


def beta_quantile(share: float, a: float, b: float) -> float:
    """The point below which a beta variable lies with a given probability.

    Args:
        share: The probability, in [0, 1].
        a: First shape, > 0.
        b: Second shape, > 0.

    Returns:
        A point in [0, 1].

    Example:
        >>> round(beta_quantile(0.025, 1, 10), 6)
        0.002529
    """
    return _solve(lambda x: beta_cdf(x, a, b), share)


def _solve(rising: Callable[[float], float], target: float) -> float:
    """Where a rising function on [0, 1] takes a value: halving, first in scale, then in place."""
    if target <= 0:
        return 0.0
    if target >= 1:
        return 1.0
    low, high = 0.0, 1.0
    while high > TINY and rising(high / 16) >= target:
        high /= 16
    while high - low > CLOSE * high:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return 0.5 * (low + high)


def t_quantile(share: float, freedom: float) -> float:
    """A quantile of Student's t distribution.

    Args:
        share: The probability, in (0, 1).
        freedom: Degrees of freedom, > 0.

    Returns:
        The point; 0 for a share of one half.

    Example:
        >>> round(t_quantile(0.975, 10), 4)
        2.2281
    """
    tail = min(share, 1.0 - share)
    if tail <= 0:
        return math.copysign(math.inf, share - 0.5)
    x = beta_quantile(2 * tail, freedom / 2, 0.5)
    point = math.sqrt(freedom * (1.0 - x) / x) if x > 0 else math.inf
    return math.copysign(point, share - 0.5)


def chi2_tail(x: float, freedom: float) -> float:
    """P(X > x) of a chi-squared variable: the regularised upper incomplete gamma function.

    Args:
        x: The statistic, >= 0.
        freedom: Degrees of freedom, > 0.

    Returns:
        A probability.

    Raises:
        DeclarationError: The degrees of freedom are not positive.

    Example:
        >>> round(chi2_tail(3.841459, 1), 4)
        0.05
    """
    if freedom <= 0:
        raise DeclarationError(f"chi2_tail(freedom={freedom}): it must be positive")
    a, half = freedom / 2, x / 2
    if half <= 0:
        return 1.0
    front = math.exp(a * math.log(half) - half - math.lgamma(a))
    if half < a + 1:
        return max(0.0, 1.0 - front * _gamma_series(half, a))
    return front * _gamma_fraction(half, a)


def _gamma_series(x: float, a: float) -> float:
    term = total = 1.0 / a
    for m in range(1, MOST_STEPS):
        term *= x / (a + m)
        total += term
        if term < total * CLOSE:
            break
    return total


def _gamma_fraction(x: float, a: float) -> float:
    b = x + 1.0 - a
    c, d = 1.0 / TINY, 1.0 / _nonzero(b)
    total = d
    for m in range(1, MOST_STEPS):
        term = -m * (m - a)
        b += 2.0
        d = 1.0 / _nonzero(term * d + b)
        c = _nonzero(b + term / c)
        total *= d * c
        if abs(d * c - 1.0) < CLOSE:
            break
    return total


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's limiting distribution of sqrt(n) times the largest gap.

    Args:
        x: The scaled gap, >= 0.

    Returns:
        A probability.

    Example:
        >>> round(kolmogorov_tail(1.3581), 3)
        0.05

    References:
        Kolmogorov, 1933, Sulla determinazione empirica di una legge di distribuzione.
    """
    if x <= 0:
        return 1.0
    if x < 1:  # the alternating series cancels here; its theta transform does not
        terms = (math.exp(-((2 * j - 1) ** 2) * math.pi**2 / (8 * x * x)) for j in range(1, 40))
        return max(0.0, 1.0 - math.sqrt(2 * math.pi) / x * sum(terms))
    return 2 * math.fsum((-1) ** (j - 1) * math.exp(-2 * j * j * x * x) for j in range(1, 40))


def _nonzero(x: float) -> float:
    return x if abs(x) > TINY else TINY
