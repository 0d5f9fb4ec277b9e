# SPDX-License-Identifier: Apache-2.0
"""Figures in words: one way to write a share, a number, an interval and a p-value."""

from __future__ import annotations

import math

from datapipe.core.estimate import Estimate

NARROW = "\N{NO-BREAK SPACE}"
"""Between a figure and its sign, and inside an interval: no line may break there."""


def percent(value: float) -> str:
    """A share in percent, with as many digits as it needs.

    Args:
        value: In [0, 1].

    Returns:
        Such as `3.7 %`.

    Example:
        >>> [percent(v).replace(NARROW, " ") for v in (0.0372, 0.0006, 1)]
        ['3.7 %', '0.06 %', '100 %']
    """
    return f"{_hundredths(value)}{NARROW}%"


def number(value: float) -> str:
    """A plain number: whole ones with separators, others with three digits.

    Args:
        value: Any number.

    Returns:
        Such as `1,377` or `0.886`.

    Example:
        >>> number(1377), number(0.88611)
        ('1,377', '0.886')
    """
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "unbounded"
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:.3g}"


def count(value: int) -> str:
    """A count that must be short: large ones in thousands and millions.

    Args:
        value: At least 0.

    Returns:
        Such as `1,377`, `173k` or `1.2M`.

    Example:
        >>> count(1377), count(173_400), count(1_240_000)
        ('1,377', '173k', '1.2M')
    """
    if value < 100_000:
        return f"{value:,}"
    return f"{value / 1e3:.0f}k" if value < 999_500 else f"{value / 1e6:,.1f}M"


def is_share(estimate: Estimate) -> bool:
    """Whether an estimate reads as a share: no unit, and all of its interval within [0, 1].

    Args:
        estimate: The figure.

    Returns:
        True for rates.

    Example:
        >>> is_share(Estimate.rate(1, 9)), is_share(Estimate.exact(3, n=9))
        (True, False)
    """
    return estimate.unit == "" and estimate.low >= 0 and estimate.high <= 1


def said(estimate: Estimate) -> str:
    """A figure with its interval; a share in percent.

    Args:
        estimate: The figure.

    Returns:
        Such as `11.2 % [7.8, 13.3]`.

    Example:
        >>> said(Estimate(0.112, 0.078, 0.133, n=9, method="m")).replace(NARROW, " ")
        '11.2 % [7.8, 13.3]'
        >>> said(Estimate.exact(60, n=60)), said(Estimate.exact(3, n=9, unit="rows"))
        ('60', '3 rows')
        >>> said(Estimate.unknown(method="no reference")).replace(NARROW, " ")
        'within 0 % and 100 %'
    """
    e, unit = estimate, f" {estimate.unit}" if estimate.unit else ""
    one = percent if is_share(e) else number
    if math.isnan(e.value):
        return f"within {one(e.low)} and {one(e.high)}{unit}"
    if e.low == e.high:
        return f"{one(e.value)}{unit}"
    bare = _hundredths if is_share(e) else number
    return f"{one(e.value)} [{bare(e.low)},{NARROW}{bare(e.high)}]{unit}"


def change(estimate: Estimate) -> str:
    """A difference of shares, in signed percentage points.

    Args:
        estimate: The difference, in [-1, 1].

    Returns:
        Such as `-0.3 points [-1.4, +0.8]`.

    Example:
        >>> moved = Estimate(-0.003, -0.014, 0.008, n=360, method="tango")
        >>> change(moved).replace(NARROW, " ")
        '-0.3 points [-1.4, +0.8]'
    """
    if math.isnan(estimate.value):
        return "unknown"
    value, low, high = (f"{100 * v:+.1f}" for v in (estimate.value, estimate.low, estimate.high))
    return f"{value}{NARROW}points [{low},{NARROW}{high}]"


def probability(value: float | None) -> str:
    """A p- or q-value.

    Args:
        value: In [0, 1], or None where there was no test.

    Returns:
        Such as `0.031`; a dash where there was no test.

    Example:
        >>> probability(0.0312), probability(0.0), probability(None)
        ('0.031', '<1e-12', '–')
    """
    if value is None:
        return "–"
    return "<1e-12" if value < 1e-12 else f"{value:.2g}"


def short(words: str, most: int) -> str:
    """Words cut in the middle where they are too long: both ends of a name tell it apart.

    Args:
        words: The text.
        most: Characters kept, at least 3.

    Returns:
        The text, or its two ends around an ellipsis.

    Example:
        >>> short("validate.expect_column", 12)
        'valida…olumn'
    """
    if len(words) <= most:
        return words
    tail = (most - 1) // 2
    return f"{words[: most - 1 - tail]}…{words[-tail:]}"


def row_name(row_id: int, ordinal_bits: int = 40) -> str:
    """A row as people and `datapipe why` name it.

    Args:
        row_id: uint64.
        ordinal_bits: How many low bits are the ordinal.

    Returns:
        `source:ordinal`.

    Example:
        >>> row_name((3 << 40) + 17)
        '3:17'
    """
    return f"{row_id >> ordinal_bits}:{row_id & ((1 << ordinal_bits) - 1)}"


def _hundredths(value: float) -> str:
    hundred = 100 * value
    if hundred == 0 or abs(hundred) >= 99.95:
        return f"{hundred:.0f}"
    if abs(hundred) >= 1:
        return f"{hundred:.1f}"
    return f"{hundred:.2f}" if abs(hundred) >= 0.05 else f"{hundred:.1g}"
