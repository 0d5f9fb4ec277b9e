# SPDX-License-Identifier: Apache-2.0
"""`Gate`: the only stage that may say no."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from numbers import Real
from typing import ClassVar, Literal

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, standing
from datapipe.core.stage import Stage, Yield
from datapipe.errors import GateClosed

Side = Literal["at_most", "at_least", "verdict"]


@dataclass(frozen=True)
class Limit:
    """A limit on a finding's measure; it reads a bound of the interval, never the point.

    Args:
        side: `at_most` reads the upper bound, `at_least` the lower one, `verdict` the verdict.
        bound: The limit; not used for `verdict`.
        optional: Whether a finding that was not evaluated, or is absent, may pass.

    Example:
        >>> at_most(0.08).holds(Finding("labels.noise", "clean", Estimate.rate(9, 1000), ""))
        True
    """

    side: Side
    bound: float = 0.0
    optional: bool = False

    def holds(self, finding: Finding) -> bool:
        """Whether a finding keeps to the limit.

        Args:
            finding: What a stage found.

        Returns:
            False when the bound is broken, or when nothing was evaluated and that matters.

        Example:
            >>> unknown = Finding("a.b", "not_evaluated", Estimate.unknown(method="no data"), "")
            >>> at_most(0.5).holds(unknown), at_most(0.5, optional=True).holds(unknown)
            (False, True)
        """
        if finding.verdict == "not_evaluated":
            return self.optional
        if self.side == "verdict":
            return finding.verdict != "fail"
        if self.side == "at_most":
            return finding.measure.high <= self.bound
        return finding.measure.low >= self.bound

    def __str__(self) -> str:
        words = {"at_most": "at most", "at_least": "at least"}
        return "not fail" if self.side == "verdict" else f"{words[self.side]} {self.bound:g}"


def at_most(bound: float, *, optional: bool = False) -> Limit:
    """The upper bound of the interval must not exceed this.

    Args:
        bound: The limit, in the unit of the measure.
        optional: Whether *not evaluated* may pass.

    Returns:
        The limit.

    Example:
        >>> str(at_most(0.01))
        'at most 0.01'
    """
    return Limit("at_most", bound, optional)


def at_least(bound: float, *, optional: bool = False) -> Limit:
    """The lower bound of the interval must reach this.

    Args:
        bound: The limit, in the unit of the measure.
        optional: Whether *not evaluated* may pass.

    Returns:
        The limit.

    Example:
        >>> at_least(0.9).holds(Finding("train.accuracy", "clean", Estimate.rate(9, 10), ""))
        False
    """
    return Limit("at_least", bound, optional)


def not_failed(*, optional: bool = False) -> Limit:
    """The verdict must not be `fail`.

    Args:
        optional: Whether *not evaluated* may pass.

    Returns:
        The limit.

    Example:
        >>> str(not_failed())
        'not fail'
    """
    return Limit("verdict", 0.0, optional)


@dataclass(frozen=True)
class Gate(Stage):
    """Stops the pipeline when a finding of the steps before breaks a limit.

    A pattern that matches no finding closes the gate too: what was not evaluated is never passed.

    Args:
        limits: Pattern of finding kinds, such as `poisoning.*`, to the limit that holds for each.

    Example:
        >>> from pathlib import Path
        >>> noisy = Finding("labels.noise", "fail", Estimate.rate(100, 1000), "10 % look wrong")
        >>> before = Context(0, Path("."), findings=[noisy])
        >>> try:
        ...     Gate({"labels.noise": at_most(0.08)}).run(None, before)
        ... except GateClosed as closed:
        ...     print(closed.message)
        gate closed: labels.noise 0.1 [0.08291, 0.1202] (n=1000, wilson) breaks at most 0.08
    """

    limits: Mapping[str, Limit] = field(default_factory=dict)

    name: ClassVar[str] = "gate"
    uses: ClassVar[tuple[str, ...]] = ("findings",)
    raises_findings: ClassVar[tuple[str, ...]] = ("gate",)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.limits.items(), key=lambda item: str(item[0]))))

    def check(self) -> list[str]:
        """Problems with the limits.

        Returns:
            A sentence for each problem.

        Example:
            >>> Gate().check()
            ['gate: no limits are given, so it would pass everything']
        """
        if not isinstance(self.limits, Mapping):
            return [f"{self.name}: limits={self.limits!r} is no dictionary of kinds to limits"]
        if not self.limits:
            return ["gate: no limits are given, so it would pass everything"]
        odd = [k for k in self.limits if not isinstance(k, str) or not k]
        if odd:
            return [f"{self.name}: {k!r} is no pattern of kinds, such as 'labels.*'" for k in odd]
        return [
            f"gate: the limit for {k!r} is {v.bound if isinstance(v, Limit) else v!r}; "
            "use at_most(...) or at_least(...)"
            for k, v in self.limits.items()
            if not (isinstance(v, Limit) and isinstance(v.bound, Real) and not math.isnan(v.bound))
        ]

    def run(self, data: Dataset, context: Context) -> Yield:
        """Hold every finding so far against the limits.

        Args:
            data: Not read.
            context: Its findings are judged; of one kind the newest look counts.

        Returns:
            One finding of kind `gate`.

        Raises:
            GateClosed: A limit is broken; it carries the findings that did.

        Example:
            >>> from pathlib import Path
            >>> fine = Finding("labels.noise", "clean", Estimate.rate(1, 1000), "")
            >>> before = Context(0, Path("."), findings=[fine])
            >>> Gate({"labels.*": at_most(0.08)}).run(None, before).findings[0].verdict
            'clean'
        """
        broken, says, looked = self.judge(context)
        measure = Estimate.exact(len(says), n=looked, method="limits broken")
        if says:
            raise GateClosed(
                "gate closed: " + "; ".join(says),
                code="DP-GATE-001",
                hint="see the rows in the report; on_finding='quarantine' sets them aside",
                findings=(*broken, Finding("gate", "fail", measure, "; ".join(says), "high")),
            )
        words = f"{_many(looked, 'finding keeps', 'findings keep')} to "
        words += _many(len(self.limits), "limit", "limits")
        kinds = [f.kind for f in context.findings]
        unmet = [p for p in self.limits if not any(fnmatchcase(kind, p) for kind in kinds)]
        if unmet:  # it may be a slip of the pen
            words += f"; no finding met {', '.join(map(repr, unmet))} (optional)"
        return Yield(findings=(Finding("gate", "clean", measure, words),))

    def judge(self, context: Context) -> tuple[list[Finding], list[str], int]:
        """Which findings break a limit, without raising.

        Args:
            context: Its findings are judged.

        Returns:
            The findings that break a limit, a sentence for each break, how many were looked at.

        Example:
            >>> from pathlib import Path
            >>> Gate({"a.*": at_most(1)}).judge(Context(0, Path(".")))[1]
            ["no finding matches 'a.*' (not evaluated)"]
        """
        newest = standing(context.findings)
        broken: list[Finding] = []
        says: list[str] = []
        looked = 0
        for pattern, limit in self.limits.items():
            matches = [f for f in newest if fnmatchcase(f.kind, pattern)]
            looked += len(matches)
            if not matches and not limit.optional:
                says.append(f"no finding matches {pattern!r} (not evaluated)")
            for finding in matches:
                if not limit.holds(finding):
                    broken.append(finding)
                    says.append(_break(finding, limit))
        return broken, says, looked


def _many(n: int, one: str, more: str) -> str:
    return f"{n} {one if n == 1 else more}"


def _break(finding: Finding, limit: Limit) -> str:
    if finding.verdict == "not_evaluated":
        return f"{finding.kind} was not evaluated: {finding.reason}"
    if limit.side == "verdict":
        return f"{finding.kind} failed: {finding.says}"
    return f"{finding.kind} {finding.measure} breaks {limit}"
