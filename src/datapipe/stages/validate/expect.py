# SPDX-License-Identifier: Apache-2.0
"""`Expect`: hold the rows to a suite of Great Expectations, and to nothing being skipped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_json
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.errors import DeclarationError
from datapipe.stages.validate import _native, _peer
from datapipe.stages.validate._columns import exists, expressions
from datapipe.stages.validate._suite import Answer, Rule, Suite, read_rules

_BROKEN: dict[str, tuple[Verdict, Severity]] = {
    "critical": ("fail", "high"),
    "warning": ("suspect", "medium"),
    "info": ("suspect", "low"),
}


@dataclass(frozen=True)
class Expect(Stage):
    """Holds the rows to a suite of expectations and marks the rows that break them.

    Common rules are one pass of polars over the columns they need; the rest of the suite is one
    call of Great Expectations, with the same answers. What it lets pass unseen is closed: no rows,
    a column of nulls or a condition that selects nothing is *not evaluated*; a column that is
    absent or a rule that fails inside stops the run; a rule that is unknown, or can never hold, is
    refused before any data is read.

    *Method:* each expectation becomes one finding, `validate.<type>.<column>`. A rule about rows
    measures the share of rows that break it (Wilson interval over the rows it looked at), a rule
    about a column or the table whether it is broken; its `severity` makes a broken rule `fail`
    (critical) or `suspect` (warning, info), and `mostly` is kept.
    *Assumes:* somebody wrote down what is right. Columns pass through pandas: NaN counts as null,
    and integers with nulls become floats.
    *Choose it when:* rules are known and must hold, and the rows that break them should be set
    aside with the rule as the reason (`on_finding="quarantine"`).
    *Fails when:* nobody knew the rule; whoever poisons data keeps to the rules.
    *Cost:* one pass for the common rules; one pass a rule in pandas, and the columns a second time
    in memory, for the others; a second of import.

    Args:
        suite: Path of a suite's JSON (Great Expectations 1.x), or the same as a mapping, or the
            list of its expectations. `NAME.missing` and `NAME.length` may be used as columns.
        on_finding: What is done with rows that break a rule.
        engine: `auto`, or `gx` to give Great Expectations the common rules too.

    Example:
        >>> suite = [{"type": "expect_column_values_to_be_between",
        ...           "kwargs": {"column": "age", "min_value": 0, "max_value": 120}}]
        >>> data = Dataset.of(pl.DataFrame({"age": [31, 65512, 40]}))
        >>> made = Expect(suite).run(data, Context(0, __import__("pathlib").Path(".")))
        >>> made.findings[0].verdict, made.findings[0].flagged["row_id"].to_list()
        ('fail', [1])

    References:
        Great Expectations, 2018-, Expectation gallery, greatexpectations.io.
    """

    suite: Suite = ()
    on_finding: OnSuspect = "note"
    engine: Literal["auto", "gx"] = "auto"

    name: ClassVar[str] = "validate.expect"
    raises_findings: ClassVar[tuple[str, ...]] = ("validate.*",)
    extra: ClassVar[str] = "validate"
    references: ClassVar[tuple[str, ...]] = (
        "Great Expectations, 2018-, Expectation gallery, greatexpectations.io",
    )

    def __hash__(self) -> int:
        return hash((digest_json(self.suite), self.on_finding, self.engine))

    def check(self) -> list[str]:
        """Problems with the suite that can be told without data.

        Returns:
            A sentence for each problem.

        Example:
            >>> Expect([{"type": "expect_column_to_exists", "kwargs": {}}]).check()[0][:75]
            "validate.expect: there is no expectation 'expect_column_to_exists'; did you"
        """
        wrong = super().check()
        try:
            rules = read_rules(self.suite)
        except DeclarationError as error:
            return [*wrong, f"{self.name}: {error.message}"]
        with _peer.quiet():
            return [*wrong, *(f"{self.name}: {p}" for rule in rules for p in rule.problems())]

    def params(self) -> dict[str, Any]:
        """The parameters, the suite by its content: an edited file is another suite.

        Returns:
            `suite` as the list of its expectations, `on_finding` and `engine`.

        Example:
            >>> Expect([{"type": "expect_column_to_exist", "kwargs": {"column": "a"}}]).params()
            {'suite': [{'type': 'expect_column_to_exist', ...}], 'on_finding': 'note', ...}
        """
        try:
            told: Any = [rule.to_json() for rule in read_rules(self.suite)]
        except DeclarationError:
            told = self.suite
        return {"suite": told, "on_finding": self.on_finding, "engine": self.engine}

    def run(self, data: Dataset, context: Context) -> Yield:
        """Evaluate the suite: one polars pass, and one call of Great Expectations for the rest.

        Args:
            data: The rows.
            context: Not used: rules have no randomness.

        Returns:
            One finding for each expectation, in the order of the suite.

        Raises:
            SchemaMismatch: A rule names a column that is not there.
            DataError: A rule could not be computed on these columns.

        Example:
            >>> rule = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "a"}}
            >>> data = Dataset.of(pl.DataFrame({"a": [1, 1]}))
            >>> made = Expect([rule]).run(data, Context(0, __import__("pathlib").Path(".")))
            >>> made.findings[0].says
            '2 of 2 rows break expect_column_values_to_be_unique(a)'
        """
        rules = read_rules(self.suite)
        frame = _needed(data, rules)
        kinds = _kinds(rules)
        if not frame.height:
            return Yield(findings=tuple(_unknown(k, r, "there are no rows") for k, r in kinds))
        found = {} if self.engine == "gx" else _native.answers(frame, rules)
        rest = [rule for rule in rules if rule.number not in found]
        if rest:
            found |= _peer.answers(frame, rest)
        return Yield(findings=tuple(_finding(k, r, found[r.number], frame) for k, r in kinds))


def _needed(data: Dataset, rules: Sequence[Rule]) -> pl.DataFrame:
    """The columns the rules read, and all of them when a rule is about which there are."""
    wanted: list[str] = []
    for rule in rules:
        wanted.extend(rule.condition_columns)
        if not rule.about_shape:
            wanted.extend(rule.columns)
        elif rule.type.startswith("expect_table"):
            wanted.extend(data.names)
        else:
            wanted.extend(c for c in rule.columns if exists(data, c))
    columns = expressions(data, wanted)
    return data.scan(row_id=True).select(pl.col(ROW_ID), *columns).collect(engine="streaming")


def _kinds(rules: Sequence[Rule]) -> list[tuple[str, Rule]]:
    """A kind for every rule: of two findings of one kind a gate reads only the newest."""
    seen: Counter[str] = Counter()
    kinds = []
    for rule in rules:
        kind = ".".join(("validate", rule.type, *rule.columns))
        seen[kind] += 1
        kinds.append((kind if seen[kind] == 1 else f"{kind}.{seen[kind]}", rule))
    return kinds


def _finding(kind: str, rule: Rule, answer: Answer, frame: pl.DataFrame) -> Finding:
    """One rule's answer as a finding; what was not looked at is never clean."""
    if answer.broken is not None and answer.looked is not None:
        return _about_rows(kind, rule, answer, frame[ROW_ID])
    nothing = _all_null(rule, frame)
    if nothing:
        return _unknown(kind, rule, nothing)
    verdict, severity = _judged(rule, holds=answer.holds)
    told = {"observed": answer.observed} if _tellable(rule, answer.observed) else {}
    return Finding(
        kind,
        verdict,
        Estimate.exact(0 if answer.holds else 1, n=frame.height, method="rules broken"),
        f"{rule} {'holds' if answer.holds else 'is broken'}",
        severity,
        columns=rule.columns,
        details={**_details(rule), **told},
        remedy="" if answer.holds else "mend the source, or the rule where it is wrong",
    )


def _about_rows(kind: str, rule: Rule, answer: Answer, row_ids: pl.Series) -> Finding:
    """A rule that each row keeps or breaks."""
    broken, looked = np.asarray(answer.broken), int(answer.looked or 0)
    if looked == 0:
        return _unknown(kind, rule, "every value is null, or no row meets its condition")
    hits = int(broken.sum())
    verdict, severity = _judged(rule, holds=answer.holds)
    return Finding(
        kind,
        verdict,
        Estimate.rate(hits, max(looked, hits)),
        f"{hits:,} of {looked:,} rows break {rule}",
        severity,
        columns=rule.columns,
        rows=scored_rows(
            row_ids,
            broken.astype(np.float64),
            flagged=broken & (not answer.holds),
            reason=str(rule),
        ),
        details={**_details(rule), "unexpected_count": hits, "unexpected_share": hits / looked},
        remedy="" if answer.holds else 'set the rows aside with on_finding="quarantine"',
    )


def _judged(rule: Rule, *, holds: bool) -> tuple[Verdict, Severity]:
    return ("clean", "info") if holds else _BROKEN[rule.severity]


def _unknown(kind: str, rule: Rule, why: str) -> Finding:
    return Finding(
        kind,
        "not_evaluated",
        Estimate.unknown(method=why),
        f"{rule} was not evaluated: {why}",
        "medium",
        columns=rule.columns,
        details=_details(rule),
        remedy="give rows that the rule can be held against",
    )


def _all_null(rule: Rule, frame: pl.DataFrame) -> str:
    """Why a rule about a whole column had nothing to look at; empty when it had."""
    if rule.about_shape or rule.type.startswith("expect_table") or "_type" in rule.type:
        return ""
    for column in rule.columns:
        values = frame[column]
        gone = values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()
        if gone.all():
            return f"every value of {column} is null"
    return ""


def _tellable(rule: Rule, observed: Any) -> bool:
    """Statistics may be told; the smallest and largest value are some person's value."""
    if isinstance(observed, bool) or not isinstance(observed, (int, float)):
        return False
    return math.isfinite(observed) and "_min_" not in rule.type and "_max_" not in rule.type


def _details(rule: Rule) -> dict[str, Any]:
    form = rule.to_json()
    return {
        "expectation": form["type"],
        "column": rule.columns[0] if rule.columns else None,
        "kwargs": form["kwargs"],
        "severity": form["severity"],
    }
