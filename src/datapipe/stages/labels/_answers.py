# SPDX-License-Identifier: Apache-2.0
"""Rows that are answers of annotators: into codes, and the consensus back into rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Verdict, scored_rows
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import Yield
from datapipe.errors import Malformed
from datapipe.measure.crowd import Answers, Consensus

FEWEST_ITEMS = 10
"""Items with two or more answers under which agreement is not judged."""


@dataclass(frozen=True, eq=False)
class Coded:
    """Answers and the names behind their codes.

    Args:
        answers: The answers; an annotator's repeated identical answers count once.
        frame: One line a row: `_row_id`, `item`, `annotator`, `label` as codes.
        items: Item names by code.
        annotators: Annotator names by code.
        labels: Label values by code.
        repeated: Rows that repeat an annotator's answer to the same item.
    """

    answers: Answers
    frame: pl.DataFrame
    items: pl.Series
    annotators: pl.Series
    labels: pl.Series
    repeated: int


def coded(data: Dataset) -> Coded:
    """Read the answers of a data set.

    Args:
        data: Rows with the roles `id` (the item), `annotator` and `label`.

    Returns:
        The answers as codes.

    Raises:
        Malformed: An item, annotator or label is missing in a row.
    """
    names = [data.roles.one(r) for r in ("id", "annotator", "label")]
    frame = data.frame(names, row_id=True)
    for role, name in zip(("item", "annotator", "label"), names, strict=True):
        column = frame[name]
        empty = column.is_null() | (column.is_nan() if column.dtype.is_float() else False)
        if empty.any():
            raise Malformed(
                f"the {role} is missing in {int(empty.sum())} rows,"
                f" first at row {empty.arg_true()[0]}",
                code="DP-DATA-030",
                hint="set such rows aside before answers are put together",
            )
    values = [frame[name].unique().sort() for name in names]
    codes = [
        frame[name].replace_strict(v, pl.int_range(v.len(), eager=True), return_dtype=pl.Int64)
        for name, v in zip(names, values, strict=True)
    ]
    lines = pl.DataFrame([frame[ROW_ID], *codes])
    lines.columns = [ROW_ID, "item", "annotator", "label"]
    once = lines.unique(["item", "annotator", "label"], maintain_order=True)
    item, annotator, label = (once[c].to_numpy() for c in ("item", "annotator", "label"))
    n_items, n_annotators, n_classes = (v.len() for v in values)
    answers = Answers(item, annotator, label, n_items, n_annotators, n_classes)
    return Coded(
        answers, lines, values[0], values[1], values[2], repeated=lines.height - once.height
    )


def told(name: str, made: Consensus, answers: Coded, context: Context) -> Yield:
    """A consensus as a finding, a table of items and a table of annotators.

    Args:
        name: Catalogue key of the stage.
        made: The consensus.
        answers: What it was made from.
        context: Its scratch folder takes the tables.

    Returns:
        The finding `<name>`, the items and the annotators.
    """
    lines = answers.frame
    own = made.posterior[lines["item"].to_numpy(), lines["label"].to_numpy()]
    chosen = made.posterior.argmax(1)
    differs = lines["label"].to_numpy() != chosen[lines["item"].to_numpy()]
    votes = answers.answers.votes()
    several = votes.sum(1) > 1
    artifacts = (
        _items(name, made, answers, votes, context.scratch),
        _annotators(name, answers, differs, context.scratch),
    )
    details = {
        "items": int(several.size),
        "items_with_several_answers": int(several.sum()),
        "annotators": answers.annotators.len(),
        "classes": answers.labels.len(),
        "repeated_answers": answers.repeated,
        "iterations": made.iterations,
        "undecided_items": int((made.posterior.max(1) < 0.5 + 1e-9).sum()),
    }
    if several.sum() < FEWEST_ITEMS or answers.labels.len() < 2:
        why = f"{int(several.sum())} items have two or more answers; {FEWEST_ITEMS} are needed"
        if answers.labels.len() < 2:
            why = "every answer is the same label"
        measure = Estimate.unknown(method=why)
        finding = Finding(name, "not_evaluated", measure, why, details=details)
        return Yield(findings=(finding,), artifacts=artifacts)
    judged = several[lines["item"].to_numpy()]
    measure = Estimate.rate(int((differs & judged).sum()), int(judged.sum()))
    verdict: Verdict = "suspect" if measure.low > 0.25 else "clean"
    suggested = answers.labels.cast(pl.String).gather(chosen[lines["item"].to_numpy()])
    rows = scored_rows(
        lines[ROW_ID],
        1 - own,
        flagged=differs & judged if verdict != "clean" else np.zeros(len(own), bool),
        reason="answer differs from the consensus of its item",
        suggested=suggested,
    )
    says = (
        f"{measure.value:.1%} of {measure.n:,} answers differ from the consensus of their item"
        f" ({answers.annotators.len()} annotators, {several.size:,} items)"
    )
    return Yield(
        findings=(
            Finding(
                name,
                verdict,
                measure,
                says,
                severity="medium" if verdict == "suspect" else "info",
                columns=(),
                rows=rows,
                details=details,
                remedy="look at the annotators' table; ask again where the posterior is low",
            ),
        ),
        artifacts=artifacts,
    )


def _items(
    name: str, made: Consensus, answers: Coded, votes: NDArray[Any], folder: Path
) -> Artifact:
    chosen = made.posterior.argmax(1)
    table = pl.DataFrame(
        {
            "item": answers.items,
            "label": answers.labels.gather(chosen),
            "posterior": made.posterior.max(1),
            "answers": votes.sum(1).astype(np.int64),
            "posteriors": pl.Series(made.posterior, dtype=pl.Array(pl.Float64, votes.shape[1])),
        }
    )
    facts = {"rows": table.height, "classes": answers.labels.cast(pl.String).to_list()}
    return _stored(f"{name.partition('.')[2]}.items", table, folder, facts)


def _annotators(name: str, answers: Coded, differs: NDArray[np.bool_], folder: Path) -> Artifact:
    """Agreement of each annotator with the consensus, with its interval."""
    who = answers.frame["annotator"].to_numpy()
    given = np.bincount(who, minlength=answers.annotators.len())
    agreed = np.bincount(who, ~differs, minlength=answers.annotators.len()).astype(np.int64)
    rates = [Estimate.rate(int(a), int(n)) for a, n in zip(agreed, given, strict=True)]
    table = pl.DataFrame(
        {
            "annotator": answers.annotators,
            "answers": given,
            "agreement": [r.value for r in rates],
            "agreement_low": [r.low for r in rates],
            "agreement_high": [r.high for r in rates],
        }
    )
    facts = {"rows": table.height, "interval": "wilson, level 0.95"}
    return _stored(f"{name.partition('.')[2]}.annotators", table, folder, facts)


def _stored(name: str, table: pl.DataFrame, folder: Path, facts: dict[str, Any]) -> Artifact:
    path = folder / f"{name}.parquet"
    table.write_parquet(path, compression="zstd")
    return Artifact(name, "table", path, "application/vnd.apache.parquet", facts)
