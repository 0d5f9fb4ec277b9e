# SPDX-License-Identifier: Apache-2.0
"""`check_stage`: does a stage keep the contract, and what could not be checked?

The checks follow from what the stage declares: its parameters, roles, kinds of finding and shape.
A check that does not apply is *skipped with its reason* and counted, so that a stage which opts
out of everything does not look like one that passes everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from datapipe.core.dataset import Dataset
from datapipe.core.stage import Stage
from datapipe.errors import DeclarationError
from datapipe.testing.behaved import BEHAVED
from datapipe.testing.declared import DECLARED, OneCheck
from datapipe.testing.trial import Skip, Trial

Result = Literal["ran", "skipped", "failed"]


@dataclass(frozen=True)
class Check:
    """One check of a report.

    Args:
        name: Short name, such as `same_seed`.
        asks: What it asks, one sentence.
        result: `ran` (and held), `skipped` or `failed`.
        says: Why it was skipped, or each thing that failed.

    Example:
        >>> Check("key", "It has a key.", "ran").says
        ()
    """

    name: str
    asks: str
    result: Result
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConformanceReport:
    """What `check_stage` found.

    Args:
        stage: Key of the stage.
        checks: Every check, in order, run or not.

    Example:
        >>> report = ConformanceReport("a.b", (Check("key", "It has a key.", "ran"),))
        >>> report.ok, print(report)
        a.b: 1 ran, 0 skipped, 0 failed
        (True, None)
    """

    stage: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether something ran and nothing failed."""
        return bool(self.ran) and not self.failed

    @property
    def ran(self) -> tuple[Check, ...]:
        """The checks that ran and held."""
        return self._of("ran")

    @property
    def skipped(self) -> tuple[Check, ...]:
        """The checks that do not apply, each with its reason."""
        return self._of("skipped")

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed, each with what went wrong."""
        return self._of("failed")

    def _of(self, result: Result) -> tuple[Check, ...]:
        return tuple(c for c in self.checks if c.result == result)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values.

        Returns:
            A dictionary with stage, ok, the counts and a list of checks.

        Example:
            >>> ConformanceReport("a.b", ()).to_json()["ok"]
            False
        """
        return {
            "stage": self.stage,
            "ok": self.ok,
            "ran": len(self.ran),
            "skipped": len(self.skipped),
            "failed": len(self.failed),
            "checks": [
                {"name": c.name, "asks": c.asks, "result": c.result, "says": list(c.says)}
                for c in self.checks
            ],
        }

    def __str__(self) -> str:
        counts = f"{len(self.ran)} ran, {len(self.skipped)} skipped, {len(self.failed)} failed"
        told = [
            f"  {c.result:<7} {c.name}: {says}"
            for c in (*self.failed, *self.skipped)
            for says in c.says
        ]
        return "\n".join([f"{self.stage}: {counts}", *told])


def check_stage(stage: Stage, data: Dataset | None = None, *, seed: int = 7) -> ConformanceReport:
    """Hold a stage against the contract: about thirty checks, run in a closed room.

    It is run on ordinary rows, on none, on one, on nulls, awkward strings and awkward types; twice
    with one seed; from memory and from a file; and in a pipeline. It may not reach the network,
    move a global random generator or write outside its scratch folder.

    Args:
        stage: The stage, with the parameters to try.
        data: Rows to try it on; None makes two classes of 150 rows with the roles it needs.
        seed: Seed of every run.

    Returns:
        Every check: run, skipped with the reason, or failed with what went wrong.

    Raises:
        DeclarationError: It is no stage, or a class that was not called.

    Example:
        >>> from datapipe.testing.small import long_enough
        >>> report = check_stage(long_enough(column="text"))
        >>> report.ok, len(report.failed)
        (True, 0)
    """
    if not isinstance(stage, Stage):
        what = "a class: call it" if isinstance(stage, type) else f"of type {type(stage).__name__}"
        raise DeclarationError(
            f"{getattr(stage, '__name__', stage)!r} is no stage, it is {what}",
            code="DP-DECL-081",
            hint="write check_stage(MyStage())",
        )
    trial = Trial(stage, data, seed=seed)
    try:
        with threadpool_limits(1):  # as the executor runs it
            checks = tuple(_one(c, trial) for c in (*DECLARED, *BEHAVED))
        return ConformanceReport(stage.name, checks)
    finally:
        trial.close()


def _one(check: OneCheck, trial: Trial) -> Check:
    name, asks = check.__name__.removeprefix("_"), check.__doc__ or ""
    try:
        problems = tuple(check(trial))
    except Skip as reason:
        return Check(name, asks, "skipped", (str(reason),))
    except Exception as error:  # noqa: BLE001 - a check that breaks has found something
        problems = (f"{type(error).__name__}: {error}",)
    return Check(name, asks, "failed" if problems else "ran", problems)
