# SPDX-License-Identifier: Apache-2.0
"""Every row's scores of a run in one Parquet file, for whoever reads findings by script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from datapipe.core.digest import digest_json
from datapipe.core.roles import ORDINAL_BITS
from datapipe.lineage.store import Lineage

COLUMNS = (
    "row_id",
    "source_no",
    "ordinal",
    "kind",
    "score",
    "p_value",
    "flagged",
    "action",
    "reason",
)


def row_findings(lineage: Lineage, scored: Sequence[tuple[str, str]]) -> Path | None:
    """Put the row tables of a run's findings together.

    Args:
        lineage: The store that holds the tables.
        scored: (kind, digest of its row table) of every finding that scored rows.

    Returns:
        A Parquet file with the columns of `COLUMNS`; None when no detector scored a row.

    Example:
        >>> import tempfile
        >>> row_findings(Lineage(tempfile.mkdtemp(), create=True), []) is None
        True
    """
    parts: list[pl.LazyFrame] = []
    for kind, digest in scored:
        path = lineage.object_path(digest)
        if path is not None:
            parts.append(pl.scan_parquet(path, glob=False).with_columns(kind=pl.lit(kind)))
    if not parts:
        return None
    name = digest_json(list(scored)).removeprefix("sha256:")[:16]
    target = lineage.store / "cache" / f"row_findings-{name}.parquet"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        number = (pl.col("row_id") // (1 << ORDINAL_BITS)).cast(pl.Int64)
        ordinal = (pl.col("row_id") % (1 << ORDINAL_BITS)).cast(pl.Int64)
        whole = pl.concat(parts).with_columns(source_no=number, ordinal=ordinal)
        partial = target.with_name(f".{target.name}.partial")
        whole.select(COLUMNS).sink_parquet(partial, compression="zstd", maintain_order=True)
        partial.replace(target)
    return target
