# SPDX-License-Identifier: Apache-2.0
"""What whole stages gave back, held against the rows they were given before any of it is believed.

A stage may be anybody's code. A row without a name, of a name that nobody gave, or one that leaves
without a reason would make every later answer about rows wrong, so it is refused here; and of
parallel branches no one's work may vanish because another one's was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from datapipe.core.ancestry import origins
from datapipe.core.dataset import Dataset
from datapipe.core.finding import ROW_SCHEMA, Finding
from datapipe.core.roles import ANCESTORS, ROW_ID
from datapipe.core.stage import Stage, Yield
from datapipe.errors import DeclarationError, ExecutionError, SchemaMismatch
from datapipe.execute.act import Acted
from datapipe.execute.edges import LEFT_OUT, same_rows

_HIDDEN = {ROW_ID: pl.UInt64(), ANCESTORS: pl.List(pl.UInt64)}


def given_back(stage: Stage, made: object) -> Yield:
    """What a stage gave back, its forms checked and its ids in the house's type.

    Args:
        stage: The stage.
        made: What its `run` gave.

    Returns:
        The same; nothing has been read.

    Raises:
        ExecutionError: It is no `Yield`.
        SchemaMismatch: Rows have no ids, or some are set aside in another form than promised.

    Example:
        >>> given_back(Stage(), Yield()).data is None
        True
    """
    if not isinstance(made, Yield):
        raise ExecutionError(
            f"{stage.name} gave back {type(made).__name__}, not a Yield",
            code="DP-EXEC-001",
            hint="let run() return Yield(...), with nothing in it where nothing changes",
            stage=stage.name,
        )
    if made.data is not None:
        if not isinstance(made.data, Dataset):
            raise SchemaMismatch(
                f"{stage.name} gave back data of type {type(made.data).__name__}, not a Dataset",
                hint="write Yield(data=data.with_frame(...)), so that rows keep their ids",
            )
        made = replace(made, data=_named(stage, made.data))
    if made.set_aside is not None:
        _with_reasons(stage, made.set_aside)
    return replace(made, findings=tuple(_scored(stage, f) for f in made.findings))


def _named(stage: Stage, data: Dataset) -> Dataset:
    """The rows with hidden columns of the types that the store keeps."""
    if data.path is not None:
        return data
    frame = data.scan(row_id=True)
    types = frame.collect_schema()
    if ROW_ID not in types:
        raise SchemaMismatch(
            f"{stage.name} gave back rows without the hidden column {ROW_ID!r}",
            hint="start from data.scan(row_id=True), so that rows keep their ids",
        )
    wanted = {name: kind for name, kind in _HIDDEN.items() if name in types}
    for name, kind in wanted.items():
        if not _inner(types[name]).is_integer():
            raise SchemaMismatch(
                f"{stage.name} gave back {name!r} as {types[name]}, which names no rows",
                hint=f"keep ids as they were given: {kind}",
            )
    cast = [pl.col(name).cast(kind) for name, kind in wanted.items() if types[name] != kind]
    return data.with_frame(frame.with_columns(cast), roles=data.roles) if cast else data


def _inner(kind: pl.DataType) -> pl.DataType:
    """What a list holds; of anything else itself."""
    inner = kind.inner if isinstance(kind, (pl.List, pl.Array)) else kind
    return inner if isinstance(inner, pl.DataType) else inner()


def _with_reasons(stage: Stage, aside: object) -> None:
    form = "set_aside is a polars frame of row_id and reason"
    if not isinstance(aside, pl.DataFrame):
        raise SchemaMismatch(
            f"{stage.name} gave back set_aside of type {type(aside).__name__}", hint=form
        )
    for name in ("row_id", "reason"):
        if name not in aside.columns:
            raise SchemaMismatch(f"{stage.name} gave back set_aside without {name!r}", hint=form)
    said = aside["reason"].cast(pl.String)
    if said.null_count() or (said.str.strip_chars() == "").any():
        raise SchemaMismatch(
            f"{stage.name} sets rows aside without saying why", hint="give every row a reason"
        )


def _scored(stage: Stage, finding: Finding) -> Finding:
    """A finding whose rows have every column; what the stage did not say is null."""
    if finding.rows is None or not (lacks := [n for n in ROW_SCHEMA if n not in finding.rows]):
        return finding
    if unsaid := [n for n in ("row_id", "score", "flagged") if n in lacks]:
        raise SchemaMismatch(
            f"{stage.name}: the rows of its finding {finding.kind} have no {unsaid[0]}",
            hint="make them with datapipe.core.finding.scored_rows",
        )
    blank = {n: pl.lit("" if n in ("action", "reason") else None, ROW_SCHEMA[n]) for n in lacks}
    return replace(finding, rows=finding.rows.with_columns(**blank).select(list(ROW_SCHEMA)))


def known(stage: Stage, acted: Acted, ids: pl.Series) -> None:
    """See that what is done to rows is done to rows that were there.

    Args:
        stage: The stage.
        acted: What its findings led to.
        ids: Ids of the rows it was given.

    Raises:
        SchemaMismatch: It names other rows.

    Example:
        >>> from datapipe.execute.act import act
        >>> known(Stage(), act(Stage(), Yield()), pl.Series([1], dtype=pl.UInt64))
    """
    for what, rows in (("sets aside", acted.set_aside), ("relabels", acted.label_changes)):
        named = rows["row_id"]
        strange = named.filter(~named.is_in(ids.implode()).fill_null(value=False))
        if strange.len():
            raise SchemaMismatch(
                f"{stage.name} {what} {strange.len():,} rows that it was not given, "
                f"such as {strange[0]}",
                hint="name rows by the ids of data.row_ids",
            )


def no_strangers(stages: str, before: Dataset, after: Dataset) -> None:
    """See that every row that came back, or was part of one, is one that was given.

    Args:
        stages: Who gave them, for the message.
        before: The rows as they were given, stored.
        after: The rows as they came back, stored.

    Raises:
        SchemaMismatch: Some have no id, or one that is new.

    Example:
        >>> import pyarrow as pa
        >>> rows = Dataset.of(pa.table({"a": [1]}))
        >>> no_strangers("demo.none", rows, rows)
    """
    held, was = origins(after), origins(before)
    ids_before = was[ROW_ID]
    if ANCESTORS in was:
        ids_before = ids_before.append(was[ANCESTORS].explode().drop_nulls())
    for name in held.columns:
        ids = held[name].explode().drop_nulls() if name == ANCESTORS else held[name]
        strange = int((~ids.is_in(ids_before.implode()).fill_null(value=False)).sum())
        if strange:
            raise SchemaMismatch(
                f"{stages} repeated or invented rows: {strange:,} of {len(ids):,} ids in {name!r} "
                "name no row that was given",
                hint="keep the ids of rows; rows from elsewhere are read by a reader of their own",
            )


def together(
    data: Dataset, stages: Sequence[Stage], yields: Sequence[Yield], acted: Sequence[Acted]
) -> tuple[Dataset, list[Acted]]:
    """The rows after parallel branches: one may rewrite them, the others may only leave some out.

    Args:
        data: The rows they were given.
        stages: The branches.
        yields: What each gave back.
        acted: What the findings of each led to.

    Returns:
        The rows, from which those that are set aside have still to be taken, and the decisions with
        what branches left out without a word.

    Raises:
        DeclarationError: Two branches rewrote the rows.

    Example:
        >>> rows = Dataset(pl.LazyFrame({"_row_id": pl.Series([1], dtype=pl.UInt64)}))
        >>> together(rows, [Stage()], [Yield()], [])[0] is rows
        True
    """
    own = [i for i, y in enumerate(yields) if y.data is not None and y.data is not data]
    if len(own) < 2:
        return (yields[own[0]].data or data if own else data), list(acted)
    decided = list(acted)
    before = data.frame(row_id=True)
    rewriting: list[int] = []
    for at in own:
        given = yields[at].data or data
        if same_rows(data, given):
            continue
        after = given.frame(row_id=True)
        stays = before[ROW_ID].is_in(after[ROW_ID].implode())
        if not before.filter(stays).equals(after):
            rewriting.append(at)
            continue
        told = acted[at].set_aside["row_id"]
        gone = before.filter(~stays & ~pl.col(ROW_ID).is_in(told.implode()))[ROW_ID]
        left = pl.DataFrame({"row_id": gone}).with_columns(reason=pl.lit(LEFT_OUT))
        both = pl.concat([acted[at].set_aside, left], how="vertical_relaxed")
        decided[at] = replace(acted[at], set_aside=both)
    if len(rewriting) > 1:
        names = [f"{stages[i].name} and {stages[j].name}" for i, j in [rewriting[:2]]]
        raise DeclarationError(
            f"{names[0]} are parallel branches and both rewrite the rows: one's work would be lost",
            code="DP-DECL-021",
            hint="put them in order, one after the other",
        )
    rows = (yields[rewriting[0]].data or data) if rewriting else data
    facts = {source.number: source for source in data.sources}
    for at in own:
        given = yields[at].data or data
        facts.update((s.number, s) for s in given.sources if s not in data.sources)
    sources = [facts[source.number] for source in data.sources]
    return (rows if rows.sources == tuple(sources) else rows.with_sources(sources)), decided
