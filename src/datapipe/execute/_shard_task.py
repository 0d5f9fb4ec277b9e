# SPDX-License-Identifier: Apache-2.0
"""What a worker of a cluster does with a shard; little is loaded, so that workers start fast."""

from __future__ import annotations

import io
import os
import sys
from pickle import PickleBuffer

from datapipe.errors import ExecutionError


def shard(
    kept: bytes | None, dropped: bytes | None, apart: bytes | None = None
) -> tuple[PickleBuffer | None, bytes | None]:
    """Run the two plans of a shard.

    Args:
        kept: The plan of the rows that stay, as polars serialized it in the driver; or None.
        dropped: The plan of the others; or None.
        apart: The same by the long way, where the short one fails.

    Returns:
        The rows that stay as a Parquet file, in memory that needs no copy on its way; the others as
        an Arrow IPC file.

    Raises:
        ExecutionError: A function within a plan wanted to end the process.

    Example:
        >>> import polars as pl
        >>> rows, _ = shard(pl.LazyFrame({"a": [1]}).serialize(), None)
        >>> bytes(rows.raw()[:4])
        b'PAR1'
    """
    _one_thread()
    try:
        return _run(kept, dropped, apart)
    except SystemExit as error:  # of a function within an expression: it would end the worker
        raise ExecutionError(
            f"a function of the plan left: SystemExit: {error}",
            code="DP-EXEC-081",
            hint="run again with -vv for the traceback; finished shards are kept",
        ) from error


def _run(
    kept: bytes | None, dropped: bytes | None, apart: bytes | None
) -> tuple[PickleBuffer | None, bytes | None]:
    import polars as pl  # noqa: PLC0415 - it starts its threads when it is loaded

    from datapipe.core.parquet import encode  # noqa: PLC0415 - the same
    from datapipe.execute.fuse import left  # noqa: PLC0415 - the same

    rows = gone = None
    if kept is not None:
        out = io.BytesIO()
        encode(pl.LazyFrame.deserialize(io.BytesIO(kept)), out)
        rows = PickleBuffer(out.getbuffer())
    if dropped is not None:
        out = io.BytesIO()
        long = None if apart is None else pl.LazyFrame.deserialize(io.BytesIO(apart))
        left(pl.LazyFrame.deserialize(io.BytesIO(dropped)), long).write_ipc(out)
        gone = out.getvalue()
    return rows, gone


def _one_thread() -> None:
    """Ray counts CPUs: a task has one. The worker is told here, as one that is told when it starts
    could not be started before it is needed; the same bytes come of more threads.
    """
    if "polars" not in sys.modules:
        os.environ["POLARS_MAX_THREADS"] = "1"
