# SPDX-License-Identifier: Apache-2.0
"""`Estimate`: no figure travels without its uncertainty."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from datapipe.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, sample size and method.

    A gate reads a *bound* of the interval, never the point: a small sample cannot pass by luck.

    Args:
        value: The point; NaN when it was not identifiable (then only the interval speaks).
        low: Lower bound of the interval at `level`, `low <= value`.
        high: Upper bound, `value <= high`.
        n: How many observations it rests on (>= 0).
        method: How the interval was made, such as `wilson` or `bootstrap`.
        level: Coverage of the interval, in (0, 1).
        unit: The unit, empty for a pure number or a rate in [0, 1].

    Raises:
        DeclarationError: The interval does not hold the value, `n` is negative or `level` is
            outside (0, 1).

    Example:
        >>> str(Estimate(0.1, 0.08, 0.13, n=500, method="wilson"))
        '0.1 [0.08, 0.13] (n=500, wilson)'
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95
    unit: str = ""

    def __post_init__(self) -> None:
        inside = math.isnan(self.value) or self.low <= self.value <= self.high
        if not inside or self.low > self.high or math.isnan(self.low) or math.isnan(self.high):
            raise DeclarationError(
                f"Estimate({self.value}, {self.low}, {self.high}): the value must lie inside",
                code="DP-DECL-010",
                hint="give low <= value <= high, or value=nan with an interval",
            )
        if self.n < 0 or not 0 < self.level < 1:
            raise DeclarationError(
                f"Estimate(n={self.n}, level={self.level}): n >= 0 and 0 < level < 1 are needed",
                code="DP-DECL-010",
                hint="count the observations and give the level as a share, such as 0.95",
            )

    @classmethod
    def rate(cls, hits: int, n: int, *, level: float = 0.95) -> Estimate:
        """A share of counted events with Wilson's score interval.

        Wilson rather than Wald: it holds its level at small n and at 0 and 1.

        Args:
            hits: How many of the `n` were hits, 0 <= hits <= n.
            n: How many were looked at; 0 gives value NaN and the interval [0, 1].
            level: Coverage of the interval, in (0, 1).

        Returns:
            The rate in [0, 1].

        Raises:
            DeclarationError: `hits` is not within 0..n.

        Example:
            >>> e = Estimate.rate(180, 1797)
            >>> round(e.low, 3), round(e.value, 3), round(e.high, 3)
            (0.087, 0.1, 0.115)

        References:
            Wilson, 1927, Probable inference, the law of succession, and statistical inference.
        """
        if not 0 <= hits <= n:
            raise DeclarationError(
                f"Estimate.rate(hits={hits}, n={n}): hits must lie within 0..n",
                code="DP-DECL-010",
                hint="count hits among the n rows that were looked at",
            )
        if n == 0:
            return cls.unknown(0.0, 1.0, method="wilson", level=level)
        z = NormalDist().inv_cdf(0.5 + level / 2)
        p = hits / n
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        low = 0.0 if hits == 0 else max(0.0, centre - half)
        high = 1.0 if hits == n else min(1.0, centre + half)
        return cls(p, min(low, p), max(high, p), n=n, method="wilson", level=level)

    @classmethod
    def exact(cls, value: float, *, n: int, unit: str = "", method: str = "count") -> Estimate:
        """A figure that was counted or computed, not sampled: the interval is the point.

        Args:
            value: The figure.
            n: How many observations were counted.
            unit: The unit.
            method: How it was obtained.

        Returns:
            An estimate whose bounds equal its value.

        Example:
            >>> Estimate.exact(60, n=1857, unit="rows").high
            60
        """
        return cls(value, value, value, n=n, method=method, unit=unit)

    @classmethod
    def unknown(
        cls, low: float = 0.0, high: float = 1.0, *, method: str, n: int = 0, level: float = 0.95
    ) -> Estimate:
        """A figure that could not be evaluated: the widest interval it may lie in.

        Args:
            low: Smallest value it may have.
            high: Largest value it may have.
            method: Why there is no point, such as `no human reference`.
            n: How many observations were seen.
            level: Coverage of the interval.

        Returns:
            An estimate with value NaN.

        Example:
            >>> Estimate.unknown(method="no reference").low
            0.0
        """
        return cls(math.nan, low, high, n=n, method=method, level=level)

    def to_json(self) -> dict[str, Any]:
        """The promised JSON form; NaN and infinities become null.

        Returns:
            A dictionary with the keys value, low, high, n, method, level, unit.

        Example:
            >>> Estimate.exact(3, n=3).to_json()["method"]
            'count'
        """
        return {
            key: None if isinstance(item, float) and not math.isfinite(item) else item
            for key, item in asdict(self).items()
        }

    @classmethod
    def from_json(cls, form: dict[str, Any]) -> Estimate:
        """Read the form that `to_json` wrote.

        Args:
            form: The dictionary; null `value`, `low`, `high` read as NaN, -inf and inf.

        Returns:
            The estimate.

        Example:
            >>> Estimate.from_json(Estimate.rate(1, 10).to_json()) == Estimate.rate(1, 10)
            True
        """
        filled = dict(form)
        for key, empty in (("value", math.nan), ("low", -math.inf), ("high", math.inf)):
            if filled.get(key) is None:
                filled[key] = empty
        return cls(**filled)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if math.isnan(self.value):
            return f"unknown, within [{self.low:.4g}, {self.high:.4g}]{unit} ({self.method})"
        if self.low == self.high:
            return f"{self.value:.4g}{unit} (n={self.n}, {self.method})"
        return (
            f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]{unit} (n={self.n}, {self.method})"
        )
