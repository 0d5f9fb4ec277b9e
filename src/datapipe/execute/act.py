# SPDX-License-Identifier: Apache-2.0
"""Detection and action are apart: a detector marks rows, and this does what `on_finding` says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding, label_text
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.stage import OnFinding, Stage, Yield

CHANGE_SCHEMA = {
    "row_id": pl.UInt64,
    "before": pl.String,
    "after": pl.String,
    "why": pl.String,
    "posterior": pl.Float64,
}


@dataclass(frozen=True, eq=False)
class Acted:
    """What a stage's findings led to.

    Args:
        findings: The findings with the action written on every flagged row.
        set_aside: Rows that leave: `row_id`, `reason`.
        label_changes: Labels that change, with the columns of `CHANGE_SCHEMA`.
        weights: New weights in [0, 1]: `row_id`, `weight`.
        stop: The findings that stop the run, empty when it goes on.

    Example:
        >>> act(Stage(), Yield()).stop
        ()
    """

    findings: tuple[Finding, ...]
    set_aside: pl.DataFrame
    label_changes: pl.DataFrame
    weights: pl.DataFrame
    stop: tuple[Finding, ...]


def act(stage: Stage, made: Yield, data: Dataset | None = None) -> Acted:
    """Decide what becomes of the rows that a stage flagged.

    Only findings whose verdict is `suspect` or `fail` lead to an action.

    Args:
        stage: Its `on_finding` says what to do; without one, nothing is done.
        made: What it gave back.
        data: The rows it was given, for the labels as they were before.

    Returns:
        The decisions, nothing carried out yet.

    Example:
        >>> act(Stage(), Yield()).set_aside.columns
        ['row_id', 'reason']
    """
    action: OnFinding = getattr(stage, "on_finding", "note")
    findings = tuple(_marked(f, action) for f in made.findings)
    telling = [f for f in findings if f.verdict in ("suspect", "fail")]
    asides = [] if made.set_aside is None else [made.set_aside.select("row_id", "reason")]
    changes = [] if made.label_changes is None else [made.label_changes]
    weights: list[pl.DataFrame] = []
    for finding in telling:
        rows = finding.flagged
        if action == "quarantine":
            reason = pl.format("{}: {}", pl.lit(finding.kind), pl.col("reason"))
            said = pl.col("reason").fill_null("") != ""
            why = pl.when(said).then(reason).otherwise(pl.lit(finding.kind))
            asides.append(rows.select("row_id", why.alias("reason")))
        elif action == "relabel":
            changes.append(_changes(finding, data))
        elif action == "weight":
            kept = (1 - pl.col("score").clip(0, 1)).alias("weight")
            weights.append(rows.select("row_id", kept))
    stop = tuple(f for f in telling if f.verdict == "fail") if action == "stop" else ()
    return Acted(
        findings,
        _union(asides, {"row_id": pl.UInt64, "reason": pl.String}),
        _union(changes, CHANGE_SCHEMA),
        _union(weights, {"row_id": pl.UInt64, "weight": pl.Float64}),
        stop,
    )


def applied(data: Dataset, decisions: list[Acted]) -> Dataset:
    """Carry decisions out: rows leave, labels and weights change.

    Args:
        data: The rows before.
        decisions: The decisions of every stage of a group; the first one on a row counts.

    Returns:
        The same object when nothing changes, else a lazy data set.

    Example:
        >>> import pyarrow as pa
        >>> d = Dataset.of(pa.table({"a": [1, 2]}))
        >>> applied(d, [act(Stage(), Yield())]) is d
        True
    """
    asides = _union([d.set_aside for d in decisions], {"row_id": pl.UInt64, "reason": pl.String})
    changes = _union([d.label_changes for d in decisions], CHANGE_SCHEMA)
    weights = _union([d.weights for d in decisions], {"row_id": pl.UInt64, "weight": pl.Float64})
    frame, roles = data.scan(row_id=True), data.roles
    if changes.height:
        frame = _relabelled(frame, roles.one("label"), data.types, changes)
    if weights.height:
        column = roles.all("weight")[0] if "weight" in roles else "_weight"
        frame = _weighted(frame, column, weights, fresh="weight" not in roles)
        roles = roles.merged(Roles({"weight": (column,)}))
    if asides.height:
        frame = frame.join(
            asides.lazy().select(pl.col("row_id").alias(ROW_ID)),
            on=ROW_ID,
            how="anti",
            maintain_order="left",
        )
    if not (changes.height or weights.height or asides.height):
        return data
    return data.with_frame(frame, roles=roles)


def _marked(finding: Finding, action: OnFinding) -> Finding:
    if finding.rows is None:
        return finding
    acts = action if finding.verdict in ("suspect", "fail") else "note"
    flagged = pl.col("flagged")
    done = pl.when(flagged).then(pl.lit(acts)).otherwise(pl.lit(""))
    if acts == "relabel":
        done = pl.when(flagged & pl.col("suggested").is_null()).then(pl.lit("note")).otherwise(done)
    return replace(finding, rows=finding.rows.with_columns(done.alias("action")))


def _changes(finding: Finding, data: Dataset | None) -> pl.DataFrame:
    """The labels that a finding suggests and the rows do not have, beside those that they have."""
    rows = finding.flagged.filter(pl.col("suggested").is_not_null())
    before = pl.lit(None, dtype=pl.String).alias("before")
    if data is not None:
        label = data.roles.one("label")
        held = data.frame([label], row_id=True).select(
            pl.col(ROW_ID).alias("row_id"), label_text(label, data.types[label]).alias("before")
        )
        rows, before = rows.join(held, on="row_id", how="left"), pl.col("before")
    return rows.filter(pl.col("suggested").ne_missing(before)).select(
        "row_id",
        before,
        pl.col("suggested").alias("after"),
        pl.format("{}: {}", pl.lit(finding.kind), pl.col("reason")).alias("why"),
        pl.col("score").alias("posterior"),
    )


def _relabelled(
    frame: pl.LazyFrame, label: str, types: pl.Schema, changes: pl.DataFrame
) -> pl.LazyFrame:
    kind: Any = types[label]
    after = _label_of(pl.col("after"), kind)
    new = changes.lazy().select(pl.col("row_id").alias(ROW_ID), after.alias("_after"))
    joined = frame.join(new, on=ROW_ID, how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("_after", label).alias(label)).drop("_after")


def _label_of(text: pl.Expr, kind: Any) -> pl.Expr:
    """The label that a text of `label_text` stands for."""
    if kind == pl.Boolean:  # polars casts truth values to words, not back
        return text == "true"
    if isinstance(kind, pl.List | pl.Array):
        # a suggestion may hold numbers as words: it is read as words, then cast
        return text.str.json_decode(pl.List(pl.String)).cast(pl.List(kind.inner)).cast(kind)
    return text.cast(kind)


def _weighted(
    frame: pl.LazyFrame, column: str, weights: pl.DataFrame, *, fresh: bool
) -> pl.LazyFrame:
    new = weights.lazy().select(pl.col("row_id").alias(ROW_ID), pl.col("weight").alias("_new"))
    joined = frame.join(new, on=ROW_ID, how="left", maintain_order="left")
    old = pl.lit(1.0) if fresh else pl.col(column)
    return joined.with_columns((old * pl.col("_new").fill_null(1.0)).alias(column)).drop("_new")


def _union(frames: list[pl.DataFrame], schema: dict[str, Any]) -> pl.DataFrame:
    """The frames one below the other; of a row named twice the first line counts."""
    cast = [f.select(pl.col(n).cast(t) for n, t in schema.items()) for f in frames if f.height]
    if not cast:
        return pl.DataFrame(schema=schema)
    return pl.concat(cast).unique("row_id", keep="first", maintain_order=True)
