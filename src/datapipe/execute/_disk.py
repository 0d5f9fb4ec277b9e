# SPDX-License-Identifier: Apache-2.0
"""Whose fault an error of polars is while a table is written: the rows' or the disk's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from datapipe.errors import ExecutionError
from datapipe.lineage.locks import failed

_SYSTEM = re.compile(r"\(os error (\d+)\)")


@contextlib.contextmanager
def written(path: Path, rows: pl.LazyFrame | None = None) -> Iterator[None]:
    """Tell a disk that failed from rows that cannot be computed.

    Args:
        path: The file that is written.
        rows: The plan that computes the rows; None when they are in memory.

    Yields:
        Nothing.

    Raises:
        ExecutionError: The disk is full or failed.

    Example:
        >>> with written(Path("a.parquet")):
        ...     raise pl.exceptions.ComputeError("No space left on device (os error 28)")
        Traceback (most recent call last):
        ...
        datapipe.errors.ExecutionError: disk full: a.parquet could not be written [DP-EXEC-028]
        <BLANKLINE>
        hint: free some space and run again; what was recorded before is intact
    """
    try:
        yield
    except OSError as error:
        raise failed(error, f"{path} could not be written") from error
    except pl.exceptions.PolarsError as error:
        number = _SYSTEM.search(str(error))
        if number is not None:
            system = OSError(int(number[1]), str(error).splitlines()[0])
            raise failed(system, f"{path} could not be written") from error
        if rows is None or _sound(rows, error):
            raise ExecutionError(
                f"{path} could not be written: {str(error).splitlines()[0]}",
                code="DP-EXEC-005",
                hint="see that its disk is sound and has room, then run again",
            ) from error
        raise


def _sound(rows: pl.LazyFrame, error: pl.exceptions.PolarsError) -> bool:
    """Whether the rows can be computed when nothing is written.

    The file format's own layer swallows what the system said; only then is a second look needed.
    """
    if "thrift" not in str(error).lower():
        return False
    try:
        rows.select(pl.all().null_count()).collect(engine="streaming")
    except pl.exceptions.PolarsError:
        return False
    return True
