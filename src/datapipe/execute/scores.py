# SPDX-License-Identifier: Apache-2.0
"""Every row's scores of a run in one Parquet file, for whoever reads findings by script."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from datapipe.core.digest import PREFIX, digest_json
from datapipe.core.parquet import sink_rows
from datapipe.core.roles import ORDINAL_BITS
from datapipe.errors import TrustError
from datapipe.execute._disk import written
from datapipe.lineage.store import Lineage
from datapipe.manifest.plain import content

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
    name = digest_json(list(scored)).removeprefix(PREFIX)[:16]
    known = lineage.store / "cache" / f"row_findings-{name}"
    with contextlib.suppress(OSError, UnicodeDecodeError, TrustError):
        held = lineage.object_path(content(known).decode("ascii"))
        if held is not None:
            return held
    digest, path = _together(lineage, parts)
    with contextlib.suppress(OSError):  # a short cut for the next time, no more
        known.parent.mkdir(parents=True, exist_ok=True)
        partial = known.with_name(f".{known.name}.{os.getpid()}")
        partial.write_text(digest, "ascii")
        partial.replace(known)
    return path


def _together(lineage: Lineage, parts: Sequence[pl.LazyFrame]) -> tuple[str, Path]:
    """One table as an object, so that a change of it is noticed like that of any other."""
    number = (pl.col("row_id") // (1 << ORDINAL_BITS)).cast(pl.Int64)
    ordinal = (pl.col("row_id") % (1 << ORDINAL_BITS)).cast(pl.Int64)
    whole = pl.concat(parts).with_columns(source_no=number, ordinal=ordinal)
    folder = lineage.scratch()
    try:
        made = folder / "row_findings.parquet"
        with written(made):
            digest = sink_rows(whole.select(COLUMNS), made)
        return lineage.put_object(made, suffix=".parquet", digest=digest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
