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
    columns = [*dict.fromkeys((*feature_columns(data), *beside))]
    if not columns:
        raise Abstained("no column can be used: give the role text or image, or plain columns")
    table = declared(data, column, (), card="")
    machine = table["synthetic"].fill_null(value=False)
    own = data.frame(columns).with_columns(
        pl.when(machine).then(ANCHOR).otherwise(UNKNOWN).alias(KIND),
        table["generator"].alias(MAKER),
        pl.lit("").alias(DOMAIN),
        table["row_id"].alias(ROW_ID),
    )
    parts = [own.filter(pl.col(KIND) == UNKNOWN), own.filter(pl.col(KIND) == ANCHOR)]
    if people is not None:
        parts.append(_beside(people, columns, own.schema, "reference rows").with_columns(
            pl.lit(REFERENCE, dtype=pl.Int32).alias(KIND)
        ))  # fmt: skip
    if anchors is not None:
        parts.append(_beside(anchors, columns, own.schema, "anchors"))
    every = pl.concat(parts)
    rng = context.rng("sample")
    kinds = (REFERENCE, ANCHOR, OTHERS, UNKNOWN)
    split = {k: every.filter(pl.col(KIND) == k) for k in kinds}
    return pl.concat([rows if k == UNKNOWN else _sample(rows, rng) for k, rows in split.items()])


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
