# SPDX-License-Identifier: Apache-2.0
"""What a worker of a cluster does with a shard; little is loaded, so that workers start fast."""

from __future__ import annotations

import io

import polars as pl

from datapipe.core.parquet import encode


def shard(kept: bytes | None, dropped: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Run the two plans of a shard.

    Args:
        kept: The plan of the rows that stay, as polars serialized it in the driver; or None.
        dropped: The plan of the others; or None.

    Returns:
        The rows that stay as a Parquet file, the others as an Arrow IPC file.

    Example:
        >>> shard(pl.LazyFrame({"a": [1]}).serialize(), None)[0][:4]
        b'PAR1'
    """
    rows = left = None
    if kept is not None:
        out = io.BytesIO()
        encode(_plan(kept), out)
        rows = out.getvalue()
    if dropped is not None:
        out = io.BytesIO()
        _plan(dropped).collect(engine="streaming").write_ipc(out)
        left = out.getvalue()
    return rows, left


def _plan(raw: bytes) -> pl.LazyFrame:
    return pl.LazyFrame.deserialize(io.BytesIO(raw))
