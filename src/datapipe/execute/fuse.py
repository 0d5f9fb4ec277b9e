# SPDX-License-Identifier: Apache-2.0
"""Consecutive row stages as one streaming polars plan, with the reason of every row that leaves.

The plan is built twice from the same expressions: once to keep rows, once (pruned by polars to the
columns the conditions read) to say why the others left. Both read one scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.locality import computed, filtered, free, looks_beyond, selects
from datapipe.core.roles import HIDDEN, ROW_ID, Roles
from datapipe.core.stage import RowStage
from datapipe.errors import DatapipeError, DeclarationError
from datapipe.execute._clock import stage_failed

CODE = "_reason"


@dataclass(frozen=True)
class Fused:
    """Row stages compiled to one plan.

    Args:
        kept: The rows that stay, hidden column first.
        dropped: `row_id` uint64 and `_reason` uint16 of the rows that leave; None when none can.
        apart: The same asked stage by stage, so that no expression is computed for a row that left
            before: it reads more often, and computes where `dropped` fails on such rows.
        reasons: Code to (index of the stage, reason); codes count from 1.
        roles: The roles after the last stage.

    Example:
        >>> import pyarrow as pa
        >>> fused = fuse(Dataset.of(pa.table({"a": [1]})), [RowStage()])
        >>> fused.dropped is None, fused.reasons
        (True, {})
    """

    kept: pl.LazyFrame
    dropped: pl.LazyFrame | None
    apart: pl.LazyFrame | None
    reasons: dict[int, tuple[int, str]]
    roles: Roles

    def left(self) -> pl.DataFrame | None:
        """The rows that leave.

        Returns:
            `row_id` and `_reason`; None when none can.

        Example:
            >>> import pyarrow as pa
            >>> fuse(Dataset.of(pa.table({"a": [1]})), [RowStage()]).left() is None
            True
        """
        return None if self.dropped is None else left(self.dropped, self.apart)

    def asides(
        self, dropped: pl.DataFrame | None, stages: int, *, once: bool = False
    ) -> list[pl.DataFrame]:
        """One table of set-aside rows for each row stage, from one scan for all of them.

        Args:
            dropped: What `left` gave, of all shards.
            stages: How many row stages there are.
            once: Whether of a row that was multiplied, and leaves several times, one line is kept.

        Returns:
            Tables of `row_id` uint64 and `reason`, in the order of the stages.

        Example:
            >>> import pyarrow as pa
            >>> fused = fuse(Dataset.of(pa.table({"a": [1]})), [RowStage()])
            >>> [table.height for table in fused.asides(None, 1)]
            [0]
        """
        if dropped is None:
            none = pl.DataFrame(schema={"row_id": pl.UInt64, "reason": pl.String})
            return [none] * stages
        tables: list[pl.DataFrame] = []
        for place in range(stages):
            mine = {code: reason for code, (p, reason) in self.reasons.items() if p == place}
            gone = dropped.filter(pl.col(CODE).is_in(list(mine)))
            words = pl.col(CODE).replace_strict(
                mine, return_dtype=pl.Enum(sorted(set(mine.values())))
            )
            table = gone.select("row_id", words.alias("reason")) if mine else gone.clear()
            if once:
                table = table.unique("row_id", keep="first", maintain_order=True)
            tables.append(table)
        return tables


def left(dropped: pl.LazyFrame, apart: pl.LazyFrame | None) -> pl.DataFrame:
    """The rows that leave, by the short plan, or by the long one where the short one fails.

    A text that is no number has left before a later stage makes numbers of the others; the short
    plan still computes the number of every row.

    Args:
        dropped: The short plan.
        apart: The long one.

    Returns:
        What either gives.

    Example:
        >>> left(pl.LazyFrame({"row_id": [1]}), None).height
        1
    """
    try:
        return dropped.collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        if apart is None:
            raise
    return apart.collect(engine="streaming").sort("row_id", maintain_order=True)


def fuse(data: Dataset, stages: Sequence[RowStage]) -> Fused:
    """Compile row stages, in order, over a data set.

    Args:
        data: The rows; nothing is read.
        stages: The row stages.

    Returns:
        The plans.

    Raises:
        DeclarationError: An expression looks at more than one row, or makes a hidden column.

    Example:
        >>> import pyarrow as pa
        >>> class Positive(RowStage):
        ...     name = "demo.positive"
        ...     def set_aside(self, roles, types):
        ...         return {"negative": pl.col("a") < 0}
        >>> fused = fuse(Dataset.of(pa.table({"a": [1, -1]})), [Positive()])
        >>> fused.kept.collect()["a"].to_list(), fused.dropped.collect().rows()
        ([1], [(1, 1)])
    """
    kept = data.scan(row_id=True)
    asked: list[tuple[list[pl.Expr], dict[str, pl.Expr]]] = []
    apart: list[pl.LazyFrame] = []
    reasons: dict[int, tuple[int, str]] = {}
    names = set(data.names)
    for place, stage in enumerate(stages):
        types = kept.collect_schema()
        visible = pl.Schema({n: t for n, t in types.items() if n not in HIDDEN})
        conditions, made = _asked(stage, data.roles, visible)
        _keeps_to_its_row(stage, conditions, made)
        leaves = [condition.fill_null(value=False) for condition in conditions.values()]
        for reason, leaving in zip(conditions, leaves, strict=True):
            code = len(reasons) + 1
            reasons[code] = (place, reason)
            gone = filtered(kept, leaving)
            apart.append(gone.select(*_told(pl.lit(code, dtype=pl.UInt16))))
            kept = filtered(kept, ~leaving)
        kept = computed(kept, made)
        names.update(made)
        asked.append((leaves, made))
    if not reasons:
        return Fused(kept, None, None, reasons, data.roles)
    mark = free(CODE, names)
    dropped = _marked(data.scan(row_id=True), asked, mark).select(*_told(pl.col(mark)))
    return Fused(kept, dropped.filter(pl.col(CODE) > 0), pl.concat(apart), reasons, data.roles)


def _marked(
    rows: pl.LazyFrame, asked: Sequence[tuple[list[pl.Expr], dict[str, pl.Expr]]], mark: str
) -> pl.LazyFrame:
    """Every row with the code of the first reason to leave, 0 for none."""
    rows = rows.with_columns(pl.lit(0, dtype=pl.UInt16).alias(mark))
    code = 0
    for leaves, made in asked:
        for condition in leaves:
            code += 1
            leaving, flag = condition, ""
            if selects(condition):
                flag = free("_holds", rows.collect_schema())
                rows, leaving = computed(rows, {flag: condition}, hide=[mark]), pl.col(flag)
            still = (pl.col(mark) == 0) & leaving
            told = pl.when(still).then(pl.lit(code, dtype=pl.UInt16)).otherwise(mark)
            rows = rows.with_columns(told.alias(mark))
            rows = rows.drop(flag) if flag else rows
        rows = computed(rows, made, hide=[mark])
    return rows


def _told(code: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    return pl.col(ROW_ID).alias("row_id"), code.alias(CODE)


def _keeps_to_its_row(
    stage: RowStage, conditions: Mapping[str, pl.Expr], made: Mapping[str, pl.Expr]
) -> None:
    """Refuse what would give other rows, or lose their names, when it is fused or run in shards."""
    told = [(f"the condition {reason!r}", e) for reason, e in conditions.items()]
    told += [(f"the column {name!r}", e) for name, e in made.items()]
    for what, expression in told:
        if not isinstance(expression, pl.Expr):
            raise DeclarationError(
                f"{stage.name}: {what} is of type {type(expression).__name__}, no expression",
                code="DP-DECL-019",
                hint="write a constant as pl.lit(value)",
            )
        if looks_beyond(expression):
            raise DeclarationError(
                f"{stage.name}: {what} looks at more than one row",
                code="DP-DECL-019",
                hint="make it a whole stage, such as a function with @stage: it sees all rows",
            )
    if hidden := [name for name in HIDDEN if name in made]:
        raise DeclarationError(
            f"{stage.name} makes the column {hidden[0]!r}, by which the store names rows",
            code="DP-DECL-019",
            hint="give the column another name",
        )


def _asked(
    stage: RowStage, roles: Roles, visible: pl.Schema
) -> tuple[dict[str, pl.Expr], dict[str, pl.Expr]]:
    """A row stage's expressions; an error of its author's is told as that of a whole stage is."""
    try:
        return stage.set_aside(roles, visible), stage.columns(roles, visible)
    except (DatapipeError, pl.exceptions.PolarsError, OSError):
        raise
    except (Exception, SystemExit) as error:
        raise stage_failed(stage, error, visible.names()) from error
