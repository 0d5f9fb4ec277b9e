# SPDX-License-Identifier: Apache-2.0
"""The one way in which rows become a Parquet file of ours: equal rows, equal bytes."""

from __future__ import annotations

from pathlib import Path

import polars as pl

ROW_GROUP_ROWS = 131_072
"""Rows in a row group: bounds the memory of whoever reads it."""

COMPRESSION_LEVEL = 1
"""Of zstd. Against the usual level 3, a seventh less CPU for a twentieth more bytes (measured)."""


def sink_rows(frame: pl.LazyFrame, path: Path) -> Path:
    """Write rows in one streaming pass, in their order.

    Args:
        frame: The rows; nothing of them was read yet.
        path: Where the file is made; what is there is overwritten.

    Returns:
        The path.

    Example:
        >>> import tempfile
        >>> path = sink_rows(pl.LazyFrame({"a": [1, 2]}), Path(tempfile.mkdtemp()) / "a.parquet")
        >>> pl.read_parquet(path)["a"].to_list()
        [1, 2]
    """
    frame.sink_parquet(
        path,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        row_group_size=ROW_GROUP_ROWS,
        maintain_order=True,
    )
    return path
