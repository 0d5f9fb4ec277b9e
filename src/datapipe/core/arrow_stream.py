# SPDX-License-Identifier: Apache-2.0
"""What speaks Arrow's stream interface, whoever made it, as a table or a polars plan."""

from __future__ import annotations

from typing import Any, Protocol

import polars as pl
import pyarrow as pa

from datapipe.errors import SchemaMismatch


class ArrowStream(Protocol):
    """Anything that speaks the Arrow PyCapsule stream interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export an Arrow C stream.

        Args:
            requested_schema: A schema capsule to cast to, or None.

        Returns:
            A PyCapsule named `arrow_array_stream`.

        Example:
            >>> hasattr(pa.table({"a": [1]}), "__arrow_c_stream__")
            True
        """
        ...


def table_of(data: ArrowStream) -> pa.Table:
    """An Arrow object as a table.

    Args:
        data: A table, or anything that exports an Arrow stream.

    Returns:
        All its rows.

    Raises:
        SchemaMismatch: The stream breaks off, or is no table of columns with names of their own.

    Example:
        >>> table_of(pl.DataFrame({"a": [1, 2]})).num_rows
        2
    """
    try:
        table = _read(data)
    except (pa.ArrowException, pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise SchemaMismatch(
            f"{type(data).__name__} is not read as a table: {str(error).splitlines()[0]}",
            hint="give a pyarrow, polars, pandas or DuckDB table with one type a column",
        ) from error
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise SchemaMismatch(
            f"the column name {twice[0]!r} occurs twice", hint="give every column its own name"
        )
    return table


def _read(data: ArrowStream) -> pa.Table:
    # `pa.table` would load pandas first to ask whether it is one
    if isinstance(data, pa.Table | pa.RecordBatch):
        return pa.table(data)
    return pa.RecordBatchReader.from_stream(data).read_all()


def as_any(value: Any) -> pl.LazyFrame:
    """A lazy frame from what a stage function may return.

    Args:
        value: A polars frame, lazy or not, or an Arrow object.

    Returns:
        The lazy frame.

    Raises:
        SchemaMismatch: It is none of these.

    Example:
        >>> as_any(pl.DataFrame({"a": [1]})).collect().height
        1
    """
    if isinstance(value, pl.LazyFrame):
        return value
    if isinstance(value, pl.DataFrame):
        return value.lazy()
    if hasattr(value, "__arrow_c_stream__"):
        return pl.DataFrame(table_of(value)).lazy()
    raise SchemaMismatch(
        f"a stage returned {type(value).__name__}", hint="return a polars frame or an Arrow table"
    )
