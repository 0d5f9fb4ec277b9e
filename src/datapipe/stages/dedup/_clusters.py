# SPDX-License-Identifier: Apache-2.0
"""From pairs of like rows to clusters, to the rows that repeat another, to a finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, scored_rows
from datapipe.core.roles import ORDINAL_BITS

Indices = NDArray[np.int64]
SHOWN_PAIRS = 5
MUCH = 0.1
"""From this share of repeated rows on, a finding is no small matter."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which row each row repeats.

    Args:
        row_ids: uint64, shape (n,), in row order.
        first: int64, shape (n,): the position of the row that is kept; its own where it stays.
    """

    row_ids: pl.Series
    first: Indices

    @cached_property
    def repeated(self) -> NDArray[np.bool_]:
        """Rows to be removed, bool of shape (n,); a row drawn more than once is one row.

        Rows leave by their ids, so that an id stays where any of its lines does.
        """
        gone = np.asarray(self.first != np.arange(self.first.size))
        if gone.any() and self.row_ids.n_unique() < len(self.row_ids):
            stays = self.row_ids.filter(pl.Series(~gone))
            gone &= ~self.row_ids.is_in(stays.implode()).to_numpy()
        return gone

    def rows(self, scores: ArrayLike, word: str, p_values: ArrayLike | None = None) -> pl.DataFrame:
        """The row table of a finding; each reason names the row that is kept."""
        table = scored_rows(
            self.row_ids, np.asarray(scores), flagged=self.repeated, p_values=p_values
        )
        kept = self.row_ids.gather(self.first).alias("kept")
        name = pl.format(
            f"{word} of {{}}:{{}}",
            pl.col("kept") // (1 << ORDINAL_BITS),
            pl.col("kept") % (1 << ORDINAL_BITS),
        )
        reason = pl.when("flagged").then(name).otherwise(pl.lit("")).alias("reason")
        return table.with_columns(kept).with_columns(reason).drop("kept")

    def details(self) -> dict[str, Any]:
        """How many clusters there are, how large, and some pairs as row ids."""
        gone = np.flatnonzero(self.repeated)
        sizes = np.bincount(self.first[gone], minlength=1) if gone.size else np.zeros(1, np.int64)
        ids = self.row_ids.to_numpy()
        return {
            "rows_removed": int(gone.size),
            "clusters": int((sizes > 0).sum()),
            "largest_cluster": int(sizes.max() + 1) if gone.size else 0,
            "pairs": [[int(ids[self.first[i]]), int(ids[i])] for i in gone[:SHOWN_PAIRS]],
        }


def components(n: int, left: Indices, right: Indices) -> Indices:
    """The smallest member of each row's connected component: hooking and pointer jumping.

    Args:
        n: How many rows.
        left: int64, shape (m,): one end of each pair.
        right: int64, shape (m,): the other end.

    Returns:
        int64, shape (n,).
    """
    label = np.arange(n)
    while True:
        low = np.minimum(label[left], label[right])
        before = label.copy()
        for ends in (left, right):
            np.minimum.at(label, before[ends], low)
        while not np.array_equal(label, label[label]):
            label = label[label]
        if np.array_equal(label, before):
            return label


def repeats_found(
    kind: str, measure: Estimate, clusters: Clusters, rows: pl.DataFrame, more: Mapping[str, Any]
) -> Finding:
    """The finding of a look for repeated rows: suspect as soon as one row repeats another."""
    details = clusters.details()
    gone, n = details["rows_removed"], clusters.first.size
    severity: Severity = "info" if not gone else "medium" if gone > MUCH * n else "low"
    says = (
        f"{gone:,} of {n:,} rows repeat an earlier one, in {details['clusters']:,} clusters"
        if gone
        else f"none of {n:,} rows repeats another"
    )
    return Finding(
        kind,
        "suspect" if gone else "clean",
        measure,
        says,
        severity,
        rows=rows,
        details={**details, **more},
        remedy="set on_finding='quarantine' to keep the first row of each cluster" if gone else "",
    )
