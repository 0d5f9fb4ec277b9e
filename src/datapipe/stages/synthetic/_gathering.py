# SPDX-License-Identifier: Apache-2.0
"""Rows to judge, the human reference and machine-made anchors, one under the other."""

from __future__ import annotations

import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID
from datapipe.errors import Malformed, SchemaMismatch, nearest
from datapipe.stages.synthetic._declarations import declared

REFERENCE, ANCHOR, UNKNOWN, OTHERS = 0, 1, 2, 3
NAMES = {
    REFERENCE: "reference rows", ANCHOR: "anchors", UNKNOWN: "rows to judge",
    OTHERS: "people's rows among the anchors",
}  # fmt: skip
MOST_ANCHORS = 5_000
"""More reference rows or anchors than this add time only; a seeded sample is used."""
PART_ROWS = 4_096
"""Rows read at a time."""
KIND, MAKER, DOMAIN = "_kind", "_maker", "_domain"
LEAST_OTHERS = 60
"""People's rows among the anchors without which they do not tell how people write there."""


class Abstained(Exception):
    """Why nothing can be said; becomes a finding that was not evaluated."""


def feature_columns(data: Dataset) -> list[str]:
    """The columns that the features come from: a text, pictures, or the columns without a role."""
    if "text" in data.roles and "image" not in data.roles:
        return [data.roles.one("text")]
    return list(data.roles.all("image")) or data.features


def gathered(
    data: Dataset,
    people: Dataset | None,
    anchors: Dataset | None,
    context: Context,
    *,
    column: str = "",
    beside: tuple[str, ...] = (),
) -> pl.DataFrame:
    """The columns that features come from, what each row is, and who is said to have made it.

    Args:
        data: The rows; those declared synthetic serve as anchors.
        people: The human reference, or None.
        anchors: Machine-made rows beside the data, or None; rows that the file declares human
            teach how people write where the anchors come from; a column `domain` tells where.
        context: Seeds the samples.
        column: Column of the data that declares; empty to look for one.
        beside: More columns to carry.

    Returns:
        One frame: the columns, `_kind`, `_maker`, `_domain`, and row ids (0 beside the data).

    Raises:
        Abstained: There is no column to look at.
    """
    every = Gathering(data, people, anchors, context, column=column, beside=beside)
    return every.together(0, len(data))


class Gathering:
    """What rows are judged beside, held once; the rows themselves are read part by part.

    Args:
        data: As for `gathered`.
        people: As for `gathered`.
        anchors: As for `gathered`.
        context: As for `gathered`.
        column: As for `gathered`.
        beside: As for `gathered`.

    Raises:
        Abstained: There is no column to look at.
    """

    def __init__(
        self,
        data: Dataset,
        people: Dataset | None,
        anchors: Dataset | None,
        context: Context,
        *,
        column: str = "",
        beside: tuple[str, ...] = (),
    ) -> None:
        self._data, self._columns = data, [*dict.fromkeys((*feature_columns(data), *beside))]
        if not self._columns:
            raise Abstained("no column can be used: give the role text or image, or plain columns")
        self._told = declared(data, column, (), card="")
        machine = self._told["synthetic"].fill_null(value=False)
        schema = self._rows(0, 0).schema
        parts = [self._declared(machine, context.rng("declared"))]
        if people is not None:
            parts.append(_beside(people, self._columns, schema, "reference rows").with_columns(
                pl.lit(REFERENCE, dtype=pl.Int32).alias(KIND)
            ))  # fmt: skip
        if anchors is not None:
            parts.append(_beside(anchors, self._columns, schema, "anchors"))
        rng = context.rng("sample")
        every = pl.concat(parts)
        kinds = (REFERENCE, ANCHOR, OTHERS)
        self.beside = pl.concat([_sample(every.filter(pl.col(KIND) == k), rng) for k in kinds])

    def together(self, start: int, stop: int) -> pl.DataFrame:
        """The undeclared rows of a half-open range, below all that they are judged beside."""
        asked = self._rows(start, stop).filter(pl.col(KIND) == UNKNOWN)
        return pl.concat([self.beside, asked])

    def _rows(self, start: int, stop: int) -> pl.DataFrame:
        plan = self._data.scan(row_id=True).select(self._columns).slice(start, stop - start)
        told = self._told.slice(start, stop - start)
        return plan.collect(engine="streaming").with_columns(
            pl.when(told["synthetic"].fill_null(value=False))
            .then(ANCHOR)
            .otherwise(UNKNOWN)
            .alias(KIND),
            told["generator"].alias(MAKER),
            pl.lit("").alias(DOMAIN),
            told["row_id"].alias(ROW_ID),
        )

    def _declared(self, machine: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
        """Rows of the data that are declared synthetic; no more of them than are used."""
        chosen = np.flatnonzero(machine.to_numpy())
        if chosen.size > MOST_ANCHORS:
            chosen = np.sort(rng.choice(chosen, MOST_ANCHORS, replace=False))
        parts = [self._rows(0, 0)]
        for start in range(0, len(self._data) if chosen.size else 0, PART_ROWS):
            here = chosen[(chosen >= start) & (chosen < start + PART_ROWS)] - start
            if here.size:
                parts.append(self._rows(start, start + PART_ROWS)[here])
        return pl.concat(parts)


def labels(kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """What models learn from: 0 for people, 1 for machines, -1 for rows that teach nothing.

    People are those among the anchors where there are enough, because they differ from the
    machines there in nothing else; else those of the reference.
    """
    people = OTHERS if elsewhere(kind) else REFERENCE
    return np.where(kind == ANCHOR, 1, np.where(kind == people, 0, -1)).astype(np.int64)


def elsewhere(kind: NDArray[np.int64]) -> bool:
    """Whether the anchors bring people of their own."""
    return int((kind == OTHERS).sum()) >= LEAST_OTHERS


def opened(path: str | os.PathLike[str]) -> Dataset | None:
    """A Parquet file beside the data, checked as readers do; None without a path."""
    if not path:
        return None
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Malformed(
            f"{os.fspath(path)} cannot be read as Parquet: {type(error).__name__}",
            code="DP-SYN-002",
            hint="give a Parquet file with the same columns as the data",
        ) from error
    return Dataset.of(table)


def _beside(given: Dataset, columns: list[str], schema: pl.Schema, what: str) -> pl.DataFrame:
    """The rows of another file with the columns of the data, and who made them."""
    lacking = [c for c in columns if c not in given.names]
    if lacking:
        raise SchemaMismatch(
            f"the {what} lack the column {lacking[0]!r}",
            code="DP-SYN-003",
            hint=nearest(lacking[0], given.names),
        )
    told = declared(given, "", (), card="")
    human = ~told["synthetic"].fill_null(value=True)
    frame = given.frame(columns).with_columns(
        pl.when(human).then(OTHERS).otherwise(ANCHOR).alias(KIND),
        told["generator"].alias(MAKER),
        _domain(given).alias(DOMAIN),
        pl.lit(0).alias(ROW_ID),
    )
    try:
        return frame.select(schema.names()).cast(dict(schema))  # type: ignore[arg-type]  # a plain dict
    except pl.exceptions.PolarsError as error:
        raise SchemaMismatch(
            f"the columns of the {what} are of other types than the data's",
            code="DP-SYN-003",
            hint="give the same columns with the same types",
        ) from error


def _domain(given: Dataset) -> pl.Series:
    """Where each row comes from, as far as a column called `domain` tells."""
    if given.types.get("domain") != pl.String:
        return pl.Series([""] * len(given), dtype=pl.String)
    return given.frame(["domain"])["domain"].fill_null("")


def _sample(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    if rows.height <= MOST_ANCHORS:
        return rows
    return rows[np.sort(rng.choice(rows.height, MOST_ANCHORS, replace=False))]
