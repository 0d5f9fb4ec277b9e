# SPDX-License-Identifier: Apache-2.0
"""Suites of expectations: read, checked before any data, one `Rule` for each expectation.

Great Expectations accepts a rule that can never hold, logs and forgets one that it does not know,
and evaluates conditions written in Python. Here each of these is a problem of the declaration.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read once, when the package is imported

import numpy as np
from great_expectations.exceptions.exceptions import GreatExpectationsError
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import (
    ExpectationConfiguration,
)
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.registry import (
    list_registered_expectation_implementations,
)
from numpy.typing import NDArray

from datapipe.errors import DeclarationError, nearest
from datapipe.manifest.plain import reading

Suite = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]

LARGEST_BYTES = 4_000_000
SEVERITIES = ("critical", "warning", "info")
_PAIRS = (("min_value", "max_value"), ("min_length", "max_length"))
_CONDITION_COLUMN = re.compile(r"""col\(\s*["']([^"']+)["']\s*\)""")
_COLUMNS = ("column", "column_A", "column_B", "column_list")
_SHAPE = ("expect_table_column", "expect_column_to_exist")


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite.

    Args:
        number: Its 0-based place in the suite.
        type: Its name, such as `expect_column_values_to_be_between`.
        kwargs: Its arguments.
        severity: `critical`, `warning` or `info`.

    Example:
        >>> rule = Rule(0, "expect_column_values_to_be_between", {"column": "a", "max_value": 9})
        >>> str(rule), rule.columns
        ('expect_column_values_to_be_between(a, max_value=9)', ('a',))
    """

    number: int
    type: str
    kwargs: Mapping[str, Any]
    severity: str = "critical"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is about, without those of its condition."""
        named = [self.kwargs.get(k) for k in _COLUMNS[:3]]
        return tuple(str(c) for c in (*named, *self.kwargs.get("column_list", ())) if c is not None)

    @property
    def condition_columns(self) -> tuple[str, ...]:
        """The columns that its `row_condition` reads."""
        return tuple(_CONDITION_COLUMN.findall(str(self.kwargs.get("row_condition") or "")))

    @property
    def about_shape(self) -> bool:
        """Whether it is about which columns there are, so that one may be absent."""
        return self.type.startswith(_SHAPE)

    def __str__(self) -> str:
        rest = {k: v for k, v in self.kwargs.items() if k not in _COLUMNS}
        told = [*self.columns, *(f"{k}={v!r}" for k, v in rest.items() if v is not None)]
        return f"{self.type}({', '.join(told)})"

    def to_json(self) -> dict[str, Any]:
        """The rule as a suite's JSON tells it.

        Returns:
            Its type, kwargs and severity.

        Example:
            >>> Rule(0, "expect_column_to_exist", {"column": "a"}).to_json()["severity"]
            'critical'
        """
        kwargs = json.loads(json.dumps(dict(self.kwargs), default=str))
        return {"type": self.type, "kwargs": kwargs, "severity": self.severity}

    def expectation(self) -> Expectation:
        """The same as an object of Great Expectations, marked with its number.

        Returns:
            The expectation.

        Raises:
            DeclarationError: It is not known, or its arguments do not fit.

        Example:
            >>> Rule(3, "expect_column_to_exist", {"column": "a"}).expectation().meta
            {'number': 3}
        """
        try:
            return ExpectationConfiguration(
                type=self.type,
                kwargs=dict(self.kwargs),
                meta={"number": self.number},
                severity=FailureSeverity(self.severity),
            ).to_domain_obj()
        except (GreatExpectationsError, ValueError, TypeError) as error:
            known = list_registered_expectation_implementations()
            unknown = self.type not in known
            raise DeclarationError(
                f"there is no expectation {self.type!r}; {nearest(self.type, known)}"
                if unknown
                else f"{self.type}: {_one_line(error)}",
                code="DP-DECL-041",
                hint="see the gallery of Great Expectations for names and arguments",
            ) from error

    def problems(self) -> list[str]:
        """What can be told to be wrong without data.

        Returns:
            A sentence for each problem.

        Example:
            >>> Rule(0, "expect_column_values_to_be_between", {
            ...     "column": "a", "min_value": 5, "max_value": 1}).problems()
            ['expect_column_values_to_be_between(a, ...): min_value=5 is above max_value=1']
        """
        short = f"{self.type}({', '.join(self.columns)}, ...)"
        wrong = []
        for low, high in _PAIRS:
            least, most = self.kwargs.get(low), self.kwargs.get(high)
            if _above(least, most):
                wrong.append(f"{short}: {low}={least!r} is above {high}={most!r}")
        parser = self.kwargs.get("condition_parser")
        if self.kwargs.get("row_condition") and parser != "great_expectations":
            wrong.append(
                f"{short}: condition_parser={parser!r} would run code; write it as col(...)"
            )
        if "query" in self.type or "unexpected_rows_query" in self.kwargs:
            wrong.append(f"{short}: queries need a database, and rows are given")
        if self.severity not in SEVERITIES:
            wrong.append(f"{short}: severity {self.severity!r} is none of {', '.join(SEVERITIES)}")
        if not wrong:
            try:
                self.expectation()
            except DeclarationError as error:
                wrong.append(error.message)
        return wrong


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one rule.

    Args:
        holds: Whether the rule holds.
        looked: How many rows it looked at; None for a rule about a column or the table.
        broken: bool of shape (n,), the rows that break it; None as above.
        observed: The statistic of a rule about a column or the table, where there is one.

    Example:
        >>> Answer(True, observed=3.5).broken is None
        True
    """

    holds: bool
    looked: int | None = None
    broken: NDArray[np.bool_] | None = None
    observed: Any = None


def read_rules(suite: Suite) -> tuple[Rule, ...]:
    """The rules of a suite.

    Args:
        suite: Path of a suite's JSON in the form of Great Expectations 1.x, or the same as a
            mapping, or just the list of its expectations.

    Returns:
        The rules in order.

    Raises:
        DeclarationError: It is not such a suite, or it has no expectations.

    Example:
        >>> read_rules([{"type": "expect_column_to_exist", "kwargs": {"column": "a"}}])[0].columns
        ('a',)
    """
    form = _load(suite) if isinstance(suite, str) else suite
    configs = form.get("expectations") if isinstance(form, Mapping) else form
    if not isinstance(configs, Sequence) or isinstance(configs, str):
        raise _no_suite("it has no list of expectations")
    if not configs:
        raise _no_suite("it has no expectations, so it would pass everything")
    return tuple(_rule(number, config) for number, config in enumerate(configs))


def _rule(number: int, config: Any) -> Rule:
    if not isinstance(config, Mapping):
        raise _no_suite(f"expectation {number} is no object")
    name = config.get("type") or config.get("expectation_type")
    kwargs = config.get("kwargs", {})
    if not isinstance(name, str) or not isinstance(kwargs, Mapping):
        raise _no_suite(f"expectation {number} needs a 'type' and 'kwargs'")
    given = {k: v for k, v in kwargs.items() if k != "batch_id"}
    return Rule(number, name, given, str(config.get("severity") or "critical"))


def _load(path: str) -> Any:
    try:
        with reading(path) as file:
            text = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise _no_suite(f"{path}: {error.strerror}") from error
    if len(text) > LARGEST_BYTES:
        raise _no_suite(f"{path} is larger than {LARGEST_BYTES:,} bytes")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_suite(f"{path} is no JSON: {_one_line(error)}") from error


def _above(least: Any, most: Any) -> bool:
    try:
        return least is not None and most is not None and bool(least > most)
    except TypeError:
        return False


def _one_line(error: BaseException) -> str:
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    return ": ".join(line for line in lines if line)[:200]


def _no_suite(what: str) -> DeclarationError:
    return DeclarationError(
        f"no suite: {what}",
        code="DP-DECL-040",
        hint='give {"expectations": [{"type": "expect_...", "kwargs": {...}}]}',
    )
