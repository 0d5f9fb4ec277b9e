# SPDX-License-Identifier: Apache-2.0
"""Rules answered by Great Expectations: the rest of a suite in one call, nothing left out."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read once, when the package is imported

import great_expectations as gx
import numpy as np
import polars as pl
from great_expectations.data_context.types.base import ProgressBarsConfig

from datapipe.core.roles import ROW_ID
from datapipe.errors import DataError
from datapipe.stages.validate._suite import Answer, Rule

_RESULT = {
    "result_format": "COMPLETE",
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}


def answers(frame: pl.DataFrame, rules: Sequence[Rule]) -> dict[int, Answer]:
    """Evaluate rules in one suite call.

    Args:
        frame: The columns the rules read, with the hidden column; at least one row.
        rules: The rules.

    Returns:
        An answer for every rule, by its number.

    Raises:
        DataError: A rule could not be computed, or was not evaluated.

    Example:
        >>> frame = pl.DataFrame({ROW_ID: [0, 1], "a": ["x", "y"]})
        >>> rule = Rule(4, "expect_column_values_to_match_regex", {"column": "a", "regex": "x"})
        >>> answers(frame, [rule])[4].broken.tolist()
        [False, True]
    """
    with quiet():
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
        whole = asset.add_batch_definition_whole_dataframe("all")
        batch = whole.get_batch(batch_parameters={"dataframe": frame.drop(ROW_ID).to_pandas()})
        suite = gx.ExpectationSuite(name="suite", expectations=[r.expectation() for r in rules])
        told: list[Any] = [
            r.to_json_dict() for r in batch.validate(suite, result_format=_RESULT).results
        ]
    found = {form["expectation_config"]["meta"]["number"]: form for form in told}
    missing = [r for r in rules if r.number not in found]
    if missing:
        raise _failed(missing[0], "it was left out in silence")
    return {r.number: _answer(r, found[r.number], frame) for r in rules}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the package's log lines and warnings, which repeat what the findings say, off stderr.

    Yields:
        Nothing; the log level is what it was afterwards.

    Example:
        >>> with quiet():
        ...     logging.getLogger("great_expectations").error("not shown")
    """
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _answer(rule: Rule, form: Mapping[str, Any], frame: pl.DataFrame) -> Answer:
    _refuse_failure(rule, form, frame)
    result: Mapping[str, Any] = form["result"]
    if "unexpected_index_list" not in result:
        return Answer(bool(form["success"]), observed=result.get("observed_value"))
    broken = np.zeros(frame.height, dtype=bool)
    broken[np.asarray(result["unexpected_index_list"], dtype=np.int64)] = True
    if int(broken.sum()) != int(result["unexpected_count"]):
        raise _failed(rule, "rows and counts disagree")
    looked = int(result["element_count"]) - int(result.get("missing_count") or 0)
    return Answer(bool(form["success"]), looked=looked, broken=broken)


def _refuse_failure(rule: Rule, form: Mapping[str, Any], frame: pl.DataFrame) -> None:
    """An exception inside a rule is no verdict; Great Expectations calls it a broken rule."""
    told = form.get("exception_info") or {}
    nested = [v for v in told.values() if isinstance(v, Mapping)]
    if told.get("raised_exception") or any(v.get("raised_exception") for v in nested):
        types = ", ".join(f"{c} is {frame.schema[c]}" for c in rule.columns if c in frame.columns)
        raise _failed(rule, types or "it raised an exception")


def _failed(rule: Rule, why: str) -> DataError:
    return DataError(
        f"validate.expect: {rule} could not be computed: {why}",
        code="DP-DATA-042",
        hint="compare the types of its columns with its arguments",
    )
