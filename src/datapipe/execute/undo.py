# SPDX-License-Identifier: Apache-2.0
"""Taking label changes back: a run of its own, recorded like the one that it undoes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.finding import label_text
from datapipe.core.function import stage
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.run import Run
from datapipe.core.source import Source
from datapipe.core.stage import Yield
from datapipe.errors import DeclarationError, SchemaMismatch, TrustError
from datapipe.execute._record import stored
from datapipe.execute.act import CHANGE_SCHEMA
from datapipe.lineage.rows import row_number
from datapipe.lineage.store import Lineage
from datapipe.manifest.checks import Reason

SHOWN = 5
"""Rows that a refusal names."""

MOST_RUNS = 50
"""Runs of the same rows, the newest, whose labels are held against those of the copy."""

_LEFT = """
select d.digest, d.roles, d.source_nos
from datasets d
where d.run_id = $run or exists (
  select 1 from dataset_ancestors a
  where a.digest = d.digest and a.run_id = d.run_id and a.step_id in (select unnest($steps))
)
qualify row_number() over (partition by d.run_id order by d.seq desc) = 1
order by d.seq desc limit $most
"""

_SINCE = """
select c.row_id, arg_max(c.run_id, c.seq) as run_id
from label_changes c
join step_io o on o.step_id = c.step_id and o.role = 'out' and o.name = 'rows'
join dataset_ancestors a on a.digest = o.digest and a.run_id = c.run_id
where a.step_id in (select unnest($steps)) and c.step_id not in (select unnest($steps))
group by c.row_id
"""


@dataclass(frozen=True, eq=False)
class Relabelling:
    """What one run did to labels, as the store holds it.

    Args:
        run_id: The run.
        steps: The steps that changed labels, reused ones under their first id.
        changes: `row_id before`: every row it changed, with its label before the first change.

    Example:
        >>> Relabelling.__name__
        'Relabelling'
    """

    run_id: str
    steps: tuple[str, ...]
    changes: pl.DataFrame


def relabelling(lineage: Lineage, run: str) -> Relabelling:
    """Find what a run did to labels.

    Args:
        lineage: The store.
        run: The run's id, or how it begins.

    Returns:
        The changes.

    Raises:
        DeclarationError: No run, or more than one, is called so and changed labels.

    Example:
        >>> import tempfile
        >>> try:
        ...     relabelling(Lineage(tempfile.mkdtemp(), create=True), "4f")
        ... except DeclarationError as error:
        ...     error.code
        'DP-USE-054'
    """
    told = lineage.sql(
        "select o.run_id, o.origin, c.row_id, c.before "
        "from label_changes c join step_origins o on o.origin = c.step_id "
        "where starts_with(o.run_id, $run) order by c.seq",
        run=run,
    )
    runs = told["run_id"].unique().to_list()
    if len(runs) != 1 or not run:
        raise DeclarationError(
            f"{len(runs)} runs whose id begins with {run!r} changed labels, one was expected",
            code="DP-USE-054",
            hint="datapipe sql 'select run_id, count(*) from label_history group by 1' lists them",
        )
    steps = tuple(told["origin"].unique(maintain_order=True))
    changes = told.select("row_id", "before").unique("row_id", keep="first", maintain_order=True)
    return Relabelling(runs[0], steps, changes)


def _base(lineage: Lineage, done: Relabelling, copy: pl.DataFrame) -> Dataset:
    """What the run left, or a later run of the same rows: the one whose labels the copy has."""
    left = lineage.sql(_LEFT, steps=list(done.steps), run=done.run_id, most=MOST_RUNS)
    found = [(row, lineage.object_path(row["digest"])) for row in left.iter_rows(named=True)]
    kept = [(row, path) for row, path in found if path is not None]
    if not kept:
        raise TrustError(
            f"the store no longer holds the rows that run {done.run_id} left",
            code=Reason.MISSING.value,
            hint="run the pipeline again: the same rows come back",
            path=str(lineage.objects),
        )
    least, chosen, why = copy.height + 1, None, ""
    for row, path in kept:
        data = _opened(lineage, row, path)
        differs = _differs(copy, data)
        why = differs or why
        changed = pl.col("left").ne_missing(pl.col("now"))
        edited = least if differs else _labels(data, copy).filter(changed).height
        if edited < least:
            least, chosen = edited, data
        if not least:
            break
    if chosen is None:
        raise SchemaMismatch(
            f"the file does not hold the rows that run {done.run_id} left: {why}",
            code="DP-USE-057",
            hint="give the copy that `labels relabel --apply` wrote; only its labels may be edited",
        )
    return chosen


def _opened(lineage: Lineage, last: Mapping[str, Any], path: Path) -> Dataset:
    """A data set of the store, with its roles and sources."""
    facts = lineage.sql(
        "select * exclude (seq, run_id) from sources "
        "qualify row_number() over (partition by source_no order by seq desc) = 1"
    )
    numbers = set(json.loads(last["source_nos"]))
    sources = [
        Source.from_json(
            {
                **{k: v for k, v in fact.items() if k != "source_no"},
                "number": fact["source_no"],
                "files": json.loads(fact["files"] or "[]"),
            }
        )
        for fact in facts.sort("source_no").iter_rows(named=True)
        if fact["source_no"] in numbers
    ]
    roles = Roles({r: tuple(c) for r, c in json.loads(last["roles"]).items()})
    return stored(path, last["digest"], roles, sources, kept=True)


def undo(
    store: Path,
    run: str,
    *,
    copy: pl.DataFrame,
    name: str,
    rows: Sequence[int] = (),
    seed: int = 0,
) -> tuple[Run, int]:
    """Give labels back what they were before a run changed them.

    The undoing is itself a run: each label that goes back is a line of `label_changes`, signed
    with the run, and can be undone in turn. Labels that people changed in the copy since are kept
    and recorded as theirs.

    Args:
        store: Folder of the store.
        run: Id of the run that changed the labels, or how it begins.
        copy: The rows as they are now: those that the run left, with labels edited at most.
        name: What the copy is called, for the record.
        rows: Row ids to give back; empty for all that the run changed.
        seed: Recorded with the run; nothing is drawn.

    Returns:
        The run, whose data has the labels as they were, and how many labels went back.

    Raises:
        DeclarationError: There is no such run, or a row was not changed by it.
        SchemaMismatch: The copy is not of that run, or a row has changed since.
        TrustError: The rows that the run left are gone from the store.

    Example:
        >>> undo.__name__
        'undo'
    """
    lineage = Lineage(store)
    done = relabelling(lineage, run)
    asked = done.changes
    if rows:
        asked = asked.filter(pl.col("row_id").is_in(list(rows)))
        if asked.height != len(set(rows)):
            raise DeclarationError(
                f"run {done.run_id} changed the labels of {asked.height} of {len(set(rows))} rows",
                code="DP-USE-055",
                hint="leave out --row to undo all that the run changed",
            )
    _refuse_later_changes(lineage, done, asked)
    data = _base(lineage, done, copy)
    changes = _back(done, _labels(data, copy), asked, name)

    @stage("labels.undo")
    def put_back(_: pl.LazyFrame, *, run: str) -> Yield:  # noqa: ARG001 - told in the record
        return Yield(label_changes=changes)

    steps = [put_back(run=done.run_id)]
    return Pipeline(f"undo of {name}", steps).run(data, seed=seed, store=store), asked.height


def _refuse_later_changes(lineage: Lineage, done: Relabelling, asked: pl.DataFrame) -> None:
    """A label that a later run of the same rows changed is not this run's to take back."""
    since = lineage.sql(_SINCE, steps=list(done.steps)).join(asked, on="row_id", how="semi")
    if since.height:
        raise SchemaMismatch(
            f"{since.height} labels have changed since: run {since['run_id'][0]} changed"
            f" {_named(since['row_id'])}",
            code="DP-USE-056",
            hint=f"undo run {since['run_id'][0]} first",
        )


def _differs(copy: pl.DataFrame, data: Dataset) -> str:
    """Why a copy cannot have been made from a data set; empty where only labels may differ."""
    if "label" not in data.roles or data.roles.one("label") not in copy.columns:
        return "the column of the labels is another"
    if copy.height != len(data):
        return f"{copy.height} rows, {len(data)} were left"
    label = data.roles.one("label")
    for column in copy.columns:
        if column not in data.names:
            return f"column {column!r} was not there"
        held = data.frame([column])[column]
        try:
            cast = copy[column].cast(held.dtype, strict=column == label)
        except pl.exceptions.PolarsError:
            return f"column {column!r} is of another type"
        if column != label and not cast.equals(held, null_equal=True):
            return f"column {column!r} is another"
    return ""


def _labels(data: Dataset, copy: pl.DataFrame) -> pl.DataFrame:
    """`row_id left now`: each label as the store holds it and as the copy has it."""
    label = data.roles.one("label")
    text = label_text(label, data.types[label])
    held = data.frame([label], row_id=True)
    now = copy.select(pl.col(label).cast(data.types[label])).select(text)
    columns = {"row_id": held[ROW_ID], "left": held.select(text)[label], "now": now[label]}
    return pl.DataFrame(columns)


def _back(done: Relabelling, now: pl.DataFrame, asked: pl.DataFrame, name: str) -> pl.DataFrame:
    """The changes to record: labels that go back, and those that people changed in the copy."""
    joined = asked.join(now, on="row_id", how="left", maintain_order="left")
    moved = joined.filter(
        pl.col("now").ne_missing(pl.col("left"))
        | pl.col("now").is_null()
        | pl.col("before").is_null()
    )
    if moved.height:
        raise SchemaMismatch(
            f"{moved.height} labels are no longer what run {done.run_id} made them:"
            f" {_named(moved['row_id'])}",
            code="DP-USE-056",
            hint="give the other rows with --row, or set these labels back by hand",
        )
    edited = now.join(asked, on="row_id", how="anti").filter(
        pl.col("left").ne_missing(pl.col("now"))
    )
    gone = edited.filter(pl.col("now").is_null())
    if gone.height:
        raise SchemaMismatch(
            f"{gone.height} labels are missing in the file: {_named(gone['row_id'])}",
            code="DP-USE-056",
            hint="give every row a label",
        )
    back = joined.select(
        "row_id",
        pl.col("left").alias("before"),
        pl.col("before").alias("after"),
        pl.lit(f"undo of run {done.run_id}").alias("why"),
    )
    hand = edited.select(
        "row_id",
        pl.col("left").alias("before"),
        pl.col("now").alias("after"),
        pl.lit(f"edited by hand in {name}").alias("why"),
    )
    made = pl.concat([back, hand], how="vertical_relaxed")
    return made.with_columns(posterior=pl.lit(None, pl.Float64)).match_to_schema(CHANGE_SCHEMA)


def _named(rows: pl.Series) -> str:
    """The first of some rows, as source and place."""
    places = [":".join(str(n) for n in row_number(r)[1:]) for r in rows.sort().head(SHOWN)]
    more = f" and {rows.len() - SHOWN} more" if rows.len() > SHOWN else ""
    return f"row{'s' if rows.len() > 1 else ''} {', '.join(places)}{more}"
