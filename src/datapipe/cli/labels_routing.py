# SPDX-License-Identifier: Apache-2.0
"""`datapipe labels relabel --annotators FILE`: who checks which row, experts where it pays."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from datapipe.cli.audit_plan import Beside, reader_of
from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.core.roles import Roles
from datapipe.errors import DeclarationError, Malformed, SchemaMismatch
from datapipe.measure.triage import route


def routed(
    rows: pl.DataFrame, annotators: Path, budget: float | None
) -> tuple[pl.DataFrame, dict[str, object]]:
    """The rows to check, each with the annotator who removes the most errors for the budget.

    Args:
        rows: Every judged row with `score`.
        annotators: A table with `annotator`, `skill` in (0, 1] and, where they differ, `cost` > 0
            of one answer; what `labels annotators -o` writes will do.
        budget: What may be spent, in the unit of the costs; None is not enough to choose.

    Returns:
        The chosen rows with `annotator` and `cost`, the most doubtful first, and the totals.

    Raises:
        DeclarationError: No budget is given.
        SchemaMismatch: The table lacks a column.
        Malformed: A skill or cost is out of range.

    Example:
        >>> routed.__name__
        'routed'
    """
    if not budget:
        raise DeclarationError(
            "annotators of different cost need a budget", code="DP-USE-058", hint="--budget 100"
        )
    people = _people(annotators)
    skills, costs = people["skill"].to_numpy(), people["cost"].to_numpy()
    who = route(rows["score"].to_numpy(), skills, costs, budget=budget)
    asked = np.flatnonzero(who >= 0)
    picked = people[who[asked].tolist()]
    chosen = rows[asked.tolist()].with_columns(picked["annotator"], picked["cost"])
    chosen = chosen.with_columns(
        expected_removed=picked["skill"] * chosen["score"]
        - (1 - picked["skill"]) * (1 - chosen["score"])
    ).sort("score", descending=True, maintain_order=True)
    counts = chosen.group_by("annotator").agg(pl.len().alias("rows"), pl.col("cost").sum())
    return chosen, {
        "budget": budget,
        "spent": float(chosen["cost"].sum()),
        "expected_errors": round(float(rows["score"].sum()), 3),
        "expected_removed": round(float(chosen["expected_removed"].sum()), 3),
        "by_annotator": counts.sort("annotator").to_dicts(),
    }


def _people(path: Path) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        made = reader_of(str(path), Roles(), Beside()).run(empty(), Context(0, Path(scratch)))
        frame = made.data.frame() if made.data is not None else pl.DataFrame()
    if not {"annotator", "skill"} <= set(frame.columns):
        raise SchemaMismatch(
            f"{path.name} lacks the columns 'annotator' and 'skill'",
            hint="give the table that `labels annotators -o` writes, with a column 'cost'",
        )
    if "cost" not in frame.columns:
        frame = frame.with_columns(cost=pl.lit(1.0))
    people = frame.select(
        pl.col("annotator").cast(pl.String),
        pl.col("skill", "cost").cast(pl.Float64, strict=False).fill_null(float("nan")),
    )
    odd = ~(pl.col("skill").is_between(0, 1, closed="right") & (pl.col("cost") > 0))
    odd |= pl.col("skill").is_nan() | pl.col("cost").is_nan() | pl.col("cost").is_infinite()
    bad = people.filter(odd)
    if bad.height or not people.height:
        said = "no annotator is named"
        if bad.height:
            said = (
                f"the skill of {bad['annotator'][0]!r} is outside (0, 1], or the cost not above 0"
            )
        raise Malformed(
            f"{path.name}: {said}",
            code="DP-DATA-066",
            hint="leave out annotators whose skill is not known",
        )
    return people
