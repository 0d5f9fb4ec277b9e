# SPDX-License-Identifier: Apache-2.0
"""Rows that are equal in every column that is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.errors import SchemaMismatch, nearest
from datapipe.stages.dedup._clusters import Clusters, Indices, repeats_found

KIND = "dedup.exact"


@dataclass(frozen=True)
class ExactDuplicates(Stage):
    """Marks every row that is equal to an earlier one; the first of each kind stays.

    *Method:* One streaming pass keeps 16 bytes a row, its id and a 64-bit hash; only rows whose
    hash is not alone are read again and compared value by value, so a hash collision cannot set a
    row aside. Null equals null, NaN equals NaN, and 0.0 equals -0.0.
    *Assumes:* Equal rows are copies. In a narrow table of few values they may be coincidence.
    *Choose it when:* Files were merged, crawled or exported twice.
    *Fails when:* One character differs: `MinHash` and `NearDuplicates` look for that.
    *Cost:* O(n) time; 16 bytes a row, and the repeated rows, in memory.

    Args:
        columns: What must be equal; empty for every column without the role `id`.
        on_finding: What is done with the repeated rows.

    Example:
        >>> import pyarrow as pa
        >>> from pathlib import Path
        >>> data = Dataset.of(pa.table({"a": [1, 2, 1], "b": ["x", "x", "x"]}))
        >>> found = ExactDuplicates().run(data, Context(0, Path("."))).findings[0]
        >>> found.flagged["reason"].to_list()
        ['duplicate of 0:0']

    References:
        Lee et al., 2022, Deduplicating training data makes language models better.
    """

    columns: tuple[str, ...] = ()
    on_finding: OnSuspect = "quarantine"

    name: ClassVar[str] = "dedup.exact"
    version: ClassVar[str] = "2"
    raises_findings: ClassVar[tuple[str, ...]] = (KIND,)
    references: ClassVar[tuple[str, ...]] = (
        "Lee et al., 2022, Deduplicating training data makes language models better",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Find the rows that repeat an earlier one.

        Args:
            data: The rows.
            context: Not used: there is no chance in it.

        Returns:
            One finding of kind `dedup.exact` with a line for every row.

        Raises:
            SchemaMismatch: A column to compare is not there.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> data = Dataset.of(pa.table({"a": [1, 2]}))
            >>> ExactDuplicates().run(data, Context(0, Path("."))).findings[0].verdict
            'clean'
        """
        for column in self.columns:
            if column not in data.names:
                raise SchemaMismatch(
                    f"{self.name}: there is no column {column!r}", hint=nearest(column, data.names)
                )
        own_keys = data.roles.all("id")
        compared = list(self.columns) or [c for c in data.names if c not in own_keys]
        if not compared:
            return self.not_evaluated("there is no column to compare")
        clusters = _clusters(data, compared)
        n = clusters.first.size
        if n == 0:
            return self.not_evaluated("there are no rows")
        gone = clusters.repeated
        measure = Estimate.exact(float(gone.mean()), n=n, method="count")
        rows = clusters.rows(gone.astype(np.float64), "duplicate")
        return Yield(
            findings=(repeats_found(KIND, measure, clusters, rows, {"columns": compared}),)
        )


def _clusters(data: Dataset, compared: list[str]) -> Clusters:
    """Hash everything, then compare what shares a hash."""
    hashed = data.scan(row_id=True).select(ROW_ID, pl.struct(compared).hash().alias("_hash"))
    frame = hashed.collect(engine="streaming")
    hashes = frame["_hash"].to_numpy()
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    shared = np.zeros(hashes.size, np.bool_)
    shared[order[1:][same]] = shared[order[:-1][same]] = True
    first = np.arange(hashes.size)
    if same.any():
        positions = np.flatnonzero(shared)
        first[positions] = _first_equal(data, compared, positions)
    return Clusters(frame[ROW_ID], first)


def _first_equal(data: Dataset, compared: list[str], positions: Indices) -> Indices:
    """For some rows, by position, the position of the first row equal to each."""
    wanted = pl.LazyFrame({"_at": positions.astype(np.uint64)})
    renamed = {name: f"c{i}" for i, name in enumerate(compared)}
    rows = data.scan().select(pl.col(c).alias(new) for c, new in renamed.items())
    rows = rows.with_row_index("_at").with_columns(pl.col("_at").cast(pl.UInt64))
    some = rows.join(wanted, on="_at", how="semi").collect(engine="streaming").sort("_at")
    groups = some.lazy().group_by(list(renamed.values())).agg(pl.col("_at"))
    pairs = groups.with_columns(first=pl.col("_at").list.min()).select("_at", "first")
    table = pairs.explode("_at").sort("_at").collect()
    return table["first"].to_numpy().astype(np.int64)
